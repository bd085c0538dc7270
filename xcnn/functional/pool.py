"""Max, average, power-average, adaptive and fractional pooling, and max unpooling.

Each is defined once, for signals, images and volumes. A signal is an image one pixel high. Volumes
are pooled frame by frame and then along the depth: all windows are products of their axes'.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from .. import random
from ..arrays import Array
from ..backends import Backend, as_bits
from ..checks import (
    Pair,
    as_float,
    check_exactly_one,
    check_flag,
    check_int,
    check_number,
    check_output_size,
    check_size,
    memoize,
    per_axis,
)
from ..errors import ArgumentError, ShapeError, show
from ..geometry import (
    Geometry,
    adaptive_geometry,
    adaptive_spans,
    along_axes,
    spatial_geometry,
    window_geometry,
)
from ..layout import batch_first, spatial_size, to_batch_last
from ..tensor import Function, ImageFunction, Tensor
from .arithmetic import pow
from .dimensions import family, of_rank
from .elementwise import Elementwise, abs, floats
from .indexing import gather
from .resample import Resample, axis_weights
from .shape import permute, reshape
from .sorting import argmax

# fmt: off
__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "fractional_max_pool2d", "fractional_max_pool3d", "lp_pool1d", "lp_pool2d", "lp_pool3d",
    "max_pool1d", "max_pool2d", "max_pool3d", "max_unpool1d", "max_unpool2d", "max_unpool3d",
]
# fmt: on

Setting = int | tuple[int, ...]


def _pooled(
    input: Tensor, parts: Sequence[Any], data_format: str, return_indices: Any = False
) -> Any:
    """Apply one function of images or, to volumes, one along their depth and one of their frames.

    All windows are products of those of their axes. ``return_indices`` is for maxima.
    """
    *deep, frame = parts
    for part in parts if check_flag("return_indices", return_indices) else ():
        part.wants_indices = True
    if not deep:
        frame.data_format = data_format
        y = frame(input)
        return (y, Tensor(batch_first(frame.indices, data_format))) if return_indices else y
    batch, channels, depth, *size = input.shape
    y = frame(reshape(permute(input, (2, 0, 1, 3, 4)), (depth * batch, channels, *size)))
    height, width = y.shape[2:]
    y = permute(reshape(y, (depth, batch, channels, height, width)), (1, 2, 3, 4, 0))
    lines = channels * height * width
    y = deep[0](reshape(y, (batch, lines, depth, 1)))

    def volumes(a: Tensor) -> Tensor:
        shape = batch, channels, height, width, a.shape[2]
        return permute(reshape(a, shape), (0, 1, 4, 2, 3))

    if not return_indices:
        return volumes(y)
    positions, frames = frame.indices.reshape(lines, depth, 1, batch), deep[0].indices
    positions = input.backend.xp.take_along_axis(positions, frames, axis=1)
    return volumes(y), volumes(Tensor(batch_first(positions + frames * math.prod(size))))


# -- fixed windows -------------------------------------------------------------------------


@memoize
def _windows(
    shape: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    data_format: str,
) -> tuple[Geometry, ...]:
    """The windows of a pooling, for volumes along the depth and of frames.

    Each must overlap the image.
    """
    channels, *size = spatial_size(shape, data_format)
    ndim, kernels = len(size), per_axis(kernel_size, "kernel_size", len(size))
    is_default = stride is None or (isinstance(stride, list | tuple) and not stride)
    settings: Any = {"kernel": kernels, "stride": kernels if is_default else stride}
    ceil_mode = check_flag("ceil_mode", ceil_mode)
    windows = spatial_geometry(
        window_geometry, size, padding, ceil_mode=ceil_mode, dilation=dilation, **settings
    )
    check_size("padding", padding, (shape[0], channels, *windows[-1].output))
    sides = along_axes(windows, "padding", ndim)
    for side, kernel in zip(sides, kernels, strict=True):
        if max(side) > kernel // 2:
            raise ArgumentError(
                f"padding={sides}: a pooling window of {kernel} pixels allows at most "
                f"{kernel // 2} on each side, so that it overlaps the image"
            )
    return windows


class MaxPool2d(ImageFunction):
    """See :func:`max_pool2d`."""

    wants_indices = False
    indices: Array
    windows = staticmethod(_windows)

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry

    def compute(self, backend: Backend, x: Array) -> Array:
        g, recorded = self.geometry, self.recorded or self.wants_indices
        y, argmax = backend.max_pool2d(x, g, with_argmax=recorded)
        self.save(argmax=argmax)
        if self.wants_indices:
            starts = [
                [o * g.stride[axis] - g.padding[axis][0] for o in range(g.output[axis])]
                for axis in (0, 1)
            ]
            self.indices = _flat(backend, argmax, starts, g.kernel[1], g.dilation, g.input[1])
        return y

    def gradient(self, backend: Backend, dy: Array) -> Array:
        return backend.max_pool2d_backward(dy, self.saved.argmax, self.geometry)


def _flat(
    backend: Backend,
    argmax: Array | None,
    starts: Sequence[Sequence[int]],
    kernel: Any,
    dilation: Pair,
    width: int,
) -> Array:
    """Indices in the flattened image, (C, oH, oW, N), from those in each window.

    ``starts`` are the windows' first rows and columns, ``kernel`` their widths.
    """
    xp = backend.xp
    tops, lefts = (xp.asarray(numbers, dtype="int64") for numbers in starts)
    rows, columns = xp.divmod(xp.asarray(argmax, dtype="int64"), kernel)
    rows = tops.reshape(-1, 1, 1) + rows * dilation[0]
    return rows * width + lefts.reshape(-1, 1) + columns * dilation[1]


def _max_pool(
    input: Any,
    kernel_size: Setting,
    stride: Setting | None = None,
    padding: Any = 0,
    dilation: Setting = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    data_format: str = "NCHW",
) -> Any:
    """The largest pixel of each window.

    NaN propagates. Padding acts as minus infinity and is never chosen. Of equal maxima, the
    first in row-major order of the window receives the whole gradient.

    Parameters
    ----------
    input : INPUT
        Or one of them without the batch axis.
    kernel_size, dilation
        In pixels: an int for all axes, or one per axis.
    stride
        Default: ``kernel_size``.
    padding
        As in the convolution of the same number of axes, at most half of the kernel on each side.
    ceil_mode
        Round the output size up; a window must still start inside the input or its left padding.
    return_indices
        Also return where each maximum is.
    data_format
        Of images only: ``"NCHW"`` or ``"NHWC"``.

    Returns
    -------
    Tensor
        The maxima, of the input's layout.
    Tensor, int64
        With ``return_indices``: row-major indices in the flattened image, for
        :func:`max_unpool2d` and the like.

    Raises
    ------
    ShapeError
        Another number of axes, or the image is smaller than the kernel.
    ArgumentError
        A setting is out of range.
    """
    input = Tensor.of(input)
    settings = kernel_size, stride, padding, dilation, ceil_mode, data_format
    windows = _windows(input.shape, *settings)
    return _pooled(input, [MaxPool2d(w) for w in windows], data_format, return_indices)


max_pool1d, max_pool2d, max_pool3d = family(_max_pool)


class AvgPool2d(ImageFunction):
    """See :func:`avg_pool2d`."""

    def __init__(
        self, geometry: Geometry, count_include_pad: bool, divisor: int | None = None
    ) -> None:
        self.geometry, self.divisor = geometry, divisor
        self.count_include_pad = check_flag("count_include_pad", count_include_pad)

    def compute(self, backend: Backend, x: Array) -> Array:
        y = backend.avg_pool2d(x, self.geometry, self.count_include_pad)
        return y if self.divisor is None else y * self._factor(backend, x.dtype)

    def gradient(self, backend: Backend, dy: Array) -> Array:
        dy = dy if self.divisor is None else dy * self._factor(backend, dy.dtype)
        return backend.avg_pool2d_backward(dy, self.geometry, self.count_include_pad)

    def _factor(self, backend: Backend, dtype: Any) -> Array:
        """What turns means into sums over the divisor: (oH, oW, 1)."""
        rows, columns = (self.geometry.counts(axis, self.count_include_pad) for axis in (0, 1))
        factors = [[[r * c / self.divisor] for c in columns] for r in rows]  # type: ignore
        return backend.asarray(factors, dtype)


def _avg_pool(
    input: Any,
    kernel_size: Setting,
    stride: Setting | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    data_format: str = "NCHW",
) -> Tensor:
    """The mean of each window.

    Parameters
    ----------
    input : INPUT
        Or one of them without the batch axis.
    kernel_size, stride, padding, ceil_mode, data_format
        As in :func:`max_pool2d`.
    count_include_pad
        Whether padding counts in the divisor.
    divisor_override
        Divide the sum by this int instead of the number of pixels.

    Returns
    -------
    Tensor
        Of the input's layout.

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`max_pool2d`.
    """
    input = Tensor.of(input)
    windows = _windows(input.shape, kernel_size, stride, padding, 1, ceil_mode, data_format)
    divisor = divisor_override
    if divisor is not None:
        check_int("divisor_override", divisor, -(2**62))
        if divisor == 0:
            raise ArgumentError("divisor_override=0: expected another int")
    divisors = [None if divisor is None else 1, divisor][-len(windows) :]
    pairs = zip(windows, divisors, strict=True)
    parts = [AvgPool2d(window, count_include_pad, divisor) for window, divisor in pairs]
    return _pooled(input, parts, data_format)


avg_pool1d, avg_pool2d, avg_pool3d = family(_avg_pool)


class Root(Elementwise):
    """(size · x)^(1 / p), with a gradient of 0 at 0."""

    size: float
    p: float

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.power(x * self.size, 1 / self.p)

    def derivative(self, backend: Backend, x: Array) -> Array:
        xp, is_zero = backend.xp, x == 0
        slope = xp.power(xp.where(is_zero, 1, x) * self.size, 1 / self.p - 1)
        return xp.where(is_zero, 0, slope * (self.size / self.p))


def _lp_pool(
    input: Any,
    norm_type: float,
    kernel_size: Setting,
    stride: Setting | None = None,
    ceil_mode: bool = False,
    data_format: str = "NCHW",
) -> Tensor:
    """The power average of each window: (the sum of its pixels^p)^(1 / p).

    Parameters
    ----------
    input : INPUT
        Or one of them without the batch axis.
    norm_type
        p, a number other than 0: 1 is the sum, 2 the Euclidean norm, infinity the largest of |x|
        and minus infinity the smallest.
    kernel_size, stride, ceil_mode, data_format
        As in :func:`max_pool2d`.

    Returns
    -------
    Tensor
        Of the input's layout.

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`max_pool2d`.
    """
    p = check_number("norm_type", norm_type)
    if p == 0:
        raise ArgumentError("norm_type=0: expected another number, the power p")
    spatial_size(Tensor.of(input), data_format)
    if math.isinf(p):
        sign = math.copysign(1, p)
        plain = kernel_size, stride, 0, 1, ceil_mode, False, data_format
        return sign * _max_pool(sign * abs(input), *plain)
    size = math.prod(per_axis(kernel_size, "kernel_size", len(data_format) - 2))
    settings = kernel_size, stride, 0, ceil_mode, True, None, data_format
    return Root(size=size, p=p)(_avg_pool(pow(input, p), *settings))


lp_pool1d, lp_pool2d, lp_pool3d = family(_lp_pool)


# -- adaptive windows ----------------------------------------------------------------------


def _adaptive_sizes(input: Tensor, output_size: Any, data_format: str) -> list[tuple[Pair, Pair]]:
    """The sizes of the image and of the output of each pass, as of :func:`_windows`."""
    _, *size = spatial_size(input, data_format)
    given = check_output_size(output_size, len(size))
    output = [n or pixels for n, pixels in zip(given, size, strict=True)]
    check_size("output_size", output_size, output, visited=True)
    if min(size) < 1:
        raise ShapeError(f"input has shape {input.shape}: there are no pixels to pool")
    size, output = (n if len(n) > 1 else [1, *n] for n in (size, output))
    deep = [((size[0], 1), (output[0], 1))] if len(size) == 3 else []
    return [*deep, ((size[-2], size[-1]), (output[-2], output[-1]))]


class GlobalAvgPool2d(ImageFunction):
    """The mean of each image: (N, C, H, W) to (N, C, 1, 1)."""

    def compute(self, backend: Backend, x: Array) -> Array:
        self.save(size=x.shape[1:3])
        y = backend.xp.empty((len(x), 1, 1, x.shape[-1]), x.dtype)

        def compute(part: slice) -> None:  # rows first: they are contiguous
            y[part, 0, 0] = x[part].mean(axis=1).mean(axis=1)

        backend.each(compute, backend.channels(x))
        return y

    def gradient(self, backend: Backend, dy: Array) -> Array:
        height, width = self.saved.size
        dx = backend.xp.empty((len(dy), height, width, dy.shape[-1]), dy.dtype)
        dx[...] = dy * (1 / (height * width))
        return dx


def _adaptive_avg_pool(input: Any, output_size: Any, data_format: str = "NCHW") -> Tensor:
    """Average pooling to a given output size: the means of windows that cover the image.

    Window ``o`` along an axis of H pixels reads pixels from ``floor(o * H / oH)`` up to but
    excluding ``ceil((o + 1) * H / oH)``; windows overlap where H is not a multiple of oH.
    ``output_size=1`` is global average pooling.

    Parameters
    ----------
    input : INPUT
        Or one of them without the batch axis.
    output_size
        Pixels: an int for all axes or one per axis; None: same as the input.
    data_format
        Of images only: ``"NCHW"`` or ``"NHWC"``.

    Returns
    -------
    Tensor
        Of the input's layout.

    Raises
    ------
    ShapeError
        Another number of axes, or an image without pixels.
    ArgumentError
        A setting is out of range.
    """
    input = Tensor.of(input)
    parts = [_adaptive_means(*sizes) for sizes in _adaptive_sizes(input, output_size, data_format)]
    return _pooled(input, parts, data_format)


def _adaptive_means(size: Pair, output: Pair) -> ImageFunction:
    """The function of images that averages adaptive windows."""
    if output == (1, 1):
        return GlobalAvgPool2d()
    geometry = adaptive_geometry(size, output)
    if geometry is not None:
        return AvgPool2d(geometry, True)
    axes = zip(size, output, strict=True)
    rows, columns = (axis_weights("area", False, False, *axis, None) for axis in axes)
    return Resample(rows, columns)


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = family(_adaptive_avg_pool)


class AdaptiveMaxPool2d(ImageFunction):
    """See :func:`adaptive_max_pool2d`; window by window, as their sizes differ."""

    wants_indices = False
    indices: Array

    def __init__(self, output: Pair) -> None:
        self.output = output

    def compute(self, backend: Backend, x: Array) -> Array:
        xp, recorded = backend.xp, self.recorded or self.wants_indices
        y = xp.empty((len(x), *self.output, x.shape[-1]), x.dtype)
        argmax = xp.empty(y.shape if recorded else 0, "int32")  # i * width + j within a window

        def compute(part: slice) -> None:
            for i, j, pixels in self._windows(x[part]):
                y[part, i, j] = pixels.max(axis=1).max(axis=1)
                if recorded:
                    argmax[part, i, j] = _first(xp, pixels, y[part, i, j])

        backend.each(compute, backend.channels(x))
        self.save(argmax=argmax, size=x.shape[1:3])
        if self.wants_indices:
            rows, columns = self._spans(x)
            widths = xp.asarray([[right - left] for left, right in columns], dtype="int64")
            starts = [[start for start, _ in axis] for axis in (rows, columns)]
            self.indices = _flat(backend, argmax, starts, widths, (1, 1), x.shape[2])
        return y

    def gradient(self, backend: Backend, dy: Array) -> Array:
        xp = backend.xp
        dx = xp.zeros((len(dy), *self.saved.size, dy.shape[-1]), dy.dtype)

        def compute(part: slice) -> None:
            for i, j, pixels in self._windows(dx[part]):
                chosen = self.saved.argmax[part, i, j][:, None, None] == _numbers(xp, pixels)
                pixels += (as_bits(dy[part, i, j])[:, None, None] * chosen).view(dx.dtype)

        backend.each(compute, backend.channels(dx))
        return dx

    def _spans(self, x: Array) -> list[list[tuple[int, int]]]:
        return [adaptive_spans(*axis) for axis in zip(x.shape[1:3], self.output, strict=True)]

    def _windows(self, x: Array) -> Iterator[tuple[int, int, Array]]:
        """Row, column and pixels (C, height, width, N) of each window."""
        rows, columns = self._spans(x)
        for i, (top, bottom) in enumerate(rows):
            for j, (left, right) in enumerate(columns):
                yield i, j, x[:, top:bottom, left:right]


def _first(xp: Any, pixels: Array, largest: Array) -> Array:
    """The row-major index (C, N) of the first pixel that equals ``largest`` or is NaN."""
    number = pixels.shape[1] * pixels.shape[2]
    is_largest = (pixels == largest[:, None, None]) | (pixels != pixels)
    return xp.where(is_largest, _numbers(xp, pixels), number).min(axis=1).min(axis=1)


def _numbers(xp: Any, pixels: Array) -> Array:
    """Row-major indices of a window's pixels, (height, width, 1)."""
    height, width = pixels.shape[1:3]
    return xp.arange(height * width, dtype="int32").reshape(height, width, 1)


