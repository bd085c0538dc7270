"""Export to ONNX: tracing, emitters, and verification of the result."""

from .export import export
from .writer import CannotExportError, Value, Writer

__all__ = ["CannotExportError", "Value", "Writer", "export"]
