"""3×3 convolution with stride 1 by Winograd's minimal filtering, the transforms as matrix products.

Patches of 6×6 pixels that overlap by two give 4×4 outputs each. With the 1-D transforms B (6, 6) of
patches, G (6, 3) of weights and A (4, 6) of outputs, each used along both axes,

    u = G weight Gᵀ (36, F, C)        v = B patch Bᵀ (36, C, P)
    m = u @ v (36, F, P)              y = A m Aᵀ (16, F, P)

for P patches: 36 products for each pair of channels where 16 outputs take 144 directly. Backward
is the same transposed, so it shares dm = Aᵀ dy A between both gradients:

    dweight = Gᵀ (dm @ vᵀ) G          dpatch = Bᵀ (uᵀ @ dm) B

The patches are taken a tile at a time, within ``backend.column_budget`` bytes, and once more in
backward. Relative error about 1e-5 in float32, ten times that of im2col (``docs/performance.md``).
Source: Lavin and Gray 2015, "Fast algorithms for convolutional neural networks", arXiv:1509.09308.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from ..backends import Backend
from ..geometry import Geometry, Tile

Array = Any

_OUT, _PATCH = 4, 6  # pixels along each axis
_B = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_G = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_A = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


class Transforms(NamedTuple):
    """The 1-D transforms of patches and outputs, and for weights G⊗G (36, 9), for both axes."""

    b: Array
    g: Array
    a: Array


class Work(NamedTuple):
    """What one tile of patches needs: a tile, and views of buffers that all tiles share."""

    tile: Tile
    patches: Array  # (36, C, rows, columns, N)
    v: Array  # (36, C, P)
    m: Array  # (36, F, P)
    outputs: Array  # (16, F, rows, columns, N)


def applies(geometry: Geometry, groups: int, channels: int) -> bool:
    """Whether this method can compute such a convolution."""
    unit = geometry.stride == geometry.dilation == (1, 1)
    return unit and geometry.kernel == (3, 3) and groups == 1


def pays(geometry: Geometry, channels: int, filters: int, batch: int) -> bool:
    """Whether it is faster than im2col: not where channels are few or most of a block sticks out.

    Measured on a CPU (``docs/performance.md``).
    """
    height, width = geometry.output
    blocks = -(-height // _OUT) * -(-width // _OUT)
    return min(channels, filters) >= 16 and 2 * height * width >= blocks * _OUT**2


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
    b, g, a = _transforms(backend, str(x.dtype))
    y = xp.empty((len(weight), *geometry.output, x.shape[-1]), x.dtype)
    u = _transformed_weight(xp, g, weight)
    for work in _works(backend, x, len(weight), geometry, fewest=1):
        _gather(x, _patches(geometry), work.tile, work.patches)
        _along_both(xp, b, work.patches, out=work.v)
        xp.matmul(u, work.v, out=work.m)
        _along_both(xp, a, work.m, out=work.outputs)
        rows = work.outputs.reshape(_OUT**2, *work.m.shape[1:])
        if bias is not None:
            rows += bias[:, None]
        if relu:
            xp.maximum(rows, 0, out=rows)
        for e in _blocks(geometry).elements(work.tile):
            y[e.pixels] = work.outputs[e.number][e.windows]
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
    """Return dx (C, H, W, N) and dweight (F, C, 3, 3), as far as they are needed."""
    xp = backend.xp
    b, g, a = _transforms(backend, str(x.dtype))
    u = _transformed_weight(xp, g, weight)
    dx = xp.zeros_like(x) if needs[0] else None
    du = xp.zeros_like(u) if needs[1] else None
    # du is read and written for each tile: fewer tiles where it is large
    for work in _works(backend, x, len(weight), geometry, fewest=4 * len(weight)):
        _gather(dy, _blocks(geometry), work.tile, work.outputs)
        _along_both(xp, a.T, work.outputs, out=work.m)
        if du is not None:
            _gather(x, _patches(geometry), work.tile, work.patches)
            _along_both(xp, b, work.patches, out=work.v)
            du += xp.matmul(work.m, work.v.swapaxes(1, 2))
        if dx is not None:
            xp.matmul(u.swapaxes(1, 2), work.m, out=work.v)
            _along_both(xp, b.T, work.v, out=work.patches)
            for e in _patches(geometry).elements(work.tile):
                dx[e.pixels] += work.patches[e.number][e.windows]
    return dx, None if du is None else _weight_gradient(xp, g, du)


def _patches(geometry: Geometry) -> Geometry:
    """Overlapping patches of the input as windows."""
    return _tiled(geometry, geometry.input, _PATCH, geometry.padding)


def _blocks(geometry: Geometry) -> Geometry:
    """Blocks of the output as windows; the last ones may stick out."""
    return _tiled(geometry, geometry.output, _OUT, ((0, 0), (0, 0)))


@lru_cache(maxsize=1024)
def _tiled(geometry: Geometry, size: tuple[int, int], window: int, padding: Any) -> Geometry:
    height, width = geometry.output
    count = -(-height // _OUT), -(-width // _OUT)
    return Geometry(size, count, (window, window), (_OUT, _OUT), padding, (1, 1))


@lru_cache(maxsize=16)
def _transforms(backend: Backend, dtype: str) -> Transforms:
    b, g, a = (backend.asarray(matrix, dtype) for matrix in (_B, _G, _A))
    return Transforms(b, backend.xp.kron(g, g), a)


def _works(
    backend: Backend, x: Array, filters: int, geometry: Geometry, fewest: int
) -> Iterator[Work]:
    """The work of each tile, of at least ``fewest`` columns P, whatever the budget."""
    xp, channels, batch = backend.xp, len(x), x.shape[-1]
    patch = _PATCH**2 * max(channels, filters) * batch * x.dtype.itemsize  # bytes
    within = backend.column_budget // 2 // max(1, patch)  # v and m are as large again
    most = max(1, within, -(-fewest // max(1, batch)))
    buffers: list[Array] = []
    for tile in _patches(geometry).tiles(most):
        shape = tile.bottom - tile.top, tile.right - tile.left, batch
        count = shape[0] * shape[1] * batch
        sizes = [n * count for n in (36 * channels, 36 * channels, 36 * filters, 16 * filters)]
        if not buffers:  # the first tile is the largest
            buffers = [xp.empty(size, x.dtype) for size in sizes]
        patches, v, m, outputs = (b[:size] for b, size in zip(buffers, sizes, strict=True))
        yield Work(
            tile,
            patches.reshape(36, channels, *shape),
            v.reshape(36, channels, count),
            m.reshape(36, filters, count),
            outputs.reshape(16, filters, *shape),
        )


def _gather(x: Array, windows: Geometry, tile: Tile, out: Array) -> None:
    """Write what the windows of the tile read, element by element; zeros outside x."""
    for e in windows.elements(tile):
        if not e.whole:
            out[e.number].fill(0)
        out[e.number][e.windows] = x[e.pixels]


def _along_both(xp: Any, matrix: Array, a: Array, out: Array) -> None:
    """Apply a 1-D transform (q, p) along both axes of a (p², ...): out (q², ...).

    Two products with p terms each rather than one with p²: a third of the arithmetic.
    """
    q, p = matrix.shape
    rest = a.size // p**2
    half = xp.matmul(matrix, a.reshape(p, p * rest))  # (q, p·rest)
    xp.matmul(matrix, half.reshape(q, p, rest), out=out.reshape(q, q, rest))


def _transformed_weight(xp: Any, g: Array, weight: Array) -> Array:
    """U (36, F, C) of weight (F, C, 3, 3)."""
    filters, channels = weight.shape[:2]
    taps = weight.reshape(filters * channels, 9).T
    return xp.matmul(g, taps).reshape(36, filters, channels)


def _weight_gradient(xp: Any, g: Array, du: Array) -> Array:
    """Dweight (F, C, 3, 3) of du (36, F, C)."""
    _, filters, channels = du.shape
    taps = xp.matmul(g.T, du.reshape(36, filters * channels))  # (9, F·C)
    return xp.ascontiguousarray(taps.T).reshape(filters, channels, 3, 3)
