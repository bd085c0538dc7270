"""Grouped convolution: each group by the method that is fastest for one of its size.

The groups do not depend on each other, so ``backend.each`` computes several at once.
"""

from __future__ import annotations

from types import ModuleType

from ..arrays import Array
from ..backends import Backend
from ..geometry import Geometry
from ..tiling import parts
from . import im2col, mec, winograd


def applies(geometry: Geometry, groups: int, channels: int) -> bool:
    """Whether this method can compute such a convolution."""
    return 1 < groups < channels


def pays(geometry: Geometry, channels: int, filters: int, batch: int) -> bool:
    """Whether it is faster than im2col, which does all groups in one go."""
    return _method(geometry, channels, filters, batch) is not im2col


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
    y = backend.xp.empty((len(weight), *geometry.output, x.shape[-1]), x.dtype)
    method = _method(geometry, len(x) // groups, len(weight) // groups, x.shape[-1])

    def compute(part: slice) -> None:
        for read, made in _channels(part, groups, x, weight):
            own = None if bias is None else bias[made]
            y[made] = method.forward(backend, x[read], weight[made], geometry, 1, own, relu)

    backend.each(compute, _parts(backend, weight, geometry, groups, x))
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
    dx = xp.empty(x.shape, x.dtype) if needs[0] else None
    dweight = xp.empty(weight.shape, weight.dtype) if needs[1] else None
    method = _method(geometry, len(x) // groups, len(weight) // groups, x.shape[-1])

    def compute(part: slice) -> None:
        for read, made in _channels(part, groups, x, weight):
            found = method.backward(backend, dy[made], x[read], weight[made], geometry, 1, needs)
            if dx is not None:
                dx[read] = found[0]
            if dweight is not None:
                dweight[made] = found[1]

    backend.each(compute, _parts(backend, weight, geometry, groups, x))
    return dx, dweight


def _method(geometry: Geometry, channels: int, filters: int, batch: int) -> ModuleType:
    """The fastest method for one group of so many channels and filters."""
    for method in (winograd, mec):
        applies = method.applies(geometry, 1, channels)
        if applies and method.pays(geometry, channels, filters, batch):
            return method
    return im2col


def _channels(part: slice, groups: int, x: Array, weight: Array) -> list[tuple[slice, slice]]:
    """For each group of a part, its channels of x and its filters."""
    channels, filters = len(x) // groups, len(weight) // groups
    return [
        (slice(g * channels, (g + 1) * channels), slice(g * filters, (g + 1) * filters))
        for g in range(part.start, part.stop)
    ]


def _parts(
    backend: Backend, weight: Array, geometry: Geometry, groups: int, x: Array
) -> list[slice]:
    height, width = geometry.output
    return parts(groups, backend.shares(weight.size * height * width * x.shape[-1]))
