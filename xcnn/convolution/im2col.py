"""Convolution as one matrix product with the unfolded input.

columns (C·kH·kW, oH·oW·N) holds what each window reads; then

    y       = weight (F, C·kH·kW) @ columns
    dweight = dy (F, oH·oW·N) @ columnsᵀ
    dx      = col2im(weightᵀ @ dy)

The columns are kH·kW times as large as the input, so they are computed for one tile of the output
at a time, in one buffer of at most ``backend.column_budget`` bytes that stays in the cache, and
recomputed in backward rather than saved. Source: Chellapilla et al. 2006, "High performance
convolutional neural networks for document processing".
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from ..arrays import Array, sum_dtype
from ..backends import Backend
from ..layout import as_matrix, tile_columns
from ..tiling import Tile, bands, split_range
from .method import Method, Problem


class Part(NamedTuple):
    """One worker's part of backward: some groups, or some channels of the only group."""

    groups: int
    channels: slice  # of x
    filters: slice
    group_channels: slice  # of weight


class Im2col(Method):
    """Any convolution, tile by tile."""

    def applies(self, problem: Problem) -> bool:
        return True

    def forward(
        self, backend: Backend, problem: Problem, x: Array, weight: Array, bias: Array | None
    ) -> Array:
        geometry, y = problem.geometry, backend.xp.empty(problem.output_shape, x.dtype)
        matrix = as_matrix(y)

        def compute(tiles: Sequence[Tile]) -> None:
            for tile, run, columns in _with_columns(backend, problem, x, tiles):
                backend.im2col(x, geometry, tile, columns)
                w, c, out = _by_group(problem.groups, weight, columns, matrix[:, run])
                backend.matmul(w, c, out=out)
                if bias is not None or problem.relu:  # while the tile is still in the cache
                    backend.add_bias(matrix, bias, run, problem.relu)

        limit = _positions(backend, problem, x)
        count = backend.shares(problem.multiplications)
        backend.each(compute, bands(geometry.output, limit // geometry.output[1], limit, count))
        return y

    def input_gradient(self, backend: Backend, problem: Problem, dy: Array, weight: Array) -> Array:
        geometry, dx = problem.geometry, backend.xp.empty(problem.input_shape, dy.dtype)

        def compute(part: Part) -> None:
            part_dx, part_dy = dx[part.channels], as_matrix(dy[part.filters])
            part_weight = weight[part.filters, part.group_channels]
            tiles = geometry.tiles(_positions(backend, problem, part_dx))
            first = True
            for tile, run, columns in _with_columns(backend, problem, part_dx, tiles):
                w, c, d = _by_group(part.groups, part_weight, columns, part_dy[:, run])
                backend.matmul(w.swapaxes(-1, -2), d, out=c)
                backend.col2im(columns, geometry, tile, part_dx, first)
                first = False

        backend.each(compute, _parts(backend, problem))
        return dx

    def weight_gradient(self, backend: Backend, problem: Problem, dy: Array, x: Array) -> Array:
        geometry = problem.geometry
        dweight = backend.xp.empty(problem.weight_shape, sum_dtype(x.dtype))

        def compute(part: Part) -> None:
            part_x, part_dy = x[part.channels], as_matrix(dy[part.filters])
            part_dweight = dweight[part.filters, part.group_channels]
            tiles = geometry.tiles(_positions(backend, problem, part_x))
            first = True
            for tile, run, columns in _with_columns(backend, problem, part_x, tiles):
                backend.im2col(part_x, geometry, tile, columns)
                dw, c, d = _by_group(part.groups, part_dweight, columns, part_dy[:, run])
                backend.add_product(dw, d, c, first)
                first = False

        backend.each(compute, _parts(backend, problem))
        return dweight


def _parts(backend: Backend, problem: Problem) -> list[Part]:
    """Split backward among workers, by channels or groups.

    Bands of the output, as in forward, would not be independent: adjacent bands share pixels.
    """
    groups, group = problem.groups, problem.one_group
    count, full = backend.shares(problem.multiplications), slice(None)
    if groups == 1:
        channels = split_range(problem.in_channels, count)
        return [Part(1, piece, full, piece) for piece in channels]
    return [
        Part(
            piece.stop - piece.start,
            slice(piece.start * group.in_channels, piece.stop * group.in_channels),
            slice(piece.start * group.out_channels, piece.stop * group.out_channels),
            full,
        )
        for piece in split_range(groups, count)
    ]


def _positions(backend: Backend, problem: Problem, x: Array) -> int:
    """Number of output positions whose columns fit into the budget."""
    height, width = problem.geometry.kernel
    position = len(x) * height * width * problem.batch * x.dtype.itemsize  # bytes
    return max(1, backend.column_budget // max(1, position))


def _with_columns(
    backend: Backend, problem: Problem, x: Array, tiles: Iterable[Tile]
) -> Iterator[tuple[Tile, slice, Array]]:
    """Yield each tile, its slice of positions, and a buffer (C, kH, kW, rows, columns, N)."""
    kernel, width = problem.geometry.kernel, problem.geometry.output[1]
    size = len(x) * kernel[0] * kernel[1] * problem.batch  # elements per position
    buffer = None
    for tile in tiles:
        rows, columns = tile.shape
        if buffer is None:  # the first tile is the largest
            buffer = backend.xp.empty(size * rows * columns, x.dtype)
        shape = (len(x), *kernel, rows, columns, problem.batch)
        run = tile_columns(tile, width, problem.batch)
        yield tile, run, buffer[: size * rows * columns].reshape(shape)


def _by_group(
    groups: int, weight: Array, columns: Array, part: Array
) -> tuple[Array, Array, Array]:
    """Views weight (F/g, K), columns (K, P), part (F/g, P), K = C/g·kH·kW; several groups stacked.

    One product of stacked matrices is one launch on a GPU.
    """
    filters, positions = part.shape
    stack = (groups,) if groups > 1 else ()
    return (
        weight.reshape(*stack, filters // groups, math.prod(weight.shape[1:])),
        columns.reshape(*stack, math.prod(weight.shape[1:]), positions),
        part.reshape(*stack, filters // groups, positions),
    )
