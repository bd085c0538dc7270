"""What an ONNX file says, with its sizes checked before memory is taken."""

from __future__ import annotations

import math
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import FileFormatError, MissingPackageError
from .external import read_external

_MESSAGE = 2**31 - 1  # bytes: what one protobuf message can hold
_AXES = 64  # NumPy's most
#: by ONNX's number: dtype, and the field with the values where they are not in raw_data
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
#: the dtypes that xcnn computes with, by ONNX's number
DTYPES = {number: dtype for number, (dtype, _) in _TYPES.items()}
#: fields of an attribute that hold one value, by type
_SINGLE = {"INT": "i", "FLOAT": "f", "STRING": "s", "TENSOR": "t"}
_MANY = {"INTS": "ints", "FLOATS": "floats", "STRINGS": "strings"}


@dataclass(frozen=True)
class Source:
    """Where the bytes of a model's arrays may come from, and how many there may be.

    Attributes
    ----------
    folder
        Has the files with external data; None: there may be none.
    limit
        The most bytes of one array.
    blank
        Whether arrays may come without their data, as zeros that a state dict replaces.
    taken
        Bytes that came from each other file so far.
    """

    folder: Path | None
    limit: int
    blank: bool = False
    taken: dict[Path, int] = field(default_factory=dict)


