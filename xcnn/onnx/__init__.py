"""ONNX files: models in and out; ``pip install xcnn[onnx]``.

>>> xcnn.onnx.export(model, example, "model.onnx")
>>> model = xcnn.onnx.load("model.onnx")
"""

from .exporter.export import export
from .importer.graph import Graph
from .importer.load import load

__all__ = ["Graph", "export", "load"]
