"""Decoding protobuf messages; sizes are checked before memory is allocated."""

from __future__ import annotations

import math
import stat
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FileFormatError, missing_package
from .external import Source, read_external

_MAX_BYTES = 2**31 - 1  # of a protobuf message
_MAX_NDIM = 64  # of a NumPy array
#: by ``onnx.TensorProto.DataType``: dtype, and the field that holds values without raw_data
_TYPES = {
    1: ("float32", "float_data"),
    11: ("float64", "double_data"),
    10: ("float16", "int32_data"),
    3: ("int8", "int32_data"),
    5: ("int16", "int32_data"),
    6: ("int32", "int32_data"),
    7: ("int64", "int64_data"),
    2: ("uint8", "int32_data"),
    4: ("uint16", "int32_data"),
    12: ("uint32", "uint64_data"),
    13: ("uint64", "uint64_data"),
    9: ("bool", "int32_data"),
}
#: supported dtypes by ``onnx.TensorProto.DataType``
DTYPES = {number: dtype for number, (dtype, _) in _TYPES.items()}
#: by attribute type: the field with its value, or its list of values
_SCALARS = {"INT": "i", "FLOAT": "f", "STRING": "s", "TENSOR": "t"}
_LISTS = {"INTS": "ints", "FLOATS": "floats", "STRINGS": "strings"}


def require_onnx() -> Any:
    """Import the package ``onnx``.

    Raises
    ------
    MissingPackageError
        It is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise missing_package("reading or writing ONNX files", "onnx", error) from error
    return onnx


def read_model(path: Path) -> Any:
    """Read a file as an ``onnx.ModelProto``.

    Raises
    ------
    FileNotFoundError, FileFormatError
        The file does not exist; it is not an ONNX file.
    """
    require_onnx()  # before reading the file, which may be large
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise FileFormatError(f"{path} is not a regular file")
    if not 0 < status.st_size <= _MAX_BYTES:
        raise FileFormatError(
            f"{path} has {status.st_size} bytes: an ONNX file has 1 to {_MAX_BYTES}; larger "
            "weights are stored as external data"
        )
    return parse(path.read_bytes(), str(path))


def parse(content: bytes, where: str) -> Any:
    """Parse an ``onnx.ModelProto``.

    Raises
    ------
    FileFormatError
        Another format, or truncated.
    """
    proto = require_onnx().ModelProto
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return proto.FromString(content)
    except DecodeError as error:
        raise FileFormatError(f"{where} is not a complete ONNX file{_hint(content)}") from error


def _hint(content: bytes) -> str:
    if content[8:10] == b'{"':
        return "; it looks like a safetensors file, which xcnn.load reads"
    if content[:4] == b"PK\x03\x04":
        return "; it looks like a zip archive, as torch.save writes: use torch.onnx.export"
    return " (truncated, damaged, or another format): export or download it again"


# -- arrays -------------------------------------------------------------------------------------


def array_of(tensor: Any, source: Source, where: str) -> Any:
    """Convert an ``onnx.TensorProto`` to a NumPy array.

    Raises
    ------
    FileFormatError
        The data does not fit dims and type, exceeds the limit, or has an unsupported type.
    """
    dtype = np.dtype(dtype_name(tensor.data_type, where))
    field, shape = _TYPES[tensor.data_type][1], tuple(tensor.dims)
    _check_dims(shape, dtype, source.limit, where)
    size = math.prod(shape)
    if tensor.HasField("segment"):
        raise FileFormatError(f"{where} is split into segments, which are not supported")
    if tensor.data_location == tensor.EXTERNAL:
        if source.blank and not tensor.external_data:
            return np.zeros(shape, dtype)
        data = read_external(tensor, source, size * dtype.itemsize, where)
        return _from_bytes(data, dtype).reshape(shape)
    values, raw, has_raw = getattr(tensor, field), tensor.raw_data, tensor.HasField("raw_data")
    for actual, expected, what in (
        (len(raw), size * dtype.itemsize if has_raw else 0, "bytes"),
        (len(values), 0 if has_raw else size, f"values in {field}"),
    ):
        if actual != expected:
            raise FileFormatError(
                f"{where} of shape {shape}, {dtype}, has {actual} {what}: expected {expected}"
            )
    array = _from_bytes(raw, dtype) if has_raw else _from_values(values, field, dtype, where)
    return array.reshape(shape)


def _check_dims(shape: tuple[int, ...], dtype: Any, limit: int, where: str) -> None:
    """Reject invalid dims; a length of 0 does not exempt the other lengths from the limit."""
    if min(shape, default=0) < 0 or len(shape) > _MAX_NDIM:
        raise FileFormatError(f"{where} has dims {list(shape[: _MAX_NDIM + 1])}")
    size = math.prod(max(n, 1) for n in shape) * dtype.itemsize
    if size > limit:
        raise FileFormatError(
            f"{where} of shape {shape} takes {size} bytes, more than the limit of {limit}; if you "
            "trust the file, load it with a larger limit="
        )


def dtype_name(number: int, where: str) -> str:
    """The dtype for an ``onnx.TensorProto.DataType``.

    Raises
    ------
    FileFormatError
        The type is not supported.
    """
    if number not in DTYPES:
        names = require_onnx().TensorProto.DataType
        name = names.Name(number) if number in names.values() else f"number {number}"
        raise FileFormatError(f"{where} is of type {name}: supported are {[*DTYPES.values()]}")
    return DTYPES[number]


def _from_bytes(data: Any, dtype: Any) -> Any:
    """A writable array; it shares the memory of a bytearray. ONNX data is little-endian."""
    if dtype.kind == "b":
        return np.frombuffer(data, np.uint8) != 0
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=isinstance(data, bytes))


def _from_values(values: Any, field: str, dtype: Any, where: str) -> Any:
    """A new array from a field whose type may be wider; float16 is stored as its bits."""
    wide = np.array(values, field.removesuffix("_data").replace("double", "float64"))
    stored = np.dtype("uint16") if dtype == np.float16 else dtype
    if stored.kind in "iu" and wide.size:
        limits = np.iinfo(stored)
        if wide.min() < limits.min or wide.max() > limits.max:
            raise FileFormatError(f"{where} has values in {field} that do not fit {stored}")
    narrow = wide.astype(stored)
    return narrow.view(dtype) if dtype == np.float16 else narrow


# -- attributes ---------------------------------------------------------------------------------


def attribute(proto: Any, source: Source, where: str) -> Any:
    """The value of an attribute: int, float, str, array, or a list of int, float or str.

    Raises
    ------
    FileFormatError
        It has no value, or a value of an unsupported kind, such as a subgraph.
    """
    where = f"{where}: attribute {decode(proto.name, where)}"
    kinds = require_onnx().AttributeProto.AttributeType
    kind = kinds.Name(proto.type) if proto.type in kinds.values() else str(proto.type)
    if kind not in _SCALARS and kind not in _LISTS:
        raise FileFormatError(f"{where} is of kind {kind}, which is not supported")
    if proto.ref_attr_name or (kind in _SCALARS and not proto.HasField(_SCALARS[kind])):
        raise FileFormatError(f"{where} of kind {kind} has no value")
    value = getattr(proto, _SCALARS.get(kind) or _LISTS[kind])
    if kind == "TENSOR":
        return array_of(value, source, where)
    if kind in _LISTS:
        return [decode(v, where) for v in value]
    return decode(value, where)


def decode(value: Any, where: str) -> Any:
    """Decode bytes as UTF-8; other values are returned unchanged.

    Raises
    ------
    FileFormatError
        Not UTF-8.
    """
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{where}: {value[:40]!r} is not UTF-8") from error
