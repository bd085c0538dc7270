"""Layers between images and the columns of their windows."""

from __future__ import annotations

from .. import functional as F
from ..checks import Pair, pair
from .operation import OperationLayer

__all__ = ["Fold", "Unfold"]


class Unfold(OperationLayer):
    """(N, C, H, W) to (N, C·kH·kW, windows): see :func:`xcnn.functional.unfold`."""

    function = staticmethod(F.unfold)

    def __init__(
        self,
        kernel_size: int | Pair,
        dilation: int | Pair = 1,
        padding: int | Pair = 0,
        stride: int | Pair = 1,
    ) -> None:
        self.kernel_size, self.dilation = (
            pair(kernel_size, "kernel_size"),
            pair(dilation, "dilation"),
        )
        self.padding, self.stride = pair(padding, "padding", 0), pair(stride, "stride")


class Fold(Unfold):
    """(N, C·kH·kW, windows) to (N, C, H, W): see :func:`xcnn.functional.fold`."""

    function = staticmethod(F.fold)

    def __init__(
        self,
        output_size: int | Pair,
        kernel_size: int | Pair,
        dilation: int | Pair = 1,
        padding: int | Pair = 0,
        stride: int | Pair = 1,
    ) -> None:
        self.output_size = pair(output_size, "output_size")
        self.kernel_size, self.dilation = (
            pair(kernel_size, "kernel_size"),
            pair(dilation, "dilation"),
        )
        self.padding, self.stride = pair(padding, "padding", 0), pair(stride, "stride")
