"""MnasNet-B1 (Tan et al. 2019, arXiv:1807.11626), with torchvision's weight names."""

from __future__ import annotations

from functools import partial
from typing import Any

from .. import init, nn
from ..tensor import Tensor
from .blocks import conv_norm, init_weights, make_divisible, with_head
from .registry import ImageShape, family, image_shape, register_block

__all__ = ["mnasnet0_5", "mnasnet0_75", "mnasnet1_0", "mnasnet1_3"]

#: expansion, kernel size, stride of the first block, channels, blocks: figure 7 of the paper
_STAGES = (
    (3, 3, 2, 24, 3),
    (3, 5, 2, 40, 3),
    (6, 5, 2, 80, 3),
    (6, 3, 1, 96, 2),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
_MOMENTUM = 1 - 0.9997  # the paper's 0.9997, of the old average


@register_block
class MnasBlock(nn.Module):
    """1×1 expansion, depthwise, 1×1 projection; plus the input if the shapes agree."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, expansion: int
    ) -> None:
        hidden = expansion * in_channels
        conv = partial(conv_norm, momentum=_MOMENTUM)
        self.is_residual = stride == 1 and in_channels == out_channels
        self.layers = nn.Sequential(
            *conv(in_channels, hidden, 1, activation=nn.ReLU()),
            *conv(hidden, hidden, kernel_size, stride, hidden, nn.ReLU()),
            *conv(hidden, out_channels, 1),
        )

    def forward(self, x: Any) -> Tensor:
        return self.layers(x) + x if self.is_residual else self.layers(x)


@family
def _mnasnet(
    num_classes: int = 1000,
    input_shape: ImageShape = (3, 224, 224),
    dropout: float = 0.2,
    *,
    name: str,
    width: float,
) -> nn.Sequential:
    """MnasNet.

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
    conv = partial(conv_norm, momentum=_MOMENTUM)
    with init.skipped():  # init_weights() initialises
        stem, channels = make_divisible(32 * width), make_divisible(16 * width)
        layers: list[nn.Module] = [
            *conv(image_shape(input_shape, name)[0], stem, 3, 2, activation=nn.ReLU()),
            *conv(stem, stem, 3, 1, stem, nn.ReLU()),
            *conv(stem, channels, 1),
        ]
        for expansion, kernel, stride, base_channels, count in _STAGES:
            blocks = []
            for i in range(count):
                out_channels = make_divisible(base_channels * width)
                sizes = channels, out_channels, kernel, 1 if i else stride, expansion
                blocks.append(MnasBlock(*sizes))
                channels = out_channels
            layers.append(nn.Sequential(*blocks))
        layers += conv(channels, 1280, 1, activation=nn.ReLU())
        classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(1280, num_classes))
        model = with_head({"layers": nn.Sequential(*layers)}, classifier=classifier)
    linear = partial(init.kaiming_uniform_, mode="fan_out", nonlinearity="sigmoid")
    return init_weights(model, linear=linear)


mnasnet0_5 = _mnasnet("mnasnet0_5", 2_218_512, width=0.5)
mnasnet0_75 = _mnasnet("mnasnet0_75", 3_170_208, width=0.75)
mnasnet1_0 = _mnasnet("mnasnet1_0", 4_383_312, width=1.0)
mnasnet1_3 = _mnasnet("mnasnet1_3", 6_282_256, width=1.3)
