"""Convolution as one matrix product with the unfolded input.

columns (C·kH·kW, oH·oW·N) holds what each window reads; then

    y       = weight (F, C·kH·kW) @ columns
    dweight = dy (F, oH·oW·N) @ columnsᵀ
    dx      = col2im(weightᵀ @ dy)

The columns are kH·kW times as large as the input, so they are made for one tile of the output at a
time, in one buffer of at most ``backend.column_budget`` bytes that stays in the cache, and made
again in backward rather than kept. Source: Chellapilla et al. 2006, "High performance
convolutional neural networks for document processing".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ..arrays import Array
from ..backends import Backend
from ..backends.base import sum_dtype
from ..geometry import Geometry
from ..layout import as_rows
from ..tiling import Tile, bands, parts
from .rows import positions


class Share(NamedTuple):
    """What one worker computes in backward."""

    dx: Array | None
    dweight: Array | None
    x: Array
    weight: Array
    dy: Array
    groups: int


def applies(geometry: Geometry, groups: int, channels: int) -> bool:
    """Whether this method can compute such a convolution: any."""
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
    xp = backend.xp
    y = xp.empty((len(weight), *geometry.output, x.shape[-1]), x.dtype)
    matrix = as_rows(y)

    def compute(tiles: Iterator[Tile]) -> None:
        for tile, columns in _with_columns(backend, x, geometry, tiles):
            backend.im2col(x, geometry, tile, columns)
            run = positions(y, tile)
            for w, c, out in _groups(groups, weight, columns, matrix[:, run]):
                backend.matmul(w, c, out=out)
            if bias is not None or relu:
                backend.add_bias(matrix, bias, run, relu)  # while the tile is still in the cache

    most, count = _positions(backend, x, geometry), backend.shares(weight.size * matrix.shape[1])
    backend.each(compute, bands(geometry.output, most // geometry.output[1], most, count))
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
    """Return dx (C, H, W, N) and dweight (F, C / groups, kH, kW), as far as they are needed."""
    xp = backend.xp
    dx = xp.zeros_like(x) if needs[0] else None
    dweight = xp.zeros(weight.shape, sum_dtype(weight.dtype)) if needs[1] else None

    def compute(share: Share) -> None:
        dx, dweight, x, weight, dy, groups = share
        tiles = geometry.tiles(_positions(backend, x, geometry))
        for tile, columns in _with_columns(backend, x, geometry, tiles):
            part = as_rows(dy)[:, positions(dy, tile)]
            if dweight is not None:
                backend.im2col(x, geometry, tile, columns)
                for dw, c, d in _groups(groups, dweight, columns, part):
                    _add_product(dw, d, c, backend.thin_product)
            if dx is not None:
                for w, c, d in _groups(groups, weight, columns, part):
                    backend.matmul(w.T, d, out=c)
                backend.col2im(columns, geometry, tile, dx)

    count = backend.shares(weight.size * as_rows(dy).shape[1])
    backend.each(compute, _shares(Share(dx, dweight, x, weight, dy, groups), count))
    return dx, dweight


def _add_product(dweight: Array, d: Array, columns: Array, thin_product: int) -> None:
    """Add d (F, P) @ columns (K, P)ᵀ to dweight (F, K), in the shape that BLAS does best.

    It is 1.3 to 2 times faster with the larger of F and K first, and a product this thin (K·F
    below 1,000) 2 to 4 times faster in pieces.
    """
    positions = d.shape[1]
    step = thin_product if dweight.size < 1000 else max(1, positions)
    for start in range(0, positions, step):
        piece = slice(start, start + step)
        dweight += (columns[:, piece] @ d[:, piece].T).T


def _shares(whole: Share, count: int) -> list[Share]:
    """Some groups, or channels where there is one group, for each worker: views of all arrays.

    Not bands of the output as in forward: the windows of one overlap with those of the next.
    """
    dx, dweight, x, weight, dy, groups = whole
    of_weight: tuple[slice, ...]
    every, filters, channels = slice(None), len(weight) // groups, len(x) // groups
    shares = []
    for part in parts(groups if groups > 1 else channels, count):
        if groups > 1:
            read = slice(part.start * channels, part.stop * channels)
            made = slice(part.start * filters, part.stop * filters)
            number, of_weight = part.stop - part.start, (made,)
        else:
            read, made, number, of_weight = part, every, 1, (every, part)
        shares.append(
            Share(
                None if dx is None else dx[read],
                None if dweight is None else dweight[of_weight],
                x[read],
                weight[of_weight],
                dy[made],
                number,
            )
        )
    return shares


def _positions(backend: Backend, x: Array, geometry: Geometry) -> int:
    """Positions of the output whose columns are within the budget."""
    height, width = geometry.kernel
    position = len(x) * height * width * x.shape[-1] * x.dtype.itemsize  # bytes
    return max(1, backend.column_budget // max(1, position))


def _with_columns(
    backend: Backend, x: Array, geometry: Geometry, tiles: Iterator[Tile]
) -> Iterator[tuple[Tile, Array]]:
    """Each tile with a buffer (C, kH, kW, rows, columns, N) for its columns."""
    channels, batch = len(x), x.shape[-1]
    position = channels * geometry.kernel[0] * geometry.kernel[1] * batch  # elements
    buffer = None
    for tile in tiles:
        height, width = tile.bottom - tile.top, tile.right - tile.left
        if buffer is None:  # the first tile is the largest
            buffer = backend.xp.empty(position * height * width, x.dtype)
        shape = (channels, *geometry.kernel, height, width, batch)
        yield tile, buffer[: position * height * width].reshape(shape)


def _groups(
    groups: int, weight: Array, columns: Array, part: Array
) -> Iterator[tuple[Array, Array, Array]]:
    """Per group, as 2-D views: weight (F/g, K), columns (K, P), part (F/g, P); K = C/g·kH·kW."""
    filters, positions = part.shape
    per_group = filters // groups
    w = weight.reshape(groups, per_group, weight[0].size)
    c = columns.reshape(groups, weight[0].size, positions)
    for g in range(groups):
        yield w[g], c[g], part[g * per_group : (g + 1) * per_group]
