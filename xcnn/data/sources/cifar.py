"""The binary version of CIFAR-10: loose batches, or the archive as its authors publish it."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from ...errors import DataError
from .files import GZIP_ERRORS, read_bytes

ARCHIVE = "cifar-10-binary.tar.gz"
_ARCHIVES = (ARCHIVE, "cifar-10-binary.tar")  # some browsers unpack what they download
SHAPE = (3, 32, 32)
_RECORD = 1 + 3 * 32 * 32
_BATCH = re.compile(r"(data_batch_(\d+)|test_batch)\.bin(\.gz)?")


def parse(data: bytes, source: str) -> tuple[np.ndarray, np.ndarray]:
    """Turn the bytes of one batch file into images and labels.

    A record is one byte for the label, then 3·32·32 bytes: the red, green and blue planes.

    Parameters
    ----------
    data : bytes
        The whole file, unpacked.
    source : str
        Name of the file, for error texts.

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
        raise DataError(
            f"{source} is truncated or not a CIFAR-10 batch: found {len(data)} bytes, wanted a "
            f"multiple of {_RECORD} (a label and 3×32×32 pixels), the nearest being "
            f"{max(count, 1) * _RECORD}. Delete it and copy or download it again"
        )
    records = np.frombuffer(data, np.uint8).reshape(count, _RECORD)
    labels = records[:, 0].astype(np.int64)
    if labels.max() > 9:
        where = int(np.argmax(labels > 9))
        raise DataError(
            f"{source} is not a CIFAR-10 batch: record {where} has the label {labels[where]}, "
            "wanted 0 to 9 (CIFAR-100 has another layout). Replace the file"
        )
    return records[:, 1:].reshape(count, *SHAPE), labels


def locate(folder: Path) -> tuple[list[Path], str]:
    """Find the batches, with or without ``.gz``, or else the archive, in ``folder``.

    Returns
    -------
    paths : list of Path
        The training batches by number, then the test batch; or only the archive; or nothing.
    reason : str
        What is missing; empty if nothing is.
    """
    if not folder.is_dir():
        return [], "no such folder"
    batches: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):  # x.bin sorts before x.bin.gz, and the first is kept
        if _BATCH.fullmatch(path.name) and path.is_file():
            batches.setdefault(path.name.removesuffix(".gz"), path)
    ordered = sorted(batches, key=_number)
    if len(ordered) > 1 and ordered[-1] == "test_batch.bin":
        return [batches[name] for name in ordered], ""
    for name in _ARCHIVES:
        if (folder / name).is_file():
            return [folder / name], ""
    return [], f"lacks data_batch_*.bin[.gz] and test_batch.bin[.gz], or {ARCHIVE}"


def _number(name: str) -> float:
    """Training batches by number, the test batch last."""
    match = _BATCH.fullmatch(name)
    return float(match[2]) if match and match[2] else float("inf")


def read(paths: list[Path], check: Callable[[Path, bytes], None]) -> list[np.ndarray]:
    """Read what :func:`locate` found.

    Parameters
    ----------
    paths : list of Path
        The batches, the test batch last, or one archive.
    check : callable
        Called with each path and its unpacked bytes before they are parsed. Not called for an
        archive, whose gzip check sum already guards it.

    Returns
    -------
    list of numpy.ndarray
        Training images uint8 (N, 3, 32, 32), training labels int64 (N,), then the same for
        testing.

    Raises
    ------
    DataError
        If a file is truncated, damaged, or something else.
    """
    if paths[0].name in _ARCHIVES:
        return _joined(_archive_members(paths[0]))
    members = []
    for path in paths:
        data = read_bytes(path)
        check(path, data)
        members.append((str(path), data))
    return _joined(members)


def _archive_members(path: Path) -> list[tuple[str, bytes]]:
    """Read the batches out of the archive, in memory: nothing is extracted to the disk."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:*") as archive:
            for member in archive:
                name = Path(member.name).name
                if _BATCH.fullmatch(name) and (file := archive.extractfile(member)):
                    found[name] = file.read()
    except (tarfile.TarError, OSError, *GZIP_ERRORS) as error:
        raise DataError(
            f"{path} is truncated or not a tar archive ({path.stat().st_size} bytes: {error}). "
            "Delete it and copy or download it again"
        ) from error
    names = sorted(found, key=_number)
    if len(names) < 2 or names[-1] != "test_batch.bin":
        raise DataError(
            f"{path} holds {names or 'no batches'}; wanted data_batch_*.bin and test_batch.bin: "
            "the binary version of CIFAR-10, not the Python one. Replace the archive"
        )
    return [(f"{path}:{name}", found[name]) for name in names]


def _joined(members: Iterable[tuple[str, bytes]]) -> list[np.ndarray]:
    *train, test = [parse(data, source) for source, data in members]
    images, labels = zip(*train, strict=True)
    return [np.concatenate(images), np.concatenate(labels), test[0].copy(), test[1]]
