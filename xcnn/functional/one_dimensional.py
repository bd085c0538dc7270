"""Convolution and pooling of signals (N, C, L): the 2-D operations on images one pixel high."""

from __future__ import annotations

from typing import Any

from ..autograd import Function
from ..backends import Backend
from ..errors import ShapeError
from ..geometry import Pair, check_padding1d, single
from ..tensor import Tensor
from ..tracing import operation
from .conv import check_weight, conv2d
from .conv_transpose import check_transposed_weight, conv_transpose2d
from .pool import avg_pool2d, max_pool2d

Array = Any


class AsImages(Function):
    """(N, C, L) as (N, C, 1, L), a view; ``name`` is for error texts."""

    def __init__(self, name: str = "input") -> None:
        self.arguments = (name,)

    def forward(self, backend: Backend, x: Array) -> Array:
        return x[:, :, None]

    def backward(self, backend: Backend, dy: Array) -> Array:
        return dy[:, :, 0]


class AsSignals(Function):
    """(N, C, 1, L) as (N, C, L), a view."""

    arguments = ("input",)

    def forward(self, backend: Backend, x: Array) -> Array:
        return x[:, :, 0]

    def backward(self, backend: Backend, dy: Array) -> Array:
        return dy[:, :, None]


@operation
def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int = 1,
    padding: Any = 0,
    dilation: int = 1,
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
        Number of groups of channels that are convolved separately.

    Returns
    -------
    Tensor
        (N, F, oL), with oL = floor((L + left + right - dilation*(K - 1) - 1) / stride) + 1.

    Raises
    ------
    ShapeError
        Channels or bias do not fit, or the signal is shorter than the kernel.
    ArgumentError
        A setting out of range.
    """
    input, weight = Tensor.of(input), Tensor.of(weight)
    bias = None if bias is None else Tensor.of(bias)
    check_weight(signal_size(input)[0], weight, bias, groups, "K")
    sides = across(padding)
    steps, gaps = (1, single(stride, "stride")), (1, single(dilation, "dilation"))
    images, kernels = AsImages()(input), AsImages("weight")(weight)
    return AsSignals()(conv2d(images, kernels, bias, steps, sides, gaps, groups))


@operation
def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: int = 1,
    padding: Any = 0,
    output_padding: int = 0,
    groups: int = 1,
    dilation: int = 1,
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
        Number of groups of channels that are convolved separately.

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
    input, weight = Tensor.of(input), Tensor.of(weight)
    bias = None if bias is None else Tensor.of(bias)
    check_transposed_weight(signal_size(input)[0], weight, bias, groups, "K")
    sides, more = across(padding), (0, single(output_padding, "output_padding", 0))
    steps, gaps = (1, single(stride, "stride")), (1, single(dilation, "dilation"))
    images, kernels = AsImages()(input), AsImages("weight")(weight)
    return AsSignals()(conv_transpose2d(images, kernels, bias, steps, sides, more, groups, gaps))


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
    kernel, steps = _window(kernel_size, stride)
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
    kernel, steps = _window(kernel_size, stride)
    sides, images = across(padding), AsImages()(input)
    return AsSignals()(avg_pool2d(images, kernel, steps, sides, ceil_mode, count_include_pad))


def signal_size(x: Any, name: str = "input") -> tuple[int, int]:
    """(channels, length) of a batch of signals.

    Raises
    ------
    ShapeError
        Not three axes.
    """
    if x.ndim != 3:
        raise ShapeError(
            f"{name} has shape {tuple(x.shape)}: expected three axes N, C, L; one signal needs a "
            "batch axis, for example x[None]"
        )
    return x.shape[1], x.shape[2]


def across(padding: Any) -> str | tuple[Pair, Pair]:
    """The padding of a signal as that of an image one pixel high.

    Raises
    ------
    ArgumentError
        Another form.
    """
    sides = check_padding1d(padding)
    return sides if isinstance(sides, str) else ((0, 0), sides)


def _window(kernel_size: Any, stride: Any) -> tuple[Pair, Pair]:
    """Kernel and stride of a pooling as (height, width)."""
    kernel = single(kernel_size, "kernel_size")
    return (1, kernel), (1, kernel if stride is None else single(stride, "stride"))
