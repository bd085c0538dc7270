"""Convolution layers."""

from __future__ import annotations

import math
from typing import Any

from .. import backends, init
from .. import functional as F
from ..checks import (
    Padding,
    check_crop,
    check_features,
    check_input,
    check_output_padding,
    check_padding,
    check_padding1d,
    check_padding_mode,
    pair,
    single,
)
from ..errors import ArgumentError
from ..functional.conv import across, signal_size
from ..geometry import output_padding_for, windows
from ..layout import check_data_format, image_size
from ..tensor import Parameter, Tensor
from .module import Module


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


class _Transposed(Convolution):
    """What the transposed convolution layers have in common: their weights."""

    def _make_transposed_weight(
        self, kernel: tuple[int, ...], stride: tuple[int, ...], nonlinearity: str
    ) -> Parameter:
        """Initial weights (in_channels, out_channels / groups, ...).

        As those of a convolution, (out / groups, in / groups, ...) in each group; but an output
        sums only one kernel element of each ``stride``.
        """
        xp, groups = backends.get("cpu").xp, self.groups
        shape = self.out_channels // groups, self.in_channels // groups, *kernel
        drawn = []
        for _ in range(groups):
            part = Parameter(xp.zeros(shape, "float32"))
            init.for_activation_(part, nonlinearity)
            drawn.append(part.data.swapaxes(0, 1))
        return Parameter(xp.concatenate(drawn) * math.sqrt(math.prod(stride)))


class ConvTranspose2d(_Transposed):
    """2-D transposed convolution; see :func:`xcnn.functional.conv_transpose2d` for the formula.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    kernel_size, stride, dilation
        An int or (height, width).
    padding
        An int, (pH, pW), ((top, bottom), (left, right)) or ``"valid"``: what is left out of the
        output.
    output_padding
        What is added to the output at the bottom and right; an int or (height, width).
    groups
        Groups of channels convolved separately; divides both numbers of channels.
    bias
        Whether to add one number per output channel.
    padding_mode
        ``"zeros"`` only.
    data_format
        ``"NCHW"`` or ``"NHWC"``.
    nonlinearity
        As in :class:`Conv2d`.

    Attributes
    ----------
    weight : Parameter (in_channels, out_channels / groups, kH, kW)
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
        output_padding: int | tuple[int, int] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, int] = 1,
        padding_mode: str = "zeros",
        data_format: str = "NCHW",
        nonlinearity: str = "relu",
    ) -> None:
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.stride, self.dilation = pair(stride, "stride"), pair(dilation, "dilation")
        self.padding = check_crop(padding)
        self.output_padding = check_output_padding(output_padding, self.stride, self.dilation)
        _check_only_zeros(padding_mode)
        check_data_format(data_format)
        self.data_format = data_format
        super().__init__(in_channels, out_channels, groups)
        self.weight = self._make_transposed_weight(self.kernel_size, self.stride, nonlinearity)
        self.bias = self._make_bias(bias)

    def forward(self, x: Any, output_size: Any = None) -> Tensor:
        """``output_size``, (H, W) of the output, takes the place of ``output_padding``."""
        x = Tensor.of(x)
        if x.ndim == 4:
            channel_axis = self.data_format.index("C")
            check_input(x, channel_axis, self.in_channels, f"channels in axis {channel_axis}")
        more = self.output_padding
        if output_size is not None:
            _, *size = image_size(x, self.data_format)
            window = self.kernel_size, self.stride, self.padding, self.dilation
            wanted = pair(output_size, "output_size")
            more = output_padding_for(wanted, (size[0], size[1]), *window)
        settings = self.stride, self.padding, more, self.groups, self.dilation, self.data_format
        return F.conv_transpose2d(x, self.weight, self.bias, *settings)

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        first = self.data_format.index("H")
        size = output_shape[first], output_shape[first + 1]
        made_from = windows(size, self.kernel_size, self.stride, self.padding, self.dilation)
        return output_shape[0] * math.prod(made_from.output) * self.weight.size


class ConvTranspose1d(_Transposed):
    """1-D transposed convolution; see :func:`xcnn.functional.conv_transpose1d` for the formula.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    kernel_size, stride, output_padding, dilation
        In samples.
    padding
        An int, (left, right) or ``"valid"``: what is left out of the output.
    groups, bias, padding_mode, nonlinearity
        As in :class:`ConvTranspose2d`.

    Attributes
    ----------
    weight : Parameter (in_channels, out_channels / groups, K)
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
        output_padding: int = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int = 1,
        padding_mode: str = "zeros",
        nonlinearity: str = "relu",
    ) -> None:
        self.kernel_size = single(kernel_size, "kernel_size")
        self.stride, self.dilation = single(stride, "stride"), single(dilation, "dilation")
        self.padding = check_crop(across(padding))[1]
        more = 0, single(output_padding, "output_padding", 0)
        _, self.output_padding = check_output_padding(more, (1, self.stride), (1, self.dilation))
        _check_only_zeros(padding_mode)
        super().__init__(in_channels, out_channels, groups)
        self.weight = self._make_transposed_weight(
            (self.kernel_size,), (self.stride,), nonlinearity
        )
        self.bias = self._make_bias(bias)

    def forward(self, x: Any, output_size: Any = None) -> Tensor:
        """``output_size``, the length of the output, takes the place of ``output_padding``."""
        x = Tensor.of(x)
        if x.ndim == 3:
            check_input(x, 1, self.in_channels, "channels in axis 1")
        more = self.output_padding
        if output_size is not None:
            wanted = 1, single(output_size, "output_size")
            _, more = output_padding_for(wanted, (1, signal_size(x)[1]), *self._window())
        settings = self.stride, self.padding, more, self.groups, self.dilation
        return F.conv_transpose1d(x, self.weight, self.bias, *settings)

    def _window(self) -> tuple[Any, Any, Any, Any]:
        """Kernel, stride, padding and dilation on an image one pixel high."""
        return (1, self.kernel_size), (1, self.stride), across(self.padding), (1, self.dilation)

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        made_from = windows((1, output_shape[2]), *self._window())
        return output_shape[0] * made_from.output[1] * self.weight.size


def _check_only_zeros(padding_mode: str) -> None:
    if padding_mode != "zeros":
        raise ArgumentError(
            f"padding_mode={padding_mode!r}: a transposed convolution's padding is what is left "
            "out of the output, it takes 'zeros' only"
        )
