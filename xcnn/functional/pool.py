"""Max, average and adaptive pooling."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from ..arrays import Array
from ..backends import Backend, as_bits
from ..checks import (
    OutputSize,
    Padding,
    Pair,
    check_flag,
    check_output_size,
    check_size,
    memoize,
    pair,
    signal_pair,
)
from ..errors import ArgumentError, ShapeError
from ..geometry import Geometry, window_geometry
from ..layout import check_data_format, image_padding, image_size
from ..tensor import ImageFunction, Tensor, operation
from .resample import AxisWeights, Resample

__all__ = [
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "avg_pool1d",
    "avg_pool2d",
    "max_pool1d",
    "max_pool2d",
]

# -- fixed windows -------------------------------------------------------------------------


@memoize
def _geometry(
    shape: tuple[int, ...],
    kernel_size: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    ceil_mode: bool,
    data_format: str,
) -> Geometry:
    """The windows of a pooling of images or signals; each must overlap the image."""
    channels, *size = image_size(shape, data_format)
    stride = kernel_size if stride is None else stride
    if data_format == "NCL":
        kernel_size, stride = signal_pair(kernel_size, "kernel_size"), signal_pair(stride, "stride")
        padding, dilation = image_padding(padding), signal_pair(dilation, "dilation")
    kernels = pair(kernel_size, "kernel_size")
    ceil_mode = check_flag("ceil_mode", ceil_mode)
    geometry = window_geometry((size[0], size[1]), kernels, stride, padding, dilation, ceil_mode)
    check_size("padding", padding, (shape[0], channels, *geometry.output))
    for axis, kernel in enumerate(kernels):
        if max(geometry.padding[axis]) > kernel // 2:
            raise ArgumentError(
                f"padding={geometry.padding}: a pooling window of {kernel} pixels allows at most "
                f"{kernel // 2} on each side, so that it overlaps the image"
            )
    return geometry


class MaxPool2d(ImageFunction):
    """See :func:`max_pool2d`."""

    def __init__(self, geometry: Geometry, data_format: str) -> None:
        self.geometry = geometry
        self.data_format = data_format

    def compute(self, backend: Backend, x: Array) -> Array:
        y, argmax = backend.max_pool2d(x, self.geometry, with_argmax=self.recorded)
        self.save(argmax=argmax)
        return y

    def gradient(self, backend: Backend, dy: Array) -> Array:
        return backend.max_pool2d_backward(dy, self.saved.argmax, self.geometry)


@operation
def max_pool2d(
    input: Any,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: Padding = 0,
    dilation: int | tuple[int, int] = 1,
    ceil_mode: bool = False,
    data_format: str = "NCHW",
) -> Tensor:
    """The largest pixel of each window.

    NaN propagates. Padding acts as minus infinity and is never chosen. Of equal maxima, the
    first in row-major order of the window receives the whole gradient.

    Parameters
    ----------
    input : (N, C, H, W), or (N, H, W, C) with ``data_format="NHWC"``
    kernel_size, dilation
        An int or (height, width).
    stride
        Default: ``kernel_size``.
    padding
        As in :func:`conv2d`, at most half of the kernel on each side.
    ceil_mode
        Round the output size up; a window must still start inside the input or its left padding.
    data_format
        ``"NCHW"`` or ``"NHWC"``.

    Returns
    -------
    Tensor
        (N, C, oH, oW), or (N, oH, oW, C).

    Raises
    ------
    ShapeError
        Not four axes, or the image is smaller than the kernel.
    ArgumentError
        A setting is out of range.
    """
    input = Tensor.of(input)
    check_data_format(data_format)
    settings = kernel_size, stride, padding, dilation, ceil_mode, data_format
    geometry = _geometry(input.shape, *settings)
    return MaxPool2d(geometry, data_format)(input)


@operation
def max_pool1d(
    input: Any,
    kernel_size: int,
    stride: int | None = None,
    padding: Any = 0,
    dilation: int = 1,
    ceil_mode: bool = False,
) -> Tensor:
    """The largest sample of each window of (N, C, L); see :func:`max_pool2d`.

    Parameters
    ----------
    input : (N, C, L)
    kernel_size, dilation
        In samples.
    stride
        Default: ``kernel_size``.
    padding
        As in :func:`conv1d`, at most half of the kernel on each side.
    ceil_mode
        Round the output length up; a window must still start inside the input or its left padding.

    Returns
    -------
    Tensor
        (N, C, oL).

    Raises
    ------
    ShapeError
        Not three axes, or the signal is shorter than the kernel.
    ArgumentError
        A setting is out of range.
    """
    input = Tensor.of(input)
    settings = kernel_size, stride, padding, dilation, ceil_mode, "NCL"
    return MaxPool2d(_geometry(input.shape, *settings), "NCL")(input)


class AvgPool2d(ImageFunction):
    """See :func:`avg_pool2d`."""

    def __init__(self, geometry: Geometry, count_include_pad: bool, data_format: str) -> None:
        self.geometry = geometry
        self.count_include_pad = check_flag("count_include_pad", count_include_pad)
        self.data_format = data_format

    def compute(self, backend: Backend, x: Array) -> Array:
        return backend.avg_pool2d(x, self.geometry, self.count_include_pad)

    def gradient(self, backend: Backend, dy: Array) -> Array:
        return backend.avg_pool2d_backward(dy, self.geometry, self.count_include_pad)


@operation
def avg_pool2d(
    input: Any,
    kernel_size: int | tuple[int, int],
    stride: int | tuple[int, int] | None = None,
    padding: Padding = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    data_format: str = "NCHW",
) -> Tensor:
    """The mean of each window.

    Parameters
    ----------
    input : (N, C, H, W), or (N, H, W, C) with ``data_format="NHWC"``
    kernel_size, stride, padding, ceil_mode, data_format
        As in :func:`max_pool2d`.
    count_include_pad
        Whether padding counts in the divisor.

    Returns
    -------
    Tensor
        (N, C, oH, oW), or (N, oH, oW, C).

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`max_pool2d`.
    """
    input = Tensor.of(input)
    check_data_format(data_format)
    settings = kernel_size, stride, padding, 1, ceil_mode, data_format
    geometry = _geometry(input.shape, *settings)
    return AvgPool2d(geometry, count_include_pad, data_format)(input)


@operation
def avg_pool1d(
    input: Any,
    kernel_size: int,
    stride: int | None = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of (N, C, L); see :func:`avg_pool2d`.

    Parameters
    ----------
    input : (N, C, L)
    kernel_size, stride, padding, ceil_mode
        As in :func:`max_pool1d`.
    count_include_pad
        Whether padding counts in the divisor.

    Returns
    -------
    Tensor
        (N, C, oL).

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`max_pool1d`.
    """
    input = Tensor.of(input)
    geometry = _geometry(input.shape, kernel_size, stride, padding, 1, ceil_mode, "NCL")
    return AvgPool2d(geometry, count_include_pad, "NCL")(input)


