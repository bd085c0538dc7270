"""A small matrix applied to the sliding windows along an axis, without copying them.

The windows are overlapping views of the image, so a product with all of them reads the pixels in
place and writes each result where the next step needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..arrays import Array
from ..backends import Backend


def read_windows(
    backend: Backend, matrix: Array, x: Array, first: int, step: int, out: Array
) -> None:
    """out[..., t, :, :] = matrix @ x[..., first + t·step : first + t·step + p, :].

    Parameters
    ----------
    matrix : (..., q, p)
    x : (..., L, run); zero outside
    out : (..., T, q, run), any view, overwritten
    """
    for chosen, inside, windows in _window_views(
        backend.xp, x, first, step, matrix.shape[-1], out.shape[-3]
    ):
        backend.matmul(matrix[..., inside], windows, out=out[..., chosen, :, :])


def _window_views(
    xp: Any, x: Array, first: int, step: int, size: int, count: int
) -> Iterator[tuple[slice, slice, Array]]:
    """Views of the windows of x (..., L, run): window t begins at first + t·step.

    Yields
    ------
    chosen : slice
        Which of the ``count`` windows.
    inside : slice
        Which of their ``size`` elements lie in the image; the rest are zero.
    windows : (..., chosen, inside, run)
    """
    length = x.shape[-2]
    begin = min(count, max(0, -(first // step)))
    end = max(begin, min(count, (length - size - first) // step + 1))
    if begin < end:
        full = _windows(xp, x[..., first + begin * step :, :], end - begin, step, size)
        yield slice(begin, end), slice(0, size), full
    for t in (*range(begin), *range(end, count)):  # windows partly outside
        start = first + t * step
        inside = slice(max(0, -start), max(0, min(size, length - start)))
        pixels = x[..., max(0, start) : max(0, start + size), :]
        yield slice(t, t + 1), inside, pixels[..., None, :, :]


def write_blocks(backend: Backend, matrix: Array, windows: Array, y: Array) -> None:
    """y[..., t·q : (t + 1)·q, :] = matrix @ windows[..., t, :, :].

    Parameters
    ----------
    matrix : (q, p)
    windows : (..., T, p, run)
    y : (..., L, run), any view, overwritten; (T - 1)·q < L, and the last block is cut off at L
    """
    q, length = len(matrix), y.shape[-2]
    full = length // q
    if full:
        # splitting an axis never copies
        out = y[..., : full * q, :].reshape(*y.shape[:-2], full, q, y.shape[-1])
        backend.matmul(matrix, windows[..., :full, :, :], out=out)
    if full * q < length:
        last = matrix[: length - full * q]
        backend.matmul(last, windows[..., full, :, :], out=y[..., full * q :, :])


def merge_columns(image: Array) -> Array:
    """(C, H, W, N) as (C, H, W·N): a view where each row is contiguous."""
    channels, height, width, batch = image.shape
    return image.reshape(channels, height, width * batch)


def _windows(xp: Any, x: Array, count: int, step: int, size: int) -> Array:
    """The first ``count`` windows of x, as a view (..., count, size, run)."""
    *outer, row, item = x.strides
    shape = *x.shape[:-2], count, size, x.shape[-1]
    return xp.lib.stride_tricks.as_strided(x, shape, (*outer, step * row, row, item))
