"""Convolution in one to three dimensions."""

from __future__ import annotations

from typing import Any

from .. import config
from ..arrays import Array
from ..backends import Backend
from ..checks import (
    Padding,
    channels_last_hint,
    check_flag,
    check_size,
    is_int,
    memoize,
    signal_pair,
)
from ..convolution import Problem, choose
from ..errors import ArgumentError, ShapeError
from ..geometry import volume_geometry, window_geometry
from ..layout import (
    batch_first,
    batch_last,
    check_data_format,
    image_padding,
    spatial_size,
)
from ..tensor import Function, Tensor, operands, operation, takes_one

__all__ = ["conv1d", "conv2d", "conv3d"]


class Convolution(Function):
    """Convolution in one to three dimensions; a signal is an image one pixel high."""

    arguments = ("input", "weight", "bias")

    def __init__(self, problem: Problem, data_format: str) -> None:
        self.problem = problem
        self.data_format = data_format

    def forward(self, backend: Backend, x: Array, weight: Array, bias: Array | None) -> Array:
        x = batch_last(backend.xp, x, self.data_format)
        kernel = backend.xp.ascontiguousarray(weight).reshape(self.problem.weight_shape)
        self.method = choose(self.problem, backend.convolutions, config.convolution)
        y = self.method.forward(backend, self.problem, x, kernel, bias)
        self.save(x=x, kernel=kernel, y=y if self.problem.relu else None, shape=weight.shape)
        return batch_first(y, self.data_format)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        dy = batch_last(backend.xp, dy, self.data_format)
        dy, dbias = backend.bias_backward(dy, self.saved.y, self.needs_grad[2])
        dx = dweight = None
        if self.needs_grad[0]:
            dx = self.method.input_gradient(backend, self.problem, dy, self.saved.kernel)
            dx = batch_first(dx, self.data_format)
        if self.needs_grad[1]:
            dweight = self.method.weight_gradient(backend, self.problem, dy, self.saved.x)
            dweight = dweight.reshape(self.saved.shape)
        return dx, dweight, dbias


class Conv1d(Convolution):
    """See :func:`conv1d`."""


class Conv2d(Convolution):
    """See :func:`conv2d`."""


class Conv3d(Convolution):
    """See :func:`conv3d`."""


@takes_one(4)
@operation
def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, int] = 1,
    padding: Padding = 0,
    dilation: int | tuple[int, int] = 1,
    groups: int = 1,
    data_format: str = "NCHW",
    relu: bool = False,
) -> Tensor:
    """2-D convolution (cross-correlation, as in every deep-learning library).

    A single image (C, H, W) gives (F, oH, oW); so do all operations on images, and those on
    signals (C, L) and volumes (C, D, H, W).

    y[n, f, i, j] = bias[f] + sum over c, k, l of
    weight[f, c, k, l] * input[n, c, i*stride + k*dilation - top, j*stride + l*dilation - left]

    Parameters
    ----------
    input : (N, C, H, W), or (N, H, W, C) with ``data_format="NHWC"``
    weight : (F, C / groups, kH, kW), in either data format
    bias : (F,), or None
    stride, dilation
        An int or (height, width), in pixels.
    padding
        Pixels of zeros: an int, (pH, pW), ((top, bottom), (left, right)), ``"valid"`` (none) or
        ``"same"``: output size = ceil(input size / stride), an odd pixel at the bottom / right.
    groups
        Number of groups of channels, convolved separately.
    data_format
        ``"NCHW"`` or ``"NHWC"``.
    relu
        Return max(y, 0), computed in one pass with the bias.

    Returns
    -------
    Tensor
        (N, F, oH, oW), or (N, oH, oW, F), with
        oH = floor((H + top + bottom - dilation*(kH - 1) - 1) / stride) + 1.

    Raises
    ------
    ShapeError
        The channels or bias do not match, or the image is smaller than the kernel.
    ArgumentError
        A setting is out of range.
    """
    input, weight, bias = operands(input, weight, bias)
    check_data_format(data_format)
    settings = stride, padding, dilation, groups, data_format, relu
    problem = _problem(input.shape, weight.shape, shape_of(bias), *settings)
    return Conv2d(problem, data_format)(input, weight, bias)


