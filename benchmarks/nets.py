"""The networks to train; ``nn`` is the layer namespace of the library that builds them."""

from __future__ import annotations

import itertools
from collections import OrderedDict
from functools import partial
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


# -- PyTorch's networks, with weights of the same names and shapes as in xcnn.models -------------


def torch_model(name: str, **settings: Any) -> Any:
    """A network of ``xcnn.models`` in PyTorch."""
    builders = {"mobilenet_v2": torch_mobilenet, "unet": torch_unet}
    return builders.get(name, partial(torch_resnet, name))(**settings)


def torch_resnet(name: str) -> Any:
    """Either "resnet18" (as in torchvision) or "resnet20" (He et al. 2015, section 4.2)."""
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


def torch_mobilenet(dropout: float) -> Any:
    """MobileNetV2 (Sandler et al. 2018, table 2)."""
    from torch import nn

    def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> list[Any]:
        window = {"stride": stride, "padding": kernel // 2, "groups": groups, "bias": False}
        return [nn.Conv2d(inputs, outputs, kernel, **window), nn.BatchNorm2d(outputs)]

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
            super().__init__()
            hidden = expansion * inputs
            self.is_residual = stride == 1 and inputs == outputs
            widen = [nn.Sequential(*conv(inputs, hidden, 1), nn.ReLU6())] if hidden > inputs else []
            layers = [*widen, nn.Sequential(*conv(hidden, hidden, 3, stride, hidden), nn.ReLU6())]
            self.conv = nn.Sequential(*layers, *conv(hidden, outputs, 1))

        def forward(self, x: Any) -> Any:
            return x + self.conv(x) if self.is_residual else self.conv(x)

    channels, features = 32, [nn.Sequential(*conv(3, 32, 3, 2), nn.ReLU6())]
    for width, count, stride in MOBILE_STAGES:
        for number in range(count):
            expansion = 1 if width == 16 else 6
            features.append(Block(channels, width, 1 if number else stride, expansion))
            channels = width
    features.append(nn.Sequential(*conv(channels, 1280, 1), nn.ReLU6()))
    layers = {"features": nn.Sequential(*features), "avgpool": nn.AdaptiveAvgPool2d(1)}
    layers |= {"flatten": nn.Flatten()}
    classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(1280, 1000))
    return nn.Sequential(OrderedDict(layers | {"classifier": classifier}))


MOBILE_STAGES = (  # channels, blocks, stride of the first block
    *((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2)),
    *((96, 3, 1), (160, 3, 2), (320, 1, 1)),
)


def torch_unet(width: int) -> Any:
    """U-Net (Ronneberger et al. 2015), padded and with batch-norm, for sizes that divide by 16."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    def double(inputs: int, outputs: int) -> Any:
        layers: list[Any] = []
        for channels in (inputs, outputs):
            layers += [nn.Conv2d(channels, outputs, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        return nn.Sequential(*layers)

    class UNet(nn.Module):
        def __init__(self, *widths: int) -> None:
            super().__init__()
            pairs = list(itertools.pairwise(widths[1:]))[::-1]
            self.down = nn.ModuleList(double(*pair) for pair in itertools.pairwise(widths))
            self.up = nn.ModuleList(nn.ConvTranspose2d(2 * w, w, 2, stride=2) for w, _ in pairs)
            self.merge = nn.ModuleList(double(2 * w, w) for w, _ in pairs)
            self.head = nn.Conv2d(widths[1], 2, 1)

        def forward(self, x: Any) -> Any:
            skips: list[Any] = []
            for block in self.down:
                x = block(F.max_pool2d(x, 2) if skips else x)
                skips.append(x)
            x = skips.pop()
            for up, merge in zip(self.up, self.merge, strict=True):
                x = merge(torch.cat([skips.pop(), up(x)], 1))
            return self.head(x)

    return UNet(3, *(width * 2**level for level in range(5)))
