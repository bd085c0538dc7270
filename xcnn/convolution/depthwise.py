"""Depthwise convolution: each filter reads one channel, so there is no matrix to multiply.

    y[f, window]           = sum over k of weight[f, k] · x[f // m, pixel k of the window]
    dx[f // m, pixel]     += weight[f, k] · dy[f, window]
    dweight[f, k]          = sum over windows of dy[f, window] · x[f // m, pixel]

with m filters for each channel. A product and a sum for each of the kH·kW elements, a few channels
at a time, so that they stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..backends import Backend
from ..geometry import Geometry
from .rows import as_rows

Array = Any


def applies(geometry: Geometry, groups: int, channels: int) -> bool:
    """Whether this method can compute such a convolution."""
    return groups == channels > 1


def pays(geometry: Geometry, channels: int, filters: int, batch: int) -> bool:
    """Whether it is faster than im2col: always, with one product for each channel there."""
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
    xp, filters, batch = backend.xp, len(weight), x.shape[-1]
    y = xp.zeros((filters, *geometry.output, batch), x.dtype)
    taps = _taps(weight)

    def compute(part: slice) -> None:
        for channels, outputs in _blocks(backend, x, y, part):
            source, target, scratch = x[channels], y[outputs], xp.empty_like(y[outputs])
            for e in geometry.elements():
                product = scratch[e.windows]
                xp.multiply(source[e.pixels], taps[outputs, e.number], out=product)
                target[e.windows] += product

    backend.each(compute, backend.channels(x))
    if bias is not None or relu:
        backend.add_bias(as_rows(y), bias, slice(None), relu)
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
    """Return dx (C, H, W, N) and dweight (F, 1, kH, kW), as far as they are needed."""
    xp, taps = backend.xp, _taps(weight)
    dx = xp.zeros_like(x) if needs[0] else None
    dweight = xp.zeros((len(weight), weight[0].size), weight.dtype) if needs[1] else None

    def compute(part: slice) -> None:
        for channels, outputs in _blocks(backend, x, dy, part):
            source, gradient, scratch = x[channels], dy[outputs], xp.empty_like(dy[outputs])
            for e in geometry.elements():
                given, product = gradient[e.windows], scratch[e.windows]
                if dweight is not None:
                    xp.multiply(given, source[e.pixels], out=product)
                    dweight[outputs, e.number] = product.sum(axis=(1, 2, 3))
                if dx is not None:
                    xp.multiply(given, taps[outputs, e.number], out=product)
                    dx[channels][e.pixels] += product

    backend.each(compute, backend.channels(x))
    return dx, None if dweight is None else dweight.reshape(weight.shape)


def _taps(weight: Array) -> Array:
    """Weight (F, 1, kH, kW) as (F, kH·kW, 1, 1, 1)."""
    return weight.reshape(len(weight), weight[0].size, 1, 1, 1)


def _blocks(backend: Backend, x: Array, y: Array, part: slice) -> Iterator[tuple[slice, slice]]:
    """Channels of x and the filters that read them, one filter for each channel at a time."""
    several = len(y) // len(x)
    size = max(1, x[0].nbytes, y[0].nbytes)
    step = max(1, backend.column_budget // 4 // size)
    for start in range(part.start, part.stop, step):
        stop = min(start + step, part.stop)
        for j in range(several):
            yield slice(start, stop), slice(start * several + j, stop * several, several)
