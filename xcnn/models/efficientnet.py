"""EfficientNet (Tan & Le 2019, arXiv:1905.11946; 2021, arXiv:2104.00298), with torchvision's weight
names.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
from .registry import ImageShape, family, image_shape, register_block

__all__ = [
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "efficientnet_b4",
    "efficientnet_b5",
    "efficientnet_b6",
    "efficientnet_b7",
    "efficientnet_v2_l",
    "efficientnet_v2_m",
    "efficientnet_v2_s",
]


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
    fused
        Whether one dense convolution replaces the first two, without squeezing.
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
        fused: bool = False,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        hidden = expansion * in_channels
        norm: dict[str, Any] = {"eps": eps, "momentum": momentum}
        self.is_residual = stride == 1 and in_channels == out_channels
        layers: list[nn.Module]
        if fused:
            act = nn.SiLU()
            layers = [conv_norm(in_channels, hidden, kernel_size, stride, 1, act, **norm)]
        else:
            layers = expand(in_channels, hidden, kernel_size, stride, nn.SiLU, **norm)
            layers.append(SqueezeExcitation(hidden, max(1, in_channels // 4)))
        if not fused or expansion > 1:
            layers.append(conv_norm(hidden, out_channels, 1, **norm))
        self.block = nn.Sequential(*layers)
        self.stochastic_depth = StochasticDepth(drop)

    def forward(self, x: Any) -> Tensor:
        y = self.block(x)
        return self.stochastic_depth(y) + x if self.is_residual else y


@family
def _efficientnet(
    num_classes: int = 1000,
    input_shape: ImageShape = (3, 224, 224),
    dropout: float = 0.2,
    drop_blocks: float = 0.2,
    *,
    name: str,
    blocks: tuple[tuple[int, ...], ...],
    channels: tuple[int, ...],
    counts: tuple[int, ...],
    **norm: Any,
) -> nn.Sequential:
    """EfficientNet.

    Parameters
    ----------
    num_classes
        Number of classes.
    input_shape
        (channels, height, width), by default of the images of the paper; the weights do not depend
        on height and width.
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
        shape, (before, *widths, last), index = image_shape(input_shape, name), channels, 0
        features: list[nn.Module] = [conv_norm(shape[0], before, 3, 2, 1, nn.SiLU(), **norm)]
        for width, count, fused, expansion, kernel, stride in zip(
            widths, counts, *blocks, strict=True
        ):
            stage = []
            for i in range(count):
                drop = drop_blocks * index / sum(counts)
                sizes = before, width, kernel, 1 if i else stride, expansion
                stage.append(MBConv(*sizes, drop, bool(fused), **norm))
                before, index = width, index + 1
            features.append(nn.Sequential(*stage))
        features.append(conv_norm(before, last, 1, activation=nn.SiLU(), **norm))
        classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(last, num_classes))
        model = with_classifier(features, classifier)
    return init_weights(model, linear=uniform_by_fan_out)


# of each stage: whether fused, expansion, kernel size, stride of the first block
_B = ((0,) * 7, (1, 6, 6, 6, 6, 6, 6), (3, 3, 5, 3, 5, 5, 3), (1, 2, 2, 2, 1, 2, 1))
_V2 = ((1, 1, 1, 0, 0, 0, 0), (1, 4, 4, 4, 6, 6, 6), (3,) * 7, (1, 2, 2, 2, 1, 2, 1))


def _scaled(
    name: str, parameters: int, width: float, depth: float, size: int, **settings: Any
) -> Callable[..., nn.Sequential]:
    """B0 with ``width`` times its channels and ``depth`` times its blocks, for ``size`` pixels."""
    channels = [make_divisible(width * c) for c in (32, 16, 24, 40, 80, 112, 192, 320)]
    settings |= {"input_shape": (3, size, size), "channels": (*channels, 4 * channels[-1])}
    counts = tuple(math.ceil(depth * n) for n in (1, 2, 2, 3, 3, 4, 1))
    return _efficientnet(name, parameters, blocks=_B, counts=counts, **settings)


_BN = {"eps": 1e-3, "momentum": 0.01}  # TensorFlow's, from where these weights came
efficientnet_b0 = _scaled("efficientnet_b0", 5_288_548, 1.0, 1.0, 224)
efficientnet_b1 = _scaled("efficientnet_b1", 7_794_184, 1.0, 1.1, 240)
efficientnet_b2 = _scaled("efficientnet_b2", 9_109_994, 1.1, 1.2, 288, dropout=0.3)
efficientnet_b3 = _scaled("efficientnet_b3", 12_233_232, 1.2, 1.4, 300, dropout=0.3)
efficientnet_b4 = _scaled("efficientnet_b4", 19_341_616, 1.4, 1.8, 380, dropout=0.4)
efficientnet_b5 = _scaled("efficientnet_b5", 30_389_784, 1.6, 2.2, 456, dropout=0.4, **_BN)
efficientnet_b6 = _scaled("efficientnet_b6", 43_040_704, 1.8, 2.6, 528, dropout=0.5, **_BN)
efficientnet_b7 = _scaled("efficientnet_b7", 66_347_960, 2.0, 3.1, 600, dropout=0.5, **_BN)


def _version_2(
    name: str, parameters: int, size: int, dropout: float, *stages: tuple[int, int]
) -> Callable[..., nn.Sequential]:
    """A network of the second paper, with (channels, blocks) of each stage."""
    channels, counts = zip(*stages, strict=True)
    return _efficientnet(
        name,
        parameters,
        input_shape=(3, size, size),
        dropout=dropout,
        blocks=tuple(column[: len(stages)] for column in _V2),
        channels=(channels[0], *channels, 1280),
        counts=counts,
        eps=1e-3,
    )


_S = (24, 2), (48, 4), (64, 4), (128, 6), (160, 9), (256, 15)
_M = (24, 3), (48, 5), (80, 5), (160, 7), (176, 14), (304, 18), (512, 5)
_L = (32, 4), (64, 7), (96, 7), (192, 10), (224, 19), (384, 25), (640, 7)
efficientnet_v2_s = _version_2("efficientnet_v2_s", 21_458_488, 384, 0.2, *_S)
efficientnet_v2_m = _version_2("efficientnet_v2_m", 54_139_356, 480, 0.3, *_M)
efficientnet_v2_l = _version_2("efficientnet_v2_l", 118_515_272, 480, 0.4, *_L)