@takes_one(3)
@operation
def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    dilation: int | tuple[int] = 1,
    groups: int = 1,
) -> Tensor:
    """1-D convolution (cross-correlation).

    y[n, f, i] = bias[f] + sum over c, k of
    weight[f, c, k] * input[n, c, i*stride + k*dilation - left]

    Parameters
    ----------
    input : (N, C, L)
    weight : (F, C / groups, K)
    bias : (F,), or None
    stride, dilation
        In samples.
    padding
        Samples of zeros: an int, (left, right), ``"valid"`` (none) or ``"same"``: output length =
        ceil(input length / stride), an odd sample at the right.
    groups
        Number of groups of channels, convolved separately.

    Returns
    -------
    Tensor
        (N, F, oL), with oL = floor((L + left + right - dilation*(K - 1) - 1) / stride) + 1.

    Raises
    ------
    ShapeError
        The channels or bias do not match, or the signal is shorter than the kernel.
    ArgumentError
        A setting is out of range.
    """
    input, weight, bias = operands(input, weight, bias)
    settings = stride, padding, dilation, groups, "NCL"
    problem = _problem(input.shape, weight.shape, shape_of(bias), *settings)
    return Conv1d(problem, "NCL")(input, weight, bias)


@takes_one(5)
@operation
def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, int, int] = 1,
    padding: Padding = 0,
    dilation: int | tuple[int, int, int] = 1,
    groups: int = 1,
) -> Tensor:
    """3-D convolution (cross-correlation); see :func:`conv2d`.

    Parameters
    ----------
    input : (N, C, D, H, W)
    weight : (F, C / groups, kD, kH, kW)
    bias : (F,), or None
    stride, dilation
        An int or (depth, height, width), in pixels.
    padding
        Pixels of zeros: an int, (pD, pH, pW), ((front, back), (top, bottom), (left, right)),
        ``"valid"`` or ``"same"``.
    groups
        Number of groups of channels, convolved separately.

    Returns
    -------
    Tensor
        (N, F, oD, oH, oW), each size as oH in :func:`conv2d`.

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`conv2d`.
    """
    input, weight, bias = operands(input, weight, bias)
    settings = stride, padding, dilation, groups, "NCDHW"
    problem = _problem(input.shape, weight.shape, shape_of(bias), *settings)
    return Conv3d(problem, "NCDHW")(input, weight, bias)


@memoize
def _problem(
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    bias: tuple[int, ...] | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    data_format: str,
    relu: bool = False,
) -> Problem:
    """Check shapes and settings, and describe the convolution."""
    channels, *size = spatial_size(shape, data_format)
    check_weight(channels, weight, bias, groups, KERNELS[data_format], shape)
    kernel, depth = weight[2:], None
    if data_format == "NCL":
        kernel, padding = (1, *kernel), image_padding(padding)
        stride, dilation = signal_pair(stride, "stride"), signal_pair(dilation, "dilation")
    settings = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    if data_format == "NCDHW":
        volume = window_geometry, tuple(size)
        depth, geometry = volume_geometry(*volume, kernel_name="weight", **settings)
    else:
        geometry = window_geometry((size[0], size[1]), kernel_name="weight", **settings)
    relu = check_flag("relu", relu)
    problem = Problem(geometry, groups, channels, weight[0], shape[0], relu, depth)
    check_size("padding", padding, problem.output_shape)
    return problem


#: the kernel axes of a weight
KERNELS = {"NCL": "K", "NCHW": "kH, kW", "NHWC": "kH, kW", "NCDHW": "kD, kH, kW"}


def check_weight(
    channels: int,
    shape: tuple[int, ...],
    bias: tuple[int, ...] | None,
    groups: int,
    kernel: str,
    input: tuple[int, ...] = (),
) -> None:
    """Check the shapes of a weight (F, C / groups, kernel) and a bias (F,) for an input's channels.

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`conv2d`.
    """
    if len(shape) != 3 + kernel.count(",") or shape[0] < 1:
        raise ShapeError(f"weight has shape {shape}: expected (F, C / groups, {kernel})")
    if not is_int(groups) or groups < 1 or shape[0] % groups:
        raise ArgumentError(
            f"groups={groups!r}: expected an int >= 1 that divides the {shape[0]} filters of weight"
        )
    if channels != shape[1] * groups:
        advice = "check in_channels and data_format"
        hint = channels_last_hint(input, shape[1] * groups, advice)
        raise ShapeError(
            f"input has {channels} channels, but weight {shape} with groups={groups} takes "
            f"{shape[1] * groups}; {hint}"
        )
    check_bias(bias, shape[0])


def shape_of(x: Tensor | None) -> tuple[int, ...] | None:
    """The shape of an optional input, or None."""
    return None if x is None else x.shape


def check_bias(shape: tuple[int, ...] | None, filters: int) -> None:
    """Require a bias, if there is one, to have shape (filters,).

    Raises
    ------
    ShapeError
        It has another shape.
    """
    if shape not in (None, (filters,)):
        raise ShapeError(f"bias has shape {shape}: expected ({filters},)")
