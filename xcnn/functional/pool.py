"""Max, average and adaptive pooling."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import OutputSize, Padding, Pair, check_output_size, single
from ..errors import ArgumentError, ShapeError
from ..geometry import Geometry, windows
from ..layout import batch_first, batch_last, image_size, signal_size
from ..tensor import Function, Tensor, operation
from .conv import AsImages, AsSignals, across
from .resample import Lines, Resample


class MaxPool2d(Function):
    """See :func:`max_pool2d`."""

    arguments = ("input",)

    def __init__(self, geometry: Geometry, data_format: str) -> None:
        self.geometry = geometry
        self.data_format = data_format

    def forward(self, backend: Backend, x: Array) -> Array:
        x = batch_last(backend.xp, x, self.data_format)
        y, argmax = backend.max_pool2d(x, self.geometry, with_argmax=self.recorded)
        self.save(argmax=argmax)
        return batch_first(y, self.data_format)

    def backward(self, backend: Backend, dy: Array) -> Array:
        dy = batch_last(backend.xp, dy, self.data_format)
        dx = backend.max_pool2d_backward(dy, self.saved.argmax, self.geometry)
        return batch_first(dx, self.data_format)


class AvgPool2d(Function):
    """See :func:`avg_pool2d`."""

    arguments = ("input",)

    def __init__(self, geometry: Geometry, count_include_pad: bool, data_format: str) -> None:
        self.geometry = geometry
        self.count_include_pad = count_include_pad
        self.data_format = data_format

    def forward(self, backend: Backend, x: Array) -> Array:
        x = batch_last(backend.xp, x, self.data_format)
        y = backend.avg_pool2d(x, self.geometry, self.count_include_pad)
        return batch_first(y, self.data_format)

    def backward(self, backend: Backend, dy: Array) -> Array:
        dy = batch_last(backend.xp, dy, self.data_format)
        dx = backend.avg_pool2d_backward(dy, self.geometry, self.count_include_pad)
        return batch_first(dx, self.data_format)


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

    NaN propagates. Padding acts as minus infinity and is never chosen. Of equal maxima the first
    one in row-major order of the window takes the whole gradient.

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
        A setting out of range.
    """
    input = Tensor.of(input)
    geometry = _geometry(input, data_format, kernel_size, stride, padding, dilation, ceil_mode)
    return MaxPool2d(geometry, data_format)(input)


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
        Whether zeros of the padding count in the divisor.

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
    geometry = _geometry(input, data_format, kernel_size, stride, padding, 1, ceil_mode)
    return AvgPool2d(geometry, count_include_pad, data_format)(input)


def _geometry(
    input: Tensor,
    data_format: str,
    kernel_size: Any,
    stride: Any,
    padding: Padding,
    dilation: Any,
    ceil_mode: bool,
) -> Geometry:
    """The windows of a pooling, whose padding no window may miss the image for."""
    _, height, width = image_size(input, data_format)
    stride = kernel_size if stride is None else stride
    geometry = windows((height, width), kernel_size, stride, padding, dilation, ceil_mode)
    for axis in (0, 1):
        kernel = geometry.kernel[axis]
        if max(geometry.padding[axis]) > kernel // 2:
            raise ArgumentError(
                f"padding={geometry.padding}: a pooling window of {kernel} pixels takes at most "
                f"{kernel // 2} on each side, or it could lie outside the image"
            )
    return geometry


class GlobalAvgPool2d(Function):
    """The mean of each image: (N, C, H, W) to (N, C, 1, 1)."""

    arguments = ("input",)

    def __init__(self, data_format: str) -> None:
        self.data_format = data_format

    def forward(self, backend: Backend, x: Array) -> Array:
        x = batch_last(backend.xp, x, self.data_format)
        self.save(size=x.shape[1:3])
        y = backend.xp.empty((len(x), 1, 1, x.shape[-1]), x.dtype)

        def compute(part: slice) -> None:  # the mean of all rows first: long runs of memory
            y[part, 0, 0] = x[part].mean(axis=1).mean(axis=1)

        backend.each(compute, backend.channels(x))
        return batch_first(y, self.data_format)

    def backward(self, backend: Backend, dy: Array) -> Array:
        height, width = self.saved.size
        share = batch_last(backend.xp, dy, self.data_format) * (1 / (height * width))
        dx = backend.xp.empty((len(share), height, width, share.shape[-1]), dy.dtype)
        dx[...] = share
        return batch_first(dx, self.data_format)


