"""EfficientNet (Tan & Le 2019, arXiv:1905.11946), with torchvision's weight names."""

from __future__ import annotations

import math
from typing import Any

from .. import init, nn
from ..tensor import Tensor
from .blocks import (
    SqueezeExcitation,
    StochasticDepth,
    conv_norm,
    expand,
    init_weights,
    with_classifier,
)
from .registry import ImageShape, image_shape, register_block, register_classifier

#: expansion, kernel size, stride of the first block, channels, blocks: table 1 of the paper
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


@register_block
class MBConv(nn.Module):
    """An inverted residual with squeeze-and-excitation, SiLU and stochastic depth.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride
        Channels, kernel size and stride of the block.
    expansion
        Ratio of hidden channels to ``in_channels``.
    drop
        Probability of skipping the residual branch in training.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        expansion: int,
        drop: float,
    ) -> None:
        hidden = expansion * in_channels
        self.is_residual = stride == 1 and in_channels == out_channels
        self.block = nn.Sequential(
            *expand(in_channels, hidden, kernel_size, stride, nn.SiLU),
            SqueezeExcitation(hidden, max(1, in_channels // 4)),
            conv_norm(hidden, out_channels, 1),
        )
        self.stochastic_depth = StochasticDepth(drop)

    def forward(self, x: Any) -> Tensor:
        y = self.block(x)
        return self.stochastic_depth(y) + x if self.is_residual else y


@register_classifier
def efficientnet_b0(
    num_classes: int = 1000,
    input_shape: ImageShape = (3, 224, 224),
    dropout: float = 0.2,
    drop_blocks: float = 0.2,
) -> nn.Sequential:
    """EfficientNet-B0: 5,288,548 parameters.

    Parameters
    ----------
    num_classes
        Number of classes.
    input_shape
        (channels, height, width); the weights do not depend on height and width.
    dropout
        Dropout probability before the last layer.
    drop_blocks
        Stochastic depth: the probability of skipping a block rises linearly from 0 in the first
        block towards this value.

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
        channels, index, total = 32, 0, sum(stage[-1] for stage in _STAGES)
        in_channels = image_shape(input_shape, "efficientnet_b0")[0]
        features: list[nn.Module] = [conv_norm(in_channels, channels, 3, 2, activation=nn.SiLU())]
        for expansion, kernel, stride, out_channels, count in _STAGES:
            blocks = []
            for i in range(count):
                drop = drop_blocks * index / total
                block_stride = 1 if i else stride
                blocks.append(MBConv(channels, out_channels, kernel, block_stride, expansion, drop))
                channels, index = out_channels, index + 1
            features.append(nn.Sequential(*blocks))
        features.append(conv_norm(channels, 4 * channels, 1, activation=nn.SiLU()))
        classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(4 * channels, num_classes))
        model = with_classifier(features, classifier)
    return init_weights(model, linear=_uniform_by_fan_out)


def _uniform_by_fan_out(weight: Tensor) -> None:
    """Uniform within ± 1 / √fan_out."""
    bound = 1 / math.sqrt(init.fans(weight.shape)[1])
    init.uniform_(weight, -bound, bound)
