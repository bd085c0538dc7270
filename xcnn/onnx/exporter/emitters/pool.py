"""Pooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....checks import Pair, single
from ....functional.conv import across
from ....geometry import Geometry, windows
from ..writer import Value, Writer, emits
from .spatial import as_given, channels_first, image, pads

# ceil_mode is written as padding at the end: what it means differs among versions of ONNX and
# among the programs that read it.


@emits("max_pool2d")
def max_pool2d(
    w: Writer,
    input: Value,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    data_format: str,
) -> str:
    stride = kernel_size if stride is None else stride
    size = image(input, data_format)
    geometry = windows(size, kernel_size, stride, padding, dilation, ceil_mode)
    x = channels_first(w, input, data_format)
    return as_given(w, _max_pool(w, x, input, geometry, 2), data_format)


@emits("max_pool1d")
def max_pool1d(
    w: Writer,
    input: Value,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
) -> str:
    gaps = (1, single(dilation, "dilation"))
    geometry = _line(input, kernel_size, stride, padding, gaps, ceil_mode)
    return _max_pool(w, input, input, geometry, 1)


@emits("avg_pool2d")
def avg_pool2d(
    w: Writer,
    input: Value,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
    data_format: str,
) -> str:
    stride = kernel_size if stride is None else stride
    geometry = windows(image(input, data_format), kernel_size, stride, padding, 1, ceil_mode)
    x = channels_first(w, input, data_format)
    y = _avg_pool(w, x, input, geometry, count_include_pad, 2)
    return as_given(w, y, data_format)


@emits("avg_pool1d")
def avg_pool1d(
    w: Writer,
    input: Value,
    kernel_size: Any,
    stride: Any,
    padding: Any,
    ceil_mode: bool,
    count_include_pad: bool,
) -> str:
    geometry = _line(input, kernel_size, stride, padding, (1, 1), ceil_mode)
    return _avg_pool(w, input, input, geometry, count_include_pad, 1)


@emits("adaptive_avg_pool2d")
def adaptive_avg_pool2d(w: Writer, input: Value, output_size: Any, data_format: str) -> str:
    size, output = _sizes(input, output_size, data_format)
    x, regular = channels_first(w, input, data_format), _regular(size, output)
    if output == (1, 1):
        y = w.node("GlobalAveragePool", x)
    elif regular is not None:
        y = _avg_pool(w, x, input, regular, True, 2)
    else:
        rows, columns = (_means(*axis) for axis in zip(size, output, strict=True))
        y = w.node("MatMul", w.like(input, rows), w.node("MatMul", x, w.like(input, columns.T)))
    return as_given(w, y, data_format)


@emits("adaptive_max_pool2d")
def adaptive_max_pool2d(w: Writer, input: Value, output_size: Any, data_format: str) -> str:
    size, output = _sizes(input, output_size, data_format)
    x, regular = channels_first(w, input, data_format), _regular(size, output)
    if output == (1, 1):
        y = w.node("GlobalMaxPool", x)
    elif regular is not None:
        y = _max_pool(w, x, input, regular, 2)
    else:
        y = _largest(w, _largest(w, x, 2, size[0], output[0]), 3, size[1], output[1])
    return as_given(w, y, data_format)


def _max_pool(w: Writer, x: Any, input: Value, geometry: Geometry, axes: int) -> str:
    padding = _to_the_end(geometry)[-axes:]
    kernel = geometry.kernel[-axes:]
    if any(max(p) >= k for p, k in zip(padding, kernel, strict=True)):  # which runtimes refuse
        x = _pad(w, x, input, padding, -math.inf)
        padding = ((0, 0),) * axes
    dilations = list(geometry.dilation[-axes:])
    return w.node("MaxPool", x, dilations=dilations, **_settings(geometry, axes, padding))


def _avg_pool(w: Writer, x: Any, input: Value, geometry: Geometry, include: bool, axes: int) -> str:
    """Zeros that count become pixels where other padding, that does not count, is needed too."""
    padding = _to_the_end(geometry)
    inner = geometry.padding
    if include and padding != inner and any(map(any, inner)):
        x = _pad(w, x, input, inner[-axes:], 0)
        padding = tuple((0, p[1] - i[1]) for p, i in zip(padding, inner, strict=True))
    count = int(include and padding == inner)
    settings = _settings(geometry, axes, padding[-axes:])
    return w.node("AveragePool", x, count_include_pad=count, **settings)


def _settings(geometry: Geometry, axes: int, padding: tuple[Pair, ...]) -> dict[str, Any]:
    return {
        "kernel_shape": list(geometry.kernel[-axes:]),
        "strides": list(geometry.stride[-axes:]),
        "pads": pads(padding),
    }


def _to_the_end(geometry: Geometry) -> tuple[Pair, ...]:
    """The padding, with as much at the end as the last window needs."""
    found = []
    for axis in (0, 1):
        begin, end = geometry.padding[axis]
        extent = geometry.dilation[axis] * (geometry.kernel[axis] - 1) + 1
        covered = (geometry.output[axis] - 1) * geometry.stride[axis] + extent
        found.append((begin, max(end, covered - geometry.input[axis] - begin)))
    return tuple(found)


def _pad(w: Writer, x: Any, input: Value, padding: tuple[Pair, ...], value: float) -> str:
    widths = pads(((0, 0), (0, 0), *padding))
    return w.node("Pad", x, w.ints(widths), w.like(input, value))


def _line(
    input: Value, kernel_size: Any, stride: Any, padding: Any, gaps: Pair, ceil_mode: bool
) -> Geometry:
    """The windows of a signal, as those of an image one pixel high."""
    kernel = single(kernel_size, "kernel_size")
    step = kernel if stride is None else single(stride, "stride")
    size, sides = (1, input.shape[2]), across(padding)
    return windows(size, (1, kernel), (1, step), sides, gaps, ceil_mode)


def _sizes(input: Value, output_size: Any, data_format: str) -> tuple[Pair, Pair]:
    """The sizes of the image and of the result."""
    size = image(input, data_format)
    given = output_size if isinstance(output_size, list | tuple) else (output_size, output_size)
    return size, (int(given[0] or size[0]), int(given[1] or size[1]))


def _spans(size: int, output: int) -> list[Pair]:
    """Where each adaptive window starts and ends."""
    return [(o * size // output, -(-(o + 1) * size // output)) for o in range(output)]


def _regular(size: Pair, output: Pair) -> Geometry | None:
    """Adaptive windows as ordinary ones, where all are as long and as far apart."""
    kernel, stride = [], []
    for pixels, count in zip(size, output, strict=True):
        spans = _spans(pixels, count)
        length, step = spans[0][1], spans[1][0] if count > 1 else pixels
        if step < 1 or spans != [(o * step, o * step + length) for o in range(count)]:
            return None
        kernel.append(length)
        stride.append(step)
    return windows(size, tuple(kernel), tuple(stride))


def _means(size: int, output: int) -> Any:
    """The matrix (output, size) that takes the mean of each window."""
    matrix = np.zeros((output, size))
    for o, (start, stop) in enumerate(_spans(size, output)):
        matrix[o, start:stop] = 1 / (stop - start)
    return matrix


def _largest(w: Writer, x: Any, axis: int, size: int, output: int) -> Any:
    """The largest of each window along an axis."""
    if size == output:
        return x
    parts = []
    for start, stop in _spans(size, output):
        window = w.node("Slice", x, w.ints([start]), w.ints([stop]), w.ints([axis]))
        kernel = [stop - start, 1] if axis == 2 else [1, stop - start]
        parts.append(w.node("MaxPool", window, kernel_shape=kernel))
    return w.node("Concat", *parts, axis=axis)
