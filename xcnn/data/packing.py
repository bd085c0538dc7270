"""Packing images into tar shards."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ..checks import check_int, check_path
from ..errors import ArgumentError
from ..files import naming, replacing, write_atomically
from ..notebook import progress_bar
from .dataset import Dataset, Subset
from .folder import ImageFolder, split_folder
from .images import encode_image, read_image
from .shard_index import IndexWriter
from .shards import CLASSES
from .sources import info, load, names


def pack(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    shard_size: int = 2**28,
    shard_items: int | None = None,
    seed: int = 0,
    on_error: str = "refuse",
    data_dir: str | None = None,
    progress: bool = False,
) -> dict[str, tuple[int, int]]:
    """Pack images into tar shards in WebDataset's layout, which :class:`ShardFolder` reads.

    The shards ``train-000000.tar``, ... and ``test-000000.tar``, ... hold the images in random
    order, so that neighbours are of different classes. The files of images are not changed; arrays
    (``.npy``) become PNG. The same images and arguments give the same bytes.

    ``out`` is not there until it is complete: it is written as ``out.partial``, which only a killed
    process leaves behind.

    Parameters
    ----------
    source : path or str
        A folder as for :func:`load_folder`, or the name of a dataset of images for classification,
        such as "mnist".
    out : path
        A folder that does not exist yet, or is empty.
    shard_size : int, default 2**28
        Bytes of a shard; it is exceeded by less than an image.
    shard_items : int, optional
        The most images in a shard.
    seed : int, default 0
        Of the order, and of the images that are held out for testing.
    on_error : str, default "refuse"
        "skip" leaves out images that cannot be read, for which each is decoded; otherwise none is.
    data_dir : path, optional
        Where to search for a named dataset first.
    progress : bool, default False
        Whether to show a bar in a terminal.

    Returns
    -------
    dict
        For "train" and "test": the number of images and of shards.

    Raises
    ------
    ArgumentError
        ``out`` is not empty or in ``source``, or ``source`` is no dataset for classification.
    DataError
        As for :func:`split_folder`.
    OSError
        A file cannot be read or written.

    Examples
    --------
    >>> pack("photos", "shards")  # photos/cat/1.jpg, photos/dog/1.jpg, ...
    {'train': (8, 1), 'test': (2, 1)}
    """
    check_int("shard_size", shard_size)
    most = check_int("shard_items", 2**62 if shard_items is None else shard_items)
    check_int("seed", seed, 0)
    source, out = check_path("source", source), Path(check_path("out", out)).resolve()
    partial = out.with_name(f"{out.name}.partial")
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise ArgumentError(f"{out} is there already: expected a new or an empty folder")
    if source not in names() and out.is_relative_to(Path(source).resolve()):
        raise ArgumentError(f"{out} is in {source}, whose folders are classes: put it elsewhere")
    train, test, classes = _splits(source, seed, on_error, data_dir, progress)
    try:
        partial.mkdir(parents=True)
    except FileExistsError as error:
        raise ArgumentError(
            f"{partial} is there, of a pack that was killed or is running: remove it, or wait"
        ) from error
    index, counts = IndexWriter(), {}
    try:
        with progress_bar(len(train) + len(test), out.name, progress, unit="img") as bar:
            for split, part in (("test", test), ("train", train)):  # as their names are sorted
                items = _counted(_items(part, seed), bar)
                shards = write_shards(partial, split, items, shard_size, most, index)
                counts[split] = len(part), shards
        index.write(partial)
        write_atomically(partial / CLASSES, (json.dumps(classes, indent=0) + "\n").encode())
        with naming("write", out):
            if out.is_dir():
                out.rmdir()
            partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return dict(reversed(counts.items()))


def _splits(
    source: Any, seed: int, on_error: str, data_dir: Any, progress: bool
) -> tuple[Dataset, Dataset, list[str]]:
    """The training split, the test split and the classes of a folder or a named dataset."""
    if source not in names():
        train, test, classes = split_folder(source, seed=seed, on_error=on_error)
        if not isinstance(_part(train)[0], ImageFolder):
            raise ArgumentError(f"{source} holds shards already: expected a folder of images")
        return train, test, classes
    record = info(source)
    if record.task != "classification" or record.kind != "images":
        what = record.task if record.task != "classification" else record.kind
        raise ArgumentError(f"{source} is for {what}: shards hold images with a class each")
    found = load(source, data_dir, progress=progress)
    return found.train, found.test, found.classes


def _part(split: Dataset) -> tuple[Dataset, Any]:
    """The dataset that a split is from, and which items of it."""
    if isinstance(split, Subset):
        return split.dataset, split.indices
    return split, range(len(split))


def _items(split: Dataset, seed: int) -> Iterator[tuple[str, bytes, int]]:
    """Suffix, content and class of each image of a split, in random order."""
    dataset, indices = _part(split)
    for n in np.random.Generator(np.random.PCG64(seed)).permutation(len(split)).tolist():
        if not isinstance(dataset, ImageFolder):
            x, y = dataset[indices[n]]
            yield "png", encode_image(x), int(y)
            continue
        path, label = Path(dataset.paths[indices[n]]), int(dataset.labels[indices[n]])
        suffix = path.suffix.lower()[1:]
        if suffix == "npy":
            yield "png", encode_image(read_image(path, (3, None, None))), label
        else:
            yield suffix, path.read_bytes(), label


def _counted(items: Iterable[Any], bar: Any) -> Iterator[Any]:
    for item in items:
        yield item
        bar.update()


def write_shards(
    folder: Path,
    split: str,
    items: Iterator[tuple[str, bytes, int]],
    size: int,
    most: int,
    index: IndexWriter,
) -> int:
    """Write pictures (suffix, content, class) into the shards of a split; returns how many."""
    number = shards = 0
    item = next(items, None)
    while item is not None:
        name, end = f"{split}-{shards:06}.tar", number + most
        with replacing(folder / name) as file:
            while item is not None and number < end and file.tell() < size:
                suffix, content, label = item
                _write_member(file, f"{number:09}.cls", str(label).encode())
                index.add(
                    _write_member(file, f"{number:09}.{suffix}", content), len(content), label
                )
                number, item = number + 1, next(items, None)
            file.write(bytes(2 * tarfile.BLOCKSIZE))
            file.write(bytes(-file.tell() % tarfile.RECORDSIZE))
            index.end(name, file.tell())
        shards += 1
    return shards


def _write_member(file: BinaryIO, name: str, content: bytes) -> int:
    """Write a file into a tar; returns where its content begins."""
    member = tarfile.TarInfo(name)  # owned by nobody, of no time
    member.size = len(content)
    file.write(member.tobuf(tarfile.USTAR_FORMAT))
    start = file.tell()
    file.write(content + bytes(-len(content) % tarfile.BLOCKSIZE))
    return start
