"""Transposed convolution in one to three dimensions."""

from __future__ import annotations

from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..layout import as_matrix, batch_first, batch_last
from ..tensor import Tensor, operands
from .conv import Convolution, problem_of, shape_of
from .dimensions import family

__all__ = ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


class ConvTranspose(Convolution):
    """Transposed convolution in one to three dimensions.

    ``problem`` is the convolution that is transposed: forward here computes its input gradient,
    backward its forward.
    """

    def forward(self, backend: Backend, x: Array, weight: Array, bias: Array | None) -> Array:
        x = batch_last(backend, x, self.data_format)
        kernel = backend.xp.ascontiguousarray(weight).reshape(self.problem.weight_shape)
        self.choose_method(backend, x.dtype)
        y = self.method.input_gradient(backend, self.problem, x, kernel)
        if bias is not None:
            backend.add_bias(as_matrix(y), bias, slice(None), relu=False)
        self.save(x=x, kernel=kernel, shape=weight.shape)
        return batch_first(y, self.data_format)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        dy = batch_last(backend, dy, self.data_format)
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


def _conv_transpose(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int | tuple[int, ...] = 1,
    padding: Any = 0,
    output_padding: int | tuple[int, ...] = 0,
    groups: int = 1,
    dilation: int | tuple[int, ...] = 1,
    data_format: str = "NCHW",
) -> Tensor:
    """Transposed convolution: each pixel of the input adds a weighted kernel to the output.

    Of images, and of signals and volumes correspondingly,

    y[n, f, i*stride + k*dilation - top, j*stride + l*dilation - left] +=
    weight[c, f, k, l] * input[n, c, i, j], over all c, i, j, k, l; then bias[f] is added.

    It is the gradient of :func:`conv2d` with respect to its input: a convolution with the same
    weight and settings maps the output back to the input's size.

    Parameters
    ----------
    input : INPUT
    weight : (C, F / groups, K), (C, F / groups, kH, kW) or (C, F / groups, kD, kH, kW)
        In either data format.
    bias : (F,), or None
    stride, dilation
        In pixels: an int for all axes, or one per axis.
    padding
        Pixels to leave out on each side of the output: an int for all sides, one per axis, one pair
        (begin, end) per axis, or ``"valid"`` (none).
    output_padding
        Pixels to add at the end, less than the stride or the dilation: selects one of the output
        sizes that a convolution maps to the input's size. An int for all axes, or one per axis.
    groups
        Number of groups of channels, convolved separately.
    data_format
        Of images only: ``"NCHW"`` or ``"NHWC"``.

    Returns
    -------
    Tensor
        Of the input's layout, with F channels, and along each axis
        (H - 1)*stride - top - bottom + dilation*(kH - 1) + output_padding + 1 pixels.

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
    settings = stride, padding, dilation, groups, data_format, False, True, output_padding
    problem = problem_of(input.shape, weight.shape, shape_of(bias), *settings)
    return _FUNCTIONS[input.ndim - 3](problem, data_format)(input, weight, bias)


_FUNCTIONS = ConvTranspose1d, ConvTranspose2d, ConvTranspose3d
conv_transpose1d, conv_transpose2d, conv_transpose3d = family(_conv_transpose)
