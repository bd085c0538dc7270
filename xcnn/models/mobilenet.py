"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381); weights named as in torchvision."""

from __future__ import annotations

from typing import Any

from .. import init, nn
from ..tensor import Tensor
from .blocks import conv_norm, draw, narrow
from .simple import image_shape

#: expansion, channels, blocks, stride of the first block: table 2 of the paper
_STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """More channels by 1×1, depthwise 3×3, fewer channels by 1×1; the input is added if it fits.

    Parameters
    ----------
    in_channels, out_channels, stride
        Of the block.
    expansion
        How many times more channels lie between.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        hidden = expansion * in_channels
        self.is_residual = stride == 1 and in_channels == out_channels
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(conv_norm(in_channels, hidden, 1, activation=nn.ReLU6()))
        layers.append(conv_norm(hidden, hidden, 3, stride, hidden, nn.ReLU6()))
        layers += conv_norm(hidden, out_channels, 1)
        self.conv = nn.Sequential(*layers)

    def forward(self, x: Any) -> Tensor:
        return x + self.conv(x) if self.is_residual else self.conv(x)


def mobilenet_v2(
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    dropout: float = 0.2,
) -> nn.Sequential:
    """MobileNetV2 of width 1: 3,504,872 parameters.

    Parameters
    ----------
    num_classes
        Classes to tell apart.
    input_shape
        (channels, height, width); the size does not matter to the weights.
    dropout
        Probability before the last layer.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to logits (N, num_classes).

    Raises
    ------
    ArgumentError
        No images.
    """
    with init.skipped():  # drawn below
        channels = 32
        first = image_shape(input_shape, "mobilenet_v2")[0]
        features: list[nn.Module] = [conv_norm(first, channels, 3, 2, activation=nn.ReLU6())]
        for expansion, filters, count, stride in _STAGES:
            for i in range(count):
                features.append(InvertedResidual(channels, filters, 1 if i else stride, expansion))
                channels = filters
        features.append(conv_norm(channels, 1280, 1, activation=nn.ReLU6()))
        model = nn.Sequential(
            {
                "features": nn.Sequential(*features),
                "avgpool": nn.AdaptiveAvgPool2d(1),
                "flatten": nn.Flatten(),
                "classifier": nn.Sequential(nn.Dropout(dropout), nn.Linear(1280, num_classes)),
            }
        )
    return draw(model, linear=narrow)
