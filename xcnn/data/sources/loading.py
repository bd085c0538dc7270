"""Loading a data set by its name: from the library, from files, or from the network."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ArgumentError, DataError
from ..dataset import ArrayDataset
from ..transforms import Normalize
from . import cifar, digits, generated, idx
from .download import DownloadError, fetch
from .files import Digest, cache_dir, search_roots
from .registry import Info, info, names, owner

_FORMATS: dict[str, Any] = {"idx": idx, "cifar": cifar}
_GENERATORS: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "moons": generated.moons,
    "cross": generated.cross,
}


@dataclass(frozen=True)
class DataSet:
    """A loaded data set.

    Attributes
    ----------
    name : str
    train, test : Dataset
        Pairs (x, y): images uint8 (N, C, H, W), or features float32 (N, F); labels int64 (N,). Of
        :func:`load`, :class:`ArrayDataset`, whose ``arrays`` these are.
    classes : list of str
        Name of each label.
    mean, std : tuple of float
        Of each channel, pixels divided by 255; for features, of each as it is. They describe the
        whole training part of the official data, whatever part of it was loaded.
    kind : str
        ``"images"`` or ``"features"``.
    source : str
        ``"embedded"``, ``"generated"``, or the folder that the files came from.
    image_shape : tuple of int
        Shape of one item, the input shape of a model: (C, H, W), or (F,) for features.
    """

    name: str
    train: Any
    test: Any
    classes: list[str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: str
    source: str
    image_shape: tuple[int, ...]

    def normalize(self) -> Normalize:
        """Make the transform that brings x to mean 0 and deviation 1, for a DataLoader."""
        return Normalize(self.mean, self.std, scale=255 if self.kind == "images" else 1)


@dataclass(frozen=True)
class Status:
    """Whether a data set is at hand.

    Attributes
    ----------
    name : str
    state : str
        ``"embedded"``, ``"generated"``, ``"found"`` or ``"absent"``.
    folder : Path or None
        Where its files lie, or would be downloaded to.
    download_size : int
        Bytes that :func:`load` would download; 0 if none.
    """

    name: str
    state: str
    folder: Path | None = None
    download_size: int = 0

    def __str__(self) -> str:
        if self.state == "found":
            return f"found in {self.folder}"
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
) -> DataSet:
    """Load a data set.

    Files are looked for in ``data_dir``, then in the folder ``$XCNN_DATA``, then in the cache
    (``$XCNN_CACHE``, or ``~/.cache/xcnn``): in each, first in a folder of the data set's name, then
    in those of its archives, then directly; packed (``.gz``) or not. What is not found is
    downloaded to ``<data_dir>/<name>`` if ``data_dir`` is given, else to the cache. The variable
    ``XCNN_MIRROR`` replaces the mirrors by the folder ``$XCNN_MIRROR/<name>``.

    Parameters
    ----------
    name : str
        One of :func:`xcnn.data.names`.
    data_dir : path, optional
        Folder to look in first.
    download : bool, default True
        Download what is not found.
    progress : bool, default True
        Show a progress bar while downloading, if standard error is a terminal.
    limit : int, optional
        Keep only the first so many items of the training and of the test part.

    Raises
    ------
    ArgumentError
        If the name is unknown, or ``limit`` is not a positive integer.
    DataError
        If the files are neither found nor downloaded, or are damaged.

    Examples
    --------
    >>> load("digits", limit=100).train
    ArrayDataset(100 items: uint8 (100, 1, 32, 32), int64 (100,))
    """
    record = info(name)
    if limit is not None and (
        type(limit) is bool or not isinstance(limit, int | np.integer) or limit < 1
    ):
        raise ArgumentError(f"limit must be a positive integer or None, got {limit!r}")
    arrays, source = _read(record, data_dir, download, progress)
    train_x, train_y, test_x, test_y = (array[:limit] for array in arrays)
    return DataSet(
        name=name,
        train=ArrayDataset(train_x, train_y),
        test=ArrayDataset(test_x, test_y),
        classes=list(record.classes),
        mean=record.mean,
        std=record.std,
        kind=record.kind,
        source=source,
        image_shape=tuple(train_x.shape[1:]),
    )


def status(name: str, data_dir: str | os.PathLike[str] | None = None) -> Status:
    """Tell whether a data set is at hand, without reading or downloading it.

    Parameters
    ----------
    name : str
        One of :func:`xcnn.data.names`.
    data_dir : path, optional
        As for :func:`load`.
    """
    record = info(name)
    if record.origin not in _FORMATS:
        return Status(name, record.origin)
    paths, _ = _locate(record, data_dir)
    if paths:
        return Status(name, "found", paths[0].parent)
    return Status(name, "absent", _destination(record, data_dir), record.download_size)


def _read(
    record: Info, data_dir: str | os.PathLike[str] | None, download: bool, progress: bool
) -> tuple[list[np.ndarray], str]:
    """Arrays train x, train y, test x, test y, and where they came from."""
    if record.origin == "embedded":
        return digits.load(), "embedded"
    if record.origin == "generated":
        return _generate(record), "generated"
    paths, looked = _locate(record, data_dir)
    if not paths:
        paths = _fetch_all(record, _destination(record, data_dir), looked, download, progress)
    arrays = _FORMATS[record.origin].read(paths, partial(_check, record))
    return arrays, str(paths[0].parent)


def _generate(record: Info) -> list[np.ndarray]:
    draw = _GENERATORS[record.name]
    parts = [draw(count, seed=seed) for seed, count in enumerate(record.counts)]
    return [array for part in parts for array in part]


def _locate(record: Info, data_dir: str | os.PathLike[str] | None) -> tuple[list[Path], list[str]]:
    """Paths of the files in the first folder that has them all, and what each folder lacks."""
    looked = []
    for root in search_roots(data_dir):
        for folder in (root / record.name, *(root / f for f in record.folders), root):
            paths, reason = _FORMATS[record.origin].locate(folder)
            if paths:
                return paths, []
            looked.append(f"{folder}: {reason}")
    return [], looked


def _destination(record: Info, data_dir: str | os.PathLike[str] | None) -> Path:
    return (Path(data_dir).expanduser() if data_dir else cache_dir()) / record.name


def _fetch_all(
    record: Info, folder: Path, looked: list[str], download: bool, progress: bool
) -> list[Path]:
    """Download the files that ``folder`` lacks."""
    if not download:
        raise DataError(_by_hand(record, folder, looked, ["nothing, because of download=False"]))
    for file in record.files:
        at_hand = [folder / file.name, folder / file.name.removesuffix(".gz")]
        if any(path.is_file() for path in at_hand):
            continue
        try:
            fetch(file.name, _mirrors(record), folder, file.digest, progress)
        except DownloadError as error:
            raise DataError(_by_hand(record, folder, looked, error.failures)) from error
    paths: list[Path] = _FORMATS[record.origin].locate(folder)[0]
    return paths


def _mirrors(record: Info) -> tuple[str, ...]:
    own = os.environ.get("XCNN_MIRROR")
    return (f"{own.rstrip('/')}/{record.name}",) if own else record.mirrors


def _by_hand(record: Info, folder: Path, looked: list[str], tried: list[str]) -> str:
    """Text of the error that no file was found: everything that was tried, and what to do."""
    wanted = [f"{file.name} ({file.size:,} bytes)" for file in record.files]
    sections = {
        f"the data set {record.name!r} is not on this machine. Looked in": looked,
        "Tried to download": tried,
        f"To add it by hand, get these files from {record.mirrors[0]} and put them into {folder} "
        f"(or into any <folder>/{record.name}, with data_dir=<folder> or XCNN_DATA=<folder>)": (
            wanted
        ),
    }
    return "\n".join("\n  ".join([f"{title}:", *lines]) for title, lines in sections.items())


def _check(record: Info, path: Path, data: bytes) -> None:
    """Refuse a file whose unpacked bytes are not the published ones, or are another data set's."""
    if record.origin == "cifar":
        return  # loose batches exist in many versions, none of them with a published digest
    stem = path.name.removesuffix(".gz")
    digest = next(file.digest for file in record.files if file.name == f"{stem}.gz")
    sha256 = Digest("sha256", "").of_bytes(data)
    if digest.unpacked and sha256 != digest.value:
        raise DataError(
            f"{path} is not {record.name}'s file: {digest} is {sha256}, wanted {digest.value}. "
            f"Delete it and load again, or replace it by the one from {record.mirrors[0]}"
        )
    if owner(sha256) not in (None, record.name):
        raise DataError(
            f"{path} is {owner(sha256)}'s file, but it was found in place of {record.name}'s. Put "
            f"the files of each into a folder of its own: {', '.join(names())}"
        )
