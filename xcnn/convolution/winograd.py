"""3×3 and 5×5 convolution with stride 1 by Winograd's minimal filtering.

Patches of 6×6 pixels overlap such that each gives a block of 4×4 outputs of a 3×3 kernel, or 2×2
of a 5×5 kernel. With the 1-D transforms B (6, 6) of patches, G (6, k) of weights and A (m, 6) of
blocks, each used along both axes,

    u = G weight Gᵀ (36, F, C)        v = B patch Bᵀ (36, C, P)
    z = u @ v (36, F, P)              y = A z Aᵀ (m², F, P)

for P patches: 36 products for each pair of channels, where 16 outputs of 3×3 take 144 directly and
4 of 5×5 take 100. Backward, dx is the convolution of dy with the flipped weights, and

    dweight = Gᵀ ((Aᵀ dy A) @ vᵀ) G

The transforms read pixels and write outputs where they are, a tile of patches at a time within
``backend.column_budget`` bytes, in bands that ``backend.each`` computes at once. Relative error
about 1e-5 in float32, ten times that of im2col (``docs/performance.md``). Source: Lavin and Gray
2015, "Fast algorithms for convolutional neural networks", arXiv:1509.09308.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from ..arrays import Array
from ..backends import Backend
from ..geometry import Geometry
from ..tiling import Tile, bands
from .rows import add_bias
from .windows import merge_columns, read_windows, write_windows

_PATCH = 6
_POINTS = (0, 1, -1, 2, -2)  # where the polynomials are multiplied; the sixth point is infinity
_SCALES = (1 / 4, -1 / 6, -1 / 6, 1 / 24, 1 / 24)
_B = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_KERNELS = (3, 5)


class Axis(NamedTuple):
    """The 1-D transforms along one axis, and how many outputs a block has along it."""

    b: Array  # (6, 6)
    g: Array  # (6, k)
    a: Array  # (block, 6)
    block: int


class Plan(NamedTuple):
    """How a convolution is cut into blocks."""

    axes: tuple[Axis, Axis]
    first: tuple[int, int]  # pixel at which the first patch starts, negative in padding
    parts: list[Iterator[Tile]]  # tiles of blocks for each worker


def applies(geometry: Geometry, groups: int, channels: int) -> bool:
    """Whether this method can compute such a convolution."""
    unit = geometry.stride == geometry.dilation == (1, 1)
    return unit and groups == 1 and all(k in _KERNELS for k in geometry.kernel)


def pays(geometry: Geometry, channels: int, filters: int, batch: int) -> bool:
    """Whether it is faster than im2col: not where channels or images are few, where most of a block
    sticks out, or where the transformed weights are large beside the patches.

    Measured on a CPU (``docs/performance.md``).
    """
    height, width = geometry.output
    tall, wide = _block(geometry.kernel[0]), _block(geometry.kernel[1])
    blocks, fewer = -(-height // tall) * -(-width // wide), min(channels, filters)
    return (
        fewer >= (16 if geometry.kernel == (3, 3) else 32)
        and batch >= 8
        and batch * fewer >= 512
        and 2 * height * width >= blocks * tall * wide
        and 2 * blocks * batch >= max(channels, filters)
    )


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
    plan = _plan(backend, x, filters, geometry)
    u = _transformed_weight(backend, weight)

    def compute(tiles: Iterator[Tile]) -> None:
        for tile in tiles:
            v = _patches(backend, plan, x, tile)
            z = backend.matmul(u, v.reshape(36, len(x), -1))
            _write_blocks(backend, plan, z.reshape(6, 6, filters, *v.shape[3:]), y, tile)
            if bias is not None or relu:
                add_bias(backend, y, bias, _pixels(plan, y, tile), relu)

    backend.each(compute, plan.parts)
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
    dx = _input_gradient(backend, dy, weight, geometry) if needs[0] else None
    return dx, _weight_gradient(backend, dy, x, weight, geometry) if needs[1] else None


def _input_gradient(backend: Backend, dy: Array, weight: Array, geometry: Geometry) -> Array:
    (top, _), (left, _) = geometry.padding
    height, width = geometry.kernel
    above, before = height - 1 - top, width - 1 - left
    flipped = Geometry(
        geometry.output,
        geometry.input,
        geometry.kernel,
        (1, 1),
        ((above, height - 1 - above), (before, width - 1 - before)),
        (1, 1),
    )
    return forward(backend, dy, weight[:, :, ::-1, ::-1].swapaxes(0, 1), flipped, 1, None)


def _weight_gradient(
    backend: Backend, dy: Array, x: Array, weight: Array, geometry: Geometry
) -> Array:
    xp, filters, channels = backend.xp, len(weight), len(x)
    plan = _plan(backend, x, filters, geometry)

    def compute(tiles: Iterator[Tile]) -> Array:
        du = xp.zeros((36, filters, channels), weight.dtype)
        for tile in tiles:
            v = _patches(backend, plan, x, tile).reshape(36, channels, -1)
            z = _blocks(backend, plan, dy, tile).reshape(36, filters, -1)
            du += backend.matmul(z, v.swapaxes(1, 2))
        return du

    du, *others = backend.each(compute, plan.parts)
    for other in others:
        du += other
    g = _both_axes(backend, geometry.kernel, str(weight.dtype))
    taps = backend.matmul(g.T, du.reshape(36, filters * channels))
    return xp.ascontiguousarray(taps.T).reshape(weight.shape)


def _block(kernel: int) -> int:
    """Outputs along an axis that a patch gives."""
    return _PATCH + 1 - kernel


@lru_cache(maxsize=16)
def _axis(backend: Backend, kernel: int, dtype: str) -> Axis:
    block = _block(kernel)
    taps = [
        [scale * point**j for j in range(kernel)]
        for scale, point in zip(_SCALES, _POINTS, strict=True)
    ]
    outputs = [[point**i for point in _POINTS] + [0] for i in range(block)]
    taps.append([0] * (kernel - 1) + [1])
    outputs[-1][-1] = 1
    b, g, a = (backend.asarray(matrix, dtype) for matrix in (_B, taps, outputs))
    return Axis(b, g, a, block)


def _plan(backend: Backend, x: Array, filters: int, geometry: Geometry) -> Plan:
    """Tiles within the budget; in bands where the products stay large in spite of it."""
    channels, batch = len(x), x.shape[-1]
    vertical, horizontal = (_axis(backend, k, str(x.dtype)) for k in geometry.kernel)
    height, width = geometry.output
    size = -(-height // vertical.block), -(-width // horizontal.block)
    larger, blocks = max(channels, filters), size[0] * size[1]
    patch = max(1, batch * 36 * larger * x.dtype.itemsize)  # bytes
    least = -(-larger // (2 * max(1, batch)))  # fewer patches than this read all weights in vain
    most = max(1, least, 2 * backend.column_budget // 3 // patch)
    shares = backend.shares(36 * channels * filters * blocks * batch)
    parts = bands(size, most // size[1], most, shares if blocks >= shares * least else 1)
    (top, _), (left, _) = geometry.padding
    return Plan((vertical, horizontal), (-top, -left), parts)


def _patches(backend: Backend, plan: Plan, x: Array, tile: Tile) -> Array:
    """The transformed patches (6, 6, C, rows, columns, N) of a tile."""
    steps = plan.axes[0].block, plan.axes[1].block
    return _transformed(backend, plan.axes[0].b, plan.axes[1].b, x, plan.first, steps, tile)


def _blocks(backend: Backend, plan: Plan, dy: Array, tile: Tile) -> Array:
    """The transformed blocks of gradients (6, 6, F, rows, columns, N) of a tile."""
    vertical, horizontal = plan.axes
    steps = vertical.block, horizontal.block
    return _transformed(backend, vertical.a.T, horizontal.a.T, dy, (0, 0), steps, tile)


def _transformed(
    backend: Backend,
    vertical: Array,
    horizontal: Array,
    x: Array,
    first: tuple[int, int],
    steps: tuple[int, int],
    tile: Tile,
) -> Array:
    """(6, 6, C, rows, columns, N): a matrix along each axis of the windows of a tile of x."""
    xp, channels, batch = backend.xp, len(x), x.shape[-1]
    rows, columns = tile.bottom - tile.top, tile.right - tile.left
    start = first[1] + tile.left * steps[1]
    stop = start + (columns - 1) * steps[1] + horizontal.shape[1]
    pixels = x[:, :, max(0, start) : max(0, stop)]  # all that the tile reads
    read = pixels.shape[2]
    half = xp.empty((6, channels, rows, read, batch), x.dtype)
    read_windows(
        backend,
        vertical,
        merge_columns(pixels),
        first[0] + tile.top * steps[0],
        steps[0],
        half.reshape(6, channels, rows, read * batch).transpose(1, 2, 0, 3),
    )
    out = xp.empty((6, 6, channels, rows, columns, batch), x.dtype)
    read_windows(
        backend, horizontal, half, min(0, start), steps[1], out.transpose(0, 2, 3, 4, 1, 5)
    )
    return out


def _write_blocks(backend: Backend, plan: Plan, z: Array, y: Array, tile: Tile) -> None:
    """Write the outputs of z (6, 6, F, rows, columns, N)."""
    vertical, horizontal = plan.axes
    # (6, F, rows, columns, block, N)
    half = backend.matmul(horizontal.a, z.transpose(0, 2, 3, 4, 1, 5))
    pixels = _pixels(plan, y, tile)
    out = y[:, pixels.top : pixels.bottom, pixels.left : pixels.right]
    lines = half.reshape(*half.shape[:3], -1)[..., : out.shape[2] * out.shape[3]]
    write_windows(backend, vertical.a, lines.transpose(1, 2, 0, 3), merge_columns(out))


def _pixels(plan: Plan, y: Array, tile: Tile) -> Tile:
    """The outputs of a tile of blocks; the last blocks may stick out."""
    (vertical, horizontal), (_, height, width, _) = plan.axes, y.shape
    return Tile(
        tile.top * vertical.block,
        min(height, tile.bottom * vertical.block),
        tile.left * horizontal.block,
        min(width, tile.right * horizontal.block),
    )


def _transformed_weight(backend: Backend, weight: Array) -> Array:
    """U (36, F, C) of weight (F, C, kH, kW)."""
    filters, channels, height, width = weight.shape
    taps = weight.reshape(filters * channels, height * width).T
    g = _both_axes(backend, (height, width), str(weight.dtype))
    return backend.matmul(g, taps).reshape(36, filters, channels)


@lru_cache(maxsize=16)
def _both_axes(backend: Backend, kernel: tuple[int, int], dtype: str) -> Array:
    """G ⊗ G (36, kH·kW): both 1-D transforms of the weights in one product."""
    return backend.xp.kron(*(_axis(backend, k, dtype).g for k in kernel))
