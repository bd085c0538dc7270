"""Convolution with the input unfolded along its width only.

im2col writes every pixel kH·kW times. Here it is written kW times: unfolded[h, (c, l)] (C·kW, oW·N)
holds pixel (h, column + l) of channel c for every output column. The kH·C·kW rows that output row i
needs are then contiguous and overlap with those of row i + 1: one matrix product per output row
reads them in place.

    y[i]         = weight (F, kH·C·kW) @ unfolded[i : i + kH]
    dweight      = sum over i of dy[i] (F, oW·N) @ unfolded[i : i + kH]ᵀ
    dunfolded[h] = flipped weight (C·kW, kH·F) @ dy[h - kH + 1 : h + 1]

and dx is dunfolded, folded back along the width. Source: Cho and Brand 2017, "MEC: memory-efficient
convolution for deep neural network", arXiv:1706.06873.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import Pair
from ..geometry import Geometry
from ..tiling import Tile, bands
from .method import METHODS, Method, Problem

Bands = tuple[tuple[Tile, ...], ...]


class MEC(Method):
    """Unfold along the width only: a third to a seventh of im2col's copies."""

    def applies(self, problem: Problem) -> bool:
        geometry = problem.geometry
        return geometry.stride[0] == geometry.dilation[0] == problem.groups == 1

    def pays(self, problem: Problem) -> bool:
        """Whether an output row is long compared with the weights.

        The rule was measured on a CPU (``docs/performance.md``).
        """
        geometry, taps = problem.geometry, math.prod(problem.weight_shape[1:])
        row = geometry.output[1] * problem.batch
        return geometry.kernel[0] > 1 and 2 * row > min(problem.out_channels, taps)

    def forward(
        self, backend: Backend, problem: Problem, x: Array, weight: Array, bias: Array | None
    ) -> Array:
        xp, y = backend.xp, backend.xp.empty(problem.output_shape, x.dtype)
        geometry, height = problem.geometry, problem.geometry.kernel[0]
        matrix = xp.ascontiguousarray(weight.transpose(0, 2, 1, 3)).reshape(len(weight), -1)

        def compute(tiles: Sequence[Tile]) -> None:
            for tile in tiles:
                unfolded = _unfolded(xp, x, geometry, tile)
                backend.matmul(matrix, _overlapping(xp, unfolded, height), out=_rows_of(y, tile))
                if bias is not None or problem.relu:
                    backend.add_bias_to_tile(y, bias, tile, problem.relu)

        backend.each(compute, _bands(backend, problem, x))
        return y

    def input_gradient(self, backend: Backend, problem: Problem, dy: Array, weight: Array) -> Array:
        if not backend.all_finite(weight):  # times the zeros around dy, it would be NaN
            return METHODS["im2col"].input_gradient(backend, problem, dy, weight)
        xp, geometry = backend.xp, problem.geometry
        filters, channels, height, width = weight.shape
        flipped = xp.ascontiguousarray(weight[:, :, ::-1].transpose(1, 3, 2, 0))
        flipped = flipped.reshape(channels * width, height * filters)
        dx = xp.zeros(problem.input_shape, dy.dtype)

        def compute(tiles: Sequence[Tile]) -> None:
            for tile in tiles:
                rows = _contributing_rows(xp, dy, geometry, tile)
                unfolded = backend.matmul(flipped, _overlapping(xp, rows, height))
                columns = unfolded.reshape(len(unfolded), channels, width, *rows.shape[-2:])
                target = dx[:, tile.top : tile.bottom].swapaxes(0, 1)
                each_tap = enumerate(geometry.spans(1, tile.left, tile.right))
                for k, (windows, pixels) in each_tap:
                    target[:, :, pixels] += columns[:, :, k, windows]

        backend.each(compute, _gradient_bands(backend, problem, dy))
        return dx

    def weight_gradient(self, backend: Backend, problem: Problem, dy: Array, x: Array) -> Array:
        xp, geometry = backend.xp, problem.geometry
        filters, channels, height, width = problem.weight_shape
        taps = channels * height * width

        def compute(tiles: Sequence[Tile]) -> Array:
            total = xp.zeros((taps, filters), x.dtype)  # BLAS is faster with the longer side first
            for tile in tiles:
                unfolded = _overlapping(xp, _unfolded(xp, x, geometry, tile), height)
                for part, row in zip(unfolded, _rows_of(dy, tile), strict=True):
                    total += part @ row.T
            return total

        dweight, *partials = backend.each(compute, _bands(backend, problem, x))
        for partial in partials:
            dweight += partial
        return xp.ascontiguousarray(
            dweight.reshape(height, channels, width, filters).transpose(3, 1, 0, 2)
        )


