"""Between the shapes users see and the batch-last memory that the code works on.

Users see (N, C, H, W), or (N, H, W, C) with ``data_format="NHWC"``; in memory the batch is
innermost, (C, H, W, N). A result is a transposed view of batch-last memory, so the next operation
gets its input in the right order without a copy.
"""

from __future__ import annotations

import math
from typing import Any

from .arrays import Array
from .errors import ArgumentError, ShapeError

_TO_BATCH_LAST = {"NCHW": (1, 2, 3, 0), "NHWC": (3, 1, 2, 0)}


_FROM_BATCH_LAST = {"NCHW": (3, 0, 1, 2), "NHWC": (3, 1, 2, 0)}


def batch_last(xp: Any, x: Array, data_format: str = "NCHW") -> Array:
    """(N, C, H, W) or (N, H, W, C) as contiguous (C, H, W, N); copied only if it must be."""
    return xp.ascontiguousarray(x.transpose(_TO_BATCH_LAST[data_format]))


def batch_first(y: Array, data_format: str = "NCHW") -> Array:
    """The view (N, C, H, W) or (N, H, W, C) of (C, H, W, N)."""
    return y.transpose(_FROM_BATCH_LAST[data_format])


def check_data_format(data_format: str) -> None:
    """Refuse anything but "NCHW" and "NHWC".

    Raises
    ------
    ArgumentError
        Anything else.
    """
    if data_format not in ("NCHW", "NHWC"):
        raise ArgumentError(f'data_format={data_format!r}: expected "NCHW" or "NHWC"')


def image_size(x: Any, data_format: str, name: str = "input") -> tuple[int, int, int]:
    """(channels, height, width) of a batch of images.

    Raises
    ------
    ArgumentError
        An unknown ``data_format``.
    ShapeError
        Not four axes.
    """
    check_data_format(data_format)
    if x.ndim != 4:
        raise ShapeError(
            f"{name} has shape {x.shape}: expected four axes {', '.join(data_format)}; "
            "one image needs a batch axis, for example x[None]"
        )
    _, *image = x.shape
    channels, height, width = image if data_format == "NCHW" else (image[2], *image[:2])
    return channels, height, width


def rows_last(xp: Any, x: Array) -> Array:
    """Any (N, ...) as contiguous (..., N)."""
    return xp.ascontiguousarray(x.transpose(*range(1, x.ndim), 0))


def as_rows(a: Array) -> Array:
    """(F, ...) as (F, P), a view of what is contiguous; -1 is ambiguous for an empty batch."""
    return a.reshape(len(a), math.prod(a.shape[1:]))
