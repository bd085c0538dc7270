"""Conversion between user-facing layouts and batch-last memory.

Users see images (N, C, H, W), or (N, H, W, C) with ``data_format="NHWC"``, and signals (N, C, L),
treated as images one pixel high. In memory the batch is innermost: (C, H, W, N). A volume
(N, C, D, H, W) is a batch of frames: (C, H, W, D, N). A result is a transposed view of batch-last
memory, so the next operation can use it without a copy.
"""

from __future__ import annotations

import math
from typing import Any

from .arrays import Array
from .errors import ArgumentError, ShapeError, show
from .tiling import Tile

_TO_BATCH_LAST = {
    "NCHW": (1, 2, 3, 0),
    "NHWC": (3, 1, 2, 0),
    "NCL": (1, 2, 0),
    "NCDHW": (1, 3, 4, 2, 0),
}
_ONE = {"NCL": "signal", "NCHW": "image", "NHWC": "image", "NCDHW": "volume"}
_NUMBERS = ("zero", "one", "two", "three", "four", "five")


def batch_last(xp: Any, x: Array, data_format: str = "NCHW") -> Array:
    """``x`` as contiguous (C, H, W, N), a signal as (C, 1, L, N); copied only if necessary.

    A volume as (C, H, W, D, N). ``xp`` is the array namespace, or a backend, which may be faster.
    """
    y = xp.ascontiguousarray(x.transpose(_TO_BATCH_LAST[data_format]))
    return y[:, None] if y.ndim == 3 else y


def batch_first(y: Array, data_format: str = "NCHW") -> Array:
    """A (C, H, W, N) array as a view in ``data_format``."""
    if data_format == "NCHW":
        return y.transpose(3, 0, 1, 2)
    if data_format == "NCDHW":
        return y.transpose(4, 0, 3, 1, 2)
    return y.transpose(3, 1, 2, 0) if data_format == "NHWC" else y[:, 0].transpose(2, 0, 1)


def check_data_format(data_format: str, ndim: int = 2) -> str:
    """Require "NCHW" or "NHWC"; without two spatial axes, the former, which is the default.

    Raises
    ------
    ArgumentError
        Anything else.
    """
    if not isinstance(data_format, str) or data_format not in ("NCHW", "NHWC"):
        raise ArgumentError(f'data_format={show(data_format)}: expected "NCHW" or "NHWC"')
    if ndim != 2 and data_format != "NCHW":
        raise ArgumentError(f"data_format={show(data_format)} is for images, with two spatial axes")
    return data_format


def spatial_size(x: Any, data_format: str, name: str = "input") -> tuple[int, ...]:
    """(channels, height, width) of a batch of images, given an array or its shape.

    With "NCL", (channels, length) of signals; with "NCDHW", (channels, depth, height, width).

    Raises
    ------
    ArgumentError
        An unknown ``data_format``.
    ShapeError
        Another number of axes.
    """
    if not isinstance(data_format, str) or data_format not in _ONE:
        check_data_format(data_format)
    shape = tuple(getattr(x, "shape", x))
    if len(shape) != len(data_format):
        axes, count = list(data_format), len(data_format)
        raise ShapeError(
            f"{name} has shape {shape}: expected {_NUMBERS[count]} axes {', '.join(axes)}, or "
            f"{_NUMBERS[count - 1]} {', '.join(axes[1:])} for one {_ONE[data_format]}"
        )
    return (shape[3], *shape[1:3]) if data_format == "NHWC" else shape[1:]


def to_batch_last(xp: Any, x: Array) -> Array:
    """An (N, ...) array as contiguous (..., N)."""
    return xp.ascontiguousarray(x.transpose(*range(1, x.ndim), 0))


def to_batch_first(y: Array) -> Array:
    """An (..., N) array as a view (N, ...); a fifth of the time of ``moveaxis``."""
    return y.transpose(-1, *range(y.ndim - 1))


def tile_columns(tile: Tile, width: int, batch: int) -> slice:
    """The columns of ``as_matrix(image)`` that hold a tile: full rows, or part of one row."""
    start = (tile.top * width + tile.left) * batch
    return slice(start, ((tile.bottom - 1) * width + tile.right) * batch)


def as_matrix(a: Array) -> Array:
    """A contiguous (F, ...) array as an (F, P) view."""
    # -1 is ambiguous for an empty batch
    return a.reshape(len(a), math.prod(a.shape[1:]))