# -- adaptive windows ----------------------------------------------------------------------


def _adaptive_sizes(input: Tensor, output_size: Any, data_format: str) -> tuple[Pair, Pair]:
    """The sizes of the image and of the output."""
    _, height, width = image_size(input, data_format)
    rows, columns = check_output_size(output_size)
    output = rows or height, columns or width
    check_size("output_size", output_size, output, visited=True)
    if min(height, width) < 1:
        raise ShapeError(f"input has shape {input.shape}: there are no pixels to pool")
    return (height, width), output


@lru_cache(maxsize=1024)
def _spans(size: int, output: int) -> list[tuple[int, int]]:
    """Start and stop of each window along an axis."""
    return [(o * size // output, -(-(o + 1) * size // output)) for o in range(output)]


@lru_cache(maxsize=1024)
def _regular(size: Pair, output: Pair) -> Geometry | None:
    """The equivalent pooling with fixed windows, if all have the same size and spacing."""
    kernel, stride = [], []
    for pixels, count in zip(size, output, strict=True):
        spans = _spans(pixels, count)
        length = spans[0][1]
        step = spans[1][0] if count > 1 else pixels
        if step < 1 or spans != [(o * step, o * step + length) for o in range(count)]:
            return None
        kernel.append(length)
        stride.append(step)
    return window_geometry(size, tuple(kernel), tuple(stride))


@lru_cache(maxsize=256)
def _means(size: int, output: int) -> AxisWeights:
    """The weights that average each window along an axis."""
    spans = _spans(size, output)
    return AxisWeights(size, [[(i, 1 / (b - a)) for i in range(a, b)] for a, b in spans])


class GlobalAvgPool2d(ImageFunction):
    """The mean of each image: (N, C, H, W) to (N, C, 1, 1)."""

    def __init__(self, data_format: str) -> None:
        self.data_format = data_format

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


@operation
def adaptive_avg_pool2d(input: Any, output_size: OutputSize, data_format: str = "NCHW") -> Tensor:
    """Average pooling to a given output size: the means of oH × oW windows covering the image.

    Window ``o`` along an axis of H pixels reads pixels from ``floor(o * H / oH)`` up to but
    excluding ``ceil((o + 1) * H / oH)``; windows overlap where H is not a multiple of oH.
    ``output_size=1`` is global average pooling.

    Parameters
    ----------
    input : (N, C, H, W), or (N, H, W, C) with ``data_format="NHWC"``
    output_size
        Pixels: an int for both or (height, width); None: same as the input.
    data_format
        ``"NCHW"`` or ``"NHWC"``.

    Returns
    -------
    Tensor
        (N, C, oH, oW), or (N, oH, oW, C).

    Raises
    ------
    ShapeError
        Not four axes, or an image without pixels.
    ArgumentError
        A setting is out of range.
    """
    input = Tensor.of(input)
    size, output = _adaptive_sizes(input, output_size, data_format)
    if output == (1, 1):
        return GlobalAvgPool2d(data_format)(input)
    geometry = _regular(size, output)
    if geometry is not None:
        return AvgPool2d(geometry, True, data_format)(input)
    rows, columns = (_means(*axis) for axis in zip(size, output, strict=True))
    return Resample(rows, columns, data_format)(input)


class AdaptiveMaxPool2d(ImageFunction):
    """See :func:`adaptive_max_pool2d`; window by window, as their sizes differ."""

    def __init__(self, output: Pair, data_format: str) -> None:
        self.output = output
        self.data_format = data_format

    def compute(self, backend: Backend, x: Array) -> Array:
        xp = backend.xp
        y = xp.empty((len(x), *self.output, x.shape[-1]), x.dtype)
        argmax = xp.empty(y.shape if self.recorded else 0, "int32")  # i * width + j within a window

        def compute(part: slice) -> None:
            for i, j, pixels in self._windows(x[part]):
                y[part, i, j] = pixels.max(axis=1).max(axis=1)
                if self.recorded:
                    argmax[part, i, j] = _first(xp, pixels, y[part, i, j])

        backend.each(compute, backend.channels(x))
        self.save(argmax=argmax, size=x.shape[1:3])
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

    def _windows(self, x: Array) -> Iterator[tuple[int, int, Array]]:
        """Row, column and pixels (C, height, width, N) of each window."""
        rows, columns = (_spans(*axis) for axis in zip(x.shape[1:3], self.output, strict=True))
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


@operation
def adaptive_max_pool2d(input: Any, output_size: OutputSize, data_format: str = "NCHW") -> Tensor:
    """Max pooling to a given output size: the maxima of oH × oW windows covering the image.

    The windows are those of :func:`adaptive_avg_pool2d`; NaN and equal maxima are treated as in
    :func:`max_pool2d`. ``output_size=1`` is global max pooling.

    Parameters
    ----------
    input, output_size, data_format
        As in :func:`adaptive_avg_pool2d`.

    Returns
    -------
    Tensor
        (N, C, oH, oW), or (N, oH, oW, C).

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`adaptive_avg_pool2d`.
    """
    input = Tensor.of(input)
    size, output = _adaptive_sizes(input, output_size, data_format)
    geometry = None if output == (1, 1) else _regular(size, output)
    if geometry is not None:
        return MaxPool2d(geometry, data_format)(input)
    return AdaptiveMaxPool2d(output, data_format)(input)
