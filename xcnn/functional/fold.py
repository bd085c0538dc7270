"""The windows of images as columns, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import Pair, check_dim, check_int, check_size, pair
from ..errors import ShapeError
from ..geometry import Geometry, window_geometry
from ..layout import batch_first, batch_last, to_batch_last
from ..tensor import Function, Tensor, operation, takes_one
from ..tiling import Tile
from .shape import reshape, zeros

__all__ = ["fold", "unfold"]


Size = int | Pair


class Unfold(Function):
    """See :func:`unfold`."""

    arguments = ("input",)

    def __init__(self, geometry: Geometry) -> None:
        self.geometry = geometry
        self.tile = Tile(0, geometry.output[0], 0, geometry.output[1])

    def forward(self, backend: Backend, x: Array, /) -> Array:
        x = batch_last(backend.xp, x)
        shape = len(x), *self.geometry.kernel, *self.geometry.output, x.shape[-1]
        columns = backend.xp.empty(shape, x.dtype)

        def compute(part: slice) -> None:
            backend.im2col(x[part], self.geometry, self.tile, columns[part])

        backend.each(compute, backend.channels(columns))
        rows = math.prod(shape[:3]), math.prod(self.geometry.output), shape[-1]
        return columns.reshape(rows).transpose(2, 0, 1)

    def backward(self, backend: Backend, dy: Array, /) -> Array:
        elements = math.prod(self.geometry.kernel)
        shape = dy.shape[1] // elements, *self.geometry.kernel, *self.geometry.output, len(dy)
        columns = to_batch_last(backend.xp, dy).reshape(shape)
        x = backend.xp.zeros((shape[0], *self.geometry.input, len(dy)), dy.dtype)

        def compute(part: slice) -> None:
            backend.col2im(columns[part], self.geometry, self.tile, x[part])

        backend.each(compute, backend.channels(columns))
        return batch_first(x)


class Fold(Unfold):
    """See :func:`fold`."""

    forward, backward = Unfold.backward, Unfold.forward


@takes_one(4)
@operation
def unfold(
    input: Any, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
) -> Tensor:
    """The pixels of each window as a column (im2col): a convolution is a product with them.

    Column ``l`` holds the window at row ``l // oW`` and column ``l % oW`` of the result of a
    convolution with the same settings; its rows are the channels and, within them, the elements of
    the window in row-major order.

    Parameters
    ----------
    input : (N, C, H, W) or (C, H, W)
    kernel_size, dilation, stride
        An int or (height, width).
    padding
        Pixels of zeros on both sides: an int or (pH, pW).

    Returns
    -------
    Tensor
        (N, C·kH·kW, oH·oW), or without N.

    Raises
    ------
    ShapeError
        Other axes, or an image smaller than the window.
    ArgumentError
        A setting is out of range.
    """
    input = Tensor.of(input)
    if input.ndim != 4:
        raise ShapeError(f"input has shape {input.shape}: expected (N, C, H, W) or (C, H, W)")
    geometry = _geometry(input.shape[2:], kernel_size, dilation, padding, stride)
    check_size("kernel_size", kernel_size, (*input.shape[:2], *geometry.kernel, *geometry.output))
    return Unfold(geometry)(input)


@takes_one(3)
@operation
def fold(
    input: Any,
    output_size: Size,
    kernel_size: Size,
    dilation: Size = 1,
    padding: Size = 0,
    stride: Size = 1,
) -> Tensor:
    """Images whose pixels are the sums over the columns of :func:`unfold` (col2im), its adjoint.

    Parameters
    ----------
    input : (N, C·kH·kW, oH·oW), or without N
    output_size
        Height and width of the images, an int if they are equal.
    kernel_size, dilation, padding, stride
        As of :func:`unfold`.

    Returns
    -------
    Tensor
        (N, C, H, W), or without N.

    Raises
    ------
    ShapeError
        The rows or columns do not fit the settings.
    ArgumentError
        A setting is out of range.
    """
    input, size = Tensor.of(input), pair(output_size, "output_size")
    geometry = _geometry(size, kernel_size, dilation, padding, stride)
    elements, windows = math.prod(geometry.kernel), math.prod(geometry.output)
    if input.ndim != 3 or input.shape[1] % elements or input.shape[2] != windows:
        raise ShapeError(
            f"input has shape {input.shape}: expected (N, C·{elements}, {windows}), with or "
            f"without N: a kernel of {geometry.kernel} has {windows} windows in an image of {size}"
        )
    check_size("output_size", output_size, (*input.shape[:2], *size))
    return Fold(geometry)(input)


def _geometry(
    size: Sequence[int], kernel: Any, dilation: Any, padding: Any, stride: Any
) -> Geometry:
    rows, columns = pair(padding, "padding", 0)
    sides = (rows, rows), (columns, columns)
    return window_geometry((size[0], size[1]), kernel, stride, sides, dilation)


class Windows(Function):
    """See :func:`sliding_windows`: a view; backward adds one element of all windows at a time."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, axis: int, size: int, step: int) -> None:
        self.axis, self.size, self.step = axis, size, step

    def forward(self, backend: Backend, x: Array) -> Array:
        self.save(shape=x.shape)
        first = x[self._element(x.shape, 0)]  # the first element of each window
        strides = *first.strides, x.strides[self.axis]
        as_strided = backend.xp.lib.stride_tricks.as_strided
        return as_strided(first, (*first.shape, self.size), strides)

    def backward(self, backend: Backend, dy: Array) -> Array:
        dx = zeros(backend.xp, self.saved.shape, dy.dtype)
        for k in range(self.size):
            dx[self._element(dx.shape, k)] += dy[..., k]
        return dx

    def _element(self, shape: tuple[int, ...], k: int) -> tuple[slice, ...]:
        """The index of element ``k`` of each window."""
        stop = shape[self.axis] - self.size + k + 1
        return (*(slice(None),) * self.axis, slice(k, stop, self.step))


@operation
def sliding_windows(input: Any, dimension: int, size: int, step: int) -> Tensor:
    """Windows of ``size`` elements along an axis, ``step`` apart: ``Tensor.unfold``. A view.

    Parameters
    ----------
    dimension
        The axis; in the result, the windows.
    size
        Elements of a window, the last axis of the result.
    step
        Elements from the start of a window to that of the next.

    Raises
    ------
    ArgumentError
        Not ints, or out of range.
    ShapeError
        No such axis, or fewer elements than ``size``.
    """
    input = Tensor.of(input)
    if not input.ndim:
        windows = sliding_windows(reshape(input, (1,)), dimension, size, step)
        return windows[0]
    axis = check_dim("dimension", dimension, input.ndim)
    size, step = check_int("size", size), check_int("step", step)
    if size > input.shape[axis]:
        raise ShapeError(
            f"size={size}: axis {axis} of the input of shape {input.shape} has fewer elements"
        )
    return Windows(axis, size, step)(input)
