"""How xcnn computes the operators of ONNX, a file per family; importing them fills the table."""

from . import activation

__all__ = ["activation"]
