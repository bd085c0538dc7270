"""Export models to ONNX files and load ONNX files; needs ``pip install onnx``.

>>> xcnn.onnx.export(model, example, "model.onnx")
>>> model = xcnn.onnx.load("model.onnx")
"""

from .exporter import export
from .importer import Graph, load

__all__ = ["Graph", "export", "load"]
