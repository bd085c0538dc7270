"""EfficientNet (Tan & Le 2019, arXiv:1905.11946); weights named as in torchvision."""

from __future__ import annotations

import math
from typing import Any

from .. import init, nn
from ..tensor import Tensor
from .blocks import SqueezeExcitation, StochasticDepth, conv_norm, draw
from .simple import image_shape

#: expansion, kernel, stride of the first block, channels, blocks: table 1 of the paper
_STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)


class MBConv(nn.Module):
    """An inverted residual with squeeze-and-excitation, SiLU and stochastic depth.

    Parameters
    ----------
    in_channels, out_channels, kernel_size, stride
        Of the block.
    expansion
        How many times more channels lie between.
    drop
        Probability of leaving out the block in training, where its input is added.
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
        layers: list[nn.Module] = []
        if expansion != 1:
            layers.append(conv_norm(in_channels, hidden, 1, activation=nn.SiLU()))
        layers += [
            conv_norm(hidden, hidden, kernel_size, stride, hidden, nn.SiLU()),
            SqueezeExcitation(hidden, max(1, in_channels // 4)),
            conv_norm(hidden, out_channels, 1),
        ]
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(drop)

    def forward(self, x: Any) -> Tensor:
        y = self.block(x)
        return self.stochastic_depth(y) + x if self.is_residual else y


def efficientnet_b0(
    num_classes: int = 1000,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    dropout: float = 0.2,
    drop_blocks: float = 0.2,
) -> nn.Sequential:
    """EfficientNet-B0: 5,288,548 parameters.

    Parameters
    ----------
    num_classes
        Classes to tell apart.
    input_shape
        (channels, height, width); the size does not matter to the weights.
    dropout
        Probability before the last layer.
    drop_blocks
        Stochastic depth: the probability of leaving out a block grows from 0 towards this one.

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
        channels, number, total = 32, 0, sum(stage[-1] for stage in _STAGES)
        first = image_shape(input_shape, "efficientnet_b0")[0]
        features = [conv_norm(first, channels, 3, 2, activation=nn.SiLU())]
        for expansion, kernel, stride, filters, count in _STAGES:
            blocks = []
            for i in range(count):
                drop = drop_blocks * number / total
                step = 1 if i else stride
                blocks.append(MBConv(channels, filters, kernel, step, expansion, drop))
                channels, number = filters, number + 1
            features.append(nn.Sequential(*blocks))
        features.append(conv_norm(channels, 4 * channels, 1, activation=nn.SiLU()))
        model = nn.Sequential(
            {
                "features": nn.Sequential(*features),
                "avgpool": nn.AdaptiveAvgPool2d(1),
                "flatten": nn.Flatten(),
                "classifier": nn.Sequential(
                    nn.Dropout(dropout), nn.Linear(4 * channels, num_classes)
                ),
            }
        )
    return draw(model, linear=_uniform_by_outputs)


def _uniform_by_outputs(weight: Tensor) -> None:
    init.uniform_(weight, 1 / math.sqrt(len(weight)))
