"""Layers between images and the columns of their windows."""

from __future__ import annotations

from .. import functional as F
from ..checks import Pair, pair
from .operation import OperationLayer

__all__ = ["Fold", "Unfold"]

Size = int | Pair


class Unfold(OperationLayer, function=F.unfold):
    """(N, C, H, W) to (N, C·kH·kW, windows): see :func:`xcnn.functional.unfold`."""

    def __init__(
        self, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
    ) -> None:
        self.kernel_size, self.stride = pair(kernel_size, "kernel_size"), pair(stride, "stride")
        self.padding, self.dilation = pair(padding, "padding", 0), pair(dilation, "dilation")


class Fold(Unfold, function=F.fold):
    """(N, C·kH·kW, windows) to (N, C, H, W): see :func:`xcnn.functional.fold`."""

    def __init__(
        self,
        output_size: Size,
        kernel_size: Size,
        dilation: Size = 1,
        padding: Size = 0,
        stride: Size = 1,
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = pair(output_size, "output_size")
