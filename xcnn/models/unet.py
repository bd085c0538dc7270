"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597), for semantic segmentation."""

from __future__ import annotations

from functools import partial
from typing import Any

from .. import functional as F
from .. import nn
from ..checks import check_int
from ..tensor import Tensor
from .blocks import conv_norm
from .registry import ImageShape, family, image_shape, register_block, register_network

__all__ = ["unet", "unet_light"]


@register_block
class UNet(nn.Module):
    """See :func:`unet`."""

    def __init__(self, in_channels: int, num_classes: int, width: int = 64, depth: int = 4) -> None:
        widths = [width * 2**i for i in range(depth + 1)]
        self.down = [
            _double_conv(i, o) for i, o in zip([in_channels, *widths], widths, strict=False)
        ]
        reverse = widths[-2::-1]
        self.up = [nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in reverse]
        self.merge = [_double_conv(2 * w, w) for w in reverse]
        self.head = nn.Conv2d(width, num_classes, 1, nonlinearity="softmax")

    def forward(self, x: Any) -> Tensor:
        skips: list[Tensor] = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        x = skips.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            skip = skips.pop()
            x = merge(F.concat([skip, _pad_to(up(x), skip)], 1))
        return self.head(x)


@partial(family, register=register_network)
def _unet(
    num_classes: int = 2,
    input_shape: ImageShape = (3, 256, 256),
    width: int = 64,
    depth: int = 4,
    *,
    name: str,
) -> UNet:
    """U-Net with transposed convolutions, for colour images and two classes.

    Levels of max-pooling down and transposed convolutions up, with two 3×3 convolutions at each
    size and skip connections between equal sizes. Unlike the paper's, the convolutions are padded,
    so that every pixel gets a prediction, and followed by batch-norm.

    Parameters
    ----------
    num_classes
        Output channels.
    input_shape
        (channels, height, width), at least 2^depth pixels each way; the weights do not depend on
        height and width.
    width
        Channels at full size, doubled at each level.
    depth
        Number of levels; the paper has four.

    Returns
    -------
    UNet
        (N, channels, height, width) to logits (N, num_classes, height, width).

    Raises
    ------
    ArgumentError
        Images too small, or not an image shape.
    """
    depth = check_int("depth", depth)
    return UNet(image_shape(input_shape, name, 2**depth)[0], num_classes, width, depth)


unet = _unet("unet", 31_037_698)
unet_light = _unet("unet_light", 482_754, width=16, depth=3)


def _double_conv(in_channels: int, out_channels: int) -> nn.Sequential:
    """Two 3×3 convolutions, each with batch-norm and ReLU."""
    return nn.Sequential(
        *conv_norm(in_channels, out_channels, activation=nn.ReLU()),
        *conv_norm(out_channels, out_channels, activation=nn.ReLU()),
    )


def _pad_to(x: Tensor, like: Tensor) -> Tensor:
    """Append the row and column of zeros that pooling an odd size dropped."""
    rows, columns = (b - a for a, b in zip(x.shape[2:], like.shape[2:], strict=True))
    return F.pad(x, (0, columns, 0, rows)) if rows or columns else x
