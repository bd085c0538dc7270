"""RegNet (Radosavovic et al. 2020, "Designing network design spaces", arXiv:2003.13678), with
torchvision's weight names.
"""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any

from .. import functional as F
from .. import init, nn
from ..tensor import Tensor
from .blocks import SqueezeExcitation, conv_norm, init_weights, normal_001, with_head
from .registry import ImageShape, family, image_shape, register_block

__all__ = [
    "regnet_x_1_6gf",
    "regnet_x_3_2gf",
    "regnet_x_8gf",
    "regnet_x_16gf",
    "regnet_x_32gf",
    "regnet_x_400mf",
    "regnet_x_800mf",
    "regnet_y_1_6gf",
    "regnet_y_3_2gf",
    "regnet_y_8gf",
    "regnet_y_16gf",
    "regnet_y_32gf",
    "regnet_y_400mf",
    "regnet_y_800mf",
]


@register_block
class RegNetBlock(nn.Module):
    """1×1, 3×3 in groups and 1×1 convolution, plus the input.

    Parameters
    ----------
    in_channels, channels, stride
        Channels of the input and of the output, and stride.
    group_width
        Channels per group.
    squeezed
        Channels inside the squeeze-and-excitation; 0: none.
    """

    def __init__(
        self, in_channels: int, channels: int, stride: int, group_width: int, squeezed: int
    ) -> None:
        layers: dict[str, nn.Module] = {
            "a": conv_norm(in_channels, channels, 1, activation=nn.ReLU()),
            "b": conv_norm(channels, channels, 3, stride, channels // group_width, nn.ReLU()),
        }
        if squeezed:
            layers["se"] = SqueezeExcitation(channels, squeezed, "relu")
        self.proj: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.proj = conv_norm(in_channels, channels, 1, stride)
        self.f = nn.Sequential({**layers, "c": conv_norm(channels, channels, 1)})

    def forward(self, x: Any) -> Tensor:
        return F.relu(self.f(x) + (x if self.proj is None else self.proj(x)))


def _stages(depth: int, width: int, slope: float, step: float, group: int) -> list[list[int]]:
    """[channels, blocks] of each stage: equation 2 to 4 of the paper.

    The widths of the blocks, ``width`` + ``slope`` · i, are rounded to ``width`` times a power of
    ``step``, to a multiple of 8, and in each stage to a multiple of ``group``.
    """
    powers = [round(math.log(1 + slope * i / width, step)) for i in range(depth)]
    widths = [8 * round(width * step**power / 8) for power in powers]
    stages = []
    for channels, blocks in groupby(widths):
        size = min(group, channels)
        nearest = max(size, int(channels + size / 2) // size * size)
        nearest += size if nearest < 0.9 * channels else 0
        stages.append([nearest, len(list(blocks))])
    return stages


@family
def _regnet(
    num_classes: int = 1000,
    input_shape: ImageShape = (3, 224, 224),
    *,
    name: str,
    blocks: tuple[int, int, float, float, int],
) -> nn.Sequential:
    """RegNet.

    3×3 convolution of stride 2; four stages, each at half the size; global average pooling; one
    linear layer. The blocks of RegNetY have squeeze-and-excitation.

    Parameters
    ----------
    num_classes
        Number of classes.
    input_shape
        (channels, height, width); the weights do not depend on height and width.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to logits (N, num_classes).

    Raises
    ------
    ArgumentError
        Not an image shape.
    """
    channels = 32
    with init.skipped():  # init_weights() initialises
        stem = conv_norm(image_shape(input_shape, name)[0], channels, 3, 2, activation=nn.ReLU())
        trunk = {}
        for number, (width, count) in enumerate(_stages(*blocks), 1):
            stage = {}
            for i in range(count):
                squeezed = round(channels / 4) if name.startswith("regnet_y") else 0
                sizes = channels, width, 1 if i else 2, min(blocks[-1], width), squeezed
                stage[f"block{number}-{i}"] = RegNetBlock(*sizes)
                channels = width
            trunk[f"block{number}"] = nn.Sequential(stage)
        layers = {"stem": stem, "trunk_output": nn.Sequential(trunk)}
        model = with_head(layers, fc=nn.Linear(channels, num_classes))
    return init_weights(model, linear=normal_001)


# number of blocks, width, slope, step, channels per group: see _stages()
regnet_x_400mf = _regnet("regnet_x_400mf", 5_495_976, blocks=(22, 24, 24.48, 2.54, 16))
regnet_x_800mf = _regnet("regnet_x_800mf", 7_259_656, blocks=(16, 56, 35.73, 2.28, 16))
regnet_x_1_6gf = _regnet("regnet_x_1_6gf", 9_190_136, blocks=(18, 80, 34.01, 2.25, 24))
regnet_x_3_2gf = _regnet("regnet_x_3_2gf", 15_296_552, blocks=(25, 88, 26.31, 2.25, 48))
regnet_x_8gf = _regnet("regnet_x_8gf", 39_572_648, blocks=(23, 80, 49.56, 2.88, 120))
regnet_x_16gf = _regnet("regnet_x_16gf", 54_278_536, blocks=(22, 216, 55.59, 2.1, 128))
regnet_x_32gf = _regnet("regnet_x_32gf", 107_811_560, blocks=(23, 320, 69.86, 2.0, 168))
regnet_y_400mf = _regnet("regnet_y_400mf", 4_344_144, blocks=(16, 48, 27.89, 2.09, 8))
regnet_y_800mf = _regnet("regnet_y_800mf", 6_432_512, blocks=(14, 56, 38.84, 2.4, 16))
regnet_y_1_6gf = _regnet("regnet_y_1_6gf", 11_202_430, blocks=(27, 48, 20.71, 2.65, 24))
regnet_y_3_2gf = _regnet("regnet_y_3_2gf", 19_436_338, blocks=(21, 80, 42.63, 2.66, 24))
regnet_y_8gf = _regnet("regnet_y_8gf", 39_381_472, blocks=(17, 192, 76.82, 2.19, 56))
regnet_y_16gf = _regnet("regnet_y_16gf", 83_590_140, blocks=(18, 200, 106.23, 2.48, 112))
regnet_y_32gf = _regnet("regnet_y_32gf", 145_046_770, blocks=(20, 232, 115.89, 2.53, 232))
