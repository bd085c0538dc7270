"""Values as bytes, to send them to other ranks: JSON, followed by the contents of the arrays."""

from __future__ import annotations

import json
from typing import Any

from .. import backends
from ..errors import DTypeError

_host = backends.get("cpu").xp
_LENGTH = 8  # bytes of the length of the JSON, which come first


def encode(value: Any) -> bytes:
    """``value`` as bytes, for :func:`decode`.

    Raises
    ------
    DTypeError
        It holds something other than numbers, strings, None, NumPy arrays, lists and dicts.
    """
    contents: list[bytes] = []
    text = json.dumps(_to_json(value, contents)).encode()
    return b"".join([len(text).to_bytes(_LENGTH, "big"), text, *contents])


def decode(data: Any) -> Any:
    """The value in ``data``, bytes or a memoryview of them; tuples have become lists."""
    start = _LENGTH + int.from_bytes(data[:_LENGTH], "big")
    return _from_json(json.loads(bytes(data[_LENGTH:start])), data[start:])


def _to_json(value: Any, contents: list[bytes]) -> Any:
    """``value`` as JSON knows it: an array as dtype, shape and offset, a dict as pairs."""
    if isinstance(value, dict):
        return {"pairs": [[_to_json(v, contents) for v in pair] for pair in value.items()]}
    if isinstance(value, list | tuple):
        return [_to_json(v, contents) for v in value]
    if isinstance(value, _host.ndarray) and value.dtype.kind in "fiubc":
        offset = sum(map(len, contents))
        contents.append(value.tobytes())
        return {"dtype": value.dtype.str, "shape": value.shape, "offset": offset}
    if isinstance(value, _host.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise DTypeError(
        f"cannot send a {type(value).__name__} to other ranks: expected numbers, strings, NumPy "
        "arrays of numbers, None, and lists and dicts of them"
    )


def _from_json(value: Any, contents: Any) -> Any:
    if isinstance(value, list):
        return [_from_json(v, contents) for v in value]
    if not isinstance(value, dict):
        return value
    if "pairs" in value:
        return {_from_json(k, contents): _from_json(v, contents) for k, v in value["pairs"]}
    array = _host.ndarray(value["shape"], value["dtype"], contents, value["offset"])
    return array.copy()  # writable, and aligned
