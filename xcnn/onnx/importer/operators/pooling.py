"""Max and average pooling with one to three spatial axes.

The maximum, and the mean, of a window are those of its rows' ones: axis after axis is pooled, each
as the rows of images; only the last two are pooled at once where windows are small.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .... import functional as F
from ....arrays import Array
from ....functional.pool import AvgPool2d, MaxPool2d
from ....functional.resample import Lines, Resample
from ....geometry import Geometry, windows
from ....tensor import Tensor
from ..node import Node, operator
from .spatial_attributes import axes, image, setting, spatial

_AT_ONCE = 64  # pixels of a window up to which one pass over two axes is faster than two over one
_LONGEST = 2**16  # pixels of a window along an axis; each is a pass over the output
_SMALL_INTEGERS = ("int8", "uint8")  # which float32 holds exactly
_TERM_SIZE = 128  # bytes that a term of Lines takes

Pool = Callable[[Tensor, Geometry], Tensor]


@operator("MaxPool")
def max_pool(node: Node, x: Tensor) -> Any:
    along, floats = _axes(node, x), _as_floats(node, x)
    if floats is not x or node.wants(1):
        _check_hold_pixels(node, along)
    y = _max_pool(floats, along)
    if floats is not x:
        with x.backend.active():
            y = Tensor(y.data.astype(x.dtype))
    return (y, _indices(node, floats, along)) if node.wants(1) else y


@operator("AveragePool")
def average_pool(node: Node, x: Tensor) -> Tensor:
    along, include_pad = _axes(node, x), bool(node.integer("count_include_pad", 0))
    if all(_is_regular(a) for a in along):
        return _pooled(x, along, lambda images, g: AvgPool2d(g, include_pad, "NCHW")(images))
    for a in along:
        node.check_size((a.output[0], a.kernel[0], _TERM_SIZE), "uint8")
    return _pooled(x, along, lambda images, g: _Means(g, include_pad)(images), at_once=0)


@operator("GlobalMaxPool")
def global_max_pool(node: Node, x: Tensor) -> Tensor:
    return _global(node, x, F.adaptive_max_pool2d)


@operator("GlobalAveragePool")
def global_average_pool(node: Node, x: Tensor) -> Tensor:
    return _global(node, x, F.adaptive_avg_pool2d)


def _global(node: Node, x: Tensor, pool: Callable[[Tensor, int], Tensor]) -> Tensor:
    if x.ndim < 3:
        raise node.error(f"the input has shape {x.shape}: expected N, C and spatial axes")
    batch, channels, rows, *others = x.shape
    y = pool(F.reshape(x, (batch, channels, rows, math.prod(others))), 1)
    return F.reshape(y, (batch, channels, *(1,) * (x.ndim - 2)))


def _axes(node: Node, x: Tensor) -> list[Geometry]:
    """The windows along each axis."""
    sizes = spatial(node, x)
    if node.integers("kernel_shape") is None:
        raise node.error("the attribute kernel_shape is missing")
    kernel = setting(node, "kernel_shape", len(sizes), 1, 1)
    if max(kernel) > _LONGEST:
        raise node.error(f"kernel_shape={kernel}: windows longer than {_LONGEST} are not supported")
    along = axes(node, sizes, kernel, bool(node.integer("ceil_mode", 0)))
    shape = list(x.shape)
    for axis, a in reversed(list(enumerate(along, 2))):  # as the axes are pooled
        shape[axis] = a.output[0]
        node.check_size(shape, x.dtype)
    return along


# -- axis after axis ------------------------------------------------------------------------------


class _Pass(NamedTuple):
    """One pass: spatial axis number ``axis``, and with ``both`` the one after it, is pooled.

    ``geometry`` is that of images of which ``folded`` make a channel; ``sizes`` are the spatial
    lengths afterwards.
    """

    axis: int
    both: bool
    folded: int
    geometry: Geometry
    sizes: tuple[int, ...]


def _passes(along: list[Geometry], at_once: int) -> Iterator[_Pass]:
    """The last axes come first, so that of equal maxima the first in row-major order wins."""
    sizes, last = [a.input[0] for a in along], len(along) - 1
    if last and math.prod(a.kernel[0] for a in along[-2:]) <= at_once:
        sizes[-2:] = (a.output[0] for a in along[-2:])
        last -= 2
        geometry, folded = image(*along[-2:]), math.prod(sizes[:-2])
        yield _Pass(last + 1, True, folded, geometry, tuple(sizes))
    for axis in range(last, -1, -1):
        rest = windows((math.prod(sizes[axis + 1 :]), 1), 1)
        sizes[axis] = along[axis].output[0]
        folded = math.prod(sizes[:axis])
        yield _Pass(axis, False, folded, image(along[axis], rest), tuple(sizes))


def _pooled(x: Tensor, along: list[Geometry], pool: Pool, at_once: int = _AT_ONCE) -> Tensor:
    batch, channels = x.shape[:2]
    for step in _passes(along, at_once):
        g = step.geometry
        if not (g.covers_exactly and g.kernel == (1, 1)):
            y = pool(F.reshape(x, (batch, channels * step.folded, *g.input)), g)
            x = F.reshape(y, (batch, channels, *step.sizes))
    return x


# -- averages -------------------------------------------------------------------------------------


def _is_regular(axis: Geometry) -> bool:
    """Whether each window holds a pixel, and no pixels lie between those of a window."""
    return axis.dilation[0] == 1 and max(axis.padding[0]) < axis.kernel[0]


class _Means(Resample):
    """The means of windows along the rows, of any kind."""

    def __init__(self, geometry: Geometry, include_pad: bool) -> None:
        self.axes = [(1, _means(geometry, include_pad))]
        self.data_format = "NCHW"


@lru_cache(maxsize=64)
def _means(geometry: Geometry, include_pad: bool) -> Lines:
    (size, _), (begin, end) = geometry.input, geometry.padding[0]
    low, high = (-begin, size + end) if include_pad else (0, size)
    terms = []
    for o in range(geometry.output[0]):
        read = _pixels(geometry, o)
        count = sum(low <= i < high for i in read)
        if not count:
            raise ValueError("a window lies in the padding: the mean of no pixels is not defined")
        terms.append([(i, 1 / count) for i in read if 0 <= i < size])
    return Lines(size, terms)


def _pixels(geometry: Geometry, window: int) -> range:
    """The rows that a window reads, those of the padding too."""
    start = window * geometry.stride[0] - geometry.padding[0][0]
    step = geometry.dilation[0]
    return range(start, start + geometry.kernel[0] * step, step)


# -- maxima ---------------------------------------------------------------------------------------


def _max_pool(x: Tensor, along: list[Geometry]) -> Tensor:
    return _pooled(x, along, lambda images, g: MaxPool2d(g, "NCHW")(images))


def _as_floats(node: Node, x: Tensor) -> Tensor:
    if x.dtype.kind == "f":
        return x
    if str(x.dtype) not in _SMALL_INTEGERS:
        raise node.error(f"the input is {x.dtype}: expected floats, int8 or uint8")
    with x.backend.active():
        return Tensor(x.data.astype("float32"))


def _check_hold_pixels(node: Node, along: list[Geometry]) -> None:
    """Refuse windows that have no maximum."""
    for axis in along:
        holds = np.zeros(axis.output[0], bool)
        for k in range(axis.kernel[0]):
            holds[axis.span(0, k)[0]] = True
        if not holds.all():
            raise node.error(
                f"pads={axis.padding[0]} with a kernel of {axis.kernel[0]}: a window lies in the "
                "padding, and has neither an index nor a maximum that is an integer"
            )


def _indices(node: Node, x: Tensor, along: list[Geometry]) -> Tensor:
    """Where each maximum is in the whole input, without padding: (N, C, ...) int64."""
    xp, (batch, channels, *sizes) = x.backend.xp, x.shape
    found: Any = None
    steps = _steps(sizes, node.integer("storage_order", 0))
    with x.backend.active():
        pixels = xp.ascontiguousarray(xp.moveaxis(x.data, 0, -1))
        for step in _passes(along, _AT_ONCE):
            node.check_size((batch, channels, *step.sizes), "int64")
            shape = (channels * step.folded, *step.geometry.input, batch)
            pixels, argmax = x.backend.max_pool2d(pixels.reshape(shape), step.geometry)
            found = _positions(xp, argmax, step, steps, found)
        planes = xp.arange(channels)[:, None] + xp.arange(batch) * channels  # (C, N)
        planes = (planes * math.prod(sizes)).reshape(channels, *(1,) * len(sizes), batch)
        return Tensor(xp.moveaxis(found.reshape(channels, *step.sizes, batch) + planes, -1, 0))


def _steps(sizes: list[int], storage_order: int) -> list[int]:
    """What a step along each axis adds to an index: the last axis is the fastest, or the first."""
    numbers = range(len(sizes))
    if storage_order:
        return [math.prod(sizes[:i]) for i in numbers]
    return [math.prod(sizes[i + 1 :]) for i in numbers]


def _positions(xp: Any, argmax: Array, step: _Pass, steps: list[int], found: Array | None) -> Array:
    """The index of each maximum, given those of the pixels that it was chosen from."""
    g, argmax = step.geometry, argmax.astype("int64")
    rows = _origins(xp, g, 0) + argmax // g.kernel[1] * g.dilation[0]
    index = rows * steps[step.axis]
    if step.both:
        columns = _origins(xp, g, 1) + argmax % g.kernel[1] * g.dilation[1]
        return index + columns * steps[step.axis + 1]
    if found is None:
        return index
    channels, _, width, batch = argmax.shape
    line, count = width * batch, g.input[0]
    at = xp.arange(channels).reshape(-1, 1, 1, 1) * (count * line)
    at = at + xp.arange(line).reshape(1, 1, width, batch) + rows * line
    return index + xp.take(found.reshape(-1), at)


def _origins(xp: Any, geometry: Geometry, axis: int) -> Array:
    """Where windows start along an axis of (C, H, W, N)."""
    starts = xp.arange(geometry.output[axis]) * geometry.stride[axis] - geometry.padding[axis][0]
    return starts.reshape(-1, *(1,) * (2 - axis))
