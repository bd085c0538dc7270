"""Convolution layers."""

from __future__ import annotations

import math
from typing import Any

from .. import backends, init
from .. import functional as F
from ..errors import ArgumentError
from ..functional.layout import check_data_format, image_size
from ..functional.one_dimensional import across, signal_size
from ..geometry import Padding, check_padding, check_padding1d, pair, single, windows
from ..tensor import Parameter, Tensor
from .module import Module, check_features, check_input

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class Convolution(Module):
    """What the convolution layers have in common: channels in groups, weights and a bias."""

    weight: Parameter
    bias: Parameter | None

    def __init__(self, in_channels: int, out_channels: int, groups: int) -> None:
        self.in_channels = check_features("in_channels", in_channels)
        self.out_channels = check_features("out_channels", out_channels)
        self.groups = check_features("groups", groups)
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"groups={groups} must divide in_channels={in_channels} and "
                f"out_channels={out_channels}"
            )

    def _make_weight(self, kernel: tuple[int, ...], nonlinearity: str) -> Parameter:
        """Initial weights (out_channels, in_channels / groups, ...)."""
        shape = (self.out_channels, self.in_channels // self.groups, *kernel)
        weight = Parameter(backends.get("cpu").xp.empty(shape, "float32"))
        init.for_activation_(weight, nonlinearity)
        return weight

    def _make_bias(self, bias: bool) -> Parameter | None:
        xp = backends.get("cpu").xp
        return Parameter(xp.zeros(self.out_channels, "float32")) if bias else None

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        return math.prod(output_shape) * self.weight.size // self.out_channels


class Conv2d(Convolution):
    """2-D convolution; see :func:`xcnn.functional.conv2d` for the formula.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    kernel_size, stride, dilation
        An int or (height, width).
    padding
        An int, (pH, pW), ((top, bottom), (left, right)), ``"valid"`` or ``"same"``.
    groups
        Groups of channels convolved separately; divides both numbers of channels.
    bias
        Whether to add one number per output channel.
    padding_mode
        What the padding consists of: ``"zeros"``, or pixels of the image with ``"reflect"``,
        ``"replicate"`` or ``"circular"`` (:func:`xcnn.functional.pad`).
    data_format
        ``"NCHW"`` or ``"NHWC"``.
    nonlinearity
        The activation that follows; chooses the initial weights
        (:func:`xcnn.init.for_activation_`). The bias starts at zero.

    Attributes
    ----------
    weight : Parameter (out_channels, in_channels / groups, kH, kW)
    bias : Parameter (out_channels,) or None

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: Padding = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        data_format: str = "NCHW",
        nonlinearity: str = "relu",
    ) -> None:
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.stride, self.dilation = pair(stride, "stride"), pair(dilation, "dilation")
        self.padding, self.padding_mode = check_padding(padding), check_padding_mode(padding_mode)
        check_data_format(data_format)
        self.data_format = data_format
        super().__init__(in_channels, out_channels, groups)
        self.weight = self._make_weight(self.kernel_size, nonlinearity)
        self.bias = self._make_bias(bias)

    def forward(self, x: Any, relu: bool = False, with_bias: bool = True) -> Tensor:
        x = Tensor.of(x)
        if x.ndim == 4:
            channel_axis = self.data_format.index("C")
            check_input(x, channel_axis, self.in_channels, f"channels in axis {channel_axis}")
        x, padding = self._padded(x)
        return F.conv2d(
            x,
            self.weight,
            self.bias if with_bias else None,
            self.stride,
            padding,
            self.dilation,
            self.groups,
            self.data_format,
            relu,
        )

    def _padded(self, x: Tensor) -> tuple[Tensor, Padding]:
        """The image, and the padding of zeros that it still needs."""
        if self.padding_mode == "zeros":
            return x, self.padding
        _, *size = image_size(x, self.data_format)
        geometry = windows(
            (size[0], size[1]), self.kernel_size, self.stride, self.padding, self.dilation
        )
        sides, data_format = geometry.padding, self.data_format
        return F.pad(x, sides, data_format=data_format, mode=self.padding_mode), 0


class Conv1d(Convolution):
    """1-D convolution; see :func:`xcnn.functional.conv1d` for the formula.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    kernel_size, stride, dilation
        In samples.
    padding
        An int, (left, right), ``"valid"`` or ``"same"``.
    groups, bias, padding_mode, nonlinearity
        As in :class:`Conv2d`.

    Attributes
    ----------
    weight : Parameter (out_channels, in_channels / groups, K)
    bias : Parameter (out_channels,) or None

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: Any = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        nonlinearity: str = "relu",
    ) -> None:
        self.kernel_size = single(kernel_size, "kernel_size")
        self.stride, self.dilation = single(stride, "stride"), single(dilation, "dilation")
        self.padding, self.padding_mode = check_padding1d(padding), check_padding_mode(padding_mode)
        super().__init__(in_channels, out_channels, groups)
        self.weight = self._make_weight((self.kernel_size,), nonlinearity)
        self.bias = self._make_bias(bias)

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        if x.ndim == 3:
            check_input(x, 1, self.in_channels, "channels in axis 1")
        x, padding = self._padded(x)
        return F.conv1d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def _padded(self, x: Tensor) -> tuple[Tensor, Any]:
        """The signal, and the padding of zeros that it still needs."""
        if self.padding_mode == "zeros":
            return x, self.padding
        steps, gaps = (1, self.stride), (1, self.dilation)
        size, kernel = (1, signal_size(x)[1]), (1, self.kernel_size)
        geometry = windows(size, kernel, steps, across(self.padding), gaps)
        return F.pad(x, geometry.padding[1], mode=self.padding_mode), 0


def check_padding_mode(padding_mode: Any) -> str:
    """Refuse what is no padding mode.

    Raises
    ------
    ArgumentError
        Neither zeros, reflect, replicate nor circular.
    """
    if padding_mode not in _PADDING_MODES:
        raise ArgumentError(
            f"padding_mode={padding_mode!r}: expected one of {', '.join(_PADDING_MODES)}"
        )
    return str(padding_mode)
