"""Weights in files beside a model: only inside its folder, and only the bytes that are theirs."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from ...errors import FileFormatError

if TYPE_CHECKING:
    from .read import Source

_DIGITS = 20  # of the largest 64-bit number


def read_external(tensor: Any, source: Source, size: int, where: str) -> bytearray:
    """The bytes of an ``onnx.TensorProto`` that lie in another file; ``size`` are wanted.

    Raises
    ------
    FileFormatError
        Files are not allowed here (there is no folder), the place is outside the folder, is no
        file, does not have these bytes, or many weights are to share a few of them.
    """
    folder = source.folder
    keys = [entry.key for entry in tensor.external_data]
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if "location" not in entries or len(set(keys)) != len(keys):
        raise FileFormatError(f"{where} lies in another file, but it is not said which")
    if folder is None:
        raise FileFormatError(f"{where} lies in another file: load the model from its own file")
    offset = _number(entries.get("offset", "0"), "offset", where)
    length = _number(entries.get("length", str(size)), "length", where)
    if length != size:
        raise FileFormatError(f"{where} has length {length} in another file: expected {size}")
    path = _inside(folder, entries["location"], where)
    source.taken[path] = source.taken.get(path, 0) + size
    if source.taken[path] > max(source.limit, path.stat().st_size):
        raise FileFormatError(
            f"{where}: the weights that lie in {path.name} take {source.taken[path]} bytes, more "
            "than the file has, and more than the limit: they overlap"
        )
    return _read(path, offset, size, where)


def _number(value: Any, name: str, where: str) -> int:
    plain = isinstance(value, str) and value.isascii() and value.isdigit()
    if not plain or len(value) > _DIGITS:
        raise FileFormatError(f"{where} has {name} {value!r}: expected a whole number")
    return int(value)


def _inside(folder: Path, location: Any, where: str) -> Path:
    """The file, with links followed, if it is in ``folder`` or below.

    Windows' rules hold everywhere: a file that is refused there is refused here.
    """
    if not isinstance(location, str) or "\0" in location:
        raise FileFormatError(f"{where} lies in {location!r}, which is no file name")
    parts = PureWindowsPath(location)
    if not location or parts.is_absolute() or parts.anchor or ".." in parts.parts:
        raise FileFormatError(
            f"{where} lies in {location!r}: expected a file in the model's own folder, without '..'"
        )
    root = folder.resolve()
    try:
        found = (root / location).resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        raise FileFormatError(f"{where} lies in {location!r}, which is missing: {error}") from error
    if not found.is_relative_to(root):
        raise FileFormatError(
            f"{where} lies in {location!r}, a link that leads out of the model's folder; if the "
            "file can be trusted, copy what it leads to into the folder"
        )
    return found


def _read(path: Path, offset: int, size: int, where: str) -> bytearray:
    # not blocking: a pipe must not keep the program waiting
    flags = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
    try:
        number = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0))
    except OSError as error:
        raise FileFormatError(f"{where} lies in {path.name}: {error}") from error
    try:
        _check_holds(os.fstat(number), path.name, offset, size, where)
        with open(number, "rb", closefd=False) as file:
            file.seek(offset)
            data = bytearray(size)
            if file.readinto(data) != size:
                raise FileFormatError(f"{where}: {path.name} became shorter while it was read")
            return data
    finally:
        os.close(number)


def _check_holds(found: os.stat_result, name: str, offset: int, size: int, where: str) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise FileFormatError(f"{where} lies in {name}, which is not a file")
    if offset + size > found.st_size:
        raise FileFormatError(
            f"{where} lies at bytes {offset} to {offset + size} of {name}, which has "
            f"{found.st_size}: it may be truncated, copy or download it again"
        )
