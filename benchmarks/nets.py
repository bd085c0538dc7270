"""The networks to train; ``nn`` is the layer namespace of the library that builds them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any


def lenet5(nn: Any) -> Any:
    """LeNet-5 for 28×28 images, 61,706 parameters."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU()),
        *(nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
    )


def vgg(nn: Any) -> Any:
    """Six 3×3 convolutions in three stages and one linear layer, for 32×32 images."""
    layers, channels = [], 3
    for width in (32, 64, 128):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 4 * 4, 10))


def plain(nn: Any, channels: int, image: int, depth: int) -> Any:
    """``depth`` 3×3 convolutions with ReLU, global average pooling and a linear layer."""
    layers: list[Any] = []
    for _ in range(depth):
        layers += [nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.AvgPool2d(image), nn.Flatten(), nn.Linear(channels, 10))


def torch_resnet(name: str) -> Any:
    """In PyTorch: "resnet18" (as in torchvision) or "resnet20" (He et al. 2015, section 4.2).

    Weights have the same names and shapes as in ``xcnn.models``.
    """
    from torch import nn
    from torch.nn import functional as F

    is_projected = name == "resnet18"  # shortcuts of option B (1×1 convolutions), not A (zeros)
    widths, blocks, classes = (
        ((64, 128, 256, 512), 2, 1000) if is_projected else ((16, 32, 64), 3, 10)
    )
    window = (7, 2, 3) if is_projected else (3, 1, 1)

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int) -> None:
            super().__init__()
            stride = 1 if inputs == outputs else 2
            self.extra = outputs - inputs
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            if self.extra and is_projected:
                projection = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
                self.downsample = nn.Sequential(projection, nn.BatchNorm2d(outputs))

        def forward(self, x: Any) -> Any:
            y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
            if self.extra and is_projected:
                x = self.downsample(x)
            elif self.extra:
                x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 0, self.extra))
            return F.relu(y + x)

    channels = widths[0]
    layers = {"conv1": nn.Conv2d(3, channels, *window, bias=False)}
    layers |= {"bn1": nn.BatchNorm2d(channels), "relu": nn.ReLU()}
    if is_projected:
        layers["maxpool"] = nn.MaxPool2d(3, 2, 1)
    for number, width in enumerate(widths, 1):
        stage = [Block(channels, width), *(Block(width, width) for _ in range(blocks - 1))]
        layers[f"layer{number}"] = nn.Sequential(*stage)
        channels = width
    layers |= {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return nn.Sequential(OrderedDict(layers | {"fc": nn.Linear(channels, classes)}))
