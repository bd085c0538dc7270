"""Max and average pooling with one to three spatial axes.

Pooling is separable: each axis is pooled in turn, as the rows of images. If the windows are small,
the last two axes are pooled at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .... import functional as F
from ....arrays import Array
from ....functional import AvgPool2d, AxisWeights, MaxPool2d, Resample
from ....geometry import Geometry, window_geometry
from ....tensor import Tensor
from ..node import Node, operator
from .constants import as_type
from .spatial_attributes import as_image, per_axis, spatial_sizes, window_axes

_AT_ONCE = 64  # pixels per window up to which one pass over two axes is faster than two passes
_MAX_KERNEL = 2**16  # pixels of a window along an axis; each is a pass over the output
_TERM_SIZE = 128  # bytes per weight in AxisWeights

Pool = Callable[[Tensor, Geometry], Tensor]


@operator("MaxPool")
def max_pool(node: Node, x: Tensor) -> Any:
    axes, floats = _axes(node, x), x
    if x.dtype.kind != "f":
        if str(x.dtype) not in ("int8", "uint8"):
            raise node.error(f"the input is {x.dtype}: expected floats, int8 or uint8")
        floats = as_type(node, x, "float32")  # exact
    if floats is not x or node.has_output(1):
        _check_windows_hold_pixels(node, axes)
    y = _pooled(floats, axes, lambda images, g: MaxPool2d(g)(images))
    y = y if floats is x else as_type(node, y, x.dtype)
    return (y, _indices(node, floats, axes)) if node.has_output(1) else y


@operator("AveragePool")
def average_pool(node: Node, x: Tensor) -> Tensor:
    axes, include_pad = _axes(node, x), bool(node.integer("count_include_pad", 0))
    # AvgPool2d needs windows without dilation that all contain a pixel
    if all(a.dilation[0] == 1 and max(a.padding[0]) < a.kernel[0] for a in axes):
        return _pooled(x, axes, lambda images, g: AvgPool2d(g, include_pad)(images))
    for a in axes:
        node.check_size((a.output[0], a.kernel[0], _TERM_SIZE), "uint8")

    def means(images: Tensor, geometry: Geometry) -> Tensor:
        return Resample(_means(geometry, include_pad), None)(images)

    return _pooled(x, axes, means, at_once=0)


@operator("GlobalMaxPool", "GlobalAveragePool")
def global_pool(node: Node, x: Tensor) -> Tensor:
    if x.ndim < 3:
        raise node.error(f"input {x.shape}: expected N, C and spatial axes")
    pool = F.adaptive_max_pool2d if node.type == "GlobalMaxPool" else F.adaptive_avg_pool2d
    batch, channels, rows, *others = x.shape
    y = pool(F.reshape(x, (batch, channels, rows, math.prod(others))), 1)
    return F.reshape(y, (batch, channels, *(1,) * (x.ndim - 2)))


def _axes(node: Node, x: Tensor) -> list[Geometry]:
    """The windows along each axis."""
    sizes = spatial_sizes(node, x)
    if node.integers("kernel_shape") is None:
        raise node.error("the attribute kernel_shape is missing")
    kernel = per_axis(node, "kernel_shape", len(sizes))
    if max(kernel) > _MAX_KERNEL:
        raise node.error(f"kernel_shape={kernel}: the maximum length is {_MAX_KERNEL}")
    axes = window_axes(node, sizes, kernel, bool(node.integer("ceil_mode", 0)))
    shape = list(x.shape)
    for number, axis in reversed(list(enumerate(axes, 2))):  # in the order of pooling
        shape[number] = axis.output[0]
        node.check_size(shape, x.dtype)
    return axes


# -- one axis at a time -----------------------------------------------------------------------


class _Pass(NamedTuple):
    """Pooling of spatial axis ``axis``, or of the last two axes at once.

    ``folded`` is the number of positions along the preceding axes, which are folded into the
    channels of the images that ``geometry`` pools; ``sizes`` are the spatial lengths afterwards.
    """

    axis: int
    folded: int
    geometry: Geometry
    sizes: tuple[int, ...]


def _passes(axes: list[Geometry], at_once: int) -> Iterator[_Pass]:
    """From the last axis to the first, so the first of equal maxima in row-major order wins."""
    sizes, last = [a.input[0] for a in axes], len(axes) - 1
    if last and math.prod(a.kernel[0] for a in axes[-2:]) <= at_once:
        sizes[-2:] = (a.output[0] for a in axes[-2:])
        last -= 2
        geometry, folded = as_image(*axes[-2:]), math.prod(sizes[:-2])
        yield _Pass(last + 1, folded, geometry, tuple(sizes))
    for axis in range(last, -1, -1):
        rest = window_geometry((math.prod(sizes[axis + 1 :]), 1), 1)
        sizes[axis] = axes[axis].output[0]
        yield _Pass(axis, math.prod(sizes[:axis]), as_image(axes[axis], rest), tuple(sizes))


def _pooled(x: Tensor, axes: list[Geometry], pool: Pool, at_once: int = _AT_ONCE) -> Tensor:
    batch, channels = x.shape[:2]
    for step in _passes(axes, at_once):
        g = step.geometry
        if not (g.covers_exactly and g.kernel == (1, 1)):
            y = pool(F.reshape(x, (batch, channels * step.folded, *g.input)), g)
            x = F.reshape(y, (batch, channels, *step.sizes))
    return x


# -- averages -----------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _means(geometry: Geometry, include_pad: bool) -> AxisWeights:
    """The means of windows along the rows, with dilation and any padding."""
    (size, _), (begin, end), step = geometry.input, geometry.padding[0], geometry.dilation[0]
    low, high = (-begin, size + end) if include_pad else (0, size)
    terms = []
    for o in range(geometry.output[0]):
        start = o * geometry.stride[0] - begin
        rows = range(start, start + geometry.kernel[0] * step, step)
        count = sum(low <= i < high for i in rows)
        if not count:
            raise ValueError("a window lies in the padding, where the mean is undefined")
        terms.append([(i, 1 / count) for i in rows if 0 <= i < size])
    return AxisWeights(size, terms)


# -- maxima -------------------------------------------------------------------------------------


def _check_windows_hold_pixels(node: Node, axes: list[Geometry]) -> None:
    """Reject windows that lie entirely in the padding."""
    for axis in axes:
        has_pixels = np.zeros(axis.output[0], bool)
        for k in range(axis.kernel[0]):
            has_pixels[axis.span(0, k)[0]] = True
        if not has_pixels.all():
            raise node.error(
                f"pads={axis.padding[0]} with a kernel of {axis.kernel[0]}: a window lies in the "
                "padding, so it has no index and no integer maximum"
            )


def _indices(node: Node, x: Tensor, axes: list[Geometry]) -> Tensor:
    """The index of each maximum in the whole unpadded input: (N, C, ...) int64."""
    xp, (batch, channels, *sizes) = x.backend.xp, x.shape
    indices: Any = None
    strides = [math.prod(sizes[i + 1 :]) for i in range(len(sizes))]
    if node.integer("storage_order", 0):  # column-major
        strides = [math.prod(sizes[:i]) for i in range(len(sizes))]
    with x.backend.active():
        pixels = xp.ascontiguousarray(xp.moveaxis(x.data, 0, -1))
        for step in _passes(axes, at_once=0):
            node.check_size((batch, channels, *step.sizes), "int64")
            shape = (channels * step.folded, *step.geometry.input, batch)
            pixels, argmax = x.backend.max_pool2d(pixels.reshape(shape), step.geometry)
            indices = _composed(xp, argmax, step, strides, indices)
        images = xp.arange(channels)[:, None] + xp.arange(batch) * channels  # (C, N)
        images = (images * math.prod(sizes)).reshape(channels, *(1,) * len(sizes), batch)
        return Tensor(xp.moveaxis(indices.reshape(channels, *step.sizes, batch) + images, -1, 0))


def _composed(
    xp: Any, argmax: Array, step: _Pass, strides: list[int], previous: Array | None
) -> Array:
    """The index of each maximum of a pass, from the indices of the pixels that it pooled."""
    g, argmax = step.geometry, argmax.astype("int64")
    starts = xp.arange(g.output[0]) * g.stride[0] - g.padding[0][0]
    rows = starts.reshape(-1, 1, 1) + argmax * g.dilation[0]
    index = rows * strides[step.axis]
    if previous is None:
        return index
    channels, _, width, batch = argmax.shape
    row_size, height = width * batch, g.input[0]
    offsets = xp.arange(channels).reshape(-1, 1, 1, 1) * (height * row_size)
    offsets = offsets + xp.arange(row_size).reshape(1, 1, width, batch) + rows * row_size
    return index + xp.take(previous.reshape(-1), offsets)
