"""Parsing ONNX files without trusting them: sizes and file paths are checked before use."""

from .external import Source
from .functions import inline_functions
from .read import DTYPES, array_of, attribute, decode, dtype_name, parse, read_model, require_onnx
from .skeleton import without_weights

__all__ = [
    "DTYPES",
    "Source",
    "array_of",
    "attribute",
    "decode",
    "dtype_name",
    "inline_functions",
    "parse",
    "read_model",
    "require_onnx",
    "without_weights",
]
