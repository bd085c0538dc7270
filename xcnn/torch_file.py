"""Reading files of ``torch.save`` without PyTorch, and without running what is in them.

Such a file is a pickle, a program that may call any function of Python, and the bytes of the
tensors, in a zip archive or (before PyTorch 1.6) one after another. The program is interpreted
here: it can make dicts, lists, tuples, numbers, strings and descriptions of tensors, and whatever
else it asks for is refused by its name. Every opcode takes a bounded time and no more memory than
its bytes in the file; tensors are read after their descriptions were checked.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from .arrays import Array
from .errors import FileFormatError, printable
from .files import AnyPath, open_file, reading

_ZIP = b"PK\x03\x04"
_LEGACY = 0x1950A86A20F9469CFC6C.to_bytes(10, "little")  # the first of the pickles
_MAX_PICKLE = 2**24  # bytes
_MAX_OPCODES = 2**20  # a tensor has about 40; takes 2 s
_MAX_NDIM = 64  # of a NumPy array
_ADVICE = "Save model.state_dict() alone, with torch.save or safetensors.torch.save_file"
#: by class of storage: the type of its elements, as safetensors files call it
_STORAGES = {
    f"torch.{name}Storage": code
    for name, code in {
        **{"Half": "F16", "BFloat16": "BF16", "Float": "F32", "Double": "F64", "Bool": "BOOL"},
        **{"Char": "I8", "Short": "I16", "Int": "I32", "Long": "I64", "Byte": "U8"},
    }.items()
}
_DICT, _SIZE = "collections.OrderedDict", "torch.Size"
_PARAMETER = "torch._utils._rebuild_parameter"
_TENSORS = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}
_ALLOWED = {*_STORAGES, _DICT, _SIZE, _PARAMETER, *_TENSORS}
_VALUES = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_LITERALS |= {"BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING"}

#: opcodes that take values from the stack: the same for any number, and their number; 0: to a mark
_TAKES = {
    **{f"TUPLE{n or ''}": ("TUPLE", n) for n in range(4)},
    "APPEND": ("APPENDS", 1),
    "APPENDS": ("APPENDS", 0),
    "SETITEM": ("SETITEMS", 2),
    "SETITEMS": ("SETITEMS", 0),
    "STACK_GLOBAL": ("STACK_GLOBAL", 2),
    "REDUCE": ("REDUCE", 2),
    "BUILD": ("BUILD", 1),
}


class _Global(NamedTuple):
    name: str


class _Storage(NamedTuple):
    key: str
    code: str
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def is_torch_file(start: bytes) -> bool:
    """Whether a file with these first 32 bytes is one of ``torch.save``, or another zip archive."""
    return start.startswith(_ZIP) or (start.startswith(b"\x80") and _LEGACY in start)


def read(path: AnyPath, dtypes: Mapping[str, np.dtype[Any]]) -> dict[str, tuple[Array, str]]:
    """Read the state dict of a file: by name, an array as it is stored, and its type.

    Parameters
    ----------
    path
        The file. It holds a state dict, or a dict of which one value is a state dict.
    dtypes
        NumPy's types by the codes of safetensors.

    Raises
    ------
    FileFormatError
        The file is truncated, damaged or has something else in it.
    """
    problem = "is not a complete PyTorch file"
    with reading(path, problem, "Copy or download it again"), open_file(path) as file:
        file.seek(0, io.SEEK_END)
        size = file.tell()
        file.seek(0)
        is_zip = file.read(len(_ZIP)) == _ZIP
        file.seek(0)
        value, is_big, source = _from_zip(file) if is_zip else _from_legacy(file, dtypes)
        state = _state(value)
        tensors = set(state.values())
        needed = sum(math.prod(t.shape) * dtypes[t.storage.code].itemsize for t in tensors)
        if needed > 4 * size:  # some overlap is possible
            raise ValueError(f"tensors of {needed} bytes in a file of {size}")
        arrays: dict[_Tensor, Array] = {}
        views: dict[_Storage, list[_Tensor]] = {}
        for tensor in tensors:
            views.setdefault(tensor.storage, []).append(tensor)
        for storage, own in views.items():
            dtype = dtypes[storage.code].newbyteorder(">" if is_big else "<")
            content = source(storage)
            if len(content) != storage.size * dtype.itemsize:
                raise ValueError(f"storage {storage.key!r} has {len(content)} bytes")
            arrays.update((tensor, _array(tensor, content, dtype)) for tensor in own)
        return {name: (arrays[tensor], tensor.storage.code) for name, tensor in state.items()}


def _array(tensor: _Tensor, content: bytes, dtype: np.dtype[Any]) -> Array:
    """A copy of the elements of a tensor."""
    strides = [dtype.itemsize * stride for stride in tensor.strides]
    offset = dtype.itemsize * tensor.offset
    return np.ndarray(tensor.shape, dtype, content, offset, strides).copy()


def _from_zip(file: BinaryIO) -> tuple[Any, bool, Callable[[_Storage], bytes]]:
    """The value of an archive, whether it is big-endian, and what reads a storage."""
    import zipfile  # imported late: takes 10 ms

    archive = zipfile.ZipFile(file)
    names = archive.namelist()
    folders = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
    if len(folders) != 1:
        raise FileFormatError(f"it is a zip archive, but not one of torch.save. {_ADVICE}")
    folder = folders[0]
    if f"{folder}constants.pkl" in names:
        raise FileFormatError(f"it is a TorchScript program, which is not read. {_ADVICE}")

    def entry(name: str, limit: int | None = None) -> bytes:
        info = archive.getinfo(folder + name)
        if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
            raise ValueError(f"{name!r} is compressed, which torch.save never does")
        if limit is not None and info.file_size > limit:
            raise ValueError(f"{name!r} has more than {limit} bytes")
        return archive.read(info)

    is_big = f"{folder}byteorder" in names and entry("byteorder", 16) == b"big"
    value = _run(io.BytesIO(entry("data.pkl", _MAX_PICKLE)), {})
    return value, is_big, lambda storage: entry(f"data/{storage.key}")


def _from_legacy(
    file: BinaryIO, dtypes: Mapping[str, np.dtype[Any]]
) -> tuple[Any, bool, Callable[[_Storage], bytes]]:
    """As :func:`_from_zip`; four pickles, the keys of the storages in a fifth, and their bytes."""
    start = io.BytesIO(file.read(_MAX_PICKLE))
    storages: dict[str, _Storage] = {}
    _, _, system, value, keys = (_run(start, storages) for _ in range(5))
    places, position = {}, start.tell()
    for key in keys:
        storage = storages[key]
        position += 8  # the number of elements again
        places[key] = position
        position += storage.size * dtypes[storage.code].itemsize

    def content(storage: _Storage) -> bytes:
        file.seek(places[storage.key])
        size = storage.size * dtypes[storage.code].itemsize
        return file.read(size) if places[storage.key] + size <= end else b""

    end = file.seek(0, io.SEEK_END)
    return value, not system["little_endian"], content


def _state(value: Any) -> dict[str, _Tensor]:
    """The state dict that a value is, or the only one that it contains."""
    if _is_state(value):
        return value
    if not isinstance(value, dict):
        raise FileFormatError(f"it holds {type(value).__name__}, expected a dict. {_ADVICE}")
    inner = [v for v in value.values() if v and _is_state(v)]
    if len(inner) == 1:
        return inner[0]
    keys = [printable(str(key))[:40] for key in list(value)[:10]]
    more = ", ..." if len(value) > 10 else ""
    raise FileFormatError(
        f"it holds a dict with the keys {', '.join(keys)}{more}, {len(inner) or 'none'} of which "
        f"are state dicts: expected one. {_ADVICE}"
    )


def _is_state(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(name, str) and isinstance(tensor, _Tensor) for name, tensor in value.items()
    )


def _run(file: BinaryIO, storages: dict[str, _Storage]) -> Any:
    """Interpret one pickle; ``storages`` gets those that it names."""
    import pickletools  # imported late, as it is seldom needed

    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    argument: Any
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count > _MAX_OPCODES:
            raise ValueError(f"more than {_MAX_OPCODES} opcodes")
        name: str = opcode.name
        items: list[Any] = []
        if name in _TAKES:
            name, number = _TAKES[name]
            start = len(stack) - number if number else marks.pop()
            items = stack[start:]
            del stack[start:]
        if name in _LITERALS:
            stack.append(argument)
        elif name in _VALUES:
            stack.append(_VALUES[name])
        elif name in ("EMPTY_DICT", "EMPTY_LIST"):
            stack.append({} if name == "EMPTY_DICT" else [])
        elif name == "MARK":
            marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(items))
        elif name == "APPENDS":
            if type(stack[-1]) is not list:
                raise _refused("items added to something other than a list")
            stack[-1].extend(items)
        elif name == "SETITEMS":
            _add_items(stack[-1], zip(items[::2], items[1::2], strict=True))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "GLOBAL":
            stack.append(_global(*argument.split(" ", 1)))
        elif name == "STACK_GLOBAL":
            stack.append(_global(*items))
        elif name == "REDUCE":
            stack.append(_call(*items))
        elif name == "BINPERSID":
            storage = _storage(stack.pop())
            stack.append(storage)
            storages[storage.key] = storage
        elif name == "BUILD":  # attributes of an OrderedDict, _metadata: not needed
            if type(stack[-1]) is not dict:
                raise _refused("an object with attributes")
        elif name == "STOP":
            return stack.pop()
        elif name not in ("PROTO", "FRAME"):
            raise _refused(f"the pickle opcode {name}")
    raise ValueError("the pickle has no end")  # not reached: genops raises before


def _add_items(target: Any, items: Iterable[tuple[Any, Any]]) -> Any:
    if type(target) is not dict:
        raise _refused("items added to something other than a dict")
    for key, value in items:
        if not isinstance(key, str | int):  # hashing another may never end
            raise _refused("a dict with keys other than strings and numbers")
        target[key] = value
    return target


def _refused(what: str) -> FileFormatError:
    return FileFormatError(
        f"it contains {what}: only dicts, lists, tensors, numbers and strings are read from a "
        f"PyTorch file, and nothing in it was run. {_ADVICE}"
    )


def _global(module: Any, attribute: Any) -> _Global:
    name = f"{module}.{attribute}"
    if name not in _ALLOWED:
        raise _refused(printable(name)[:100])
    return _Global(name)


def _call(function: Any, arguments: Any) -> Any:
    """The result of one of the calls that are allowed."""
    name = function.name if isinstance(function, _Global) else type(function).__name__
    if name == _DICT:
        return _add_items({}, *arguments or [()])
    if name == _SIZE and isinstance(arguments[0], tuple):
        return arguments[0]
    if name == _PARAMETER and isinstance(arguments[0], _Tensor):
        return arguments[0]
    if name not in _TENSORS:
        raise _refused(f"a call of {name} with arguments that do not describe a tensor")
    storage, offset, shape, strides, *_ = arguments
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, _Storage) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError("a tensor without a storage, or with a negative size or stride")
    if len(shape) != len(strides) or len(shape) > _MAX_NDIM:
        raise ValueError(f"a tensor of {len(shape)} axes with {len(strides)} strides")
    count = math.prod(shape)
    last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    if count and last >= storage.size:
        raise ValueError(f"a tensor up to element {last} of a storage of {storage.size}")
    if count > storage.size:  # would take any amount of memory
        raise _refused("a tensor that repeats its elements, as of expand() without contiguous()")
    return _Tensor(storage, offset if count else 0, tuple(shape), tuple(strides))


def _storage(persistent_id: Any) -> _Storage:
    """The storage that ("storage", class, key, device, number of elements) describes."""
    kind, storage, key, _, size, *view = persistent_id
    if kind != "storage" or not isinstance(storage, _Global) or storage.name not in _STORAGES:
        raise _refused("a persistent object that is not a storage")
    if type(key) is not str or type(size) is not int or size < 0 or view not in ([], [None]):
        raise ValueError("a storage with an invalid key, size or view")
    return _Storage(key, _STORAGES[storage.name], size)
