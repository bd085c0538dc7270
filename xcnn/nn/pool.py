"""Pooling layers."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..checks import (
    OutputSize,
    Padding,
    check_flag,
    check_output_size,
    check_padding,
    check_padding1d,
    pair,
    single,
)
from ..layout import check_data_format
from .operation import OperationLayer

__all__ = [
    "AdaptiveAvgPool2d",
    "AdaptiveMaxPool2d",
    "AvgPool1d",
    "AvgPool2d",
    "MaxPool1d",
    "MaxPool2d",
]


class _Pool2d(OperationLayer):
    def _set(
        self, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool, data_format: str
    ) -> None:
        check_data_format(data_format)
        self.kernel_size = pair(kernel_size, "kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, "stride")
        self.padding = check_padding(padding)
        self.ceil_mode = check_flag("ceil_mode", ceil_mode)
        self.data_format = data_format


class MaxPool2d(_Pool2d):
    """Maximum of each window; see :func:`xcnn.functional.max_pool2d`."""

    function = staticmethod(F.max_pool2d)

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: Padding = 0,
        dilation: int | tuple[int, int] = 1,
        ceil_mode: bool = False,
        data_format: str = "NCHW",
    ) -> None:
        self._set(kernel_size, stride, padding, ceil_mode, data_format)
        self.dilation = pair(dilation, "dilation")


class AvgPool2d(_Pool2d):
    """Mean of each window; see :func:`xcnn.functional.avg_pool2d`."""

    function = staticmethod(F.avg_pool2d)

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        data_format: str = "NCHW",
    ) -> None:
        self._set(kernel_size, stride, padding, ceil_mode, data_format)
        self.count_include_pad = check_flag("count_include_pad", count_include_pad)


class _Pool1d(OperationLayer):
    def _set(self, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool) -> None:
        self.kernel_size = single(kernel_size, "kernel_size")
        self.stride = self.kernel_size if stride is None else single(stride, "stride")
        self.padding = check_padding1d(padding)
        self.ceil_mode = check_flag("ceil_mode", ceil_mode)


class MaxPool1d(_Pool1d):
    """Maximum of each window; see :func:`xcnn.functional.max_pool1d`."""

    function = staticmethod(F.max_pool1d)

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: Any = 0,
        dilation: int = 1,
        ceil_mode: bool = False,
    ) -> None:
        self._set(kernel_size, stride, padding, ceil_mode)
        self.dilation = single(dilation, "dilation")


class AvgPool1d(_Pool1d):
    """Mean of each window; see :func:`xcnn.functional.avg_pool1d`."""

    function = staticmethod(F.avg_pool1d)

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self._set(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad = check_flag("count_include_pad", count_include_pad)


class _AdaptivePool2d(OperationLayer):
    def __init__(self, output_size: OutputSize, data_format: str = "NCHW") -> None:
        check_data_format(data_format)
        self.output_size = check_output_size(output_size)
        self.data_format = data_format


class AdaptiveAvgPool2d(_AdaptivePool2d):
    """Mean of each of oH × oW windows; see :func:`xcnn.functional.adaptive_avg_pool2d`.

    ``AdaptiveAvgPool2d(1)`` is global average pooling.
    """

    function = staticmethod(F.adaptive_avg_pool2d)


class AdaptiveMaxPool2d(_AdaptivePool2d):
    """Maximum of each of oH × oW windows; see :func:`xcnn.functional.adaptive_max_pool2d`.

    ``AdaptiveMaxPool2d(1)`` is global max pooling.
    """

    function = staticmethod(F.adaptive_max_pool2d)
