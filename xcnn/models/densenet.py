"""DenseNet (Huang et al. 2017, "Densely connected convolutional networks", arXiv:1608.06993), with
torchvision's weight names.
"""

from __future__ import annotations

from typing import Any

from .. import functional as F
from .. import init, nn
from ..tensor import Tensor
from .blocks import init_weights, norm_relu, uniform_by_fan_in, with_head
from .registry import ImageShape, family, image_shape, register_block

__all__ = ["densenet121", "densenet161", "densenet169", "densenet201"]


@register_block
class DenseLayer(nn.Module):
    """Appends ``growth`` channels: batch-norm, ReLU, 1×1, batch-norm, ReLU, 3×3 convolution."""

    def __init__(self, in_channels: int, growth: int, dropout: float = 0.0) -> None:
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.conv1 = nn.Conv2d(in_channels, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        y = self.conv1(norm_relu(self.norm1, x))
        y = self.dropout(self.conv2(norm_relu(self.norm2, y)))
        return F.concat([x, y], 1)


@family
def _densenet(
    num_classes: int = 1000,
    input_shape: ImageShape = (3, 224, 224),
    dropout: float = 0.0,
    *,
    name: str,
    counts: tuple[int, ...],
    growth: int = 32,
) -> nn.Sequential:
    """DenseNet.

    7×7 convolution and max-pool, each of stride 2; four stages in which each layer appends its
    output to its input, with a 1×1 convolution to half the channels and an average pool between
    them; global average pooling; one linear layer.

    Parameters
    ----------
    num_classes
        Number of classes.
    input_shape
        (channels, height, width), at least 29×29 pixels; the weights do not depend on height and
        width.
    dropout
        Dropout probability after each layer of the stages.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to logits (N, num_classes).

    Raises
    ------
    ArgumentError
        Images too small, or not an image shape.
    """
    in_channels, channels = image_shape(input_shape, name, 29)[0], 2 * growth
    with init.skipped():  # init_weights() initialises
        features: dict[str, nn.Module] = {
            "conv0": nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False),
            "norm0": nn.BatchNorm2d(channels),
            "relu0": nn.ReLU(),
            "pool0": nn.MaxPool2d(3, stride=2, padding=1),
        }
        for stage, count in enumerate(counts, 1):
            if stage > 1:
                transition = {
                    "norm": nn.BatchNorm2d(channels),
                    "relu": nn.ReLU(),
                    "conv": nn.Conv2d(channels, channels // 2, 1, bias=False),
                    "pool": nn.AvgPool2d(2),
                }
                features[f"transition{stage - 1}"] = nn.Sequential(transition)
                channels //= 2
            block = {}
            for i in range(1, count + 1):
                block[f"denselayer{i}"] = DenseLayer(channels, growth, dropout)
                channels += growth
            features[f"denseblock{stage}"] = nn.Sequential(block)
        features["norm5"] = nn.BatchNorm2d(channels)
        layers = {"features": nn.Sequential(features), "relu": nn.ReLU()}
        model = with_head(layers, classifier=nn.Linear(channels, num_classes))
    return init_weights(model, linear=uniform_by_fan_in, conv=init.kaiming_normal_)


densenet121 = _densenet("densenet121", 7_978_856, counts=(6, 12, 24, 16))
densenet161 = _densenet("densenet161", 28_681_000, counts=(6, 12, 36, 24), growth=48)
densenet169 = _densenet("densenet169", 14_149_480, counts=(6, 12, 32, 32))
densenet201 = _densenet("densenet201", 20_013_928, counts=(6, 12, 48, 32))
