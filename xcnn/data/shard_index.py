"""The index of a folder of tar shards: where each picture is, and of which class."""

from __future__ import annotations

import itertools
import json
import operator
import os
import re
import tarfile
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError
from ..files import reading, write_atomically
from ..serialize import parts, read

INDEX = "index.safetensors"
#: formats of the pictures, Pillow's name of each, by the suffixes of their files
FORMATS = {
    **{"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG", "webp": "WEBP", "bmp": "BMP", "gif": "GIF"},
    **{"pgm": "PPM", "ppm": "PPM", "tif": "TIFF", "tiff": "TIFF"},
}
_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_COLUMNS = "offset", "size", "label"
_MOST = 20  # bytes of a class number


def shards_in(folder: str | os.PathLike[str]) -> list[str]:
    """The names of the shards in a folder, sorted; also of compressed ones, which are refused."""
    if not os.path.isdir(folder):
        return []
    files = (entry.name for entry in os.scandir(folder) if entry.is_file())
    return sorted(n for n in files if n.endswith(_SUFFIXES) and not n.startswith("."))


class Shard(NamedTuple):
    """What the index has of a shard."""

    rows: range  # of the columns
    size: int  # in bytes
    lowest: int  # class, -1 if an item has none
    highest: int


class IndexWriter:
    """Collects the places of pictures, shard by shard."""

    def __init__(self) -> None:
        self._columns = {name: array("q") for name in _COLUMNS}
        self._shards: list[tuple[Any, ...]] = []
        self._items = 0  # in the shards that ended

    def add(self, *place: int) -> None:
        """Add a picture to the shard that :meth:`end` will name: its offset, size and class."""
        for column, value in zip(self._columns.values(), place, strict=True):
            column.append(value)

    def end(self, name: str, size: int) -> None:
        """End a shard of so many bytes."""
        labels = self._columns["label"][self._items :] or [0]
        self._items = len(self._columns["label"])
        self._shards.append((name, size, self._items, min(labels), max(labels)))

    def arrays(self) -> dict[str, np.ndarray]:
        """The columns."""
        return {name: np.array(column, np.int64) for name, column in self._columns.items()}

    def metadata(self) -> dict[str, str]:
        """The shards."""
        return {"format": "xcnn shards", "shards": json.dumps(self._shards)}

    def write(self, folder: Path) -> None:
        """Write the index of ``folder``."""
        write_atomically(folder / INDEX, parts(self.arrays(), self.metadata()))


def open_index(folder: Path) -> tuple[dict[str, Shard], list[np.ndarray]]:
    """The shards of a folder, and offset, size and class of each of their pictures.

    The index is read, or made and written, if it is missing or older than a shard.
    """
    path = folder / INDEX
    sizes = {name: os.path.getsize(folder / name) for name in shards_in(folder)}
    if path.exists():
        shards, columns = _parsed(path, *read(path, mapped=True))
        missing = [name for name in shards if name not in sizes]
        if missing:
            raise DataError(
                f"{folder / missing[0]} is missing, as are {len(missing) - 1} other shards: copy "
                f"them again or, to go on without, remove {path}"
            )
        if sizes == {name: shard.size for name, shard in shards.items()}:
            return shards, columns
    writer = IndexWriter()
    for name, size in sizes.items():
        for place in _scan(folder / name):
            writer.add(*place)
        writer.end(name, size)
    if not os.access(folder, os.W_OK):
        return _parsed(path, writer.arrays(), writer.metadata())
    writer.write(folder)
    return _parsed(path, *read(path, mapped=True))


def _parsed(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> tuple[dict[str, Shard], list[np.ndarray]]:
    with reading(path, "is no index of shards", "Remove it", DataError):
        shards, start = {}, 0
        for name, size, end, lowest, highest in json.loads(metadata["shards"]):
            shards[name] = Shard(range(start, end), size, lowest, highest)
            start = end
        columns = [arrays[name] for name in _COLUMNS]
        if {(start,)} != {column.shape for column in columns}:
            raise ValueError(f"expected {start} rows")
    return shards, columns


def _scan(path: Path) -> Iterator[tuple[int, int, int]]:
    """Offset, size and class (or -1) of each picture in a shard."""
    for key, files in itertools.groupby(_members(path), operator.itemgetter(0)):
        found: dict[str, tuple[int, int, bytes]] = {}
        for _, suffix, *place in files:
            if suffix in found:
                raise DataError(f"{path} has {key}.{suffix} twice: expected other names")
            found[suffix] = tuple(place)  # type: ignore[assignment]
        pictures = [place for s, place in found.items() if s.rpartition(".")[2] in FORMATS]
        if len(pictures) != 1:
            raise DataError(
                f"{path}: {key} has {len(pictures)} pictures among .{', .'.join(found)}: expected "
                f"one of .{', .'.join(FORMATS)}, and the files of an item one after another"
            )
        label = found["cls"][2].strip() if "cls" in found else b"-1"
        if not re.fullmatch(rb"-1|\d{1,18}", label):
            raise DataError(f"{path}: {key}.cls holds {label!r}: expected the number of a class")
        offset, size, _ = pictures[0]
        yield offset, size, int(label)


def _members(path: Path) -> Iterator[tuple[str, str, int, int, bytes]]:
    """Key, suffix, offset and size of each file in a shard, and its content if it is a class."""
    advice = "Copy or download it again, or remove it"
    with reading(path, "is truncated or damaged", advice, DataError), open(path, "rb") as file:
        if file.read(2) == b"\x1f\x8b":
            raise DataError(f"{path} is compressed, so it has no random access: gunzip it")
        file.seek(0)
        with tarfile.open(fileobj=file, mode="r:") as tar:
            while member := tar.next():
                tar.members = []  # type: ignore[attr-defined]  # it would keep them all
                folder, _, name = member.name.rpartition("/")
                if not member.isreg() or name.startswith((".", "__")):
                    continue
                stem, _, suffix = name.partition(".")
                file.seek(member.offset_data)
                content = file.read(min(member.size, _MOST)) if suffix == "cls" else b""
                yield f"{folder}/{stem}", suffix.lower(), member.offset_data, member.size, content
            # tarfile takes a damaged header for the end
            file.seek(tar.offset)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise ValueError(f"no header at byte {tar.offset}, nor the end")
