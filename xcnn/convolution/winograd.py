"""3×3 and 5×5 convolution with stride 1 by Winograd's minimal filtering.

Each of the overlapping 6×6 patches gives a block of 4×4 outputs of a 3×3 kernel, or 2×2 of a 5×5
kernel. With the 1-D transforms B (6, 6) of patches, G (6, k) of weights and A (m, 6) of blocks,
each applied along both axes,

    u = G weight Gᵀ (36, F, C)        v = B patch Bᵀ (36, C, P)
    z = u @ v (36, F, P)              y = A z Aᵀ (m², F, P)

for P patches: 36 multiplications per patch and pair of channels, where direct convolution takes 144
for 16 outputs (3×3) or 100 for 4 (5×5). In backward, dx is the convolution of dy with the flipped
weights, and

    dweight = Gᵀ ((Aᵀ dy A) @ vᵀ) G

The transforms read pixels and write outputs in place, one tile of patches within
``backend.column_budget`` bytes at a time, in bands that ``backend.each`` computes in parallel.
Square kernels have compiled code on a CPU (``backends/native/winograd.cpp``), with the same
transforms, which pays for fewer channels and smaller batches. The relative error is about 1e-5 in
float32, ten times that of im2col (``docs/performance.md``).
Source: Lavin and Gray 2015, "Fast algorithms for convolutional neural networks", arXiv:1509.09308.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from ..arrays import Array
from ..backends import Backend
from ..tiling import Tile, bands
from .method import METHODS, Method, Problem
from .sliding import merge_columns, read_windows, write_blocks

_PATCH = 6
_POINTS = (0, 1, -1, 2, -2)  # interpolation points; the sixth is infinity
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
    """The 1-D transforms along one axis, and the outputs per block along it."""

    b: Array  # (6, 6)
    g: Array  # (6, k)
    a: Array  # (block, 6)
    block: int


class Plan(NamedTuple):
    """The transforms of a convolution, and its tiles of blocks."""

    axes: tuple[Axis, Axis]
    first: tuple[int, int]  # pixel at which the first patch starts, negative in padding
    bands: tuple[tuple[Tile, ...], ...]  # tiles of blocks for each worker


class Winograd(Method):
    """Fewer multiplications, at the cost of larger rounding errors."""

    def applies(self, problem: Problem) -> bool:
        geometry = problem.geometry
        unit = geometry.stride == geometry.dilation == (1, 1)
        return unit and problem.groups == 1 and all(k in _KERNELS for k in geometry.kernel)

    def pays(self, problem: Problem) -> bool:
        """Whether the transforms are cheap compared with the products.

        They are not with few channels or images, with blocks mostly outside the image, or with
        transformed weights large compared with the patches. Measured on a CPU
        (``docs/performance.md``).
        """
        geometry, batch = problem.geometry, problem.batch
        smaller, larger = sorted((problem.in_channels, problem.out_channels))
        height, width = geometry.output
        block_height, block_width = _block(geometry.kernel[0]), _block(geometry.kernel[1])
        blocks = -(-height // block_height) * -(-width // block_width)
        if 2 * height * width < blocks * block_height * block_width:
            return False
        if _is_compiled(problem):
            return smaller >= 8 and 16 * blocks * batch >= larger
        return (
            smaller >= (16 if geometry.kernel == (3, 3) else 32)
            and batch >= 8
            and batch * smaller >= 512
            and 2 * blocks * batch >= larger
        )

    def forward(
        self, backend: Backend, problem: Problem, x: Array, weight: Array, bias: Array | None
    ) -> Array:
        y = self._forward(backend, problem, x, weight, bias)
        return METHODS["im2col"].forward(backend, problem, x, weight, bias) if y is None else y

    def _forward(self, backend: Backend, problem: Problem, *arrays: Any) -> Array | None:
        """y, or None if a pixel or weight is not finite, as it would reach its whole block."""
        x, weight, bias = arrays
        if _is_compiled(problem):
            return backend.winograd(x, weight, bias, problem.geometry, problem.relu)
        y, filters = backend.xp.empty(problem.output_shape, x.dtype), len(weight)
        plan = _plan(backend, problem, x.dtype)
        u = _transformed_weight(backend, weight)

        def compute(tiles: Sequence[Tile]) -> bool:
            for tile in tiles:
                v = _patches(backend, plan, x, tile)
                z = backend.matmul(u, v.reshape(36, len(x), -1))
                if not backend.all_finite(z[0, 0]):  # every z of the patch would be like this one
                    return False
                _write_blocks(backend, plan, z.reshape(6, 6, filters, *v.shape[3:]), y, tile)
                if bias is not None or problem.relu:
                    pixels = _pixels(plan, y, tile)
                    backend.add_bias_to_tile(y, bias, pixels, problem.relu)
            return True

        finite = backend.all_finite(u[0]) and all(backend.each(compute, plan.bands))
        return y if finite else None

    def input_gradient(self, backend: Backend, problem: Problem, dy: Array, weight: Array) -> Array:
        adjoint = _input_gradient_problem(problem)
        if _is_compiled(problem):
            dx = backend.winograd(dy, weight, None, adjoint.geometry, flipped=True)
        else:
            flipped = weight[:, :, ::-1, ::-1].swapaxes(0, 1)
            dx = self._forward(backend, adjoint, dy, flipped, None)
        if dx is None:
            return METHODS["im2col"].input_gradient(backend, problem, dy, weight)
        return dx

    def weight_gradient(self, backend: Backend, problem: Problem, dy: Array, x: Array) -> Array:
        if _is_compiled(problem):
            dweight = backend.winograd_weight_gradient(x, dy, problem.geometry)
        else:
            dweight = self._weight_gradient(backend, problem, dy, x)
        if not backend.all_finite(dweight):
            return METHODS["im2col"].weight_gradient(backend, problem, dy, x)
        return dweight

    def _weight_gradient(self, backend: Backend, problem: Problem, dy: Array, x: Array) -> Array:
        xp, (filters, channels) = backend.xp, problem.weight_shape[:2]
        plan = _plan(backend, problem, x.dtype)

        def compute(tiles: Sequence[Tile]) -> Array:
            du = xp.zeros((36, filters, channels), x.dtype)
            for tile in tiles:
                v = _patches(backend, plan, x, tile).reshape(36, channels, -1)
                z = _blocks(backend, plan, dy, tile).reshape(36, filters, -1)
                du += backend.matmul(z, v.swapaxes(1, 2))
            return du

        du, *partials = backend.each(compute, plan.bands)
        for partial in partials:
            du += partial
        g = _both_axes(backend, problem.geometry.kernel, str(x.dtype))
        taps = backend.matmul(g.T, du.reshape(36, filters * channels))
        return xp.ascontiguousarray(taps.T).reshape(problem.weight_shape)


def _is_compiled(problem: Problem) -> bool:
    """Whether ``backend.winograd`` computes it: square kernels, where there is one."""
    height, width = problem.geometry.kernel
    return problem.compiled and height == width


def _input_gradient_problem(problem: Problem) -> Problem:
    """The convolution of dy with the flipped weights, which gives dx."""
    geometry = problem.geometry
    sides = []
    for (begin, _), size in zip(geometry.padding, geometry.kernel, strict=True):
        before = size - 1 - begin
        sides.append((before, size - 1 - before))
    flipped = geometry._replace(
        input=geometry.output, output=geometry.input, padding=(sides[0], sides[1])
    )
    channels = problem.out_channels, problem.in_channels
    return Problem(flipped, 1, *channels, problem.batch)


def _block(kernel: int) -> int:
    """Outputs per patch along an axis."""
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


def _plan(backend: Backend, problem: Problem, dtype: Any) -> Plan:
    """Cut into tiles within the budget, in bands if the products stay large enough."""
    geometry, batch = problem.geometry, problem.batch
    vertical, horizontal = (_axis(backend, k, str(dtype)) for k in geometry.kernel)
    height, width = geometry.output
    size = -(-height // vertical.block), -(-width // horizontal.block)
    larger, blocks = max(problem.in_channels, problem.out_channels), size[0] * size[1]
    patch = max(1, batch * 36 * larger * dtype.itemsize)  # bytes
    fewest = -(-larger // (2 * max(1, batch)))  # patches; below this, loading weights dominates
    limit = max(1, fewest, 2 * backend.column_budget // 3 // patch)
    work = 36 * problem.in_channels * problem.out_channels * blocks * batch
    shares = backend.shares(work)
    count = shares if blocks >= shares * fewest else 1
    (top, _), (left, _) = geometry.padding
    return Plan((vertical, horizontal), (-top, -left), bands(size, limit // size[1], limit, count))


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
    """Apply a matrix per axis to the windows of a tile of x: (6, 6, C, rows, columns, N)."""
    xp, channels, batch = backend.xp, len(x), x.shape[-1]
    rows, columns = tile.bottom - tile.top, tile.right - tile.left
    start = first[1] + tile.left * steps[1]
    stop = start + (columns - 1) * steps[1] + horizontal.shape[1]
    pixels = x[:, :, max(0, start) : max(0, stop)]  # everything the tile reads
    width = pixels.shape[2]
    half = xp.empty((6, channels, rows, width, batch), x.dtype)
    read_windows(
        backend,
        vertical,
        merge_columns(pixels),
        first[0] + tile.top * steps[0],
        steps[0],
        half.reshape(6, channels, rows, width * batch).transpose(1, 2, 0, 3),
    )
    out = xp.empty((6, 6, channels, rows, columns, batch), x.dtype)
    read_windows(
        backend, horizontal, half, min(0, start), steps[1], out.transpose(0, 2, 3, 4, 1, 5)
    )
    return out


def _write_blocks(backend: Backend, plan: Plan, z: Array, y: Array, tile: Tile) -> None:
    """Transform z (6, 6, F, rows, columns, N) and write the outputs to y."""
    vertical, horizontal = plan.axes
    # (6, F, rows, columns, block, N)
    half = backend.matmul(horizontal.a, z.transpose(0, 2, 3, 4, 1, 5))
    pixels = _pixels(plan, y, tile)
    out = y[:, pixels.top : pixels.bottom, pixels.left : pixels.right]
    rows = half.reshape(*half.shape[:3], -1)[..., : out.shape[2] * out.shape[3]]
    write_blocks(backend, vertical.a, rows.transpose(1, 2, 0, 3), merge_columns(out))


def _pixels(plan: Plan, y: Array, tile: Tile) -> Tile:
    """The outputs of a tile of blocks, clipped to the image."""
    (vertical, horizontal), (_, height, width, _) = plan.axes, y.shape
    return Tile(
        tile.top * vertical.block,
        min(height, tile.bottom * vertical.block),
        tile.left * horizontal.block,
        min(width, tile.right * horizontal.block),
    )


def _transformed_weight(backend: Backend, weight: Array) -> Array:
    """u (36, F, C) of weight (F, C, kH, kW)."""
    filters, channels, height, width = weight.shape
    taps = weight.reshape(filters * channels, height * width).T
    g = _both_axes(backend, (height, width), str(weight.dtype))
    return backend.matmul(g, taps).reshape(36, filters, channels)


@lru_cache(maxsize=16)
def _both_axes(backend: Backend, kernel: tuple[int, int], dtype: str) -> Array:
    """G ⊗ G (36, kH·kW): both 1-D transforms of the weights in one product."""
    return backend.xp.kron(*(_axis(backend, k, dtype).g for k in kernel))
