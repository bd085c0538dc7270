"""ConvNeXt (Liu et al. 2022, "A ConvNet for the 2020s", arXiv:2201.03545), with torchvision's
weight names.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from .. import functional as F
from .. import init, nn
from ..tensor import Parameter, Tensor
from .blocks import StochasticDepth, init_weights, normal_002
from .registry import ImageShape, family, image_shape, register_block

__all__ = ["convnext_base", "convnext_large", "convnext_small", "convnext_tiny"]


@register_block
class Permute(nn.Module):
    """Reorder the axes."""

    def __init__(self, dims: tuple[int, ...]) -> None:
        self.dims = dims

    def forward(self, x: Any) -> Tensor:
        return F.permute(x, self.dims)


@register_block
class LayerNorm2d(nn.LayerNorm):
    """Layer normalisation over the channels of (N, C, H, W)."""

    def forward(self, x: Any) -> Tensor:
        return F.permute(super().forward(F.permute(x, (0, 2, 3, 1))), (0, 3, 1, 2))


@register_block
class ConvNeXtBlock(nn.Module):
    """7×7 depthwise convolution, layer-norm, and a GELU between two linear layers on each pixel.

    Its output, times a trained scale per channel, is added to the input.

    Parameters
    ----------
    channels
        Channels.
    layer_scale
        Initial scale.
    drop
        Probability of skipping the residual branch in training.
    """

    def __init__(self, channels: int, layer_scale: float, drop: float) -> None:
        self.layer_scale = Parameter(np.full((channels, 1, 1), layer_scale, np.float32))
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 7, padding=3, groups=channels),
            Permute((0, 2, 3, 1)),
            nn.LayerNorm(channels, eps=1e-6),
            nn.Linear(channels, 4 * channels),
            nn.GELU(),
            nn.Linear(4 * channels, channels),
            Permute((0, 3, 1, 2)),
        )
        self.stochastic_depth = StochasticDepth(drop)

    def forward(self, x: Any) -> Tensor:
        return self.stochastic_depth(self.layer_scale * self.block(x)) + x


@family
def _convnext(
    num_classes: int = 1000,
    input_shape: ImageShape = (3, 224, 224),
    drop_blocks: float = 0.1,
    *,
    name: str,
    width: int,
    count: int,
) -> nn.Sequential:
    """ConvNeXt.

    4×4 convolution of stride 4; four stages, each at half the size and twice the channels of the
    one before; global average pooling; one linear layer.

    Parameters
    ----------
    num_classes
        Number of classes.
    input_shape
        (channels, height, width), at least 32×32 pixels; the weights do not depend on height and
        width.
    drop_blocks
        Stochastic depth: the probability of skipping a block rises linearly from 0 in the first
        block to this value in the last.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to logits (N, num_classes).

    Raises
    ------
    ArgumentError
        Images too small, or not an image shape.
    """
    counts = (3, 3, count, 3)
    norm = partial(LayerNorm2d, eps=1e-6)
    with init.skipped():  # init_weights() initialises
        in_channels, channels, index = image_shape(input_shape, name, 32)[0], width, 0
        features = [nn.Sequential(nn.Conv2d(in_channels, channels, 4, stride=4), norm(channels))]
        for stage, blocks in enumerate(counts):
            if stage:
                halve = nn.Conv2d(channels, 2 * channels, 2, stride=2)
                features.append(nn.Sequential(norm(channels), halve))
                channels *= 2
            drops = [drop_blocks * i / (sum(counts) - 1) for i in range(index, index + blocks)]
            features.append(nn.Sequential(*(ConvNeXtBlock(channels, 1e-6, drop) for drop in drops)))
            index += blocks
        classifier = (norm(channels), nn.Flatten(), nn.Linear(channels, num_classes))
        layers = {"features": nn.Sequential(*features), "avgpool": nn.AdaptiveAvgPool2d(1)}
        model = nn.Sequential({**layers, "classifier": nn.Sequential(*classifier)})
    return init_weights(model, linear=normal_002, conv=normal_002)


convnext_tiny = _convnext("convnext_tiny", 28_589_128, width=96, count=9)
convnext_small = _convnext("convnext_small", 50_223_688, width=96, count=27, drop_blocks=0.4)
convnext_base = _convnext("convnext_base", 88_591_464, width=128, count=27, drop_blocks=0.5)
convnext_large = _convnext("convnext_large", 197_767_336, width=192, count=27, drop_blocks=0.5)
