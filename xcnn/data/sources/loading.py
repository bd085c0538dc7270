"""Loading a dataset by name: from the package, from files, or from the network."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from ...checks import check_int
from ...errors import DataError
from ..dataset import ArrayDataset, map_arrays
from ..splits import DataSplits
from . import canvases, cifar, digits, figures, generated, idx, photos
from .download import DownloadError, fetch
from .files import Digest, cache_dir, search_roots
from .registry import Info, info, names, owner

_FORMATS: dict[str, ModuleType] = {"idx": idx, "cifar": cifar}
_GENERATORS: dict[str, Any] = {
    "moons": generated.moons,
    "cross": generated.cross,
    "photo-crops": photos.photos,
    "shapes": generated.shapes,
    "symbols": figures.symbols,
    "discs": figures.discs,
    "stick-figures": generated.stick_figures,
}


@dataclass(frozen=True)
class Status:
    """Whether a dataset is available on this machine.

    Attributes
    ----------
    name : str
    state : str
        ``"embedded"``, ``"generated"``, ``"found"`` or ``"absent"``.
    folder : Path or None
        Folder with its files, or that they would be downloaded to.
    download_size : int
        Bytes that :func:`load` would download; 0 if none.
    counts : tuple of int
        Number of training and of test items: of the files if they were found, which may be a part
        of the dataset; else of the whole dataset.
    problem : str
        Why the files cannot be read; empty if their headers can.
    """

    name: str
    state: str
    folder: Path | None = None
    download_size: int = 0
    counts: tuple[int, ...] = (0, 0)
    problem: str = ""

    def __str__(self) -> str:
        if self.state == "found":
            return f"found in {self.folder}{self.problem and ', but '}{self.problem}"
        if self.state == "absent":
            size = self.download_size / 1e6
            return f"not present; load() would download {size:.1f} MB to {self.folder}"
        return self.state


def load(
    name: str,
    data_dir: str | os.PathLike[str] | None = None,
    download: bool = True,
    progress: bool = True,
    limit: int | None = None,
) -> DataSplits:
    """Load a dataset.

    Files are searched for in ``data_dir``, then in the folder ``$XCNN_DATA``, then in the cache
    (``$XCNN_CACHE``, or ``~/.cache/xcnn``): in each, first in a folder with the dataset's name,
    then in the folders that its archives unpack to, then directly; packed (``.gz``) or not. Missing
    files are downloaded to ``<data_dir>/<name>`` if ``data_dir`` is given, else to the cache. The
    variable ``XCNN_MIRROR`` replaces the mirrors with the folder ``$XCNN_MIRROR/<name>``.

    Parameters
    ----------
    name : str
        One of :func:`xcnn.data.names`.
    data_dir : path, optional
        Folder to search first.
    download : bool, default True
        Download missing files.
    progress : bool, default True
        Show a progress bar while downloading, if standard error is a terminal.
    limit : int, optional
        Keep only the first ``limit`` items of each split.

    Raises
    ------
    ArgumentError
        If the name is unknown, or ``limit`` is not a positive integer.
    DataError
        If the files can be neither found nor downloaded, or are damaged.

    Examples
    --------
    >>> load("digits", limit=100).train
    ArrayDataset(100 items: uint8 (100, 1, 32, 32), int64 (100,))
    """
    record = info(name)
    if limit is not None:
        limit = check_int("limit", limit)
    arrays, source = _read(record, data_dir, download, progress)
    train_x, train_y, test_x, test_y = map_arrays(lambda array: array[:limit], tuple(arrays))
    train, test = ArrayDataset(train_x, train_y), ArrayDataset(test_x, test_y)
    metadata = list(record.classes), record.mean, record.std, record.kind
    return DataSplits(name, train, test, *metadata, source, tuple(train_x.shape[1:]))


def status(name: str, data_dir: str | os.PathLike[str] | None = None) -> Status:
    """Report whether a dataset is available, and how much of it, without loading or downloading it.

    Parameters
    ----------
    name : str
        One of :func:`xcnn.data.names`.
    data_dir : path, optional
        As for :func:`load`.

    Raises
    ------
    ArgumentError
        If the name is unknown.
    """
    record = info(name)
    if record.made_of:
        return replace(status(record.made_of, data_dir), name=name, counts=record.counts)
    if record.origin not in _FORMATS:
        return Status(name, record.origin, counts=record.counts)
    paths, _ = _locate(record, data_dir)
    if not paths:
        folder = _destination(record, data_dir)
        return Status(name, "absent", folder, record.download_size, record.counts)
    try:
        return Status(name, "found", paths[0].parent, 0, _FORMATS[record.origin].counts(paths))
    except DataError as error:
        return Status(name, "found", paths[0].parent, problem=str(error))


def _read(
    record: Info, data_dir: str | os.PathLike[str] | None, download: bool, progress: bool
) -> tuple[list[Any], str]:
    """Return train x, train y, test x and test y, and their source."""
    if record.made_of:
        arrays, source = _read(info(record.made_of), data_dir, download, progress)
        pairs = enumerate(zip(arrays[::2], arrays[1::2], record.counts, strict=True))
        drawn = [canvases.compose(*pair, seed=seed) for seed, pair in pairs]
        return [part for split in drawn for part in split], source
    if record.origin == "embedded":
        return digits.load(), "embedded"
    if record.origin == "generated":
        draw = _GENERATORS[record.name]
        splits = [draw(count, seed=seed) for seed, count in enumerate(record.counts)]
        return [array for split in splits for array in split], "generated"
    paths, searched = _locate(record, data_dir)
    if not paths:
        paths = _fetch_missing(record, _destination(record, data_dir), searched, download, progress)
    if record.origin == "cifar":  # no digests: many versions of its batch files exist
        return cifar.read(paths), str(paths[0].parent)
    return idx.read(paths, partial(_verify, record)), str(paths[0].parent)


def _locate(record: Info, data_dir: str | os.PathLike[str] | None) -> tuple[list[Path], list[str]]:
    """Return the files in the first complete folder, or what each folder lacks."""
    searched = []
    for root in search_roots(data_dir):
        for folder in (root / record.name, *(root / f for f in record.folders), root):
            reason = "no such folder"
            if folder.is_dir():
                paths, reason = _FORMATS[record.origin].locate(folder)
                if paths:
                    return paths, []
            searched.append(f"{folder}: {reason}")
    return [], searched


def _destination(record: Info, data_dir: str | os.PathLike[str] | None) -> Path:
    return (Path(data_dir).expanduser() if data_dir else cache_dir()) / record.name


def _fetch_missing(
    record: Info, folder: Path, searched: list[str], download: bool, progress: bool
) -> list[Path]:
    """Download the files that ``folder`` lacks."""
    mirror = os.environ.get("XCNN_MIRROR")
    mirrors = (f"{mirror.rstrip('/')}/{record.name}",) if mirror else record.mirrors
    failures = [] if download else ["nothing, because of download=False"]
    for file in record.files if download else ():
        if not any((folder / n).is_file() for n in (file.name, file.name.removesuffix(".gz"))):
            try:
                fetch(file.name, mirrors, folder, file.digest, progress)
            except DownloadError as error:
                failures = error.failures
                break
    if failures:
        sections = {
            f"the dataset {record.name!r} is not on this machine. Searched": searched,
            "Tried to download": failures,
            f"To add it by hand, get these files from {record.mirrors[0]} and put them into "
            f"{folder} (or into any <folder>/{record.name}, with data_dir=<folder> or "
            "XCNN_DATA=<folder>)": [f"{file.name} ({file.size:,} bytes)" for file in record.files],
        }
        texts = ("\n  ".join([f"{title}:", *lines]) for title, lines in sections.items())
        raise DataError("\n".join(texts))
    return _FORMATS[record.origin].locate(folder)[0]


def _verify(record: Info, path: Path, data: bytes) -> None:
    """Reject a file with the wrong digest, or one that belongs to another dataset."""
    stem = path.name.removesuffix(".gz")
    digest = next(file.digest for file in record.files if file.name == f"{stem}.gz")
    sha256 = Digest("sha256", "").of_bytes(data)
    if digest.unpacked and sha256 != digest.value:
        raise DataError(
            f"{path} is not a file of {record.name}: {digest} is {sha256}, expected "
            f"{digest.value}. Delete it and load again, or replace it with the one from "
            f"{record.mirrors[0]}"
        )
    if owner(sha256) not in (None, record.name):
        raise DataError(
            f"{path} belongs to {owner(sha256)}, not to {record.name}. Put the files of each "
            f"dataset into a separate folder: {', '.join(names())}"
        )
