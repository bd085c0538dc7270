"""Depthwise convolution: each filter reads one channel.

For each filter and each column l of its kernel there is a small matrix:
M (4, p) holds kernel element k of output line i at [i, i·stride + k·dilation]. Then

    y        = sum over l of (M @ the p lines that 4 output lines read), l columns further on
    dx       = sum over l of (Mᵀ likewise @ the lines of dy that reach them), l columns back
    dweight  = the diagonals of sum over blocks of (4 lines of dy) @ (the p lines they read)ᵀ

so that matrix products go over all lines of the kernel at once, and only its columns are passes of
their own. A few channels at a time, so that they stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..geometry import Geometry
from ..layout import as_rows
from .windows import merge_columns, read_windows, windows_of

_LINES = 4  # of the output, by one matrix


def applies(geometry: Geometry, groups: int, channels: int) -> bool:
    """Whether this method can compute such a convolution."""
    return groups == channels > 1


def pays(geometry: Geometry, channels: int, filters: int, batch: int) -> bool:
    """Whether it is faster than im2col: always, with one product for each channel there."""
    return True


def forward(
    backend: Backend,
    x: Array,
    weight: Array,
    geometry: Geometry,
    groups: int,
    bias: Array | None,
    relu: bool = False,
) -> Array:
    """Return y (F, oH, oW, N)."""
    y = backend.xp.zeros((len(weight), *geometry.output, x.shape[-1]), x.dtype)
    matrices = _forward_matrices(backend.xp, weight, geometry)
    first, step = -geometry.padding[0][0], _LINES * geometry.stride[0]

    def compute(part: slice) -> None:
        for channels, outputs in _blocks(backend, x, y, part):
            for column, matrix in enumerate(matrices):
                windows, pixels = geometry.span(1, column)
                lines = _products(backend, matrix[outputs], x[channels], first, step, y.shape[1])
                y[outputs][:, :, windows] += lines[:, :, pixels]

    backend.each(compute, backend.channels(x))
    if bias is not None or relu:
        backend.add_bias(as_rows(y), bias, slice(None), relu)
    return y


def backward(
    backend: Backend,
    dy: Array,
    x: Array,
    weight: Array,
    geometry: Geometry,
    groups: int,
    needs: tuple[bool, bool],
) -> tuple[Array | None, Array | None]:
    """Return dx (C, H, W, N) and dweight (F, 1, kH, kW), as far as they are needed."""
    dx = _input_gradient(backend, dy, x, weight, geometry) if needs[0] else None
    return dx, _weight_gradient(backend, dy, x, weight, geometry) if needs[1] else None


def _input_gradient(
    backend: Backend, dy: Array, x: Array, weight: Array, geometry: Geometry
) -> Array:
    dx, (top, _) = backend.xp.zeros_like(x), geometry.padding[0]
    matrices = _backward_matrices(backend.xp, weight, geometry)
    first = _LINES - matrices.shape[-1]  # so many lines before those of a block reach it

    def compute(part: slice) -> None:
        for channels, outputs in _blocks(backend, x, dy, part):
            for column, matrix in enumerate(matrices):
                windows, pixels = geometry.span(1, column)
                length = top + x.shape[1]
                lines = _products(backend, matrix[outputs], dy[outputs], first, _LINES, length)
                dx[channels][:, :, pixels] += lines[:, top:, windows]

    backend.each(compute, backend.channels(x))
    return dx


def _weight_gradient(
    backend: Backend, dy: Array, x: Array, weight: Array, geometry: Geometry
) -> Array:
    xp = backend.xp
    dweight = xp.empty_like(weight)

    def compute(part: slice) -> None:
        for channels, outputs in _blocks(backend, x, dy, part):
            for column in range(geometry.kernel[1]):
                windows, pixels = geometry.span(1, column)
                given = merge_columns(dy[outputs][:, :, windows])
                read = merge_columns(x[channels][:, :, pixels])
                dweight[outputs, 0, :, column] = _taps(backend, given, read, geometry)

    backend.each(compute, backend.channels(x))
    return dweight


def _taps(backend: Backend, given: Array, read: Array, geometry: Geometry) -> Array:
    """Sums over all lines i of given (c, oH, run)[:, i] · the line of read (c, H, run) that element
    k of the kernel meets there: (c, kH).
    """
    xp, (stride, dilation) = backend.xp, (geometry.stride[0], geometry.dilation[0])
    count, size = -(-given.shape[1] // _LINES), _lines_read(geometry)
    sums = xp.zeros((len(given), _LINES, size), given.dtype)
    if count * _LINES > given.shape[1]:
        given = _lengthened(xp, given, count * _LINES)
    ((_, _, blocks),) = windows_of(xp, given, 0, _LINES, _LINES, count)
    found = windows_of(xp, read, -geometry.padding[0][0], _LINES * stride, size, count)
    for these, inside, windows in found:
        products = backend.matmul(blocks[:, these], windows.swapaxes(-1, -2))
        sums[..., inside] += products.sum(axis=1)
    taps = xp.zeros((len(given), geometry.kernel[0]), given.dtype)
    for i in range(_LINES):
        for k in range(geometry.kernel[0]):
            taps[:, k] += sums[:, i, i * stride + k * dilation]
    return taps


def _lengthened(xp: Any, lines: Array, length: int) -> Array:
    """Lines (c, L, run) with zeros after them."""
    longer = xp.zeros((len(lines), length, lines.shape[2]), lines.dtype)
    longer[:, : lines.shape[1]] = lines
    return longer


def _products(
    backend: Backend, matrices: Array, image: Array, first: int, step: int, length: int
) -> Array:
    """A matrix (c, q, p) for each channel of an image (c, H, W, N), with windows of its lines:
    (c, length, W, N).
    """
    channels, _, width, batch = image.shape
    q = matrices.shape[1]
    count = -(-length // q)
    out = backend.xp.empty((channels, count, q, width * batch), image.dtype)
    read_windows(backend, matrices[:, None], merge_columns(image), first, step, out)
    return out.reshape(channels, count * q, width, batch)[:, :length]


def _lines_read(geometry: Geometry) -> int:
    """Lines of the input that a block of the output's lines reads."""
    return (_LINES - 1) * geometry.stride[0] + (geometry.kernel[0] - 1) * geometry.dilation[0] + 1


