"""A small matrix applied along an axis of an image, window by window, without gathering them.

The windows are views of the image that overlap, so a product with all of them reads the pixels
where they are and writes each result where the next step wants it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..arrays import Array
from ..backends import Backend


def read_windows(
    backend: Backend, matrix: Array, lines: Array, first: int, step: int, out: Array
) -> None:
    """out[..., t, :, :] = matrix @ lines[..., first + t·step : first + t·step + p, :].

    Parameters
    ----------
    matrix : (..., q, p)
    lines : (..., L, run); it is zero outside
    out : (..., T, q, run), any view, overwritten
    """
    found = windows_of(backend.xp, lines, first, step, matrix.shape[-1], out.shape[-3])
    for these, inside, windows in found:
        backend.matmul(matrix[..., inside], windows, out=out[..., these, :, :])


def windows_of(
    xp: Any, lines: Array, first: int, step: int, size: int, count: int
) -> Iterator[tuple[slice, slice, Array]]:
    """Views of all windows of ``lines`` (..., L, run): window t begins at first + t·step.

    Yields
    ------
    these : slice
        Which of the ``count`` windows.
    inside : slice
        Which of their ``size`` lines exist; those outside the image are zero.
    windows : (..., these, inside, run)
    """
    length = lines.shape[-2]
    begin = min(count, max(0, -(first // step)))
    end = max(begin, min(count, (length - size - first) // step + 1))
    if begin < end:
        whole = _windows(xp, lines[..., first + begin * step :, :], end - begin, step, size)
        yield slice(begin, end), slice(0, size), whole
    for t in (*range(begin), *range(end, count)):  # they stick out
        start = first + t * step
        inside = slice(max(0, -start), max(0, min(size, length - start)))
        pixels = lines[..., max(0, start) : max(0, start + size), :]
        yield slice(t, t + 1), inside, pixels[..., None, :, :]


def write_windows(backend: Backend, matrix: Array, windows: Array, lines: Array) -> None:
    """lines[..., t·q : (t + 1)·q, :] = matrix @ windows[..., t, :, :].

    Parameters
    ----------
    matrix : (q, p)
    windows : (..., T, p, run)
    lines : (..., L, run), any view, overwritten; (T - 1)·q < L, and what is beyond L is left out
    """
    q, length = len(matrix), lines.shape[-2]
    whole = length // q
    if whole:
        # splitting an axis makes a view of any array
        out = lines[..., : whole * q, :].reshape(*lines.shape[:-2], whole, q, lines.shape[-1])
        backend.matmul(matrix, windows[..., :whole, :, :], out=out)
    if whole * q < length:
        last = matrix[: length - whole * q]
        backend.matmul(last, windows[..., whole, :, :], out=lines[..., whole * q :, :])


def merge_columns(image: Array) -> Array:
    """(C, H, W, N) as (C, H, W·N): a view where the lines are contiguous, as of some columns."""
    channels, height, width, batch = image.shape
    return image.reshape(channels, height, width * batch)


def _windows(xp: Any, lines: Array, count: int, step: int, size: int) -> Array:
    """The first ``count`` windows of the lines, as a view (..., count, size, run)."""
    *outer, line, item = lines.strides
    shape = *lines.shape[:-2], count, size, lines.shape[-1]
    return xp.lib.stride_tricks.as_strided(lines, shape, (*outer, step * line, line, item))
