"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597): a class for each pixel."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from .. import nn
from ..errors import ArgumentError
from ..tensor import Tensor
from .simple import image_shape


class UNet(nn.Module):
    """See :func:`unet`."""

    def __init__(self, in_channels: int, num_classes: int, width: int = 64) -> None:
        widths = [width * 2**i for i in range(5)]
        self.down = [_double(i, o) for i, o in zip([in_channels, *widths], widths, strict=False)]
        back = widths[-2::-1]
        self.up = [nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w in back]
        self.merge = [_double(2 * w, w) for w in back]
        self.head = nn.Conv2d(width, num_classes, 1, nonlinearity="softmax")

    def forward(self, x: Any) -> Tensor:
        kept: list[Tensor] = []
        for block in self.down:
            x = block(F.max_pool2d(x, 2) if kept else x)
            kept.append(x)
        x = kept.pop()
        for up, merge in zip(self.up, self.merge, strict=True):
            same_size = kept.pop()
            x = merge(F.concat([same_size, _fill(up(x), same_size)], 1))
        return self.head(x)


def unet(
    num_classes: int = 2, input_shape: tuple[int, int, int] = (3, 256, 256), width: int = 64
) -> UNet:
    """U-Net with transposed convolutions: 31,037,698 parameters for colour images and two classes.

    Four times down by max-pooling and four times up again, two 3×3 convolutions at each size; on
    the way up they also see what the same size held on the way down. Unlike in the paper, images
    are padded with zeros, so that every pixel gets an answer, and each convolution is followed by
    batch-norm.

    Parameters
    ----------
    num_classes
        Maps of scores to return.
    input_shape
        (channels, height, width), at least 16 pixels each way; the size does not matter to the
        weights.
    width
        Channels of the first size, doubled with each halving.

    Returns
    -------
    UNet
        (N, channels, height, width) to logits (N, num_classes, height, width).

    Raises
    ------
    ArgumentError
        Images too small, or no images.
    """
    channels, *size = image_shape(input_shape, "unet")
    if min(size) < 16:
        raise ArgumentError(f"input_shape={input_shape}: unet needs images of 16×16 and more")
    return UNet(channels, num_classes, width)


def _double(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


def _fill(x: Tensor, like: Tensor) -> Tensor:
    """``x`` with the row and column that pooling an odd size left out, as zeros."""
    rows, columns = (b - a for a, b in zip(x.shape[2:], like.shape[2:], strict=True))
    return F.pad(x, ((0, rows), (0, columns))) if rows or columns else x
