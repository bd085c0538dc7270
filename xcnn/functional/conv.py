"""Convolution in one and two dimensions."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from .. import convolution
from ..arrays import Array
from ..backends import Backend
from ..checks import Padding, Pair, check_padding1d, single
from ..errors import ArgumentError, ShapeError
from ..geometry import Geometry, windows
from ..layout import batch_first, batch_last, image_size
from ..tensor import Function, Tensor, operation
from .linear import bias_backward


class Conv2d(Function):
    """See :func:`conv2d`."""

    arguments = ("input", "weight", "bias")

    def __init__(self, geometry: Geometry, groups: int, data_format: str, relu: bool) -> None:
        self.geometry = geometry
        self.groups = groups
        self.data_format = data_format
        self.relu = relu

    def forward(self, backend: Backend, x: Array, weight: Array, bias: Array | None) -> Array:
        x = batch_last(backend.xp, x, self.data_format)
        weight = backend.xp.ascontiguousarray(weight)
        self.method = convolution.choose(
            backend, self.geometry, self.groups, len(x), len(weight), x.shape[-1]
        )
        y = self.method.forward(backend, x, weight, self.geometry, self.groups, bias, self.relu)
        self.save(x=x, weight=weight, y=y if self.relu else None)
        return batch_first(y, self.data_format)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        dy = batch_last(backend.xp, dy, self.data_format)
        dz, dbias = bias_backward(backend, dy, self.saved.y, self.needs_grad[2])
        dx, dweight = self.method.backward(
            backend,
            dz,
            self.saved.x,
            self.saved.weight,
            self.geometry,
            self.groups,
            self.needs_grad[:2],
        )
        return None if dx is None else batch_first(dx, self.data_format), dweight, dbias


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
        Number of groups of channels that are convolved separately.
    data_format
        ``"NCHW"`` or ``"NHWC"``.
    relu
        Return max(y, 0), made in one pass with the bias.

    Returns
    -------
    Tensor
        (N, F, oH, oW), or (N, oH, oW, F), with
        oH = floor((H + top + bottom - dilation*(kH - 1) - 1) / stride) + 1.

    Raises
    ------
    ShapeError
        Channels or bias do not fit, or the image is smaller than the kernel.
    ArgumentError
        A setting out of range.
    """
    input, weight = Tensor.of(input), Tensor.of(weight)
    channels, height, width = image_size(input, data_format)
    bias = None if bias is None else Tensor.of(bias)
    check_weight(channels, weight, bias, groups)
    kernel = weight.shape[2:]
    geometry = windows((height, width), kernel, stride, padding, dilation, kernel_name="weight")
    return Conv2d(geometry, groups, data_format, relu)(input, weight, bias)


def check_weight(
    channels: int, weight: Tensor, bias: Any, groups: int, kernel: str = "kH, kW"
) -> None:
    """Refuse a weight (F, C / groups, kernel) or a bias (F,) that does not fit the channels.

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`conv2d`.
    """
    if weight.ndim != 3 + kernel.count(","):
        raise ShapeError(f"weight has shape {weight.shape}: expected (F, C / groups, {kernel})")
    filters = weight.shape[0]
    if not isinstance(groups, Integral) or groups < 1 or filters % groups:
        raise ArgumentError(
            f"groups={groups!r}: expected an int >= 1 that divides the {filters} filters of weight"
        )
    if channels != weight.shape[1] * groups:
        raise ShapeError(
            f"input has {channels} channels, but weight {weight.shape} with groups={groups} takes "
            f"{weight.shape[1] * groups}; check in_channels and data_format"
        )
    if bias is not None and tuple(bias.shape) != (filters,):
        raise ShapeError(f"bias has shape {tuple(bias.shape)}: expected ({filters},)")


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
