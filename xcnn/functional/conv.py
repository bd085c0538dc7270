"""Convolution in one to three dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import config
from ..arrays import Array
from ..backends import Backend
from ..checks import channels_last_hint, check_flag, check_size, is_int, memoize
from ..convolution import Problem, choose
from ..errors import ArgumentError, ShapeError
from ..geometry import Geometry, spatial_geometry, transposed_geometry, window_geometry
from ..layout import as_matrix, batch_first, batch_last, spatial_size
from ..tensor import Function, Tensor, operands
from .dimensions import family

__all__ = ["conv1d", "conv2d", "conv3d"]


class Convolution(Function):
    """Convolution in one to three dimensions; a signal is an image one pixel high.

    With ``pool``, a max pooling of images, bias and ReLU follow it: they are monotonic, so the
    result is the same, from fewer pixels.
    """

    arguments = ("input", "weight", "bias")
    new_gradients = arguments

    def __init__(self, problem: Problem, data_format: str, pool: Geometry | None = None) -> None:
        self.problem = problem
        self.data_format = data_format
        self.pool = pool

    @property
    def relu(self) -> bool:
        """Whether a ReLU follows in the same pass."""
        return self.problem.relu

    def choose_method(self, backend: Backend, dtype: Any) -> None:
        """Choose the method for arrays of a dtype."""
        self.problem = self.problem.compiled_as(backend.compiles(dtype))
        self.method = choose(self.problem, backend.convolutions, config.convolution)

    def forward(self, backend: Backend, x: Array, weight: Array, bias: Array | None) -> Array:
        x = batch_last(backend, x, self.data_format)
        kernel = backend.xp.ascontiguousarray(weight).reshape(self.problem.weight_shape)
        self.choose_method(backend, x.dtype)
        y = self.method.forward(backend, self.problem, x, kernel, None if self.pool else bias)
        argmax = None
        if self.pool:
            y, argmax = backend.max_pool2d(y, self.pool, self.recorded)
            backend.add_bias(as_matrix(y), bias, slice(None), relu=True)
        output = y if self.problem.relu or self.pool else None
        self.save(x=x, kernel=kernel, y=output, argmax=argmax, shape=weight.shape)
        return batch_first(y, self.data_format)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        dy = batch_last(backend, dy, self.data_format)
        dy, dbias = backend.bias_backward(dy, self.saved.y, self.needs_grad[2])
        if self.pool:
            dy = backend.max_pool2d_backward(dy, self.saved.argmax, self.pool)
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

    @classmethod
    def with_pool(
        cls,
        input: Any,
        weight: Any,
        bias: Any,
        settings: tuple[Any, Any, Any, int],
        windows: Callable[[tuple[int, ...]], Geometry],
    ) -> Tensor:
        """Max pooling of relu(conv2d(...)), images (N, C, H, W), with its windows for a shape."""
        input, weight, bias = operands(input, weight, bias)
        problem = problem_of(input.shape, weight.shape, bias.shape, *settings, "NCHW")
        pool = windows((problem.batch, problem.out_channels, *problem.geometry.output))
        return cls(problem, "NCHW", pool)(input, weight, bias)


class Conv3d(Convolution):
    """See :func:`conv3d`."""


def _conv(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    dilation: int | tuple[int, ...] = 1,
    groups: int = 1,
    data_format: str = "NCHW",
    relu: bool = False,
) -> Tensor:
    """Convolution (cross-correlation, as in every deep-learning library).

    Of images, and of signals and volumes correspondingly,

    y[n, f, i, j] = bias[f] + sum over c, k, l of
    weight[f, c, k, l] * input[n, c, i*stride + k*dilation - top, j*stride + l*dilation - left]

    A single example without the batch axis gives one such result; so do all operations on
    signals, images and volumes.

    Parameters
    ----------
    input : INPUT
    weight : (F, C / groups, K), (F, C / groups, kH, kW) or (F, C / groups, kD, kH, kW)
        In either data format.
    bias : (F,), or None
    stride, dilation
        In pixels: an int for all axes, or one per axis.
    padding
        Pixels of zeros: an int for all sides, one per axis, one pair (begin, end) per axis,
        ``"valid"`` (none) or ``"same"``: output size = ceil(input size / stride), an odd pixel at
        the end.
    groups
        Number of groups of channels, convolved separately.
    data_format
        Of images only: ``"NCHW"`` or ``"NHWC"``.
    relu
        Of images only: return max(y, 0), computed in one pass with the bias.

    Returns
    -------
    Tensor
        Of the input's layout, with F channels, and along each axis
        floor((H + top + bottom - dilation*(kH - 1) - 1) / stride) + 1 pixels.

    Raises
    ------
    ShapeError
        The channels or bias do not match, or the image is smaller than the kernel.
    ArgumentError
        A setting is out of range.
    """
    input, weight, bias = operands(input, weight, bias)
    settings = stride, padding, dilation, groups, data_format, relu
    problem = problem_of(input.shape, weight.shape, shape_of(bias), *settings)
    return _FUNCTIONS[input.ndim - 3](problem, data_format)(input, weight, bias)


_FUNCTIONS = Conv1d, Conv2d, Conv3d
conv1d, conv2d, conv3d = family(_conv)


@memoize
def problem_of(
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    bias: tuple[int, ...] | None,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    data_format: str,
    relu: bool = False,
    transposed: bool = False,
    output_padding: Any = 0,
) -> Problem:
    """Check shapes and settings, and describe the convolution, or the one that is transposed."""
    channels, *size = spatial_size(shape, data_format)
    check_weight(channels, weight, bias, groups, data_format, shape, transposed)
    make: Any = transposed_geometry if transposed else window_geometry
    settings = {"kernel": weight[2:], "stride": stride, "dilation": dilation}
    settings |= {"output_padding": output_padding} if transposed else {}
    *depth, geometry = spatial_geometry(make, size, padding, "weight", **settings)
    relu = check_flag("relu", relu)
    sizes = groups, weight[1] * groups, weight[0], shape[0]
    problem = Problem(geometry, *sizes, relu, depth[0] if depth else None)
    if transposed:
        check_size("stride", stride, problem.input_shape)
    else:
        check_size("padding", padding, problem.output_shape)
    return problem


_KERNELS = {"NCL": "K", "NCHW": "kH, kW", "NHWC": "kH, kW", "NCDHW": "kD, kH, kW"}


def check_weight(
    channels: int,
    shape: tuple[int, ...],
    bias: tuple[int, ...] | None,
    groups: int,
    data_format: str,
    input: tuple[int, ...],
    transposed: bool = False,
) -> None:
    """Check the shapes of a weight (F, C / groups, ...) and a bias (F,) for an input's channels.

    If ``transposed``, the weight is (C, F / groups, ...).

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`conv2d`.
    """
    axes = f"{'C, F' if transposed else 'F, C'} / groups, {_KERNELS[data_format]}"
    if len(shape) != len(data_format) or shape[transposed] < 1:
        raise ShapeError(f"weight has shape {shape}: expected ({axes})")
    if not is_int(groups) or groups < 1 or shape[0] % groups:
        what = "input channels" if transposed else "filters"
        raise ArgumentError(
            f"groups={groups!r}: expected an int >= 1 that divides the {shape[0]} {what} of weight"
        )
    takes, filters = (shape[1] * groups, shape[0])[:: -1 if transposed else 1]
    if channels != takes:
        advice = "check in_channels and data_format"
        if transposed:
            advice = "the weight of a transposed convolution has the input channels first"
        raise ShapeError(
            f"input has {channels} channels, but weight {shape} with groups={groups} takes "
            f"{takes}; {channels_last_hint(input, takes, advice)}"
        )
    check_bias(bias, filters)


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