def _adaptive_max_pool(
    input: Any, output_size: Any, return_indices: bool = False, data_format: str = "NCHW"
) -> Any:
    """Max pooling to a given output size: the maxima of windows that cover the image.

    The windows are those of :func:`adaptive_avg_pool2d`; NaN and equal maxima are treated as in
    :func:`max_pool2d`. ``output_size=1`` is global max pooling.

    Parameters
    ----------
    input : INPUT
        Or one of them without the batch axis.
    output_size, data_format
        As in :func:`adaptive_avg_pool2d`.
    return_indices
        Also return where each maximum is, as in :func:`max_pool2d`.

    Returns
    -------
    Tensor, or a pair of them
        As :func:`max_pool2d`.

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`adaptive_avg_pool2d`.
    """
    input = Tensor.of(input)
    parts: list[ImageFunction] = []
    for size, output in _adaptive_sizes(input, output_size, data_format):
        geometry = None if output == (1, 1) else adaptive_geometry(size, output)
        parts.append(AdaptiveMaxPool2d(output) if geometry is None else MaxPool2d(geometry))
    return _pooled(input, parts, data_format, return_indices)


adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = family(_adaptive_max_pool)


# -- random windows ------------------------------------------------------------------------


def _random_windows(
    input: Tensor, samples: Array, kernel: tuple[int, ...], output: tuple[int, ...]
) -> Array:
    """The pixels of each window, in the flattened image: int64 (N, C, windows, pixels)."""
    xp, size = input.backend.xp, input.shape[2:]
    places: Any = 0
    numbers = xp.arange(math.prod(kernel))
    for axis, (pixels, length, count) in enumerate(zip(size, kernel, output, strict=True)):
        room = pixels - length
        sample = samples[:, :, 1 - axis if len(size) == 2 else axis, None]  # PyTorch's order
        step = room / max(1, count - 1)
        offsets = xp.arange(count, dtype=samples.dtype)
        starts = ((offsets + sample) * step).astype("int64") - (sample * step).astype("int64")
        starts[:, :, -1] = room
        starts = starts.reshape(*starts.shape[:2], *(1,) * axis, count, *(1,) * (len(size) - axis))
        elements = numbers // math.prod(kernel[axis + 1 :]) % length
        places = places * pixels + starts + elements
    return places.reshape(*input.shape[:2], math.prod(output), len(numbers))


