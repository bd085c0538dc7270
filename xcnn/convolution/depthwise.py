"""Depthwise convolution: each filter reads one channel.

For each filter and each column l of its kernel there is a small matrix M (4, p), which holds
kernel element k of output row i at [i, i·stride + k·dilation]. Then

    y        = sum over l of (M @ the p rows that 4 output rows read), l columns to the right
    dx       = sum over l of (Mᵀ @ the rows of dy that reach them), l columns to the left
    dweight  = the diagonals of the sum over blocks of (4 rows of dy) @ (the p rows they read)ᵀ

so one matrix product covers all rows of the kernel, and only its columns take a pass each. A few
channels at a time, so that they stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..geometry import Geometry
from ..layout import as_matrix
from .method import Method, Problem
from .sliding import merge_columns, read_windows, window_views

_ROWS = 4  # of the output, by one matrix


class Depthwise(Method):
    """Products over all kernel rows at once, where im2col has one product for each channel."""

    def applies(self, problem: Problem) -> bool:
        return problem.groups == problem.in_channels > 1

    def forward(
        self, backend: Backend, problem: Problem, x: Array, weight: Array, bias: Array | None
    ) -> Array:
        geometry, y = problem.geometry, backend.xp.zeros(problem.output_shape, x.dtype)
        matrices = _forward_matrices(backend.xp, weight, geometry)
        first, step = -geometry.padding[0][0], _ROWS * geometry.stride[0]

        def compute(part: slice) -> None:
            for channels, filters in _blocks(backend, x, y, part):
                for column, matrix in enumerate(matrices):
                    windows, pixels = geometry.span(1, column)
                    rows = _products(backend, matrix[filters], x[channels], first, step, y.shape[1])
                    y[filters][:, :, windows] += rows[:, :, pixels]

        backend.each(compute, backend.channels(x))
        if bias is not None or problem.relu:
            backend.add_bias(as_matrix(y), bias, slice(None), problem.relu)
        return y

    def input_gradient(self, backend: Backend, problem: Problem, dy: Array, weight: Array) -> Array:
        geometry, dx = problem.geometry, backend.xp.zeros(problem.input_shape, dy.dtype)
        top, height = geometry.padding[0][0], geometry.input[0]
        matrices = _backward_matrices(backend.xp, weight, geometry)
        first = _ROWS - matrices.shape[-1]  # rows before a block's own that reach it

        def compute(part: slice) -> None:
            for channels, filters in _blocks(backend, dx, dy, part):
                for column, matrix in enumerate(matrices):
                    windows, pixels = geometry.span(1, column)
                    own = matrix[filters], dy[filters]
                    rows = _products(backend, *own, first, _ROWS, top + height)
                    dx[channels][:, :, pixels] += rows[:, top:, windows]

        backend.each(compute, backend.channels(dx))
        return dx

    def weight_gradient(self, backend: Backend, problem: Problem, dy: Array, x: Array) -> Array:
        geometry = problem.geometry
        dweight = backend.xp.empty(problem.weight_shape, x.dtype)

        def compute(part: slice) -> None:
            for channels, filters in _blocks(backend, x, dy, part):
                for column in range(geometry.kernel[1]):
                    windows, pixels = geometry.span(1, column)
                    own_dy = merge_columns(dy[filters][:, :, windows])
                    own_x = merge_columns(x[channels][:, :, pixels])
                    dweight[filters, 0, :, column] = _taps(backend, own_dy, own_x, geometry)

        backend.each(compute, backend.channels(x))
        return dweight


def _taps(backend: Backend, dy: Array, x: Array, geometry: Geometry) -> Array:
    """Sums over all rows i of dy (c, oH, run)[:, i] · the row of x (c, H, run) that kernel element
    k reads there: (c, kH).
    """
    xp, (stride, dilation) = backend.xp, (geometry.stride[0], geometry.dilation[0])
    count, size = -(-dy.shape[1] // _ROWS), _rows_read(geometry)
    sums = xp.zeros((len(dy), _ROWS, size), dy.dtype)
    if count * _ROWS > dy.shape[1]:
        dy = _zero_extended(xp, dy, count * _ROWS)
    ((_, _, blocks),) = window_views(xp, dy, 0, _ROWS, _ROWS, count)
    top = geometry.padding[0][0]
    for chosen, inside, windows in window_views(xp, x, -top, _ROWS * stride, size, count):
        products = backend.matmul(blocks[:, chosen], windows.swapaxes(-1, -2))
        sums[..., inside] += products.sum(axis=1)
    taps = xp.zeros((len(dy), geometry.kernel[0]), dy.dtype)
    for i in range(_ROWS):
        for k in range(geometry.kernel[0]):
            taps[:, k] += sums[:, i, i * stride + k * dilation]
    return taps


def _zero_extended(xp: Any, rows: Array, length: int) -> Array:
    """Rows (c, L, run) followed by zeros, (c, length, run)."""
    longer = xp.zeros((len(rows), length, rows.shape[2]), rows.dtype)
    longer[:, : rows.shape[1]] = rows
    return longer


def _products(
    backend: Backend, matrices: Array, image: Array, first: int, step: int, length: int
) -> Array:
    """A matrix (c, q, p) for each channel of an image (c, H, W, N), with windows of its rows:
    (c, length, W, N).
    """
    channels, _, width, batch = image.shape
    q = matrices.shape[1]
    count = -(-length // q)
    out = backend.xp.empty((channels, count, q, width * batch), image.dtype)
    read_windows(backend, matrices[:, None], merge_columns(image), first, step, out)
    return out.reshape(channels, count * q, width, batch)[:, :length]


def _rows_read(geometry: Geometry) -> int:
    """Input rows that a block of output rows reads."""
    return (_ROWS - 1) * geometry.stride[0] + (geometry.kernel[0] - 1) * geometry.dilation[0] + 1


def _forward_matrices(xp: Any, weight: Array, geometry: Geometry) -> Array:
    """M (kW, F, 4, p)."""
    shape = geometry.kernel[1], len(weight), _ROWS, _rows_read(geometry)
    matrices = xp.zeros(shape, weight.dtype)
    for i in range(_ROWS):
        for k in range(geometry.kernel[0]):
            row = i * geometry.stride[0] + k * geometry.dilation[0]
            matrices[:, :, i, row] = weight[:, 0, k].T
    return matrices


def _backward_matrices(xp: Any, weight: Array, geometry: Geometry) -> Array:
    """The matrices (kW, F, 4·stride, p) that turn the rows of dy which reach a block, the last 4 of
    them its own, into rows of dx, counted from the first row of padding.
    """
    stride, dilation = geometry.stride[0], geometry.dilation[0]
    before = -(-(geometry.kernel[0] - 1) * dilation // stride)
    shape = geometry.kernel[1], len(weight), _ROWS * stride, before + _ROWS
    matrices = xp.zeros(shape, weight.dtype)
    for i in range(before + _ROWS):
        for k in range(geometry.kernel[0]):
            row = (i - before) * stride + k * dilation
            if 0 <= row < _ROWS * stride:
                matrices[:, :, row, i] = weight[:, 0, k].T
    return matrices


def _blocks(backend: Backend, x: Array, y: Array, part: slice) -> Iterator[tuple[slice, slice]]:
    """Some channels of x at a time and, in turn, each of the filters that read them."""
    per_channel = len(y) // len(x)
    size = max(1, x[0].nbytes, y[0].nbytes)
    step = max(1, backend.column_budget // 4 // size)
    for start in range(part.start, part.stop, step):
        stop = min(start + step, part.stop)
        for j in range(per_channel):
            filters = slice(start * per_channel + j, stop * per_channel, per_channel)
            yield slice(start, stop), filters
