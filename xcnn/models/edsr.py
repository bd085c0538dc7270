"""EDSR, super-resolution (Lim et al. 2017, "Enhanced deep residual networks for single image
super-resolution", arXiv:1707.02921).

With the names of weights of the authors' PyTorch version, without its layers that shift the mean.
"""

from __future__ import annotations

from typing import Any

from .. import functional as F
from .. import init, nn
from ..checks import check_int
from ..tensor import Tensor
from .registry import ImageShape, image_shape, register_block, register_network

__all__ = ["edsr_small"]


@register_block
class EDSRBlock(nn.Module):
    """x + scale · (convolution, ReLU, convolution)(x), without batch norm."""

    def __init__(self, channels: int, residual_scale: float = 1.0) -> None:
        self.body = nn.Sequential(_conv(channels), nn.ReLU(), _conv(channels))
        self.residual_scale = residual_scale

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        return x + self.body(x) * self.residual_scale


@register_block
class EDSR(nn.Module):
    """See :func:`edsr_small`."""

    def __init__(
        self, in_channels: int, channels: int, blocks: int, factor: int, residual_scale: float
    ) -> None:
        self.head = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1))
        chain: list[nn.Module] = [EDSRBlock(channels, residual_scale) for _ in range(blocks)]
        self.body = nn.Sequential(*chain, _conv(channels))
        steps: list[nn.Module] = []
        for step in (2, 2) if factor == 4 else (factor,):
            steps += [_conv(channels, step**2), nn.PixelShuffle(step)]
        last = nn.Conv2d(channels, in_channels, 3, padding=1, nonlinearity="linear")
        init.zeros_(last.weight)  # training starts from bicubic interpolation
        self.tail = nn.Sequential(nn.Sequential(*steps), last)
        self.factor = factor

    def forward(self, x: Any) -> Tensor:
        enlarged = F.interpolate(x, scale_factor=self.factor, mode="bicubic", antialias=True)
        x = self.head(x)
        return enlarged + self.tail(x + self.body(x))


@register_network
def edsr_small(
    num_classes: int | None = None,
    input_shape: ImageShape = (3, 48, 48),
    upscale_factor: int = 2,
    channels: int = 32,
    blocks: int = 4,
    residual_scale: float = 1.0,
) -> EDSR:
    """Enlarges images: EDSR with few blocks, 121,987 parameters for colour and a factor of 2.

    A 3×3 convolution; residual blocks of two convolutions and a ReLU each, without batch norm, and
    a convolution, all skipped by one sum; for each doubling (or for a factor of 3 at once) a
    convolution and a pixel shuffle; a convolution. The paper's baseline has 16 blocks of 64
    channels. Unlike the paper's, the result is added to the image enlarged by bicubic
    interpolation, as in VDSR (Kim et al. 2016, arXiv:1511.04587), and the weights of the last
    convolution are 0 at first, so that training starts from there and takes minutes.

    Parameters
    ----------
    num_classes
        Ignored: this network has no classes.
    input_shape
        (channels, height, width); the weights do not depend on height and width.
    upscale_factor
        Ratio of output to input height and width.
    channels
        Of all convolutions but the last.
    blocks
        Number of residual blocks.
    residual_scale
        Factor of what a block adds; the paper uses 0.1 for 256 channels.

    Returns
    -------
    EDSR
        (N, channels, height, width) to (N, channels, factor · height, factor · width).

    Raises
    ------
    ArgumentError
        Not an image shape, or a number not an int >= 1.
    """
    in_channels = image_shape(input_shape, "edsr_small")[0]
    factor = check_int("upscale_factor", upscale_factor)
    return EDSR(in_channels, channels, check_int("blocks", blocks), factor, residual_scale)


def _conv(channels: int, expansion: int = 1) -> nn.Conv2d:
    return nn.Conv2d(channels, channels * expansion, 3, padding=1, nonlinearity="linear")
