"""Convolution layers."""

from __future__ import annotations

import math
from typing import Any

from .. import backends, init
from .. import functional as F
from ..checks import (
    check_crop,
    check_flag,
    check_int,
    check_output_padding,
    check_padding,
    check_padding_mode,
    check_size,
    per_axis,
)
from ..errors import ArgumentError, show
from ..geometry import Geometry, along_axes, output_padding_for, spatial_geometry, window_geometry
from ..layout import check_data_format, spatial_size
from ..tensor import Parameter, Tensor, takes_one
from .module import full
from .operation import SpatialLayer
from .pool import MaxPool2d

# fmt: off
__all__ = [
    "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d",
]
# fmt: on


class Convolution(SpatialLayer):
    """Base class of the convolution layers: weight, bias and window."""

    padding: Any
    bias: Parameter | None
    padding_mode = "zeros"

    def _create(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any,
        dilation: Any,
        groups: int,
        bias: bool,
        data_format: str,
        nonlinearity: str,
    ) -> None:
        """Check the settings that all have, and create the parameters."""
        self.kernel_size = per_axis(kernel_size, "kernel_size", self.ndim)
        self.stride = per_axis(stride, "stride", self.ndim)
        self.dilation = per_axis(dilation, "dilation", self.ndim)
        self.data_format = check_data_format(data_format, self.ndim)
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

    def _initial_weight(self, nonlinearity: str) -> Parameter:
        """(out_channels, in_channels / groups, ...)."""
        shape = self.out_channels, self.in_channels // self.groups, *self.kernel_size
        weight = Parameter(full(shape))
        init.for_activation_(weight, nonlinearity)
        return weight

    def _size(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The spatial size of an array of this shape."""
        formats = {1: "NCL", 2: self.data_format, 3: "NCDHW"}
        return spatial_size(shape, formats[self.ndim])[1:]

    def _windows(self, size: tuple[int, ...]) -> tuple[Geometry, ...]:
        """The windows of a convolution of images of ``size``."""
        settings: dict[str, Any] = {"kernel": self.kernel_size, "stride": self.stride}
        settings["dilation"] = self.dilation
        return spatial_geometry(window_geometry, size, self.padding, **settings)

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        return math.prod(output_shape) * self.weight.numel() // self.out_channels


class _Conv(Convolution):
    """A ``data_format`` is for images only."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        data_format: str = "NCHW",
        nonlinearity: str = "relu",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self.padding = check_padding(padding, self.ndim)
        self.padding_mode = check_padding_mode(padding_mode)
        window = kernel_size, stride, dilation
        settings: Any = groups, bias, data_format, nonlinearity
        self._create(in_channels, out_channels, *window, *settings)
        self.to(device=device, dtype=dtype)

    def forward(self, x: Any) -> Tensor:
        x, padding = self._padded(x)
        settings = self.stride, padding, self.dilation, self.groups
        return type(self).function(x, self.weight, self.bias, *settings)

    def _padded(self, x: Any) -> tuple[Any, Any]:
        """Apply a non-zero padding mode; return the input and the zero padding that remains."""
        if self.padding_mode == "zeros":
            return x, self.padding
        return takes_one(self.ndim + 2)(self._pad)(Tensor.of(x)), 0

    def _pad(self, x: Tensor) -> Tensor:
        sides = along_axes(self._windows(self._size(x.shape)), "padding", self.ndim)
        sides = (*sides, (0, 0)) if self.data_format == "NHWC" else sides
        return F.pad(x, [n for pair in reversed(sides) for n in pair], self.padding_mode)


class Conv1d(_Conv, function=F.conv1d):
    """1-D convolution; see :func:`xcnn.functional.conv1d` for the formula.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    kernel_size, stride, dilation
        In samples.
    padding
        An int, (left, right), ``"valid"`` or ``"same"``.
    groups, bias, padding_mode, nonlinearity, device, dtype
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


class Conv2d(_Conv, function=F.conv2d):
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
    device, dtype
        Of the parameters; default: the CPU and float32.

    Attributes
    ----------
    weight : Parameter (out_channels, in_channels / groups, kH, kW)
    bias : Parameter (out_channels,) or None

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    def forward(self, x: Any, relu: bool = False, pool: MaxPool2d | None = None) -> Tensor:
        """The convolution; for :class:`Sequential`, with the ReLU or ReLU and pool after it."""
        x, padding = self._padded(x)
        settings = self.stride, padding, self.dilation, self.groups
        if pool is not None:
            return F.Conv2d.with_pool(x, self.weight, self.bias, settings, pool.windows)
        return F.conv2d(x, self.weight, self.bias, *settings, self.data_format, relu)


class Conv3d(_Conv, function=F.conv3d):
    """3-D convolution; see :func:`xcnn.functional.conv3d` for the formula.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    kernel_size, stride, dilation
        An int or (depth, height, width).
    padding
        An int, (pD, pH, pW), ((front, back), (top, bottom), (left, right)), ``"valid"`` or
        ``"same"``.
    groups, bias, padding_mode, nonlinearity, device, dtype
        As in :class:`Conv2d`.

    Attributes
    ----------
    weight : Parameter (out_channels, in_channels / groups, kD, kH, kW)
    bias : Parameter (out_channels,) or None

    Raises
    ------
    ArgumentError
        A value out of range.
    """


class _ConvTranspose(Convolution):
    """A ``data_format`` is for images only."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: Any = 0,
        output_padding: int | tuple[int, ...] = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: int | tuple[int, ...] = 1,
        padding_mode: str = "zeros",
        data_format: str = "NCHW",
        nonlinearity: str = "relu",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        if check_padding_mode(padding_mode) != "zeros":
            raise ArgumentError(
                f"padding_mode={show(padding_mode)}: expected 'zeros'; a transposed convolution "
                "crops its output by the padding"
            )
        self.padding = check_crop(padding, self.ndim)
        window = kernel_size, stride, dilation
        settings: Any = groups, bias, data_format, nonlinearity
        self._create(in_channels, out_channels, *window, *settings)
        self.output_padding = check_output_padding(output_padding, self.stride, self.dilation)
        self.to(device=device, dtype=dtype)

    def _initial_weight(self, nonlinearity: str) -> Parameter:
        """(in_channels, out_channels / groups, ...).

        Each group is initialised like a convolution, (out / groups, in / groups, ...), but scaled
        by √stride along each axis: an output sums only one in ``stride`` kernel elements.
        """
        xp, groups = backends.get("cpu").xp, self.groups
        shape = self.out_channels // groups, self.in_channels // groups, *self.kernel_size
        weights = []
        for _ in range(groups):
            weight = Parameter(full(shape))
            init.for_activation_(weight, nonlinearity)
            weights.append(weight.data.swapaxes(0, 1))
        return Parameter(xp.concatenate(weights) * math.sqrt(math.prod(self.stride)))

    def forward(self, x: Any, output_size: Any = None) -> Tensor:
        """Apply the layer; ``output_size``, without N and C, overrides ``output_padding``."""
        x = Tensor.of(x)
        extra = self._output_padding(x, output_size)
        settings: Any = self.stride, self.padding, extra, self.groups, self.dilation
        if self.ndim == 2:
            settings = *settings, self.data_format
        return type(self).function(x, self.weight, self.bias, *settings)

    def _output_padding(self, x: Tensor, output_size: Any) -> Any:
        """The layer's output padding, or the one that gives ``output_size``."""
        if output_size is None:
            return self.output_padding
        is_shape = isinstance(output_size, list | tuple) and len(output_size) == self.ndim + 2
        size = per_axis(output_size[2:] if is_shape else output_size, "output_size", self.ndim)
        given = self._size(x.shape if x.ndim != self.ndim + 1 else (1, *x.shape))
        window = self.kernel_size, self.stride, self.padding, self.dilation
        return output_padding_for(size, given, *window)

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        windows = self._windows(self._size(output_shape))
        positions = math.prod(along_axes(windows, "output", self.ndim))
        return output_shape[0] * positions * self.weight.numel()


class ConvTranspose1d(_ConvTranspose, function=F.conv_transpose1d):
    """1-D transposed convolution; see :func:`xcnn.functional.conv_transpose1d` for the formula.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    kernel_size, stride, output_padding, dilation
        In samples.
    padding
        An int, (left, right) or ``"valid"``: cropped from the output.
    groups, bias, padding_mode, nonlinearity, device, dtype
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


class ConvTranspose2d(_ConvTranspose, function=F.conv_transpose2d):
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
    nonlinearity, device, dtype
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


class ConvTranspose3d(_ConvTranspose, function=F.conv_transpose3d):
    """3-D transposed convolution; see :func:`xcnn.functional.conv_transpose3d` for the formula.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    kernel_size, stride, output_padding, dilation
        An int or (depth, height, width).
    padding
        An int, (pD, pH, pW), ((front, back), (top, bottom), (left, right)) or ``"valid"``: cropped
        from the output.
    groups, bias, padding_mode, nonlinearity, device, dtype
        As in :class:`ConvTranspose2d`.

    Attributes
    ----------
    weight : Parameter (in_channels, out_channels / groups, kD, kH, kW)
    bias : Parameter (out_channels,) or None

    Raises
    ------
    ArgumentError
        A value out of range.
    """
