"""Pooling layers for signals (N, C, L)."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..geometry import check_padding1d, single
from ..tensor import Tensor
from .module import Module


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
        _check(kernel_size, stride, padding, dilation)
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
        _check(kernel_size, stride, padding)
        self.settings = (kernel_size, stride, padding, ceil_mode, count_include_pad)

    def forward(self, x: Any) -> Tensor:
        return F.avg_pool1d(x, *self.settings)


def _check(kernel_size: Any, stride: Any, padding: Any, dilation: Any = 1) -> None:
    """Refuse at once what no input could make right."""
    single(kernel_size, "kernel_size")
    single(dilation, "dilation")
    check_padding1d(padding)
    if stride is not None:
        single(stride, "stride")
