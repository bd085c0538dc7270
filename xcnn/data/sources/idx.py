"""The IDX files of MNIST and Fashion-MNIST."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ...errors import DataError
from .files import read_bytes

STEMS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_UBYTE = 0x08


def parse(data: bytes, source: str) -> np.ndarray:
    """Turn the bytes of an unpacked IDX file into an array.

    An IDX file is the bytes 0, 0, type, number of axes; one big-endian 32-bit size for each axis;
    the values. The type read here is 8, unsigned byte.

    Parameters
    ----------
    data : bytes
        The whole file.
    source : str
        Name of the file, for error texts.

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
            "wanted '00 00 08' and the number of axes. Replace it by the original file"
        )
    start = 4 + 4 * axes
    if len(data) < start:
        raise DataError(_wrong_length(source, f"a header of {start} bytes", len(data)))
    shape = struct.unpack(f">{axes}I", data[4:start])
    wanted = start + math.prod(shape)
    if len(data) != wanted:
        raise DataError(_wrong_length(source, f"{wanted} bytes for the shape {shape}", len(data)))
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape).copy()


def _wrong_length(source: str, wanted: str, found: int) -> str:
    return (
        f"{source} is truncated or damaged: wanted {wanted}, found {found} bytes unpacked. "
        "Delete it and copy or download it again"
    )


def locate(folder: Path) -> tuple[list[Path], str]:
    """Find the four files in ``folder``, each with or without ``.gz``.

    Returns
    -------
    paths : list of Path
        In the order of ``STEMS``; empty unless all four are there.
    reason : str
        What is missing; empty if nothing is.
    """
    if not folder.is_dir():
        return [], "no such folder"
    choices = [[folder / stem, folder / f"{stem}.gz"] for stem in STEMS]
    paths = [next((p for p in pair if p.is_file()), None) for pair in choices]
    missing = [f"{stem}[.gz]" for stem, path in zip(STEMS, paths, strict=True) if path is None]
    if missing:
        return [], "lacks " + ", ".join(missing)
    return [path for path in paths if path is not None], ""


def read(paths: list[Path], check: Callable[[Path, bytes], None]) -> list[np.ndarray]:
    """Read the four files that :func:`locate` found.

    Parameters
    ----------
    paths : list of Path
        Training images, training labels, test images, test labels.
    check : callable
        Called with each path and its unpacked bytes before they are parsed; raises to refuse them.

    Returns
    -------
    list of numpy.ndarray
        Training images uint8 (N, 1, H, W), training labels int64 (N,), then the same for testing.

    Raises
    ------
    DataError
        If a file is damaged, or images and labels do not belong together.
    """
    arrays = []
    for path in paths:
        data = read_bytes(path)
        check(path, data)
        arrays.append(parse(data, str(path)))
    return [*_pair(arrays[:2], paths[:2]), *_pair(arrays[2:], paths[2:])]


def _pair(arrays: list[np.ndarray], paths: list[Path]) -> tuple[np.ndarray, np.ndarray]:
    """Give images their channel axis and labels their type, if they belong together."""
    images, labels = arrays
    if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
        raise DataError(
            f"{paths[0]} holds an array of shape {images.shape} and {paths[1]} one of shape "
            f"{labels.shape}; wanted images (N, H, W) and labels (N,) of the same N: replace the "
            "file that is wrong"
        )
    return images[:, None], labels.astype(np.int64)
