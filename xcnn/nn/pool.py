"""Pooling layers."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..functional.layout import check_data_format
from ..geometry import Padding, check_padding, pair
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
