"""The binary version of CIFAR-10: batch files, or the original archive."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import DataError
from .files import MAX_BYTES, damaged, read_bytes, unpacked

ARCHIVE = "cifar-10-binary.tar.gz"
_ARCHIVES = (ARCHIVE, "cifar-10-binary.tar")  # some browsers unpack downloads
SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32
_BLOCK = 512  # bytes; a tar archive is a header of one block per file, then its data in blocks
_TEST = "test_batch.bin"
_BATCH = re.compile(r"(data_batch_\d+|test_batch)\.bin")


def parse(data: bytes, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Convert the bytes of one batch file to images and labels.

    A record is one label byte, then 3·32·32 bytes: the red, green and blue planes.

    Parameters
    ----------
    data : bytes
        The whole file, unpacked.
    source : str
        File name for error texts.

    Returns
    -------
    images : numpy.ndarray
        uint8 (N, 3, 32, 32).
    labels : numpy.ndarray
        int64 (N,).

    Raises
    ------
    DataError
        If the length is not a whole number of records, or a label is above 9.
    """
    count, rest = divmod(len(data), _RECORD)
    if rest or not count:
        expected = f"a multiple of {_RECORD} (a label and 3×32×32 pixels)"
        raise damaged(source, f"got {len(data)} bytes, expected {expected}")
    records = np.frombuffer(data, np.uint8).reshape(count, _RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        first = int(np.argmax(labels > 9))
        raise DataError(
            f"{source} is not a CIFAR-10 batch: record {first} has the label {labels[first]}, "
            "expected 0 to 9 (CIFAR-100 has another layout). Replace the file"
        )
    return records[:, 1:].reshape(count, *SHAPE), labels


def locate(folder: Path) -> tuple[list[Path], str]:
    """Find the batches in ``folder``, with or without ``.gz``, or else the archive.

    Returns
    -------
    paths : list of Path
        The training batches by number, then the test batch; or only the archive; or nothing.
    reason : str
        Missing files; empty if complete.
    """
    batches: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):  # x.bin precedes x.bin.gz and wins
        if _BATCH.fullmatch(name := path.name.removesuffix(".gz")) and path.is_file():
            batches.setdefault(name, path)
    if names := _ordered(batches):
        return [batches[name] for name in names], ""
    archives = [path for name in _ARCHIVES if (path := folder / name).is_file()]
    reason = f"lacks data_batch_*.bin[.gz] and test_batch.bin[.gz], or {ARCHIVE}"
    return archives[:1], "" if archives else reason


def _ordered(batches: dict[str, Any]) -> list[str]:
    """Sort the names, training batches by number and the test batch last; [] if incomplete."""
    train = [name for name in batches if name != _TEST]
    train.sort(key=lambda name: int(name.removeprefix("data_batch_").removesuffix(".bin")))
    return [*train, _TEST] if train and _TEST in batches else []


def read(paths: list[Path]) -> list[np.ndarray]:
    """Read the files from :func:`locate`.

    Parameters
    ----------
    paths : list of Path
        The batches, the test batch last, or one archive.

    Returns
    -------
    list of numpy.ndarray
        Training images uint8 (N, 3, 32, 32), training labels int64 (N,), then the test split.

    Raises
    ------
    DataError
        If a file is truncated, damaged, or not CIFAR-10.
    """
    if paths[0].name in _ARCHIVES:
        files = _read_archive(paths[0])
    else:
        files = {str(path): read_bytes(path) for path in paths}
    *train, test = [parse(data, source) for source, data in files.items()]
    images, labels = zip(*train, strict=True)
    return [np.concatenate(images), np.concatenate(labels), test[0].copy(), test[1]]


def counts(paths: list[Path]) -> tuple[int, int]:
    """Return the number of training and of test images, from the sizes of the batches."""
    if paths[0].name in _ARCHIVES:
        with unpacked(paths[0]) as file:
            sizes = dict(_members(file))
    else:
        sizes = {path.name.removesuffix(".gz"): len(read_bytes(path)) for path in paths}
    test = sizes.pop(_TEST, 0)
    return sum(sizes.values()) // _RECORD, test // _RECORD


def _read_archive(path: Path) -> dict[str, bytes]:
    """Read the batches from the archive, in memory: nothing is extracted to disk."""
    batches: dict[str, bytes] = {}
    with unpacked(path) as file:
        for name, size in _members(file):
            batches[name] = file.read(size)
    names = _ordered(batches)
    if not names:
        raise DataError(
            f"{path} holds {sorted(batches) or 'no batches'}; expected data_batch_*.bin and "
            f"{_TEST}: the binary version of CIFAR-10, not the Python one. Replace the archive"
        )
    return {f"{path}:{name}": batches[name] for name in names}


def _members(file: Any) -> Iterator[tuple[str, int]]:
    """Yield the name and size of each batch in a tar archive; ``file`` is then at its data.

    Not with ``TarFile``, which follows links and obeys extended headers of any size and number. The
    archives of CIFAR-10 have neither.
    """
    end = 0
    while (block := file.read(_BLOCK)).strip(b"\0"):
        member = tarfile.TarInfo.frombuf(block, "utf-8", "replace")
        end += _BLOCK + -(-member.size // _BLOCK) * _BLOCK
        if member.size < 0 or end > MAX_BYTES:
            raise ValueError(f"{member.name!r} has {member.size} bytes")
        name = Path(member.name).name
        if _BATCH.fullmatch(name) and member.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
            yield name, member.size
        file.seek(end)
