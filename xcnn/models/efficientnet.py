"""EfficientNet (Tan & Le 2019, arXiv:1905.11946; 2021, arXiv:2104.00298), with torchvision's weight
names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import init, nn
from ..tensor import Tensor
from .blocks import (
    SqueezeExcitation,
    StochasticDepth,
    conv_norm,
    expand,
    init_weights,
    make_divisible,
    uniform_by_fan_out,
    with_classifier,
)
from .registry import ImageShape, image_shape, register_block, variant

_Stage = tuple[type["MBConv"], int, int, int, int, int]


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
    eps, momentum
        Of the batch-norms.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        expansion: int,
        drop: float,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        self.is_residual = stride == 1 and in_channels == out_channels
        self.block = nn.Sequential(
            *self.layers(
                in_channels,
                expansion * in_channels,
                out_channels,
                kernel_size,
                stride,
                eps=eps,
                momentum=momentum,
            )
        )
        self.stochastic_depth = StochasticDepth(drop)

    @staticmethod
    def layers(
        in_channels: int,
        hidden: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        **norm: float,
    ) -> list[nn.Module]:
        """The layers of the residual branch."""
        return [
            *expand(in_channels, hidden, kernel_size, stride, nn.SiLU, **norm),
            SqueezeExcitation(hidden, max(1, in_channels // 4)),
            conv_norm(hidden, out_channels, 1, **norm),
        ]

    def forward(self, x: Any) -> Tensor:
        y = self.block(x)
        return self.stochastic_depth(y) + x if self.is_residual else y


@register_block
class FusedMBConv(MBConv):
    """:class:`MBConv` with one dense convolution for the first two, and without squeezing."""

    @staticmethod
    def layers(
        in_channels: int,
        hidden: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        **norm: float,
    ) -> list[nn.Module]:
        """The layers of the residual branch."""
        first = conv_norm(in_channels, hidden, kernel_size, stride, activation=nn.SiLU(), **norm)
        if hidden == in_channels:
            return [first]  # the channels of a stage without expansion do not change
        return [first, conv_norm(hidden, out_channels, 1, **norm)]


def _efficientnet(
    num_classes: int = 1000,
    input_shape: ImageShape = (3, 224, 224),
    dropout: float = 0.2,
    drop_blocks: float = 0.2,
    *,
    name: str,
    stem: int,
    stages: tuple[_Stage, ...],
    last: int,
    **norm: float,
) -> nn.Sequential:
    """An EfficientNet.

    Parameters
    ----------
    num_classes
        Number of classes.
    input_shape
        (channels, height, width), by default of the images it was trained on; the weights do not
        depend on height and width.
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
        channels, index, total = stem, 0, sum(stage[-1] for stage in stages)
        in_channels = image_shape(input_shape, name)[0]
        first = conv_norm(in_channels, channels, 3, 2, activation=nn.SiLU(), **norm)
        features: list[nn.Module] = [first]
        for kind, expansion, kernel, stride, out_channels, count in stages:
            blocks = []
            for i in range(count):
                sizes = channels, out_channels, kernel, 1 if i else stride, expansion
                blocks.append(kind(*sizes, drop_blocks * index / total, **norm))
                channels, index = out_channels, index + 1
            features.append(nn.Sequential(*blocks))
        features.append(conv_norm(channels, last, 1, activation=nn.SiLU(), **norm))
        classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        model = with_classifier(features, classifier)
    return init_weights(model, linear=uniform_by_fan_out)


#: kind of block, expansion, kernel size, stride of the first block, channels, blocks: table 1
_B0: tuple[_Stage, ...] = (
    (MBConv, 1, 3, 1, 16, 1),
    (MBConv, 6, 3, 2, 24, 2),
    (MBConv, 6, 5, 2, 40, 2),
    (MBConv, 6, 3, 2, 80, 3),
    (MBConv, 6, 5, 1, 112, 3),
    (MBConv, 6, 5, 2, 192, 4),
    (MBConv, 6, 3, 1, 320, 1),
)


