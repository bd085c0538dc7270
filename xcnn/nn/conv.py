"""Convolution layers."""

from __future__ import annotations

import math
from typing import Any

from .. import backends, init
from .. import functional as F
from ..errors import ArgumentError
from ..functional.layout import check_data_format
from ..geometry import Padding, check_padding, pair
from ..tensor import Parameter, Tensor
from .module import Module, check_features, check_input


class Conv2d(Module):
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
        data_format: str = "NCHW",
        nonlinearity: str = "relu",
    ) -> None:
        self.in_channels = check_features("in_channels", in_channels)
        self.out_channels = check_features("out_channels", out_channels)
        self.stride, self.dilation = pair(stride, "stride"), pair(dilation, "dilation")
        self.padding = check_padding(padding)
        self.groups = check_features("groups", groups)
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"groups={groups} must divide in_channels={in_channels} and "
                f"out_channels={out_channels}"
            )
        check_data_format(data_format)
        self.data_format = data_format
        self.kernel_size = pair(kernel_size, "kernel_size")
        xp = backends.get("cpu").xp
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = Parameter(xp.empty(shape, "float32"))
        init.for_activation_(self.weight, nonlinearity)
        self.bias = Parameter(xp.zeros(out_channels, "float32")) if bias else None

    def forward(self, x: Any, relu: bool = False, with_bias: bool = True) -> Tensor:
        x = Tensor.of(x)
        if x.ndim == 4:
            channel_axis = self.data_format.index("C")
            check_input(x, channel_axis, self.in_channels, f"channels in axis {channel_axis}")
        return F.conv2d(
            x,
            self.weight,
            self.bias if with_bias else None,
            self.stride,
            self.padding,
            self.dilation,
            self.groups,
            self.data_format,
            relu,
        )

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        return math.prod(output_shape) * self.weight.size // self.out_channels