class AdaptiveMaxPool2d(Function):
    """See :func:`adaptive_max_pool2d`; for windows of any sizes, one after the other."""

    arguments = ("input",)

    def __init__(self, output: Pair, data_format: str) -> None:
        self.output = output
        self.data_format = data_format

    def forward(self, backend: Backend, x: Array) -> Array:
        xp, x = backend.xp, batch_last(backend.xp, x, self.data_format)
        y = xp.empty((len(x), *self.output, x.shape[-1]), x.dtype)
        argmax = xp.empty(y.shape if self.recorded else 0, "int32")  # i * width + j of the window

        def compute(part: slice) -> None:
            for i, j, pixels in self._windows(x[part]):
                y[part, i, j] = pixels.max(axis=1).max(axis=1)
                if self.recorded:
                    argmax[part, i, j] = _first(xp, pixels, y[part, i, j])

        backend.each(compute, backend.channels(x))
        self.save(argmax=argmax, size=x.shape[1:3])
        return batch_first(y, self.data_format)

    def backward(self, backend: Backend, dy: Array) -> Array:
        xp, dy = backend.xp, batch_last(backend.xp, dy, self.data_format)
        dx = xp.zeros((len(dy), *self.saved.size, dy.shape[-1]), dy.dtype)

        def compute(part: slice) -> None:
            for i, j, pixels in self._windows(dx[part]):
                chosen = self.saved.argmax[part, i, j][:, None, None]
                pixels += dy[part, i, j][:, None, None] * (chosen == _numbers(xp, pixels))

        backend.each(compute, backend.channels(dx))
        return batch_first(dx, self.data_format)

    def _windows(self, x: Array) -> Iterator[tuple[int, int, Array]]:
        """Number and pixels (C, height, width, N) of each window."""
        rows, columns = (_spans(*axis) for axis in zip(x.shape[1:3], self.output, strict=True))
        for i, (top, bottom) in enumerate(rows):
            for j, (left, right) in enumerate(columns):
                yield i, j, x[:, top:bottom, left:right]


def _first(xp: Any, pixels: Array, largest: Array) -> Array:
    """The number (C, N) of the first pixel that is the largest, or NaN, in row-major order."""
    number = pixels.shape[1] * pixels.shape[2]
    is_largest = (pixels == largest[:, None, None]) | (pixels != pixels)
    return xp.where(is_largest, _numbers(xp, pixels), number).min(axis=1).min(axis=1)


def _numbers(xp: Any, pixels: Array) -> Array:
    """0, 1, ... of a window's pixels in row-major order, (height, width, 1)."""
    height, width = pixels.shape[1:3]
    return xp.arange(height * width, dtype="int32").reshape(height, width, 1)


@operation
def adaptive_avg_pool2d(input: Any, output_size: OutputSize, data_format: str = "NCHW") -> Tensor:
    """The mean of each of oH × oW windows that cover the image: a result of a chosen size.

    Window ``o`` along an axis of H pixels reads the pixels from ``floor(o * H / oH)`` up to but
    without ``ceil((o + 1) * H / oH)``; where H is not a multiple of oH they overlap.
    ``output_size=1`` is global average pooling.

    Parameters
    ----------
    input : (N, C, H, W), or (N, H, W, C) with ``data_format="NHWC"``
    output_size
        Pixels: an int for both or (height, width); None stands for the input's.
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
        A setting out of range.
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


@operation
def adaptive_max_pool2d(input: Any, output_size: OutputSize, data_format: str = "NCHW") -> Tensor:
    """The largest pixel of each of oH × oW windows that cover the image.

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


def _adaptive_sizes(input: Tensor, output_size: Any, data_format: str) -> tuple[Pair, Pair]:
    """The sizes of the image and of the result."""
    _, height, width = image_size(input, data_format)
    wanted = check_output_size(output_size)
    if min(height, width) < 1:
        raise ShapeError(f"input has shape {input.shape}: there are no pixels to pool")
    return (height, width), (wanted[0] or height, wanted[1] or width)


@lru_cache(maxsize=1024)
def _spans(size: int, output: int) -> list[tuple[int, int]]:
    """Where each window starts and ends along an axis."""
    return [(o * size // output, -(-(o + 1) * size // output)) for o in range(output)]


@lru_cache(maxsize=1024)
def _regular(size: Pair, output: Pair) -> Geometry | None:
    """The windows as those of an ordinary pooling, if they are as long and as far apart."""
    kernel, stride = [], []
    for pixels, count in zip(size, output, strict=True):
        spans = _spans(pixels, count)
        length = spans[0][1]
        step = spans[1][0] if count > 1 else pixels
        if step < 1 or spans != [(o * step, o * step + length) for o in range(count)]:
            return None
        kernel.append(length)
        stride.append(step)
    return windows(size, tuple(kernel), tuple(stride))


@lru_cache(maxsize=256)
def _means(size: int, output: int) -> Lines:
    """Each window's mean along an axis."""
    return Lines(size, [[(i, 1 / (b - a)) for i in range(a, b)] for a, b in _spans(size, output)])


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
        A setting out of range.
    """
    input = Tensor.of(input)
    signal_size(input)
    kernel, steps = _window1d(kernel_size, stride)
    gaps = (1, single(dilation, "dilation"))
    images = AsImages()(input)
    return AsSignals()(max_pool2d(images, kernel, steps, across(padding), gaps, ceil_mode))


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
        Whether zeros of the padding count in the divisor.

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
    signal_size(input)
    kernel, steps = _window1d(kernel_size, stride)
    sides, images = across(padding), AsImages()(input)
    return AsSignals()(avg_pool2d(images, kernel, steps, sides, ceil_mode, count_include_pad))


def _window1d(kernel_size: Any, stride: Any) -> tuple[Pair, Pair]:
    """Kernel and stride of a pooling as (height, width)."""
    kernel = single(kernel_size, "kernel_size")
    return (1, kernel), (1, kernel if stride is None else single(stride, "stride"))
