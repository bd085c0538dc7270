"""Convolution layers."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from .. import backends, init
from .. import functional as F
from ..checks import (
    check_crop,
    check_flag,
    check_int,
    check_output_padding,
    check_padding,
    check_padding1d,
    check_padding_mode,
    check_size,
    per_axis,
)
from ..errors import ArgumentError, show
from ..geometry import Geometry, output_padding_for, volume_geometry, window_geometry
from ..layout import check_data_format, image_padding, spatial_size
from ..tensor import Parameter, Tensor, takes_one
from .module import Module, full

__all__ = [
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
]


class Convolution(Module):
    """Base class of the convolution layers: weight, bias and window.

    A subclass sets ``ndim``; with one axis, settings are ints.
    """

    ndim: ClassVar[int]
    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    bias: Parameter | None
    padding_mode = "zeros"
    data_format = "NCHW"

    def _set_window(self, kernel_size: Any, stride: Any, dilation: Any) -> None:
        settings = {"kernel_size": kernel_size, "stride": stride, "dilation": dilation}
        for name, value in settings.items():
            checked = per_axis(value, name, self.ndim)
            setattr(self, name, checked[0] if self.ndim == 1 else checked)

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
        """Kernel, stride, padding and dilation; a signal is an image one pixel high."""
        window = self.kernel_size, self.stride, self.padding, self.dilation
        if self.ndim > 1:
            return window
        kernel, stride, padding, dilation = window
        return (1, kernel), (1, stride), image_padding(padding), (1, dilation)

    def _size(self, x: Tensor) -> tuple[int, ...]:
        """The spatial size of the input; (1, length) for a signal."""
        shape = x.shape if x.ndim != self.ndim + 1 else (1, *x.shape)
        formats = {1: "NCL", 2: self.data_format, 3: "NCDHW"}
        return spatial_size(shape, formats[self.ndim])[1:]

    def _padded(self, x: Any) -> tuple[Any, Any]:
        """Apply a non-zero padding mode; return the input and the zero padding that remains."""
        if self.padding_mode == "zeros":
            return x, self.padding
        return takes_one(self.ndim + 2)(self._pad)(Tensor.of(x)), 0

    def _pad(self, x: Tensor) -> Tensor:
        size: Any = self._size(x)
        if self.ndim == 3:
            deep, flat = self._volume(size)
            sides: Any = deep.padding[0], *flat.padding
        else:
            sides = window_geometry(size, *self._window()).padding[2 - self.ndim :]
        sides = (*sides, (0, 0)) if self.data_format == "NHWC" else sides
        return F.pad(x, [n for pair in reversed(sides) for n in pair], self.padding_mode)

    def _volume(self, size: Any) -> tuple[Geometry, Geometry]:
        """The windows of volumes of ``size``."""
        kernel, stride, padding, dilation = self._window()
        settings = {"kernel": kernel, "stride": stride, "dilation": dilation}
        return volume_geometry(window_geometry, size, padding, **settings)

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        return math.prod(output_shape) * self.weight.numel() // self.out_channels


class _Conv(Convolution):
    """A ``data_format`` is for images only."""

    function: ClassVar[Callable[..., Tensor]]

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
        self._set_window(kernel_size, stride, dilation)
        is_signal, self.padding_mode = self.ndim == 1, check_padding_mode(padding_mode)
        self.padding = check_padding1d(padding) if is_signal else check_padding(padding, self.ndim)
        self.data_format = check_data_format(data_format, self.ndim)
        self._create_parameters(in_channels, out_channels, groups, bias, nonlinearity)
        self.to(device=device, dtype=dtype)

    def forward(self, x: Any) -> Tensor:
        x, padding = self._padded(x)
        settings = self.stride, padding, self.dilation, self.groups
        return type(self).function(x, self.weight, self.bias, *settings)


class Conv1d(_Conv):
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

    ndim = 1
    function = staticmethod(F.conv1d)


class Conv2d(_Conv):
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

    ndim = 2
    function = staticmethod(F.conv2d)

    def forward(self, x: Any, relu: bool = False, with_bias: bool = True) -> Tensor:
        x, padding = self._padded(x)
        bias = self.bias if with_bias else None
        settings = self.stride, padding, self.dilation, self.groups, self.data_format, relu
        return F.conv2d(x, self.weight, bias, *settings)


class Conv3d(_Conv):
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

    ndim = 3
    function = staticmethod(F.conv3d)


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

    def _output_padding(self, x: Tensor, output_size: Any) -> Any:
        """The layer's output padding, or the one that gives ``output_size``."""
        if output_size is None:
            return self.output_padding
        is_shape = isinstance(output_size, list | tuple) and len(output_size) == self.ndim + 2
        size = per_axis(output_size[2:] if is_shape else output_size, "output_size", self.ndim)
        whole = (1, *size) if self.ndim == 1 else size
        extra = output_padding_for(whole, self._size(x), *self._window())
        return extra[1] if self.ndim == 1 else extra

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        (count, *_), size = output_shape, output_shape[-self.ndim :]
        if self.ndim == 3:
            windows = self._volume(size)
            positions = windows[0].output[0] * math.prod(windows[1].output)
        else:
            size = output_shape[self.data_format.index("H") :][:2] if self.ndim == 2 else (1, *size)
            positions = math.prod(window_geometry((size[0], size[1]), *self._window()).output)
        return count * positions * self.weight.numel()


class _ConvTranspose(ConvTransposed):
    """A ``data_format`` is for images only."""

    function: ClassVar[Callable[..., Tensor]]

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
        self._set_window(kernel_size, stride, dilation)
        if self.ndim == 1:
            self.padding = check_crop(image_padding(padding))[1]
            settings = (self.stride,), (self.dilation,)
            (self.output_padding,) = check_output_padding(output_padding, *settings)
        else:
            self.padding = check_crop(padding, self.ndim)
            settings = self.stride, self.dilation
            self.output_padding = check_output_padding(output_padding, *settings)
        _check_only_zeros(padding_mode)
        self.data_format = check_data_format(data_format, self.ndim)
        self._create_parameters(in_channels, out_channels, groups, bias, nonlinearity)
        self.to(device=device, dtype=dtype)

    def forward(self, x: Any, output_size: Any = None) -> Tensor:
        """Apply the layer; ``output_size``, without N and C, overrides ``output_padding``."""
        x = Tensor.of(x)
        extra = self._output_padding(x, output_size)
        settings: Any = self.stride, self.padding, extra, self.groups, self.dilation
        if self.ndim == 2:
            settings = *settings, self.data_format
        return type(self).function(x, self.weight, self.bias, *settings)


class ConvTranspose1d(_ConvTranspose):
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

    ndim = 1
    function = staticmethod(F.conv_transpose1d)


class ConvTranspose2d(_ConvTranspose):
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

    ndim = 2
    function = staticmethod(F.conv_transpose2d)


class ConvTranspose3d(_ConvTranspose):
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

    ndim = 3
    function = staticmethod(F.conv_transpose3d)


def _check_only_zeros(padding_mode: str) -> None:
    if check_padding_mode(padding_mode) != "zeros":
        raise ArgumentError(
            f"padding_mode={show(padding_mode)}: expected 'zeros'; a transposed convolution crops "
            "its output by the padding"
        )
