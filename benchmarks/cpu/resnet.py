"""ResNet-20 for PyTorch (He et al. 2015, "Deep residual learning", section 4.2)."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn import functional as F


def torch_resnet20() -> Any:
    """16, 32 and 64 channels, three blocks each, 1×1 convolutions where the shape changes."""
    blocks, channels = [], 16
    for width in (16, 32, 64):
        blocks += [Block(channels, width), Block(width, width), Block(width, width)]
        channels = width
    return nn.Sequential(
        *(normed(3, 16, 3, 1), nn.ReLU(), *blocks),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


def normed(inputs: int, outputs: int, kernel: int, stride: int) -> Any:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs))


class Block(nn.Module):
    """Two convolutions and what goes around them; more channels come with half the pixels."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        stride = 1 if inputs == outputs else 2
        self.first = normed(inputs, outputs, 3, stride)
        self.second = normed(outputs, outputs, 3, 1)
        self.shortcut = nn.Identity() if stride == 1 else normed(inputs, outputs, 1, stride)

    def forward(self, x: Any) -> Any:
        return F.relu(self.second(F.relu(self.first(x))) + self.shortcut(x))
