"""Weights stored outside the model file: only regular files inside its folder are read."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from ...errors import FileFormatError

_MAX_DIGITS = 20  # of a 64-bit integer


@dataclass(frozen=True)
class Source:
    """Where the array data of a model may come from, and how large it may be.

    Attributes
    ----------
    folder
        The only folder that external data is read from; None: external data is an error.
    limit
        Maximum size of one array in bytes.
    blank
        Whether arrays may lack data; they are read as zeros, which a state dict later replaces.
    bytes_read
        Bytes read so far from each external file.
    """

    folder: Path | None
    limit: int
    blank: bool = False
    bytes_read: dict[Path, int] = field(default_factory=dict)


def read_external(tensor: Any, source: Source, size: int, where: str) -> bytearray:
    """Read the ``size`` bytes of an ``onnx.TensorProto`` with external data.

    Raises
    ------
    FileFormatError
        External data is not allowed, the location is outside the folder or not a regular file, the
        file is too short, or overlapping tensors exceed the limit.
    """
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if "location" not in entries or len(entries) != len(tensor.external_data):
        raise FileFormatError(f"{where} has external data without a unique location")
    if source.folder is None:
        raise FileFormatError(f"{where} has external data: load the model from its file")
    offset = _integer(entries.get("offset", "0"), "offset", where)
    length = _integer(entries.get("length", str(size)), "length", where)
    if length != size:
        raise FileFormatError(f"{where} has external data of length {length}: expected {size}")
    path = _resolve(source.folder, entries["location"], where)
    total = source.bytes_read[path] = source.bytes_read.get(path, 0) + size
    if total > max(source.limit, path.stat().st_size):
        raise FileFormatError(
            f"{where}: the weights in {path.name} overlap: they take {total} bytes in total, more "
            "than the file and more than the limit"
        )
    return _read(path, offset, size, where)


def _integer(value: str, name: str, where: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > _MAX_DIGITS:
        raise FileFormatError(f"{where} has {name} {value!r}: expected a non-negative integer")
    return int(value)


def _resolve(folder: Path, location: str, where: str) -> Path:
    """The file at ``location``, which must be inside ``folder`` after following links.

    Windows path rules apply on every system, so that a file is rejected on all or on none.
    """
    path = PureWindowsPath(location)
    if not location or "\0" in location or path.anchor or ".." in path.parts:
        raise FileFormatError(
            f"{where} has location {location!r}: expected a file in the model's folder, without "
            "'..'"
        )
    root = folder.resolve()
    try:
        resolved = (root / location).resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: circular links
        raise FileFormatError(f"{where}: location {location!r} is missing: {error}") from error
    if not resolved.is_relative_to(root):
        raise FileFormatError(
            f"{where} has location {location!r}, a link that leads out of the model's folder; if "
            "you trust the file, copy the target into the folder"
        )
    return resolved


def _read(path: Path, offset: int, size: int, where: str) -> bytearray:
    try:
        with open(path, "rb", opener=_open) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise FileFormatError(f"{where}: {path.name} is not a regular file")
            if offset + size > status.st_size:
                raise FileFormatError(
                    f"{where} is at bytes {offset} to {offset + size} of {path.name}, which has "
                    f"{status.st_size}: it may be truncated; copy or download it again"
                )
            file.seek(offset)
            data = bytearray(size)
            if file.readinto(data) != size:
                raise FileFormatError(f"{where}: {path.name} became shorter while it was read")
            return data
    except OSError as error:
        raise FileFormatError(f"{where}: cannot read {path.name}: {error}") from error


def _open(path: str, flags: int) -> int:
    """Open a file without following links; O_NONBLOCK keeps a pipe from blocking."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0))
