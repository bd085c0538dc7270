"""Convolution layers."""

from __future__ import annotations

import math
from typing import Any

from .. import backends, init
from .. import functional as F
from ..checks import (
    Padding,
    Pair,
    check_crop,
    check_flag,
    check_int,
    check_output_padding,
    check_padding,
    check_padding1d,
    check_padding_mode,
    check_size,
    pair,
    signal_pair,
    single,
)
from ..errors import ArgumentError
from ..geometry import output_padding_for, window_geometry
from ..layout import check_data_format, image_padding, image_size, signal_size
from ..tensor import Parameter, Tensor
from .module import Module, full

__all__ = ["Conv1d", "Conv2d", "ConvTranspose1d", "ConvTranspose2d"]


class Convolution(Module):
    """Base class of the convolution layers: weight, bias and window."""

    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    bias: Parameter | None
    padding_mode = "zeros"
    data_format = "NCHW"

    def _create_parameters(
        self, in_channels: int, out_channels: int, groups: int, bias: bool, nonlinearity: str
    ) -> None:
        """Check the channels and create the parameters; set the window first."""
        self.in_channels = check_int("in_channels", in_channels)
        self.out_channels = check_int("out_channels", out_channels)
        self.groups = check_int("groups", groups)
        if in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"groups={groups} must divide in_channels={in_channels} and "
                f"out_channels={out_channels}"
            )
        check_size("groups", groups, (groups,), visited=True)
        self.weight = self._initial_weight(nonlinearity)
        self.bias = Parameter(full(self.out_channels)) if check_flag("bias", bias) else None

    def _kernel(self) -> tuple[int, ...]:
        """The kernel size as a tuple."""
        return (self.kernel_size,) if isinstance(self.kernel_size, int) else self.kernel_size

    def _initial_weight(self, nonlinearity: str) -> Parameter:
        """(out_channels, in_channels / groups, ...)."""
        shape = self.out_channels, self.in_channels // self.groups, *self._kernel()
        weight = Parameter(full(shape))
        init.for_activation_(weight, nonlinearity)
        return weight

    def _window(self) -> tuple[Any, Any, Any, Any]:
        """Kernel, stride, padding and dilation in 2-D; a signal is an image one pixel high."""
        window = self.kernel_size, self.stride, self.padding, self.dilation
        if not isinstance(self.kernel_size, int):
            return window
        kernel, stride, padding, dilation = window
        return (1, kernel), (1, stride), image_padding(padding), (1, dilation)

    def _size(self, x: Tensor) -> Pair:
        """Height and width of the input; (1, length) for a signal."""
        is_signal = isinstance(self.kernel_size, int)
        _, height, width = signal_size(x) if is_signal else image_size(x, self.data_format)
        return height, width

    def _padded(self, x: Any) -> tuple[Any, Any]:
        """Apply a non-zero padding mode; return the input and the zero padding that remains."""
        if self.padding_mode == "zeros":
            return x, self.padding
        x = Tensor.of(x)
        sides: Any = window_geometry(self._size(x), *self._window()).padding
        sides = sides[1] if isinstance(self.kernel_size, int) else sides
        return F.pad(x, sides, data_format=self.data_format, mode=self.padding_mode), 0

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        return math.prod(output_shape) * self.weight.numel() // self.out_channels


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
        Number of groups of channels convolved separately; divides both numbers of channels.
    bias
        Whether to add a trainable bias per output channel.
    padding_mode
        ``"zeros"``, ``"reflect"``, ``"replicate"`` or ``"circular"``; see
        :func:`xcnn.functional.pad`.
    data_format
        ``"NCHW"`` or ``"NHWC"``.
    nonlinearity
        The activation that follows; determines the initial weights
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
        self.data_format = check_data_format(data_format)
        self._create_parameters(in_channels, out_channels, groups, bias, nonlinearity)

    def forward(self, x: Any, relu: bool = False, with_bias: bool = True) -> Tensor:
        x, padding = self._padded(x)
        bias = self.bias if with_bias else None
        settings = self.stride, padding, self.dilation, self.groups, self.data_format, relu
        return F.conv2d(x, self.weight, bias, *settings)


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
        self._create_parameters(in_channels, out_channels, groups, bias, nonlinearity)

    def forward(self, x: Any) -> Tensor:
        x, padding = self._padded(x)
        return F.conv1d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class ConvTransposed(Convolution):
    """Base class of the transposed convolution layers."""

    output_padding: Any

    def _initial_weight(self, nonlinearity: str) -> Parameter:
        """(in_channels, out_channels / groups, ...).

        Each group is initialised like a convolution, (out / groups, in / groups, ...), but scaled
        by √stride along each axis: an output sums only one in ``stride`` kernel elements.
        """
        xp, groups = backends.get("cpu").xp, self.groups
        shape = self.out_channels // groups, self.in_channels // groups, *self._kernel()
        weights = []
        for _ in range(groups):
            weight = Parameter(full(shape))
            init.for_activation_(weight, nonlinearity)
            weights.append(weight.data.swapaxes(0, 1))
        return Parameter(xp.concatenate(weights) * math.sqrt(math.prod(self._window()[1])))

    def _output_padding(self, x: Tensor, output_size: Pair | None) -> Pair:
        """The layer's output padding, or the one that gives ``output_size``."""
        if output_size is None:
            return self.output_padding
        return output_padding_for(output_size, self._size(x), *self._window())

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        first = self.data_format.index("H")
        sizes = output_shape[first:][:2] if len(output_shape) == 4 else (1, output_shape[2])
        geometry = window_geometry((sizes[0], sizes[1]), *self._window())
        return output_shape[0] * math.prod(geometry.output) * self.weight.numel()


