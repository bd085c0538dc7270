"""The IDX files of MNIST and Fashion-MNIST."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...errors import DataError
from .files import damaged, read_bytes, reading_data, unpacked

STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_UBYTE = 0x08


def parse(data: bytes, source: str) -> np.ndarray:
    """Convert the bytes of an unpacked IDX file to an array.

    An IDX file holds the bytes 0, 0, type, number of axes; one big-endian 32-bit size per axis; the
    values. The only supported type is 8, unsigned byte.

    Parameters
    ----------
    data : bytes
        The whole file.
    source : str
        File name for error texts.

    Returns
    -------
    numpy.ndarray
        uint8, of the shape that the file states: images (N, H, W), labels (N,).

    Raises
    ------
    DataError
        If the magic number is not that of an unsigned-byte IDX file, or the length does not match
        the stated shape.
    """
    axes = data[3] if len(data) >= 4 else 0
    if data[:3] != bytes([0, 0, _UBYTE]) or axes == 0:
        raise DataError(
            f"{source} is not an IDX file of unsigned bytes: it starts with {data[:4].hex(' ')!r}, "
            "expected '00 00 08' and the number of axes. Replace it with the original file"
        )
    start = 4 + 4 * axes
    length, expected = start, f"a header of {start} bytes"
    if len(data) >= start:
        shape = struct.unpack(f">{axes}I", data[4:start])
        length = start + math.prod(shape)
        expected = f"{length} bytes for the shape {shape}"
    if len(data) != length:
        raise damaged(source, f"expected {expected}, got {len(data)} bytes unpacked")
    with reading_data(source):  # NumPy allows 64 axes
        return np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy()


def locate(folder: Path) -> tuple[list[Path], str]:
    """Find the four files in ``folder``, each with or without ``.gz``.

    Returns
    -------
    paths : list of Path
        In the order of ``STEMS``; empty unless all four exist.
    reason : str
        Missing files; empty if complete.
    """
    paths, missing = [], []
    for stem in STEMS:
        existing = [p for p in (folder / stem, folder / f"{stem}.gz") if p.is_file()]
        paths += existing[:1]
        missing += [] if existing else [f"{stem}[.gz]"]
    return ([], "lacks " + ", ".join(missing)) if missing else (paths, "")


def counts(paths: list[Path]) -> tuple[int, ...]:
    """Return the number of training and of test images that the headers state."""
    counts = []
    for path in paths[::2]:
        with unpacked(path) as file:
            counts.append(struct.unpack(">4xI", file.read(8))[0])
    return tuple(counts)


def read(paths: list[Path], check: Callable[[Path, bytes], None]) -> list[np.ndarray]:
    """Read the four files from :func:`locate`.

    Parameters
    ----------
    paths : list of Path
        Training images, training labels, test images, test labels.
    check : callable
        Called with each path and its unpacked bytes before parsing; raises to reject them.

    Returns
    -------
    list of numpy.ndarray
        Training images uint8 (N, 1, H, W), training labels int64 (N,), then the test split.

    Raises
    ------
    DataError
        If a file is damaged, or images and labels do not match.
    """
    arrays = []
    for path in paths:
        data = read_bytes(path)
        check(path, data)
        arrays.append(parse(data, str(path)))
    for i in (0, 2):
        images, labels = arrays[i : i + 2]
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise DataError(
                f"{paths[i]} has shape {images.shape} and {paths[i + 1]} has {labels.shape}; "
                "expected images (N, H, W) and labels (N,): replace the wrong file"
            )
        arrays[i : i + 2] = images[:, None], labels.astype(np.int64)
    return arrays
