"""Layers that change the size of images by interpolation or by rearranging channels."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..checks import Factor, check_factor, check_interpolation
from ..tensor import Tensor
from .module import Module


class Upsample(Module):
    """Images in another size, larger or smaller; see :func:`xcnn.functional.interpolate`."""

    def __init__(
        self,
        size: int | tuple[int, int] | None = None,
        scale_factor: Factor | None = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
    ) -> None:
        check_interpolation(size, scale_factor, mode, align_corners)
        self.settings = (size, scale_factor, mode, align_corners)

    def forward(self, x: Any) -> Tensor:
        return F.interpolate(x, *self.settings)


class PixelShuffle(Module):
    """(N, C·r², H, W) to (N, C, H·r, W·r); see :func:`xcnn.functional.pixel_shuffle`."""

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = check_factor("upscale_factor", upscale_factor)

    def forward(self, x: Any) -> Tensor:
        return F.pixel_shuffle(x, self.upscale_factor)


class PixelUnshuffle(Module):
    """(N, C, H·r, W·r) to (N, C·r², H, W); see :func:`xcnn.functional.pixel_unshuffle`."""

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = check_factor("downscale_factor", downscale_factor)

    def forward(self, x: Any) -> Tensor:
        return F.pixel_unshuffle(x, self.downscale_factor)