def _fractional_max_pool(
    input: Any,
    kernel_size: Setting,
    output_size: Setting | None = None,
    output_ratio: float | tuple[float, ...] | None = None,
    return_indices: bool = False,
    _random_samples: Any = None,
    *,
    data_format: str,
) -> Any:
    """Max pooling of windows at random distances, which give any output size.

    Parameters
    ----------
    input : (N, C, H, W) or (N, C, D, H, W)
        Or one of them without the batch axis.
    kernel_size
        In pixels: an int for all axes, or one per axis.
    output_size, output_ratio
        Pixels of the result, or its size / that of the input, from 0 to 1: one of the two, a number
        for all axes or one per axis.
    return_indices
        Also return where each maximum is, as in :func:`max_pool2d`.
    _random_samples : (N, C, 2 or 3)
        Numbers from 0 to 1 that place the windows; None: random.

    Returns
    -------
    Tensor, or a pair of them
        As :func:`max_pool2d`.

    Raises
    ------
    ShapeError
        Another number of axes, or the windows do not fit.
    ArgumentError
        A setting is out of range.

    References
    ----------
    Graham 2014, "Fractional max-pooling", arXiv:1412.6071.
    """
    input = Tensor.of(input)
    _, *size = spatial_size(input, data_format)
    kernel = per_axis(kernel_size, "kernel_size", len(size))
    check_exactly_one(output_size=output_size, output_ratio=output_ratio)
    if output_ratio is None:
        output = per_axis(output_size, "output_size", len(size))
    else:
        output = _scaled(size, output_ratio)
    if any(o + k - 1 > n for n, k, o in zip(size, kernel, output, strict=True)):
        raise ShapeError(
            f"input has shape {input.shape}: {output} windows of {kernel} pixels do not fit; use a "
            "larger image or a smaller output_size"
        )
    shape = (*input.shape[:2], len(size))
    if _random_samples is None:
        drawn: Any = random.generator().random(shape, "float32")
        _random_samples = input.backend.asarray(drawn, floats(input).dtype)
    given = Tensor.of(_random_samples)
    samples = Tensor(given.data[: len(input)] if given.ndim else given.data)  # PyTorch takes more
    if samples.shape != shape:
        raise ShapeError(f"_random_samples has shape {samples.shape}: expected {shape}")
    check_flag("return_indices", return_indices)
    flat, xp = reshape(input, (*input.shape[:2], math.prod(size))), input.backend.xp
    with input.backend.active():
        places = _random_windows(input, samples.data, kernel, output)
        pixels = xp.take_along_axis(flat.data[:, :, None], places, axis=3)
        largest = argmax(pixels, -1, keepdim=True).data
        indices = xp.take_along_axis(places, largest, axis=3)[..., 0]
    shape = *input.shape[:2], *output
    y, indices = (reshape(a, shape) for a in (gather(flat, 2, indices), indices))
    return (y, indices) if return_indices else y


