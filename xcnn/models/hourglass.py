"""Hourglass network, for heatmaps of keypoints (Newell et al. 2016, arXiv:1603.06937)."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from .. import init, nn
from ..checks import check_int
from ..tensor import Tensor
from .blocks import conv_norm, norm_relu
from .registry import ImageShape, image_shape, register_block, register_network

__all__ = ["hourglass"]


@register_block
class HourglassBlock(nn.Module):
    """Two 3×3 convolutions beside a connection."""

    def __init__(self, width: int) -> None:
        self.conv1 = conv_norm(width, width, activation=nn.ReLU())
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Any) -> Tensor:
        return norm_relu(self.norm, self.conv2(self.conv1(x)), x)


@register_block
class Hourglass(nn.Module):
    """See :func:`hourglass`."""

    def __init__(self, in_channels: int, num_classes: int, width: int, depth: int) -> None:
        self.stem = conv_norm(in_channels, width, activation=nn.ReLU())
        self.skip, self.down, self.up = (
            [HourglassBlock(width) for _ in range(depth)] for _ in range(3)
        )
        self.bottom = HourglassBlock(width)
        self.head = nn.Conv2d(width, num_classes, 1, nonlinearity="linear")
        init.normal_(self.head.weight, std=0.001)  # heatmaps are nearly 0 everywhere

    def forward(self, x: Any) -> Tensor:
        x, kept = self.stem(x), []
        for skip, down in zip(self.skip, self.down, strict=True):
            kept.append(skip(x))
            x = down(F.max_pool2d(x, 2))
        x = self.bottom(x)
        for up in self.up:
            same = kept.pop()
            x = same + F.interpolate(up(x), size=same.shape[2:])
        return self.head(x)


@register_network
def hourglass(
    num_classes: int = 16, input_shape: ImageShape = (3, 64, 64), width: int = 32, depth: int = 4
) -> Hourglass:
    """One small hourglass: 242,736 parameters for colour images and 16 keypoints.

    Residual blocks of two 3×3 convolutions at each size, max-pooling down and nearest-neighbour
    enlargement up, where what has been kept of the same size is added. The paper's has bottlenecks
    of 256 channels, a quarter of the image's size, and eight of them, one after the other.

    Parameters
    ----------
    num_classes
        Number of keypoints, the channels of the output.
    input_shape
        (channels, height, width), at least 2^depth pixels each way; the weights do not depend on
        height and width.
    width
        Channels at every size.
    depth
        How often the size is halved.

    Returns
    -------
    Hourglass
        (N, channels, height, width) to heatmaps (N, num_classes, height, width).

    Raises
    ------
    ArgumentError
        Images too small, or not an image shape.
    """
    depth = check_int("depth", depth)
    return Hourglass(image_shape(input_shape, "hourglass", 2**depth)[0], num_classes, width, depth)
