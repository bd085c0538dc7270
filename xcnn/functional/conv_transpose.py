"""Transposed convolution in one to three dimensions."""

from __future__ import annotations

from typing import Any

from .. import config
from ..arrays import Array
from ..backends import Backend
from ..checks import (
    Padding,
    channels_last_hint,
    check_crop,
    check_size,
    is_int,
    memoize,
    signal_pair,
)
from ..convolution import Problem, choose
from ..errors import ArgumentError, ShapeError
from ..geometry import transposed_geometry, volume_geometry
from ..layout import (
    as_matrix,
    batch_first,
    batch_last,
    check_data_format,
    image_padding,
    spatial_size,
)
from ..tensor import Function, Tensor, operands, operation, takes_one
from .conv import KERNELS, check_bias, shape_of

__all__ = ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


class ConvTranspose(Function):
    """Transposed convolution in one to three dimensions.

    ``problem`` is the convolution that is transposed: forward here computes its input gradient,
    backward its forward.
    """

    arguments = ("input", "weight", "bias")

    def __init__(self, problem: Problem, data_format: str) -> None:
        self.problem = problem
        self.data_format = data_format

    def forward(self, backend: Backend, x: Array, weight: Array, bias: Array | None) -> Array:
        x = batch_last(backend.xp, x, self.data_format)
        kernel = backend.xp.ascontiguousarray(weight).reshape(self.problem.weight_shape)
        self.method = choose(self.problem, backend.convolutions, config.convolution)
        y = self.method.input_gradient(backend, self.problem, x, kernel)
        if bias is not None:
            backend.add_bias(as_matrix(y), bias, slice(None), relu=False)
        self.save(x=x, kernel=kernel, shape=weight.shape)
        return batch_first(y, self.data_format)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        dy = batch_last(backend.xp, dy, self.data_format)
        _, dbias = backend.bias_backward(dy, None, self.needs_grad[2])
        dx = dweight = None
        if self.needs_grad[0]:
            dx = self.method.forward(backend, self.problem, dy, self.saved.kernel, None)
            dx = batch_first(dx, self.data_format)
        if self.needs_grad[1]:
            dweight = self.method.weight_gradient(backend, self.problem, self.saved.x, dy)
            dweight = dweight.reshape(self.saved.shape)
        return dx, dweight, dbias


class ConvTranspose1d(ConvTranspose):
    """See :func:`conv_transpose1d`."""


class ConvTranspose2d(ConvTranspose):
    """See :func:`conv_transpose2d`."""


class ConvTranspose3d(ConvTranspose):
    """See :func:`conv_transpose3d`."""


@takes_one(4)
@operation
def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, int] = 1,
    padding: Padding = 0,
    output_padding: int | tuple[int, int] = 0,
    groups: int = 1,
    dilation: int | tuple[int, int] = 1,
    data_format: str = "NCHW",
) -> Tensor:
    """2-D transposed convolution: each pixel of the input adds a weighted kernel to the output.

    y[n, f, i*stride + k*dilation - top, j*stride + l*dilation - left] +=
    weight[c, f, k, l] * input[n, c, i, j], over all c, i, j, k, l; then bias[f] is added.

    It is the gradient of :func:`conv2d` with respect to its input: a convolution with the same
    weight and settings maps the output back to the input's size.

    Parameters
    ----------
    input : (N, C, H, W), or (N, H, W, C) with ``data_format="NHWC"``
    weight : (C, F / groups, kH, kW), in either data format
    bias : (F,), or None
    stride, dilation
        An int or (height, width), in pixels.
    padding
        Pixels to leave out on each side of the output: an int, (pH, pW), ((top, bottom), (left,
        right)) or ``"valid"`` (none).
    output_padding
        Pixels to add at the bottom and right, less than the stride or the dilation: selects one of
        the output sizes that a convolution maps to the input's size. An int or (height, width).
    groups
        Number of groups of channels, convolved separately.
    data_format
        ``"NCHW"`` or ``"NHWC"``.

    Returns
    -------
    Tensor
        (N, F, oH, oW), or (N, oH, oW, F), with
        oH = (H - 1)*stride - top - bottom + dilation*(kH - 1) + output_padding + 1.

    Raises
    ------
    ShapeError
        The channels or bias do not match, or the output would be empty.
    ArgumentError
        A setting is out of range.

    References
    ----------
    Zeiler et al. 2010, "Deconvolutional networks".
    """
    input, weight, bias = operands(input, weight, bias)
    settings = stride, padding, output_padding, dilation, groups, check_data_format(data_format)
    problem = _problem(input.shape, weight.shape, shape_of(bias), *settings)
    return ConvTranspose2d(problem, data_format)(input, weight, bias)


