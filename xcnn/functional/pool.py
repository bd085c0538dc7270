"""Max and average pooling."""

from __future__ import annotations

from typing import Any

from ..autograd import Function
from ..backends import Backend
from ..errors import ArgumentError
from ..geometry import Geometry, Padding, windows
from ..tensor import Tensor
from ..tracing import operation
from .layout import batch_first, batch_last, image_size

Array = Any


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