def package() -> Any:
    """The package ``onnx``.

    Raises
    ------
    MissingPackageError
        It is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingPackageError(
            f"ONNX files need the package onnx ({error}): pip install 'xcnn[onnx]'"
        ) from error
    return onnx


def read_model(path: Any) -> Any:
    """The ``onnx.ModelProto`` in a file.

    Raises
    ------
    FileNotFoundError, FileFormatError
        No such file; not an ONNX file.
    """
    package()  # before the file, which may be large
    return parse(_content(Path(path)), str(path))


def parse(content: bytes, where: str) -> Any:
    """The ``onnx.ModelProto`` that ``content`` is.

    Raises
    ------
    FileFormatError
        It is something else, or truncated.
    """
    proto = package().ModelProto
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    try:
        return proto.FromString(content)
    except DecodeError as error:
        raise FileFormatError(f"{where} is not a complete ONNX file{_hint(content)}") from error


def _content(path: Path) -> bytes:
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise FileFormatError(f"{path} is not a file")
    if not 0 < found.st_size <= _MESSAGE:
        raise FileFormatError(
            f"{path} has {found.st_size} bytes: an ONNX file has 1 to {_MESSAGE}, and larger "
            "weights lie in files beside it"
        )
    return path.read_bytes()


def _hint(content: bytes) -> str:
    if content[8:10] == b'{"':
        return "; it seems to be a safetensors file, which xcnn.load reads"
    if content[:4] == b"PK\x03\x04":
        return "; it seems to be a zip archive, as torch.save writes: use torch.onnx.export"
    return " (truncated, damaged, or of another kind): export or download it again"


# -- arrays -------------------------------------------------------------------------------------


def array_of(tensor: Any, source: Source, where: str) -> Any:
    """The NumPy array of an ``onnx.TensorProto``.

    Raises
    ------
    FileFormatError
        Its data is not what its dims and type need, more than the limit, or of a type that xcnn
        does not have.
    """
    name, field = _types_of(tensor.data_type, where)
    dtype, shape = np.dtype(name), tuple(tensor.dims)
    check_shape(shape, dtype, source.limit, where)
    size = math.prod(shape)
    if tensor.HasField("segment"):
        raise FileFormatError(f"{where} is cut into segments, which xcnn does not read")
    if tensor.data_location == tensor.EXTERNAL:
        if source.blank and not tensor.external_data:
            return np.zeros(shape, dtype)
        data = read_external(tensor, source, size * dtype.itemsize, where)
        return _from_bytes(data, dtype).reshape(shape)
    values = getattr(tensor, field)
    if tensor.HasField("raw_data"):
        raw = tensor.raw_data
        _check_length(len(raw), size * dtype.itemsize, shape, dtype, "bytes", where)
        _check_length(len(values), 0, shape, dtype, f"values beside its bytes in {field}", where)
        return _from_bytes(raw, dtype).reshape(shape)
    _check_length(len(values), size, shape, dtype, f"values in {field}", where)
    return _from_values(values, field, dtype, where).reshape(shape)


def check_shape(shape: tuple[int, ...], dtype: Any, limit: int, where: str) -> None:
    """Refuse a shape that no array should have; an axis of length 0 excuses no other one."""
    if min(shape, default=0) < 0 or len(shape) > _AXES:
        raise FileFormatError(f"{where} has dims {list(shape[: _AXES + 1])}")
    size = math.prod(max(n, 1) for n in shape) * dtype.itemsize
    if size > limit:
        raise FileFormatError(
            f"{where} of shape {shape} takes {size} bytes, more than the limit of {limit}; if the "
            "file can be trusted, load it with a larger limit="
        )


def _types_of(number: int, where: str) -> tuple[str, str]:
    if number not in _TYPES:
        names = package().TensorProto.DataType
        name = names.Name(number) if number in names.values() else f"number {number}"
        raise FileFormatError(f"{where} is of type {name}: xcnn reads {', '.join(DTYPES.values())}")
    return _TYPES[number]


def type_of(number: int, where: str) -> str:
    """The dtype that a number of ``onnx.TensorProto.DataType`` stands for.

    Raises
    ------
    FileFormatError
        xcnn has no arrays of that type.
    """
    return _types_of(number, where)[0]


def _check_length(
    found: int, wanted: int, shape: tuple[int, ...], dtype: Any, what: str, where: str
) -> None:
    if found != wanted:
        raise FileFormatError(
            f"{where} of shape {shape}, {dtype}, has {found} {what}: expected {wanted}"
        )


def _from_bytes(data: Any, dtype: Any) -> Any:
    """A new array, in the memory of ``data`` if that can be written to; files are little-endian."""
    if dtype.kind == "b":
        return np.frombuffer(data, np.uint8) != 0
    return np.frombuffer(data, dtype.newbyteorder("<")).astype(dtype, copy=isinstance(data, bytes))


def _from_values(values: Any, field: str, dtype: Any, where: str) -> Any:
    """A new array of the values in a field that may be wider than they are."""
    wide = np.array(values, field.removesuffix("_data").replace("double", "float64"))
    stored = np.dtype("uint16") if dtype == np.float16 else dtype
    if stored.kind in "iu" and wide.size:
        kept = np.iinfo(stored)
        if wide.min() < kept.min or wide.max() > kept.max:
            raise FileFormatError(f"{where} has values in {field} that do not fit {stored}")
    return (
        wide.astype(stored, copy=False).view(dtype) if dtype == np.float16 else wide.astype(dtype)
    )


# -- attributes ---------------------------------------------------------------------------------


def attribute(proto: Any, source: Source, where: str) -> Any:
    """The value of an attribute: int, float, str, array, or a list of such.

    Raises
    ------
    FileFormatError
        It has no value, or one of a kind that xcnn does not read, such as a subgraph.
    """
    where = f"{where}: attribute {text(proto.name, where)}"
    kinds = package().AttributeProto.AttributeType
    kind = kinds.Name(proto.type) if proto.type in kinds.values() else str(proto.type)
    if kind not in _SINGLE and kind not in _MANY:
        raise FileFormatError(f"{where} is of kind {kind}, which xcnn does not read")
    if proto.ref_attr_name or (kind in _SINGLE and not proto.HasField(_SINGLE[kind])):
        raise FileFormatError(f"{where} of kind {kind} has no value")
    value = getattr(proto, _SINGLE.get(kind) or _MANY[kind])
    if kind == "TENSOR":
        return array_of(value, source, where)
    if kind in _MANY:
        return [text(v, where) for v in value] if kind == "STRINGS" else list(value)
    return text(value, where) if kind == "STRING" else value


def text(value: Any, where: str) -> str:
    """A string of the file, which may be any bytes there.

    Raises
    ------
    FileFormatError
        It is not UTF-8.
    """
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{where}: {value[:40]!r} is not UTF-8") from error
