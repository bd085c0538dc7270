"""ONNX files: models in and out; ``pip install xcnn[onnx]``.

>>> xcnn.onnx.export(model, example, "model.onnx")
>>> model = xcnn.onnx.load("model.onnx")
"""

from .export import export
from .graph import Graph
from .load import load

__all__ = ["Graph", "export", "load"]
