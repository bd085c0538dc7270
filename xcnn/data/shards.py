"""Images in tar shards, in the layout of WebDataset, read by index."""

from __future__ import annotations

import fnmatch
import operator
import os
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import check_path, check_texts
from ..errors import DataError
from ..files import read_json, reading
from .dataset import Batch, Dataset
from .images import SKIP, check_reading, decode_image, read_images, readable
from .shard_index import FORMATS, INDEX, open_index, shards_in

CLASSES = "classes.json"
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")
_FORMATS = tuple(dict.fromkeys(FORMATS.values()))
_MOST_CLASSES = 2**20  # without names


class ShardFolder(Dataset):
    """Images in tar shards, in the layout of WebDataset, decoded on demand by a pool of threads.

    A shard is an uncompressed tar file; the files of one item follow each other in it and differ
    only in what comes after the first dot of their names: ``000017.jpg`` and ``000017.cls``, the
    number of its class as text. Other files of an item are ignored. ``xcnn pack`` writes shards.

    Images are read by index. Where they are is in ``index.safetensors`` in the folder, which
    ``xcnn pack`` writes; for shards from elsewhere it is made when they are opened first, and only
    in memory where the folder is read-only. It is not loaded, but mapped into memory, so that the
    memory used does not grow with the number of images.

    Parameters
    ----------
    root : path
        A folder, of which all shards are used, or some shards in a folder:
        ``"photos/train-*.tar"``, ``"photos/train-{000000..000099}.tar"``.
    size, channels, on_error, threads
        As for :class:`ImageFolder`.
    classes : sequence of str, optional
        Class names in label order; by default those in ``classes.json``, a list of names in the
        folder, or else the numbers of the classes. Classes that have names in ``classes.json``
        get the labels of these names.
    labelled : bool, default True
        Whether items have classes; otherwise every label is 0.

    Attributes
    ----------
    classes : list of str
    paths : list of str
        The shards.
    labels : numpy.ndarray
        int64 (N,).
    shape : tuple of int
        (C, H, W) of every image.
    bounds : numpy.ndarray
        The first item of each shard, and N: int64 (len(paths) + 1,).

    Raises
    ------
    DataError
        If there are no shards; one is missing, truncated, damaged or compressed; an item has no
        picture or, if ``labelled``, no class; on reading, as for :class:`ImageFolder`.
    ArgumentError
        If another argument is invalid.

    Examples
    --------
    >>> from xcnn.data import DataLoader, pack
    >>> count = pack("photos", "shards")
    >>> photos = ShardFolder("shards/train-*.tar", size=96)
    >>> for x, y in DataLoader(photos, 8, shuffle=True):
    ...     print(x.shape, x.dtype.name, y.shape)
    (8, 3, 96, 96) uint8 (8,)
    """

    bounds: np.ndarray

    def __init__(
        self,
        root: str | os.PathLike[str],
        size: int | tuple[int, int] = 64,
        channels: int = 3,
        classes: Sequence[str] | None = None,
        on_error: str = "refuse",
        threads: int | None = None,
        labelled: bool = True,
    ) -> None:
        self.root = check_path("root", root)
        self.shape, self.threads = check_reading(channels, size, on_error, threads)
        folder, names = _select(self.root)
        self.paths = self.target_paths = [str(folder / name) for name in names]
        shards, columns = open_index(folder)
        used = [shards[name] for name in names]
        self.bounds = np.cumsum([0, *(len(shard.rows) for shard in used)])
        first, last = used[0].rows.start, used[-1].rows.stop
        self._offsets, self._sizes, self.labels = (
            # of neighbours, a part of the file; else a copy
            column[first:last]
            if last - first == self.bounds[-1]
            else np.concatenate([column[s.rows.start : s.rows.stop] for s in used])
            for column in columns
        )
        if not len(self):
            raise DataError(f"{self.root} has no images: its shards are empty")
        self.classes = [] if classes is None else check_texts("classes", classes)
        if labelled:
            labels = min(s.lowest for s in used), max(s.highest for s in used)
            self._name_classes(folder / CLASSES, *labels)
        else:
            self.classes, self.labels = [], np.zeros(len(self), np.int64)
        if on_error == "skip":
            self._drop_unreadable()

    def _name_classes(self, file: Path, lowest: int, highest: int) -> None:
        """Name the classes, and let the labels be the indices of their names."""
        own = check_texts(str(file), read_json(file)) if file.exists() else None
        if lowest < 0:
            name = self._file(int(np.argmin(self.labels)))[0]
            raise DataError(f"{name} has no class: expected a file with its number, .cls, after it")
        self.classes = (
            self.classes or own or [str(n) for n in range(min(highest + 1, _MOST_CLASSES))]
        )
        names = own or self.classes
        if highest >= len(names):
            name = self._file(int(np.argmax(self.labels)))[0]
            where = file if own else "classes"
            raise DataError(f"{name} is of class {highest}, but {where} has {len(names)} names")
        unknown = ", ".join(name for name in names if name not in self.classes)
        if unknown:
            known = ", ".join(self.classes)
            raise DataError(f"{self.root} has the classes {unknown}, expected some of {known}")
        if names != self.classes:
            self.labels = np.array([self.classes.index(name) for name in names])[self.labels]

    def __len__(self) -> int:
        return len(self._offsets)

    def __getitem__(self, index: Any) -> tuple[np.ndarray, np.int64]:
        """Return one image, uint8 (C, H, W), and its label."""
        i = range(len(self))[operator.index(index)]
        return self._read(i), self.labels[i]

    def batch(self, indices: np.ndarray) -> Batch:
        """Read several items: uint8 (N, C, H, W) and int64 (N,)."""
        indices = np.asarray(indices)
        items = [range(len(self))[i] for i in indices.tolist()]
        return read_images(self._read, items, self.shape, self.threads), self.labels[indices]

    def _read(self, item: int) -> np.ndarray:
        name, content = self._file(item)
        try:
            return decode_image(content, self.shape, crop=True, name=name, formats=_FORMATS)
        except DataError as error:
            raise DataError(f"{error}. Pack the folder without it, or {SKIP}") from error

    def _file(self, item: int) -> tuple[str, bytes]:
        """The file of a picture: its name and shard, for messages, and its content."""
        shard = int(np.searchsorted(self.bounds, item, "right")) - 1
        path, offset, size = self.paths[shard], int(self._offsets[item]), int(self._sizes[item])
        advice = f"Copy the shard again; if it is right, remove {INDEX}, which is older"
        with reading(path, "is damaged", advice, DataError), open(path, "rb", buffering=0) as file:
            file.seek(offset - tarfile.BLOCKSIZE)
            found = file.read(tarfile.BLOCKSIZE + size)
            header, content = found[: tarfile.BLOCKSIZE], found[tarfile.BLOCKSIZE :]
            if len(content) < size or int(header[124:136].strip(b"\0 "), 8) != size:
                raise ValueError(f"no picture of {size} bytes at byte {offset}")
        name = header[:100].partition(b"\0")[0].decode(errors="replace")
        return f"{name} in {path}", content

    def _drop_unreadable(self) -> None:
        ok = readable(self.root, self._read, range(len(self)), self.threads)
        self.bounds = np.concatenate([[0], np.cumsum(ok)])[self.bounds]
        self._offsets, self._sizes, self.labels = (
            column[ok] for column in (self._offsets, self._sizes, self.labels)
        )

    def __repr__(self) -> str:
        content = f"{len(self)} images of {len(self.classes)} classes in {len(self.paths)} shards"
        return f"ShardFolder({self.root!r}: {content} as {'×'.join(map(str, self.shape))})"


def _select(root: str) -> tuple[Path, list[str]]:
    """The folder and the names of the shards that ``root`` stands for."""
    path = Path(root)
    folder, pattern = (path, "*") if path.is_dir() else (path.parent, path.name)
    found = shards_in(folder)
    braces = _BRACES.search(pattern)
    if braces:
        first, last = braces.groups()
        names = []
        for number in range(int(first), int(last) + 1):
            text = f"{number:0{len(first)}}"
            names.append(pattern[: braces.start()] + text + pattern[braces.end() :])
            if names[-1] not in found:
                raise DataError(f"{folder / names[-1]} is missing, of {root}")
    else:
        names = fnmatch.filter(found, pattern)
    if not names:
        raise DataError(
            f"{root}: no such shards; expected tar files, as xcnn pack FOLDER SHARDS makes them"
        )
    return folder, sorted(names)
