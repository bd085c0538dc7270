"""Layers that change the size of images by interpolation or by rearranging channels."""

from __future__ import annotations

from .. import functional as F
from ..checks import Factor, check_int, check_interpolation
from .operation import OperationLayer

__all__ = ["PixelShuffle", "PixelUnshuffle", "Upsample"]


class Upsample(OperationLayer):
    """Resize images, up or down; see :func:`xcnn.functional.interpolate`."""

    function = staticmethod(F.interpolate)

    def __init__(
        self,
        size: int | tuple[int, int] | None = None,
        scale_factor: Factor | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        check_interpolation(size, scale_factor, mode, align_corners)
        self.size, self.scale_factor = size, scale_factor
        self.mode, self.align_corners = mode, align_corners


class PixelShuffle(OperationLayer):
    """(N, C·r², H, W) to (N, C, H·r, W·r); see :func:`xcnn.functional.pixel_shuffle`."""

    function = staticmethod(F.pixel_shuffle)

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = check_int("upscale_factor", upscale_factor)


class PixelUnshuffle(OperationLayer):
    """(N, C, H·r, W·r) to (N, C·r², H, W); see :func:`xcnn.functional.pixel_unshuffle`."""

    function = staticmethod(F.pixel_unshuffle)

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = check_int("downscale_factor", downscale_factor)
