"""ResNet-20 for PyTorch (He et al. 2015, section 4.2): shortcuts of option A and
the names of the weights as in ``xcnn.models.resnet20``.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import nn
from torch.nn import functional as F


def torch_resnet20(num_classes: int = 10) -> Any:
    """16, 32 and 64 channels, three blocks each; 269,722 parameters."""
    layers: dict[str, Any] = {
        "conv1": nn.Conv2d(3, 16, 3, padding=1, bias=False),
        "bn1": nn.BatchNorm2d(16),
        "relu": nn.ReLU(),
    }
    channels = 16
    for number, width in enumerate((16, 32, 64), 1):
        blocks = [Block(channels, width), Block(width, width), Block(width, width)]
        layers[f"layer{number}"] = nn.Sequential(*blocks)
        channels = width
    layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return nn.Sequential(OrderedDict(layers | {"fc": nn.Linear(64, num_classes)}))


class Block(nn.Module):
    """Two convolutions and what goes around them; more channels come with half the pixels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.stride, self.extra = (1 if inputs == outputs else 2), outputs - inputs
        self.conv1 = nn.Conv2d(inputs, outputs, 3, self.stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.extra:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))
        return F.relu(y + x)
