"""Export models to ONNX files and load ONNX files; needs ``pip install onnx``.

Examples
--------
>>> example = np.zeros((1, 1, 28, 28), "float32")  # an array of the input's shape
>>> xcnn.onnx.export(xcnn.models.create("lenet5"), example, "model.onnx")
>>> model = xcnn.onnx.load("model.onnx")
"""

from .exporter import export
from .importer import Graph, load

__all__ = ["Graph", "export", "load"]