def _scaled(
    name: str, parameters: str, width: float, depth: float, size: int, **settings: float
) -> Callable[..., nn.Sequential]:
    """B0 with ``width`` times its channels and ``depth`` times its blocks, for ``size`` pixels."""
    return variant(
        _efficientnet,
        name,
        f"EfficientNet-{name[-2:].upper()}: {parameters} parameters.",
        input_shape=(3, size, size),
        stem=make_divisible(32 * width),
        stages=tuple(
            (*stage[:-2], make_divisible(width * stage[-2]), math.ceil(depth * stage[-1]))
            for stage in _B0
        ),
        last=4 * make_divisible(width * _B0[-1][-2]),
        **settings,
    )


# eps and momentum of B5 to B7: torchvision's weights come from TensorFlow
_tensorflow = {"eps": 1e-3, "momentum": 0.01}
efficientnet_b0 = _scaled("efficientnet_b0", "5,288,548", 1.0, 1.0, 224)
efficientnet_b1 = _scaled("efficientnet_b1", "7,794,184", 1.0, 1.1, 240)
efficientnet_b2 = _scaled("efficientnet_b2", "9,109,994", 1.1, 1.2, 288, dropout=0.3)
efficientnet_b3 = _scaled("efficientnet_b3", "12,233,232", 1.2, 1.4, 300, dropout=0.3)
efficientnet_b4 = _scaled("efficientnet_b4", "19,341,616", 1.4, 1.8, 380, dropout=0.4)
efficientnet_b5 = _scaled(
    "efficientnet_b5", "30,389,784", 1.6, 2.2, 456, dropout=0.4, **_tensorflow
)
efficientnet_b6 = _scaled(
    "efficientnet_b6", "43,040,704", 1.8, 2.6, 528, dropout=0.5, **_tensorflow
)
efficientnet_b7 = _scaled(
    "efficientnet_b7", "66,347,960", 2.0, 3.1, 600, dropout=0.5, **_tensorflow
)

_version_2 = partial(variant, _efficientnet, last=1280, eps=1e-3)
efficientnet_v2_s = _version_2(
    "efficientnet_v2_s",
    "EfficientNetV2-S: 21,458,488 parameters.",
    input_shape=(3, 384, 384),
    stem=24,
    stages=(
        (FusedMBConv, 1, 3, 1, 24, 2),
        (FusedMBConv, 4, 3, 2, 48, 4),
        (FusedMBConv, 4, 3, 2, 64, 4),
        (MBConv, 4, 3, 2, 128, 6),
        (MBConv, 6, 3, 1, 160, 9),
        (MBConv, 6, 3, 2, 256, 15),
    ),
)
efficientnet_v2_m = _version_2(
    "efficientnet_v2_m",
    "EfficientNetV2-M: 54,139,356 parameters.",
    input_shape=(3, 480, 480),
    dropout=0.3,
    stem=24,
    stages=(
        (FusedMBConv, 1, 3, 1, 24, 3),
        (FusedMBConv, 4, 3, 2, 48, 5),
        (FusedMBConv, 4, 3, 2, 80, 5),
        (MBConv, 4, 3, 2, 160, 7),
        (MBConv, 6, 3, 1, 176, 14),
        (MBConv, 6, 3, 2, 304, 18),
        (MBConv, 6, 3, 1, 512, 5),
    ),
)
efficientnet_v2_l = _version_2(
    "efficientnet_v2_l",
    "EfficientNetV2-L: 118,515,272 parameters.",
    input_shape=(3, 480, 480),
    dropout=0.4,
    stem=32,
    stages=(
        (FusedMBConv, 1, 3, 1, 32, 4),
        (FusedMBConv, 4, 3, 2, 64, 7),
        (FusedMBConv, 4, 3, 2, 96, 7),
        (MBConv, 4, 3, 2, 192, 10),
        (MBConv, 6, 3, 1, 224, 19),
        (MBConv, 6, 3, 2, 384, 25),
        (MBConv, 6, 3, 1, 640, 7),
    ),
)
