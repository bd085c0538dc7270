"""Pooling layers."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..checks import (
    OutputSize,
    Padding,
    check_output_size,
    check_padding,
    check_padding1d,
    pair,
    single,
)
from ..layout import check_data_format
from ..tensor import Tensor
from .module import Module


class MaxPool2d(Module):
    """The largest pixel of each window; see :func:`xcnn.functional.max_pool2d`."""

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: Padding = 0,
        dilation: int | tuple[int, int] = 1,
        ceil_mode: bool = False,
        data_format: str = "NCHW",
    ) -> None:
        _check(kernel_size, stride, padding, data_format, dilation)
        self.settings = (kernel_size, stride, padding, dilation, ceil_mode, data_format)

    def forward(self, x: Any) -> Tensor:
        return F.max_pool2d(x, *self.settings)


class AvgPool2d(Module):
    """The mean of each window; see :func:`xcnn.functional.avg_pool2d`."""

    def __init__(
        self,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: Padding = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        data_format: str = "NCHW",
    ) -> None:
        _check(kernel_size, stride, padding, data_format)
        self.settings = (kernel_size, stride, padding, ceil_mode, count_include_pad, data_format)

    def forward(self, x: Any) -> Tensor:
        return F.avg_pool2d(x, *self.settings)


class AdaptiveAvgPool2d(Module):
    """The mean of each of oH × oW windows; see :func:`xcnn.functional.adaptive_avg_pool2d`.

    ``AdaptiveAvgPool2d(1)`` is global average pooling.
    """

    def __init__(self, output_size: OutputSize, data_format: str = "NCHW") -> None:
        check_data_format(data_format)
        self.settings = check_output_size(output_size), data_format

    def forward(self, x: Any) -> Tensor:
        return F.adaptive_avg_pool2d(x, *self.settings)


class AdaptiveMaxPool2d(Module):
    """The largest of each of oH × oW windows; see :func:`xcnn.functional.adaptive_max_pool2d`.

    ``AdaptiveMaxPool2d(1)`` is global max pooling.
    """

    def __init__(self, output_size: OutputSize, data_format: str = "NCHW") -> None:
        check_data_format(data_format)
        self.settings = check_output_size(output_size), data_format

    def forward(self, x: Any) -> Tensor:
        return F.adaptive_max_pool2d(x, *self.settings)


def _check(
    kernel_size: Any, stride: Any, padding: Padding, data_format: str, dilation: Any = 1
) -> None:
    """Refuse at once what no input could make right."""
    pair(kernel_size, "kernel_size")
    pair(dilation, "dilation")
    check_padding(padding)
    check_data_format(data_format)
    if stride is not None:
        pair(stride, "stride")


class MaxPool1d(Module):
    """The largest sample of each window; see :func:`xcnn.functional.max_pool1d`."""

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: Any = 0,
        dilation: int = 1,
        ceil_mode: bool = False,
    ) -> None:
        _check1d(kernel_size, stride, padding, dilation)
        self.settings = (kernel_size, stride, padding, dilation, ceil_mode)

    def forward(self, x: Any) -> Tensor:
        return F.max_pool1d(x, *self.settings)


class AvgPool1d(Module):
    """The mean of each window; see :func:`xcnn.functional.avg_pool1d`."""

    def __init__(
        self,
        kernel_size: int,
        stride: int | None = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        _check1d(kernel_size, stride, padding)
        self.settings = (kernel_size, stride, padding, ceil_mode, count_include_pad)

    def forward(self, x: Any) -> Tensor:
        return F.avg_pool1d(x, *self.settings)


def _check1d(kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1) -> None:
    """Refuse at once what no input could make right."""
    single(kernel_size, "kernel_size")
    single(dilation, "dilation")
    check_padding1d(padding)
    if stride is not None:
        single(stride, "stride")
