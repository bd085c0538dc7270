"""Convolution from an input that is unfolded along its width only.

im2col writes every pixel kH·kW times. Here it is written kW times, as rows (C·kW, oW·N) one below
the other: rows[h, (c, l)] holds pixel (h, column + l) of channel c for every output column. The
kH·C·kW lines that output line i needs then already lie next to each other, and those of i + 1
overlap with them: one matrix product per line reads them where they are.

    y[i]     = weight (F, kH·C·kW) @ rows[i : i + kH]
    dweight  = sum over i of dy[i] (F, oW·N) @ rows[i : i + kH]ᵀ
    drows[h] = flipped weight (C·kW, kH·F) @ dy[h - kH + 1 : h + 1], folded back along the width

Source: Cho and Brand 2017, "MEC: memory-efficient convolution for deep neural network",
arXiv:1706.06873.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..geometry import Geometry
from ..tiling import Tile, bands
from .rows import add_bias


def applies(geometry: Geometry, groups: int, channels: int) -> bool:
    """Whether this method can compute such a convolution."""
    return geometry.stride[0] == geometry.dilation[0] == groups == 1


def pays(geometry: Geometry, channels: int, filters: int, batch: int) -> bool:
    """Whether it is faster than im2col: where a line of the output is long beside the weights.

    Measured on a CPU (``docs/performance.md``).
    """
    taps = channels * geometry.kernel[0] * geometry.kernel[1]
    return geometry.kernel[0] > 1 and 2 * geometry.output[1] * batch > min(filters, taps)


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
    xp, filters = backend.xp, len(weight)
    y = xp.empty((filters, *geometry.output, x.shape[-1]), x.dtype)
    kernel = xp.ascontiguousarray(weight.transpose(0, 2, 1, 3)).reshape(filters, weight[0].size)

    def compute(tiles: Iterator[Tile]) -> None:
        for tile in tiles:
            rows = _unfolded(xp, x, geometry, tile)
            backend.matmul(kernel, _overlapping(xp, rows, geometry.kernel[0]), out=_lines(y, tile))
            if bias is not None or relu:
                add_bias(backend, y, bias, tile, relu)

    backend.each(compute, _tiles(backend, x, filters, geometry))
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
    """Return dx (C, H, W, N) and dweight (F, C, kH, kW), as far as they are needed."""
    dx = _input_gradient(backend, dy, x, weight, geometry) if needs[0] else None
    return dx, _weight_gradient(backend, dy, x, weight, geometry) if needs[1] else None


def _weight_gradient(
    backend: Backend, dy: Array, x: Array, weight: Array, geometry: Geometry
) -> Array:
    xp, (filters, channels, height, width) = backend.xp, weight.shape

    def compute(tiles: Iterator[Tile]) -> Array:
        total = xp.zeros((weight[0].size, filters), weight.dtype)  # BLAS does the longer side first
        for tile in tiles:
            rows = _unfolded(xp, x, geometry, tile)
            for part, line in zip(_overlapping(xp, rows, height), _lines(dy, tile), strict=True):
                total += part @ line.T
        return total

    dweight, *others = backend.each(compute, _tiles(backend, x, filters, geometry))
    for other in others:
        dweight += other
    return xp.ascontiguousarray(
        dweight.reshape(height, channels, width, filters).transpose(3, 1, 0, 2)
    )


def _input_gradient(
    backend: Backend, dy: Array, x: Array, weight: Array, geometry: Geometry
) -> Array:
    xp, (filters, channels, height, width) = backend.xp, weight.shape
    flipped = xp.ascontiguousarray(weight[:, :, ::-1].transpose(1, 3, 2, 0))
    flipped = flipped.reshape(channels * width, height * filters)
    dx = xp.zeros_like(x)

    def compute(tiles: Iterator[Tile]) -> None:
        for tile in tiles:
            lines = _lines_that_reach(xp, dy, geometry, tile)
            drows = backend.matmul(flipped, _overlapping(xp, lines, height))
            columns = drows.reshape(len(drows), channels, width, *lines.shape[-2:])
            target = dx[:, tile.top : tile.bottom].swapaxes(0, 1)
            for k in range(width):
                reads, pixels = geometry.span(1, k, tile.left, tile.right)
                target[:, :, pixels] += columns[:, :, k, reads]

    backend.each(compute, _gradient_tiles(backend, dy, channels, geometry))
    return dx


def _tiles(backend: Backend, x: Array, filters: int, geometry: Geometry) -> list[Iterator[Tile]]:
    """Tiles of the output for each worker."""
    rest = len(x) * geometry.kernel[1]
    return _cut(backend, geometry.output, rest, rest * filters, geometry.kernel[0], x)


def _gradient_tiles(
    backend: Backend, dy: Array, channels: int, geometry: Geometry
) -> list[Iterator[Tile]]:
    """Tiles of the input's lines and the output's columns for each worker."""
    size, rows = (geometry.input[0], geometry.output[1]), channels * geometry.kernel[1]
    return _cut(backend, size, max(len(dy), rows), rows * len(dy), geometry.kernel[0], dy)


def _cut(
    backend: Backend, size: tuple[int, int], rest: int, work: int, height: int, array: Array
) -> list[Iterator[Tile]]:
    """Tiles of ``size``, each line of a column taking ``rest`` numbers for each image and ``work``
    multiplications for each line of the kernel.

    Each tile reads ``height`` - 1 lines more than it has, so it gets several times as many lines,
    and as many columns of them as the budget allows.
    """
    batch = array.shape[-1]
    column = max(1, rest * batch * array.dtype.itemsize)  # bytes in one line
    lines = min(size[0], 4 * height)
    columns = backend.column_budget // (column * (lines + height - 1))
    if columns < 1:  # not even one: fewer lines of one column
        lines = backend.column_budget // column - (height - 1)
    elif columns >= size[1]:  # all: as many lines as there is room for
        lines = backend.column_budget // (column * size[1]) - (height - 1)
    return bands(size, lines, columns, backend.shares(work * height * size[0] * size[1] * batch))


def _unfolded(xp: Any, x: Array, geometry: Geometry, tile: Tile) -> Array:
    """The input lines of a tile, kW times, zeros for padding: (lines, C, kW, columns, N)."""
    lines, columns = tile.bottom - tile.top + geometry.kernel[0] - 1, tile.right - tile.left
    rows = xp.empty((lines, len(x), geometry.kernel[1], columns, x.shape[-1]), x.dtype)
    inside, source = _inside(tile.top - geometry.padding[0][0], lines, geometry.input[0])
    _clear_outside(rows, inside)
    pixels_of = x[:, source].swapaxes(0, 1)
    for k in range(geometry.kernel[1]):
        part = rows[inside, :, k]
        windows, pixels = geometry.span(1, k, tile.left, tile.right)
        part[:, :, : windows.start] = 0
        part[:, :, windows.stop :] = 0
        part[:, :, windows] = pixels_of[:, :, pixels]
    return rows


def _lines_that_reach(xp: Any, dy: Array, geometry: Geometry, tile: Tile) -> Array:
    """The lines of dy that reach the input lines of a tile: (lines, F, columns, N)."""
    count = tile.bottom - tile.top + geometry.kernel[0] - 1
    lines = xp.empty((count, len(dy), tile.right - tile.left, dy.shape[-1]), dy.dtype)
    first = tile.top + geometry.padding[0][0] - geometry.kernel[0] + 1
    inside, source = _inside(first, count, geometry.output[0])
    _clear_outside(lines, inside)
    lines[inside] = dy[:, source, tile.left : tile.right].swapaxes(0, 1)
    return lines


def _inside(first: int, count: int, size: int) -> tuple[slice, slice]:
    """Which of the lines ``first`` to ``first + count`` lie within ``size``: theirs, and whose."""
    start = min(count, max(0, -first))
    stop = max(start, min(count, size - first))
    return slice(start, stop), slice(first + start, first + stop)


def _clear_outside(lines: Array, inside: slice) -> None:
    lines[: inside.start] = 0
    lines[inside.stop :] = 0


def _overlapping(xp: Any, lines: Array, height: int) -> Array:
    """Views of each ``height`` lines in a row: (lines - height + 1, height·rest, columns·N)."""
    run, item = lines.shape[-2] * lines.shape[-1], lines.itemsize
    rest = math.prod(lines.shape[1:-2])
    return xp.lib.stride_tricks.as_strided(
        lines,
        (len(lines) - height + 1, height * rest, run),
        (rest * run * item, run * item, item),
    )


def _lines(y: Array, tile: Tile) -> Array:
    """The tile of y (F, oH, oW, N) as a view (lines, F, columns·N)."""
    filters, height, width, batch = y.shape
    columns = slice(tile.left * batch, tile.right * batch)
    return y.reshape(filters, height, width * batch)[:, tile.top : tile.bottom, columns].swapaxes(
        0, 1
    )