def check_transposed_weight(
    channels: int,
    shape: tuple[int, ...],
    bias: tuple[int, ...] | None,
    groups: int,
    kernel: str,
    input: tuple[int, ...],
) -> None:
    """Check the shapes of a weight (C, F / groups, kernel) and a bias (F,).

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`conv_transpose2d`.
    """
    if len(shape) != 3 + kernel.count(",") or shape[1] < 1:
        raise ShapeError(f"weight has shape {shape}: expected (C, F / groups, {kernel})")
    if not is_int(groups) or groups < 1 or shape[0] % groups:
        raise ArgumentError(
            f"groups={groups!r}: expected an int >= 1 that divides the {shape[0]} input channels "
            "of weight"
        )
    if channels != shape[0]:
        raise ShapeError(
            f"input has {channels} channels, but weight {shape} takes {shape[0]}; "
            + channels_last_hint(
                input,
                shape[0],
                "the weight of a transposed convolution has the input channels first",
            )
        )
    check_bias(bias, shape[1] * groups)


@takes_one(3)
@operation
def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int] = 1,
    padding: Any = 0,
    output_padding: int | tuple[int] = 0,
    groups: int = 1,
    dilation: int | tuple[int] = 1,
) -> Tensor:
    """1-D transposed convolution: each sample of the input adds a weighted kernel to the output.

    y[n, f, i*stride + k*dilation - left] += weight[c, f, k] * input[n, c, i], over all c, i, k;
    then bias[f] is added. See :func:`conv_transpose2d`.

    Parameters
    ----------
    input : (N, C, L)
    weight : (C, F / groups, K)
    bias : (F,), or None
    stride, dilation
        In samples.
    padding
        Samples to leave out on each side of the output: an int, (left, right) or ``"valid"``.
    output_padding
        Samples to add at the right, less than the stride or the dilation.
    groups
        Number of groups of channels, convolved separately.

    Returns
    -------
    Tensor
        (N, F, oL), with
        oL = (L - 1)*stride - left - right + dilation*(K - 1) + output_padding + 1.

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`conv_transpose2d`.
    """
    input, weight, bias = operands(input, weight, bias)
    settings = stride, padding, output_padding, dilation, groups, "NCL"
    problem = _problem(input.shape, weight.shape, shape_of(bias), *settings)
    return ConvTranspose1d(problem, "NCL")(input, weight, bias)


@takes_one(5)
@operation
def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, int, int] = 1,
    padding: Padding = 0,
    output_padding: int | tuple[int, int, int] = 0,
    groups: int = 1,
    dilation: int | tuple[int, int, int] = 1,
) -> Tensor:
    """3-D transposed convolution; see :func:`conv_transpose2d`.

    Parameters
    ----------
    input : (N, C, D, H, W)
    weight : (C, F / groups, kD, kH, kW)
    bias : (F,), or None
    stride, padding, output_padding, groups, dilation
        As in :func:`conv_transpose2d`, for (depth, height, width).

    Returns
    -------
    Tensor
        (N, F, oD, oH, oW), each size as oH in :func:`conv_transpose2d`.

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`conv_transpose2d`.
    """
    input, weight, bias = operands(input, weight, bias)
    settings = stride, padding, output_padding, dilation, groups, "NCDHW"
    problem = _problem(input.shape, weight.shape, shape_of(bias), *settings)
    return ConvTranspose3d(problem, "NCDHW")(input, weight, bias)


@memoize
def _problem(
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    bias: tuple[int, ...] | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    dilation: Any,
    groups: int,
    data_format: str,
) -> Problem:
    """Check shapes and settings, and describe the convolution that is transposed."""
    kernel, depth = weight[2:], None
    channels, *size = spatial_size(shape, data_format)
    check_transposed_weight(channels, weight, bias, groups, KERNELS[data_format], shape)
    if data_format == "NCL":
        kernel, padding = (1, *kernel), image_padding(padding)
        stride, dilation = signal_pair(stride, "stride"), signal_pair(dilation, "dilation")
        output_padding = signal_pair(output_padding, "output_padding", 0)
    settings = {"kernel": kernel, "stride": stride, "dilation": dilation}
    settings |= {"padding": check_crop(padding, len(size)), "output_padding": output_padding}
    if data_format == "NCDHW":
        volume = transposed_geometry, tuple(size)
        depth, geometry = volume_geometry(*volume, kernel_name="weight", **settings)
    else:
        geometry = transposed_geometry((size[0], size[1]), kernel_name="weight", **settings)
    problem = Problem(geometry, groups, weight[1] * groups, channels, shape[0], depth=depth)
    check_size("stride", stride, problem.input_shape)
    return problem