def _scaled(size: list[int], ratio: Any) -> tuple[int, ...]:
    """The output size of a fractional pooling for an ``output_ratio``."""
    ratios = list(ratio) if isinstance(ratio, list | tuple) else [ratio] * len(size)
    if len(ratios) != len(size) or not all(0 < as_float(r) < 1 for r in ratios):
        raise ArgumentError(
            f"output_ratio={show(ratio)}: expected a number between 0 and 1, or one per axis"
        )
    return tuple(max(1, int(n * r)) for n, r in zip(size, ratios, strict=True))


fractional_max_pool2d = of_rank(_fractional_max_pool, 2)
fractional_max_pool3d = of_rank(_fractional_max_pool, 3)


# -- unpooling -----------------------------------------------------------------------------


class MaxUnpool(Function):
    """See :func:`max_unpool2d`."""

    arguments = ("input", "indices")
    any_dtype = ("indices",)

    def __init__(self, size: tuple[int, ...]) -> None:
        self.size = size

    def forward(self, backend: Backend, x: Array, indices: Array) -> Array:
        xp, rows = backend.xp, to_batch_last(backend.xp, x)  # (C, ..., N)
        channels, batch, pixels = len(rows), len(x), math.prod(self.size)
        backend.check_indices("indices", indices, pixels)
        first = xp.arange(channels).reshape(-1, *(1,) * (x.ndim - 1)) * pixels
        where = (first + to_batch_last(xp, indices)) * batch + xp.arange(batch)
        y = xp.zeros((channels, *self.size, batch), x.dtype)
        y.reshape(-1)[where] = rows
        self.save(where=where)
        return xp.moveaxis(y, -1, 0)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        xp = backend.xp
        return xp.moveaxis(to_batch_last(xp, dy).reshape(-1)[self.saved.where], -1, 0), None


