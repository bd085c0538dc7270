"""Transposed convolution in one and two dimensions."""

from __future__ import annotations

from typing import Any

from .. import convolution
from ..arrays import Array
from ..backends import Backend
from ..checks import Padding, is_int, single
from ..errors import ArgumentError, ShapeError
from ..geometry import Geometry, transposed
from ..layout import as_rows, batch_first, batch_last, image_size
from ..tensor import Function, Tensor, operation
from .conv import AsImages, AsSignals, across, signal_size
from .linear import bias_backward


class ConvTranspose2d(Function):
    """See :func:`conv_transpose2d`.

    ``geometry`` is that of the convolution which is turned round: its output gradient is given
    here, its input gradient made. What is backward there is forward here, and forward backward.
    """

    arguments = ("input", "weight", "bias")

    def __init__(self, geometry: Geometry, groups: int, data_format: str) -> None:
        self.geometry = geometry
        self.groups = groups
        self.data_format = data_format

    def forward(self, backend: Backend, x: Array, weight: Array, bias: Array | None) -> Array:
        xp = backend.xp
        x, weight = batch_last(xp, x, self.data_format), xp.ascontiguousarray(weight)
        channels, batch = weight.shape[1] * self.groups, x.shape[-1]
        self.method = convolution.choose(
            backend, self.geometry, self.groups, channels, len(weight), batch
        )
        # an image of which only the shape is read: one number, repeated
        image = xp.broadcast_to(xp.zeros((), x.dtype), (channels, *self.geometry.input, batch))
        y, _ = self.method.backward(
            backend, x, image, weight, self.geometry, self.groups, (True, False)
        )
        if bias is not None:
            backend.add_bias(as_rows(y), bias, slice(None), relu=False)
        self.save(x=x, weight=weight)
        return batch_first(y, self.data_format)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        x, weight = self.saved.x, self.saved.weight
        dy = batch_last(backend.xp, dy, self.data_format)
        settings = weight, self.geometry, self.groups
        dx = dweight = None
        if self.needs_grad[0]:
            dx = batch_first(self.method.forward(backend, dy, *settings, None), self.data_format)
        if self.needs_grad[1]:
            _, dweight = self.method.backward(backend, x, dy, *settings, (False, True))
        return dx, dweight, bias_backward(backend, dy, None, self.needs_grad[2])[1]


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

    It is the gradient of :func:`conv2d` with respect to its input, so that a convolution with the
    same weight and settings gives images of the input's size back.

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
        Pixels to add at the bottom and at the right, less than the stride or the dilation: which
        of the sizes that a convolution makes as small as the input's is meant. An int or
        (height, width).
    groups
        Number of groups of channels that are convolved separately.
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
        Channels or bias do not fit, or nothing is left of the output.
    ArgumentError
        A setting out of range.

    References
    ----------
    Zeiler et al. 2010, "Deconvolutional networks".
    """
    input, weight = Tensor.of(input), Tensor.of(weight)
    channels, *size = image_size(input, data_format)
    bias = None if bias is None else Tensor.of(bias)
    check_transposed_weight(channels, weight, bias, groups)
    geometry = transposed(
        (size[0], size[1]), weight.shape[2:], stride, padding, output_padding, dilation, "weight"
    )
    return ConvTranspose2d(geometry, groups, data_format)(input, weight, bias)


def check_transposed_weight(
    channels: int, weight: Tensor, bias: Any, groups: int, kernel: str = "kH, kW"
) -> None:
    """Refuse a weight (C, F / groups, kernel) or a bias (F,) that does not fit the channels.

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`conv_transpose2d`.
    """
    if weight.ndim != 3 + kernel.count(","):
        raise ShapeError(f"weight has shape {weight.shape}: expected (C, F / groups, {kernel})")
    if not is_int(groups) or groups < 1 or weight.shape[0] % groups:
        raise ArgumentError(
            f"groups={groups!r}: expected an int >= 1 that divides the {weight.shape[0]} input "
            "channels of weight"
        )
    if channels != weight.shape[0]:
        raise ShapeError(
            f"input has {channels} channels, but weight {weight.shape} takes {weight.shape[0]}; a "
            "transposed convolution's weight has the input channels first"
        )
    filters = weight.shape[1] * groups
    if bias is not None and tuple(bias.shape) != (filters,):
        raise ShapeError(f"bias has shape {tuple(bias.shape)}: expected ({filters},)")


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