def _forward_matrices(xp: Any, weight: Array, geometry: Geometry) -> Array:
    """M (kW, F, 4, p)."""
    shape = geometry.kernel[1], len(weight), _LINES, _lines_read(geometry)
    matrices = xp.zeros(shape, weight.dtype)
    for i in range(_LINES):
        for k in range(geometry.kernel[0]):
            line = i * geometry.stride[0] + k * geometry.dilation[0]
            matrices[:, :, i, line] = weight[:, 0, k].T
    return matrices


def _backward_matrices(xp: Any, weight: Array, geometry: Geometry) -> Array:
    """The matrices (kW, F, 4·stride, p) that make lines of dx, counted from the padding's first,
    from the lines of dy that reach them, whose last 4 are the block's own.
    """
    stride, dilation = geometry.stride[0], geometry.dilation[0]
    before = -(-(geometry.kernel[0] - 1) * dilation // stride)
    shape = geometry.kernel[1], len(weight), _LINES * stride, before + _LINES
    matrices = xp.zeros(shape, weight.dtype)
    for i in range(before + _LINES):
        for k in range(geometry.kernel[0]):
            line = (i - before) * stride + k * dilation
            if 0 <= line < _LINES * stride:
                matrices[:, :, line, i] = weight[:, 0, k].T
    return matrices


def _blocks(backend: Backend, x: Array, y: Array, part: slice) -> Iterator[tuple[slice, slice]]:
    """Channels of x and the filters that read them, one filter for each channel at a time."""
    several = len(y) // len(x)
    size = max(1, x[0].nbytes, y[0].nbytes)
    step = max(1, backend.column_budget // 4 // size)
    for start in range(part.start, part.stop, step):
        stop = min(start + step, part.stop)
        for j in range(several):
            yield slice(start, stop), slice(start * several + j, stop * several, several)