def _bands(backend: Backend, problem: Problem, x: Array) -> Bands:
    """Tiles of the output for each worker."""
    size, row = problem.geometry.output, len(x) * problem.geometry.kernel[1]
    return _cut(backend, problem, size, row, row * problem.out_channels, x.dtype)


def _gradient_bands(backend: Backend, problem: Problem, dy: Array) -> Bands:
    """Tiles of the input's rows and the output's columns for each worker."""
    geometry, filters = problem.geometry, len(dy)
    size, row = (geometry.input[0], geometry.output[1]), problem.in_channels * geometry.kernel[1]
    return _cut(backend, problem, size, max(filters, row), row * filters, dy.dtype)


def _cut(backend: Backend, problem: Problem, size: Pair, row: int, work: int, dtype: Any) -> Bands:
    """Cut ``size`` into tiles that fit into the budget, in bands for the workers.

    A tile reads kH - 1 extra rows, so it gets several times as many rows, and as many columns as
    the budget allows.

    Parameters
    ----------
    row, work
        Elements per pixel of an unfolded row, and multiplications per such pixel and kernel row.
    """
    height, batch = problem.geometry.kernel[0], problem.batch
    column = max(1, row * batch * dtype.itemsize)  # bytes of one row
    rows = min(size[0], 4 * height)
    columns = backend.column_budget // (column * (rows + height - 1))
    if columns < 1:  # not even one fits: fewer rows of one column
        rows = backend.column_budget // column - (height - 1)
    elif columns >= size[1]:  # all fit: as many rows as possible
        rows = backend.column_budget // (column * size[1]) - (height - 1)
    count = backend.shares(work * height * size[0] * size[1] * batch)
    return bands(size, rows, columns, count)


def _unfolded(xp: Any, x: Array, geometry: Geometry, tile: Tile) -> Array:
    """The unfolded input rows of a tile, zero-padded: (rows, C, kW, columns, N)."""
    rows, columns = tile.bottom - tile.top + geometry.kernel[0] - 1, tile.right - tile.left
    unfolded = xp.empty((rows, len(x), geometry.kernel[1], columns, x.shape[-1]), x.dtype)
    inside, source = _inside(tile.top - geometry.padding[0][0], rows, geometry.input[0])
    _clear_outside(unfolded, inside)
    pixels_of = x[:, source].swapaxes(0, 1)
    for k, (windows, pixels) in enumerate(geometry.spans(1, tile.left, tile.right)):
        part = unfolded[inside, :, k]
        part[:, :, : windows.start] = 0
        part[:, :, windows.stop :] = 0
        part[:, :, windows] = pixels_of[:, :, pixels]
    return unfolded


def _contributing_rows(xp: Any, dy: Array, geometry: Geometry, tile: Tile) -> Array:
    """The rows of dy that contribute to the input rows of a tile: (rows, F, columns, N)."""
    count = tile.bottom - tile.top + geometry.kernel[0] - 1
    rows = xp.empty((count, len(dy), tile.right - tile.left, dy.shape[-1]), dy.dtype)
    first = tile.top + geometry.padding[0][0] - geometry.kernel[0] + 1
    inside, source = _inside(first, count, geometry.output[0])
    _clear_outside(rows, inside)
    rows[inside] = dy[:, source, tile.left : tile.right].swapaxes(0, 1)
    return rows


def _inside(first: int, count: int, size: int) -> tuple[slice, slice]:
    """The rows of ``first`` to ``first + count`` within ``size``: relative and absolute slices."""
    start = min(count, max(0, -first))
    stop = max(start, min(count, size - first))
    return slice(start, stop), slice(first + start, first + stop)


def _clear_outside(rows: Array, inside: slice) -> None:
    rows[: inside.start] = 0
    rows[inside.stop :] = 0


def _overlapping(xp: Any, rows: Array, height: int) -> Array:
    """Overlapping views of ``height`` rows: (rows - height + 1, height·rest, columns·N)."""
    run, item = rows.shape[-2] * rows.shape[-1], rows.itemsize
    rest = math.prod(rows.shape[1:-2])
    return xp.lib.stride_tricks.as_strided(
        rows,
        (len(rows) - height + 1, height * rest, run),
        (rest * run * item, run * item, item),
    )


def _rows_of(y: Array, tile: Tile) -> Array:
    """The tile of y (F, oH, oW, N) as a view (rows, F, columns·N)."""
    filters, height, width, batch = y.shape
    columns = slice(tile.left * batch, tile.right * batch)
    rows = y.reshape(filters, height, width * batch)[:, tile.top : tile.bottom, columns]
    return rows.swapaxes(0, 1)
