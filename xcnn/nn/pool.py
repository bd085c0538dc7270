"""Pooling layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import functional as F
from ..checks import (
    check_exactly_one,
    check_flag,
    check_number,
    check_output_size,
    check_padding,
    per_axis,
)
from ..errors import XcnnError
from ..geometry import Geometry
from ..layout import check_data_format
from ..tensor import Buffer, Tensor
from .operation import OperationLayer, SpatialLayer

# fmt: off
__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d",
    "AdaptiveMaxPool2d", "AdaptiveMaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d",
    "FractionalMaxPool2d", "FractionalMaxPool3d", "LPPool1d", "LPPool2d", "LPPool3d",
    "MaxPool1d", "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d",
]
# fmt: on

Setting = int | tuple[int, ...]


class _Pool(SpatialLayer, OperationLayer):
    """Base class of pooling layers. A ``data_format`` is for images only."""

    def __init_subclass__(cls, function: Callable[..., Any] | None = None) -> None:
        super().__init_subclass__(function)
        if getattr(cls, "ndim", 2) != 2:
            cls._setting_names = tuple(n for n in cls._setting_names if n != "data_format")

    def _set(
        self, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, data_format: str
    ) -> None:
        self._set_kernel(kernel_size, stride)
        self.padding: Any = check_padding(padding, self.ndim)
        self.ceil_mode = check_flag("ceil_mode", ceil_mode)
        self.data_format = check_data_format(data_format, self.ndim)

    def _set_kernel(self, kernel_size: Any, stride: Any) -> None:
        self.kernel_size = per_axis(kernel_size, "kernel_size", self.ndim)
        self.stride = per_axis(kernel_size if stride is None else stride, "stride", self.ndim)


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Setting,
        stride: Setting | None = None,
        padding: Any = 0,
        dilation: Setting = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
        data_format: str = "NCHW",
    ) -> None:
        self._set(kernel_size, stride, padding, ceil_mode, data_format)
        self.dilation = per_axis(dilation, "dilation", self.ndim)
        self.return_indices = check_flag("return_indices", return_indices)


class MaxPool1d(_MaxPool, function=F.max_pool1d):
    """Maximum of each window of signals; see :func:`xcnn.functional.max_pool1d`."""


class MaxPool2d(_MaxPool, function=F.max_pool2d):
    """Maximum of each window of images; see :func:`xcnn.functional.max_pool2d`."""

    def windows(self, shape: tuple[int, ...]) -> Geometry:
        """The windows in images of ``shape``; an error is one of this layer."""
        settings = self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        try:
            return F.MaxPool2d.windows(shape, *settings, self.data_format)[0]
        except XcnnError as error:
            error.passed_through(self)
            raise


class MaxPool3d(_MaxPool, function=F.max_pool3d):
    """Maximum of each window of volumes; see :func:`xcnn.functional.max_pool3d`."""


class _AvgPool(_Pool):
    def __init__(
        self,
        kernel_size: Setting,
        stride: Setting | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
        data_format: str = "NCHW",
    ) -> None:
        self._set(kernel_size, stride, padding, ceil_mode, data_format)
        self.count_include_pad = check_flag("count_include_pad", count_include_pad)
        self.divisor_override = divisor_override


class AvgPool1d(_AvgPool, function=F.avg_pool1d):
    """Mean of each window of signals; see :func:`xcnn.functional.avg_pool1d`."""


class AvgPool2d(_AvgPool, function=F.avg_pool2d):
    """Mean of each window of images; see :func:`xcnn.functional.avg_pool2d`."""


class AvgPool3d(_AvgPool, function=F.avg_pool3d):
    """Mean of each window of volumes; see :func:`xcnn.functional.avg_pool3d`."""


class _LPPool(_Pool):
    def __init__(
        self,
        norm_type: float,
        kernel_size: Setting,
        stride: Setting | None = None,
        ceil_mode: bool = False,
        data_format: str = "NCHW",
    ) -> None:
        self.norm_type = check_number("norm_type", norm_type)
        self._set(kernel_size, stride, 0, ceil_mode, data_format)


class LPPool1d(_LPPool, function=F.lp_pool1d):
    """Power average of each window of signals; see :func:`xcnn.functional.lp_pool1d`."""


class LPPool2d(_LPPool, function=F.lp_pool2d):
    """Power average of each window of images; see :func:`xcnn.functional.lp_pool2d`."""


class LPPool3d(_LPPool, function=F.lp_pool3d):
    """Power average of each window of volumes; see :func:`xcnn.functional.lp_pool3d`."""


class _AdaptiveAvgPool(_Pool):
    def __init__(self, output_size: Any, data_format: str = "NCHW") -> None:
        self.data_format = check_data_format(data_format, self.ndim)
        self.output_size = check_output_size(output_size, self.ndim)


class AdaptiveAvgPool1d(_AdaptiveAvgPool, function=F.adaptive_avg_pool1d):
    """Mean of each of oL windows; see :func:`xcnn.functional.adaptive_avg_pool1d`."""


class AdaptiveAvgPool2d(_AdaptiveAvgPool, function=F.adaptive_avg_pool2d):
    """Mean of each of oH × oW windows; see :func:`xcnn.functional.adaptive_avg_pool2d`.

    ``AdaptiveAvgPool2d(1)`` is global average pooling.
    """


class AdaptiveAvgPool3d(_AdaptiveAvgPool, function=F.adaptive_avg_pool3d):
    """Mean of each of oD × oH × oW windows; see :func:`xcnn.functional.adaptive_avg_pool3d`."""


class _AdaptiveMaxPool(_AdaptiveAvgPool):
    def __init__(
        self, output_size: Any, return_indices: bool = False, data_format: str = "NCHW"
    ) -> None:
        super().__init__(output_size, data_format)
        self.return_indices = check_flag("return_indices", return_indices)


class AdaptiveMaxPool1d(_AdaptiveMaxPool, function=F.adaptive_max_pool1d):
    """Maximum of each of oL windows; see :func:`xcnn.functional.adaptive_max_pool1d`."""


class AdaptiveMaxPool2d(_AdaptiveMaxPool, function=F.adaptive_max_pool2d):
    """Maximum of each of oH × oW windows; see :func:`xcnn.functional.adaptive_max_pool2d`.

    ``AdaptiveMaxPool2d(1)`` is global max pooling.
    """


class AdaptiveMaxPool3d(_AdaptiveMaxPool, function=F.adaptive_max_pool3d):
    """Maximum of each of oD × oH × oW windows; see :func:`xcnn.functional.adaptive_max_pool3d`."""


class _FractionalMaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Setting,
        output_size: Setting | None = None,
        output_ratio: float | tuple[float, ...] | None = None,
        return_indices: bool = False,
        _random_samples: Any = None,
    ) -> None:
        check_exactly_one(output_size=output_size, output_ratio=output_ratio)
        self._set_kernel(kernel_size, None)
        self.output_size, self.output_ratio = output_size, output_ratio
        self.return_indices = check_flag("return_indices", return_indices)
        samples = _random_samples
        self._random_samples = None if samples is None else Buffer(Tensor.of(samples).data)


class FractionalMaxPool2d(_FractionalMaxPool, function=F.fractional_max_pool2d):
    """Maxima of windows at random distances; see :func:`xcnn.functional.fractional_max_pool2d`."""


class FractionalMaxPool3d(_FractionalMaxPool, function=F.fractional_max_pool3d):
    """Maxima of windows at random distances; see :func:`xcnn.functional.fractional_max_pool3d`."""


class _MaxUnpool(_Pool):
    def __init__(
        self, kernel_size: Setting, stride: Setting | None = None, padding: Setting = 0
    ) -> None:
        self._set_kernel(kernel_size, stride)
        self.padding = per_axis(padding, "padding", self.ndim, 0)

    def forward(self, x: Any, indices: Any, output_size: Any = None) -> Tensor:
        settings = self.kernel_size, self.stride, self.padding, output_size
        return type(self).function(x, indices, *settings)


class MaxUnpool1d(_MaxUnpool, function=F.max_unpool1d):
    """Puts maxima back to where they were; see :func:`xcnn.functional.max_unpool1d`."""


class MaxUnpool2d(_MaxUnpool, function=F.max_unpool2d):
    """Puts maxima back to where they were; see :func:`xcnn.functional.max_unpool2d`."""


class MaxUnpool3d(_MaxUnpool, function=F.max_unpool3d):
    """Puts maxima back to where they were; see :func:`xcnn.functional.max_unpool3d`."""
