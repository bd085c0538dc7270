"""Depthwise convolution: each filter reads one channel.

Each filter and kernel column l has a small matrix M (4, p) with kernel element k of output row i at
[i, i·stride + k·dilation]. Then

    y        = sum over l of M @ (the p input rows of 4 output rows), l columns to the right
    dx       = sum over l of Mᵀ @ (the rows of dy that depend on them), l columns to the left
    dweight  = the diagonals of the sum over blocks of (4 rows of dy) @ (their p input rows)ᵀ

so one matrix product covers all kernel rows, and each kernel column takes one pass. Channels are
processed a few at a time, so that they stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..geometry import Geometry
from ..layout import as_matrix
from .method import METHODS, Method, Problem
from .sliding import merge_columns, read_windows, window_views

_ROWS = 4  # output rows per matrix


class Depthwise(Method):
    """Matrix products over all kernel rows at once; im2col would take one per channel."""

    def applies(self, problem: Problem) -> bool:
        return problem.groups == problem.in_channels > 1

    def forward(
        self, backend: Backend, problem: Problem, x: Array, weight: Array, bias: Array | None
    ) -> Array:
        if backend.has_depthwise:
            return METHODS["direct"].forward(backend, problem, x, weight, bias)
        geometry, y = problem.geometry, backend.xp.zeros(problem.output_shape, x.dtype)
        matrices = _forward_matrices(backend.xp, weight, geometry)
        first, step = -geometry.padding[0][0], _ROWS * geometry.stride[0]

        def compute(part: slice) -> bool:
            for channels, filters in _blocks(backend, x, y, part):
                for column, matrix in enumerate(matrices):
                    windows, pixels = geometry.span(1, column)
                    rows = _products(backend, matrix[filters], x[channels], first, step, y.shape[1])
                    y[filters][:, :, windows] += rows[:, :, pixels]
                if not backend.all_finite(merge_columns(y)[filters, ::_ROWS]):
                    return False
            return True

        finite = backend.all_finite(weight) and all(backend.each(compute, backend.channels(x)))
        if not finite:  # the zeros in a matrix spread it to all 4 rows
            return METHODS["im2col"].forward(backend, problem, x, weight, bias)
        if bias is not None or problem.relu:
            backend.add_bias(as_matrix(y), bias, slice(None), problem.relu)
        return y

    def input_gradient(self, backend: Backend, problem: Problem, dy: Array, weight: Array) -> Array:
        if backend.has_depthwise:
            return METHODS["direct"].input_gradient(backend, problem, dy, weight)
        geometry, dx = problem.geometry, backend.xp.zeros(problem.input_shape, dy.dtype)
        top, height = geometry.padding[0][0], geometry.input[0]
        matrices = _backward_matrices(backend.xp, weight, geometry)
        block, first = matrices.shape[-2], _ROWS - matrices.shape[-1]  # dy rows before the block's

        def compute(part: slice) -> bool:
            for channels, filters in _blocks(backend, dx, dy, part):
                for column, matrix in enumerate(matrices):
                    windows, pixels = geometry.span(1, column)
                    arrays = matrix[filters], dy[filters]
                    rows = _products(backend, *arrays, first, _ROWS, top + height)
                    dx[channels][:, :, pixels] += rows[:, top:, windows]
                rows = merge_columns(dx)[channels]  # one of each block, or more
                if not all(map(backend.all_finite, (rows[:, ::block], rows[:, -1:]))):
                    return False
            return True

        finite = all(backend.each(compute, backend.channels(dx)))
        return dx if finite else METHODS["im2col"].input_gradient(backend, problem, dy, weight)

    def weight_gradient(self, backend: Backend, problem: Problem, dy: Array, x: Array) -> Array:
        if backend.has_depthwise:
            return METHODS["direct"].weight_gradient(backend, problem, dy, x)
        geometry = problem.geometry
        dweight = backend.xp.empty(problem.weight_shape, x.dtype)

        def compute(part: slice) -> None:
            for channels, filters in _blocks(backend, x, dy, part):
                for column in range(geometry.kernel[1]):
                    windows, pixels = geometry.span(1, column)
                    dy_rows = merge_columns(dy[filters][:, :, windows])
                    x_rows = merge_columns(x[channels][:, :, pixels])
                    dweight[filters, 0, :, column] = _taps(backend, dy_rows, x_rows, geometry)

        backend.each(compute, backend.channels(x))
        if not backend.all_finite(dweight):  # the last block is padded with zeros
            return METHODS["im2col"].weight_gradient(backend, problem, dy, x)
        return dweight


def _taps(backend: Backend, dy: Array, x: Array, geometry: Geometry) -> Array:
    """The weight gradient (c, kH) of one kernel column.

    For each kernel element, the sum over rows of dy (c, oH, run) times the row of x (c, H, run)
    that the element reads there.
    """
    xp, (stride, dilation) = backend.xp, (geometry.stride[0], geometry.dilation[0])
    count, size = -(-dy.shape[1] // _ROWS), _rows_read(geometry)
    sums = xp.zeros((len(dy), _ROWS, size), dy.dtype)
    if count * _ROWS > dy.shape[1]:
        dy = _zero_padded(xp, dy, count * _ROWS)
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


def _zero_padded(xp: Any, rows: Array, length: int) -> Array:
    """Rows (c, L, run) zero-padded at the end to (c, length, run)."""
    padded = xp.zeros((len(rows), length, rows.shape[2]), rows.dtype)
    padded[:, : rows.shape[1]] = rows
    return padded


def _products(
    backend: Backend, matrices: Array, image: Array, first: int, step: int, length: int
) -> Array:
    """Multiply each channel's matrix (c, q, p) by the row windows of an image (c, H, W, N).

    Returns (c, length, W, N).
    """
    channels, _, width, batch = image.shape
    q = matrices.shape[1]
    count = -(-length // q)
    out = backend.xp.empty((channels, count, q, width * batch), image.dtype)
    read_windows(backend, matrices[:, None], merge_columns(image), first, step, out)
    return out.reshape(channels, count * q, width, batch)[:, :length]


def _rows_read(geometry: Geometry) -> int:
    """Number of input rows read by a block of output rows."""
    return (_ROWS - 1) * geometry.stride[0] + (geometry.kernel[0] - 1) * geometry.dilation[0] + 1


def _forward_matrices(xp: Any, weight: Array, geometry: Geometry) -> Array:
    """The matrices M of all kernel columns and filters: (kW, F, 4, p)."""
    shape = geometry.kernel[1], len(weight), _ROWS, _rows_read(geometry)
    matrices = xp.zeros(shape, weight.dtype)
    for i in range(_ROWS):
        for k in range(geometry.kernel[0]):
            row = i * geometry.stride[0] + k * geometry.dilation[0]
            matrices[:, :, i, row] = weight[:, 0, k].T
    return matrices


def _backward_matrices(xp: Any, weight: Array, geometry: Geometry) -> Array:
    """The matrices of the input gradient: (kW, F, 4·stride, p).

    They map the rows of dy that contribute to a block, the last 4 being the block's, to rows of dx,
    counted from the first row of padding.
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
    """Yield blocks of channels of x, each with every set of filters that reads it."""
    per_channel = len(y) // len(x)
    size = max(1, x[0].nbytes, y[0].nbytes)
    step = max(1, backend.column_budget // 4 // size)
    for start in range(part.start, part.stop, step):
        stop = min(start + step, part.stop)
        for j in range(per_channel):
            filters = slice(start * per_channel + j, stop * per_channel, per_channel)
            yield slice(start, stop), filters
