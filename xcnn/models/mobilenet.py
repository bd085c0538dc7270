"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381), with torchvision's weight names."""

from __future__ import annotations

from typing import Any

from .. import init, nn
from ..tensor import Tensor
from .blocks import conv_norm, expand, init_weights, normal_001, with_classifier
from .registry import ImageShape, image_shape, register_block, register_classifier

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


@register_block
class InvertedResidual(nn.Module):
    """1×1 expansion, 3×3 depthwise, 1×1 projection; plus the input if the shapes agree.

    Parameters
    ----------
    in_channels, out_channels, stride
        Channels and stride of the block.
    expansion
        Ratio of hidden channels to ``in_channels``.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, expansion: int) -> None:
        hidden = expansion * in_channels
        self.is_residual = stride == 1 and in_channels == out_channels
        self.conv = nn.Sequential(
            *expand(in_channels, hidden, 3, stride, nn.ReLU6), *conv_norm(hidden, out_channels, 1)
        )

    def forward(self, x: Any) -> Tensor:
        return x + self.conv(x) if self.is_residual else self.conv(x)


@register_classifier
def mobilenet_v2(
    num_classes: int = 1000, input_shape: ImageShape = (3, 224, 224), dropout: float = 0.2
) -> nn.Sequential:
    """MobileNetV2 of width 1: 3,504,872 parameters.

    Parameters
    ----------
    num_classes
        Number of classes.
    input_shape
        (channels, height, width); the weights do not depend on height and width.
    dropout
        Dropout probability before the last layer.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to logits (N, num_classes).

    Raises
    ------
    ArgumentError
        Not an image shape.
    """
    with init.skipped():  # init_weights() initialises
        channels = 32
        in_channels = image_shape(input_shape, "mobilenet_v2")[0]
        features: list[nn.Module] = [conv_norm(in_channels, channels, 3, 2, activation=nn.ReLU6())]
        for expansion, out_channels, count, stride in _STAGES:
            for i in range(count):
                block = InvertedResidual(channels, out_channels, 1 if i else stride, expansion)
                features.append(block)
                channels = out_channels
        features.append(conv_norm(channels, 1280, 1, activation=nn.ReLU6()))
        classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(1280, num_classes))
        model = with_classifier(features, classifier)
    return init_weights(model, linear=normal_001)
