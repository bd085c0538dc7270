"""Checkpoint files: nested dicts of numbers and arrays as safetensors with JSON metadata."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from typing import Any

from .. import backends, serialize
from ..arrays import Array
from ..errors import DTypeError, FileFormatError

FORMAT, VERSION = "xcnn-checkpoint", 1
_host = backends.get("cpu").xp
_ARRAY = "__array__"  # {"__array__": name} stands for an array in the JSON


def parts(state: Mapping[str, Any]) -> list[Any]:
    """The content of a checkpoint file that holds ``state``, as a list of buffers.

    Parameters
    ----------
    state
        Dicts and lists of numbers, strings, None and arrays on any device.

    Raises
    ------
    DTypeError
        Anything else; the message has its path.
    """
    arrays: dict[str, Array] = {}
    text = json.dumps(_to_json(state, "", arrays))
    about = {"format": FORMAT, "version": str(VERSION), "state": text}
    return serialize.parts(arrays, {**about, "checksum": _checksum(text, arrays)})


def read(path: str | os.PathLike[str]) -> Any:
    """The state in a checkpoint file, with NumPy arrays.

    Raises
    ------
    FileNotFoundError
        No such file.
    FileFormatError
        Damaged, not a checkpoint, or written by a later version of xcnn.
    """
    arrays, metadata = serialize.read(path)
    if metadata.get("format") != FORMAT:
        raise FileFormatError(
            f"{path} holds weights, but not the state of a training: xcnn.load reads it"
        )
    version = metadata.get("version", "")
    if version != str(VERSION):
        raise FileFormatError(
            f"{path} has version {version!r} of the checkpoint format, this xcnn reads version "
            f"{VERSION}: use the xcnn that wrote it, or a later one"
        )
    try:
        text = metadata["state"]
        if metadata.get("checksum", own := _checksum(text, arrays)) != own:  # none in older files
            raise ValueError("its checksum is another")
        return _from_json(json.loads(text), arrays)
    except (KeyError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is damaged: {error or type(error).__name__}") from error


def _checksum(text: str, arrays: Mapping[str, Array]) -> str:
    """The CRC-32 of everything in a checkpoint."""
    crc = zlib.crc32(text.encode())
    for name in sorted(arrays):
        contiguous = _host.ascontiguousarray(arrays[name])
        crc = zlib.crc32(contiguous.reshape(-1).view("uint8"), zlib.crc32(name.encode(), crc))
    return f"{crc:08x}"


def _to_json(value: Any, path: str, arrays: dict[str, Array]) -> Any:
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):  # JSON would make it one
                raise DTypeError(f"a checkpoint cannot store {path}, a dict with {key!r} as a key")
        return {k: _to_json(v, f"{path}/{k}".lstrip("/"), arrays) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_to_json(v, f"{path}/{i}", arrays) for i, v in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, _host.generic):  # NumPy's sums of arrays
        value = _host.asarray(value)
    owner = backends.find(value)
    if owner is None:
        raise DTypeError(
            f"a checkpoint cannot store {path}, a {type(value).__name__}: expected numbers, "
            "strings, arrays, None, lists of them, and dicts with strings as keys"
        )
    arrays[path] = owner.to_host(value)
    return {_ARRAY: path}


def _from_json(value: Any, arrays: Mapping[str, Array]) -> Any:
    if isinstance(value, dict):
        if set(value) == {_ARRAY}:
            return arrays[value[_ARRAY]]
        return {k: _from_json(v, arrays) for k, v in value.items()}
    return [_from_json(v, arrays) for v in value] if isinstance(value, list) else value
