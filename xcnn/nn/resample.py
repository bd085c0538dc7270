"""Layers that change the size of images by interpolation or by rearranging channels."""

from __future__ import annotations

from collections.abc import Sequence

from .. import functional as F
from ..checks import check_int, check_interpolation
from .operation import OperationLayer

# fmt: off
__all__ = [
    "ChannelShuffle", "PixelShuffle", "PixelUnshuffle", "Upsample", "UpsamplingBilinear2d",
    "UpsamplingNearest2d",
]
# fmt: on

Size = int | Sequence[int] | None
Factor = float | Sequence[float] | None


class Upsample(OperationLayer):
    """Resize signals, images or volumes, up or down; see :func:`xcnn.functional.interpolate`."""

    function = staticmethod(F.interpolate)

    def __init__(
        self,
        size: Size = None,
        scale_factor: Factor = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        check_interpolation(size, scale_factor, mode, align_corners, recompute_scale_factor)
        self.size, self.scale_factor = size, scale_factor
        self.mode, self.align_corners = mode, align_corners
        self.recompute_scale_factor = recompute_scale_factor


class UpsamplingNearest2d(OperationLayer):
    """``Upsample`` with ``mode="nearest"``."""

    function = staticmethod(F.upsample_nearest)

    def __init__(self, size: Size = None, scale_factor: Factor = None) -> None:
        check_interpolation(size, scale_factor, "nearest")
        self.size, self.scale_factor = size, scale_factor


class UpsamplingBilinear2d(UpsamplingNearest2d):
    """``Upsample`` of images with ``mode="bilinear"`` and ``align_corners=True``."""

    function = staticmethod(F.upsample_bilinear)


class PixelShuffle(OperationLayer):
    """(..., C·r², H, W) to (..., C, H·r, W·r); see :func:`xcnn.functional.pixel_shuffle`."""

    function = staticmethod(F.pixel_shuffle)

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = check_int("upscale_factor", upscale_factor)


class PixelUnshuffle(OperationLayer):
    """(..., C, H·r, W·r) to (..., C·r², H, W); see :func:`xcnn.functional.pixel_unshuffle`."""

    function = staticmethod(F.pixel_unshuffle)

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = check_int("downscale_factor", downscale_factor)


class ChannelShuffle(OperationLayer):
    """Deal the channels of each group out to all; see :func:`xcnn.functional.channel_shuffle`."""

    function = staticmethod(F.channel_shuffle)

    def __init__(self, groups: int) -> None:
        self.groups = check_int("groups", groups)
