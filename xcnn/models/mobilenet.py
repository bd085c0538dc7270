"""MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381) and MobileNetV3 (Howard et al. 2019,
arXiv:1905.02244), with torchvision's weight names.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from .. import init, nn
from ..tensor import Tensor
from .blocks import (
    SqueezeExcitation,
    conv_norm,
    expand,
    init_weights,
    make_divisible,
    normal_001,
    with_classifier,
)
from .registry import ImageShape, family, image_shape, register_block, register_classifier

__all__ = ["mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small"]

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

_NORM: dict[str, Any] = {"eps": 1e-3, "momentum": 0.01}  # of MobileNetV3


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


@register_block
class InvertedResidualV3(nn.Module):
    """1×1 expansion, depthwise, squeeze-and-excitation, 1×1 projection; plus the input.

    The input is added if the shapes agree.

    Parameters
    ----------
    in_channels, hidden, out_channels, kernel_size, stride
        Channels, those after the expansion, kernel size and stride.
    squeeze
        Whether to have squeeze-and-excitation.
    activation
        A name that :func:`xcnn.nn.activation` takes.
    """

    def __init__(
        self,
        in_channels: int,
        hidden: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        squeeze: bool,
        activation: str,
    ) -> None:
        self.is_residual = stride == 1 and in_channels == out_channels
        act = partial(nn.activation, activation)
        layers = expand(in_channels, hidden, kernel_size, stride, act, **_NORM)
        if squeeze:
            squeezed = make_divisible(hidden // 4)
            layers.append(SqueezeExcitation(hidden, squeezed, "relu", "hardsigmoid"))
        self.block = nn.Sequential(*layers, conv_norm(hidden, out_channels, 1, **_NORM))

    def forward(self, x: Any) -> Tensor:
        return self.block(x) + x if self.is_residual else self.block(x)


def features_v3(
    in_channels: int, blocks: tuple[tuple[int, ...], ...], plain: int
) -> list[nn.Module]:
    """The layers of a MobileNetV3 before the pooling; the first ``plain`` blocks have ReLU."""
    channels = 16
    features: list[nn.Module] = [
        conv_norm(in_channels, channels, 3, 2, activation=nn.Hardswish(), **_NORM)
    ]
    for i, (hidden, width, kernel, stride, squeeze) in enumerate(zip(*blocks, strict=True)):
        sizes = channels, hidden, width, kernel, stride
        activation = "hardswish" if i >= plain else "relu"
        features.append(InvertedResidualV3(*sizes, bool(squeeze), activation))
        channels = width
    return [*features, conv_norm(channels, 6 * channels, 1, activation=nn.Hardswish(), **_NORM)]


@family
def _mobilenet_v3(
    num_classes: int = 1000,
    input_shape: ImageShape = (3, 224, 224),
    dropout: float = 0.2,
    *,
    name: str,
    blocks: tuple[tuple[int, ...], ...],
    plain: int,
    last: int,
) -> nn.Sequential:
    """MobileNetV3.

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
        features = features_v3(image_shape(input_shape, name)[0], blocks, plain)
        wide = 6 * blocks[1][-1]
        classifier = nn.Sequential(
            nn.Linear(wide, last),
            nn.Hardswish(),
            nn.Dropout(dropout),
            nn.Linear(last, num_classes),
        )
        model = with_classifier(features, classifier)
    return init_weights(model, linear=normal_001)


# hidden channels, channels, kernel size, stride, whether to squeeze: tables 1 and 2 of the paper
LARGE_V3 = (
    (16, 64, 72, 72, 120, 120, 240, 200, 184, 184, 480, 672, 672, 960, 960),
    (16, 24, 24, 40, 40, 40, 80, 80, 80, 80, 112, 112, 160, 160, 160),
    (3, 3, 3, 5, 5, 5, 3, 3, 3, 3, 3, 3, 5, 5, 5),
    (1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1),
    (0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1, 1, 1),
)
_SMALL = (
    (16, 72, 88, 96, 240, 240, 120, 144, 288, 576, 576),
    (16, 24, 24, 40, 40, 40, 48, 48, 96, 96, 96),
    (3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 5),
    (2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1),
    (1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1),
)
mobilenet_v3_large = _mobilenet_v3(
    "mobilenet_v3_large", 5_483_032, blocks=LARGE_V3, plain=6, last=1280
)
mobilenet_v3_small = _mobilenet_v3(
    "mobilenet_v3_small", 2_542_856, blocks=_SMALL, plain=3, last=1024
)