class ConvTranspose2d(ConvTransposed):
    """2-D transposed convolution; see :func:`xcnn.functional.conv_transpose2d` for the formula.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    kernel_size, stride, dilation
        An int or (height, width).
    padding
        An int, (pH, pW), ((top, bottom), (left, right)) or ``"valid"``: cropped from the output.
    output_padding
        Size added to the output at the bottom and right; an int or (height, width).
    groups
        Number of groups of channels convolved separately; divides both numbers of channels.
    bias
        Whether to add a trainable bias per output channel.
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
        self.data_format = check_data_format(data_format)
        self._create_parameters(in_channels, out_channels, groups, bias, nonlinearity)

    def forward(self, x: Any, output_size: Any = None) -> Tensor:
        """Apply the layer; ``output_size``, (H, W), overrides ``output_padding``."""
        x = Tensor.of(x)
        size = None if output_size is None else pair(output_size, "output_size")
        extra = self._output_padding(x, size)
        settings = self.stride, self.padding, extra, self.groups, self.dilation, self.data_format
        return F.conv_transpose2d(x, self.weight, self.bias, *settings)


class ConvTranspose1d(ConvTransposed):
    """1-D transposed convolution; see :func:`xcnn.functional.conv_transpose1d` for the formula.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    kernel_size, stride, output_padding, dilation
        In samples.
    padding
        An int, (left, right) or ``"valid"``: cropped from the output.
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
        self.padding = check_crop(image_padding(padding))[1]
        self.output_padding = single(output_padding, "output_padding", 0)
        check_output_padding((0, self.output_padding), (1, self.stride), (1, self.dilation))
        _check_only_zeros(padding_mode)
        self._create_parameters(in_channels, out_channels, groups, bias, nonlinearity)

    def forward(self, x: Any, output_size: Any = None) -> Tensor:
        """Apply the layer; ``output_size``, a length, overrides ``output_padding``."""
        x = Tensor.of(x)
        extra = self.output_padding
        if output_size is not None:
            _, extra = self._output_padding(x, signal_pair(output_size, "output_size"))
        settings = self.stride, self.padding, extra, self.groups, self.dilation
        return F.conv_transpose1d(x, self.weight, self.bias, *settings)


def _check_only_zeros(padding_mode: str) -> None:
    if check_padding_mode(padding_mode) != "zeros":
        raise ArgumentError(
            f"padding_mode={padding_mode!r}: expected 'zeros'; a transposed convolution crops its "
            "output by the padding"
        )