def _max_unpool(
    input: Any,
    indices: Any,
    kernel_size: Setting,
    stride: Setting | None = None,
    padding: Setting = 0,
    output_size: Sequence[int] | None = None,
    *,
    data_format: str,
) -> Tensor:
    """Put maxima back to where max pooling found them; everything else is 0.

    Parameters
    ----------
    input, indices : (N, C, ...)
        What the max pooling returned, with ``return_indices=True``.
    kernel_size, stride, padding
        Its settings: an int, or one per axis.
    output_size
        Size of the result, with or without N and C; default: the smallest that the max pooling
        turns into the input's size.

    Returns
    -------
    Tensor
        (N, C, *output_size)

    Raises
    ------
    ShapeError
        Input and indices differ in shape, or no such max pooling gives that shape.
    ArgumentError
        A setting is out of range; or, on the CPU, an index.
    """
    input, indices, ndim = Tensor.of(input), Tensor.of(indices), len(data_format) - 2
    indices = indices.unsqueeze(0) if indices.ndim == ndim + 1 else indices
    spatial_size(input, data_format)
    if indices.shape != input.shape or indices.dtype.kind not in "iu":
        raise ShapeError(
            f"indices are {indices.dtype} of shape {indices.shape}: expected ints of the input's "
            f"shape {input.shape}"
        )
    kernels = per_axis(kernel_size, "kernel_size", ndim)
    strides = kernels if stride is None else per_axis(stride, "stride", ndim)
    sides = per_axis(padding, "padding", ndim, 0)
    axes = list(zip(input.shape[2:], kernels, strides, sides, strict=True))
    default = tuple((n - 1) * s - 2 * p + k for n, k, s, p in axes)
    size = default if output_size is None else tuple(output_size)[-ndim:]
    near = len(size) == ndim and all(
        abs(n - d) < s for n, d, s in zip(size, default, strides, strict=True)
    )
    if not near or min(size) < 1:
        raise ShapeError(
            f"output_size={show(output_size)}: expected {default}, or less than the stride "
            f"{strides} from it"
        )
    check_size("output_size", output_size, (*input.shape[:2], *size))
    return MaxUnpool(size)(input, indices)


max_unpool1d, max_unpool2d, max_unpool3d = family(_max_unpool)
