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

from ..backends import Backend
from ..geometry import Geometry, Tile, cut
from .rows import as_rows, positions

Array = Any


def applies(geometry: Geometry, groups: int, channels: int) -> bool:
    """Whether this method can compute such a convolution."""
    return geometry.stride[0] == geometry.dilation[0] == groups == 1


def pays(geometry: Geometry, channels: int, filters: int, batch: int) -> bool:
    """Whether it is faster than im2col: where a line of the output is long beside the weights.

    Measured on a CPU (``docs/performance.md``).
    """
    taps = channels * geometry.kernel[0] * geometry.kernel[1]
    return geometry.kernel[0] > 1 and geometry.output[1] * batch >= min(filters, taps)


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
    for tile, rows in _tiles(backend, x, geometry):
        _unfold(x, geometry, tile, rows)
        xp.matmul(kernel, _overlapping(xp, rows, geometry.kernel[0]), out=_lines(y, tile))
        if bias is not None or relu:
            _add_bias(backend, y, bias, tile, relu)
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
    dweight = xp.zeros((weight[0].size, filters), weight.dtype)  # BLAS does the longer side first
    for tile, rows in _tiles(backend, x, geometry):
        _unfold(x, geometry, tile, rows)
        for part, line in zip(_overlapping(xp, rows, height), _lines(dy, tile), strict=True):
            dweight += part @ line.T
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
    for tile, lines in _gradient_tiles(backend, dy, geometry, channels * width):
        _copy_lines(dy, geometry, tile, lines)
        drows = xp.matmul(flipped, _overlapping(xp, lines, height))
        columns = drows.reshape(len(drows), channels, width, *lines.shape[-2:])
        target = dx[:, tile.top : tile.bottom].swapaxes(0, 1)
        for k in range(width):
            reads, pixels = geometry.span(1, k, tile.left, tile.right)
            target[:, :, pixels] += columns[:, :, k, reads]
    return dx


def _tiles(backend: Backend, x: Array, geometry: Geometry) -> Iterator[tuple[Tile, Array]]:
    """Tiles of the output, each with a buffer (lines, C, kW, columns, N) for what it reads."""
    height, width = geometry.kernel
    shape = len(x), width
    for tile in _cut(backend, geometry.output, len(x) * width, height, x):
        lines = tile.bottom - tile.top + height - 1
        size = lines, *shape, tile.right - tile.left, x.shape[-1]
        yield tile, backend.xp.empty(size, x.dtype)


def _gradient_tiles(
    backend: Backend, dy: Array, geometry: Geometry, rows: int
) -> Iterator[tuple[Tile, Array]]:
    """Tiles of the input's lines and the output's columns, each with a buffer (lines, F, columns,
    N) for the gradients that reach it.
    """
    height = geometry.kernel[0]
    size = geometry.input[0], geometry.output[1]
    for tile in _cut(backend, size, max(len(dy), rows), height, dy):
        lines = tile.bottom - tile.top + height - 1
        shape = lines, len(dy), tile.right - tile.left, dy.shape[-1]
        yield tile, backend.xp.empty(shape, dy.dtype)


def _cut(backend: Backend, size: tuple[int, int], rest: int, height: int, array: Array) -> Any:
    """Tiles of ``size``, each line of a column taking ``rest`` numbers for each image.

    Each tile reads ``height`` - 1 lines more than it has, so it gets several times as many lines,
    and as many columns of them as the budget allows.
    """
    column = max(1, rest * array.shape[-1] * array.dtype.itemsize)  # bytes in one line
    lines = min(size[0], 4 * height)
    columns = backend.column_budget // (column * (lines + height - 1))
    if columns < 1:  # not even one: fewer lines of one column
        lines = backend.column_budget // column - (height - 1)
    elif columns >= size[1]:  # all: as many lines as there is room for
        lines = backend.column_budget // (column * size[1]) - (height - 1)
    return cut(size, lines, columns)


def _unfold(x: Array, geometry: Geometry, tile: Tile, rows: Array) -> None:
    """Write the input lines of a tile, kW times, zeros for padding: rows (lines, C, kW, ...)."""
    inside, source = _inside(tile.top - geometry.padding[0][0], len(rows), geometry.input[0])
    _clear_outside(rows, inside)
    lines = x[:, source].swapaxes(0, 1)
    for k in range(geometry.kernel[1]):
        part = rows[inside, :, k]
        windows, pixels = geometry.span(1, k, tile.left, tile.right)
        part[:, :, : windows.start] = 0
        part[:, :, windows.stop :] = 0
        part[:, :, windows] = lines[:, :, pixels]


def _copy_lines(dy: Array, geometry: Geometry, tile: Tile, lines: Array) -> None:
    """Write the lines of dy that reach the input lines of a tile: lines (lines, F, ...)."""
    first = tile.top + geometry.padding[0][0] - geometry.kernel[0] + 1
    inside, source = _inside(first, len(lines), geometry.output[0])
    _clear_outside(lines, inside)
    lines[inside] = dy[:, source, tile.left : tile.right].swapaxes(0, 1)


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


def _add_bias(backend: Backend, y: Array, bias: Array | None, tile: Tile, relu: bool) -> None:
    """Add the bias to a tile of y (F, oH, oW, N): in one go if its lines follow each other."""
    whole = (tile.left, tile.right) == (0, y.shape[2])
    step = tile.bottom - tile.top if whole else 1
    for top in range(tile.top, tile.bottom, step):
        run = positions(y, tile._replace(top=top, bottom=top + step))
        backend.add_bias(as_rows(y), bias, run, relu)


def _lines(y: Array, tile: Tile) -> Array:
    """The tile of y (F, oH, oW, N) as a view (lines, F, columns·N)."""
    filters, height, width, batch = y.shape
    columns = slice(tile.left * batch, tile.right * batch)
    return y.reshape(filters, height, width * batch)[:, tile.top : tile.bottom, columns].swapaxes(
        0, 1
    )
