"""ResNet (He et al. 2016, "Deep residual learning for image recognition", arXiv:1512.03385).

resnet18 and resnet50 are the networks for large images, names and shapes of the weights being
torchvision's; resnet20 and resnet56 those for CIFAR-10 (section 4.2).
"""

from __future__ import annotations

from typing import Any

from .. import functional as F
from .. import init, nn
from ..tensor import Tensor
from .blocks import conv_norm, draw, uniform_by_inputs
from .simple import image_shape

Shape = tuple[int, int, int]


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, to whose result the input is added.

    Where the shape changes, the input goes through a 1×1 convolution first (option B of the paper).
    """

    expansion = 1

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _projection(in_channels, channels, stride)

    def forward(self, x: Any) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + _shortcut(self.downsample, x))


class Bottleneck(nn.Module):
    """1×1, 3×3 and 1×1 convolution, the outer ones with four times the channels, plus the input.

    The stride is in the 3×3 convolution, as in torchvision, where the paper has it in the first.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        out_channels = self.expansion * channels
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = _projection(in_channels, out_channels, stride)

    def forward(self, x: Any) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + _shortcut(self.downsample, x))


class PlainShortcutBlock(nn.Module):
    """:class:`BasicBlock` with shortcuts that have no weights (option A of the paper).

    Where the shape changes, the input gives every second pixel, and zeros for the channels that it
    does not have.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        self.stride = stride
        self.extra = channels - in_channels
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Any) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        if self.stride > 1:
            x = F.avg_pool2d(x, 1, self.stride)
        if self.extra:  # as if rows were missing: in NHWC, pad takes axis 1 for the height
            x = F.pad(x, ((0, self.extra), (0, 0)), data_format="NHWC")
        return F.relu(y + x)


def resnet18(num_classes: int = 1000, input_shape: Shape = (3, 224, 224)) -> nn.Sequential:
    """ResNet of 18 layers for large images: 11,689,512 parameters.

    7×7 convolution and max-pool, each of stride 2, four stages of blocks with 64, 128, 256 and 512
    channels, the mean of all pixels, one dense layer.

    Parameters
    ----------
    num_classes
        Classes to tell apart.
    input_shape
        (channels, height, width); the size does not matter to the weights.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to logits (N, num_classes).

    Raises
    ------
    ArgumentError
        No images.
    """
    return _resnet(BasicBlock, (2, 2, 2, 2), num_classes, image_shape(input_shape, "resnet18"))


def resnet50(num_classes: int = 1000, input_shape: Shape = (3, 224, 224)) -> nn.Sequential:
    """ResNet of 50 layers: 25,557,032 parameters; otherwise as :func:`resnet18`."""
    return _resnet(Bottleneck, (3, 4, 6, 3), num_classes, image_shape(input_shape, "resnet50"))


def resnet20(num_classes: int = 10, input_shape: Shape = (3, 32, 32)) -> nn.Sequential:
    """ResNet of 20 layers for CIFAR-10: 269,722 parameters (the paper: 0.27 M).

    3×3 convolution, three stages of blocks with 16, 32 and 64 channels, the second and third of
    half the size, the mean of all pixels, one dense layer. Shortcuts have no weights (option A).

    Parameters
    ----------
    num_classes
        Classes to tell apart.
    input_shape
        (channels, height, width); the size does not matter to the weights.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to logits (N, num_classes).

    Raises
    ------
    ArgumentError
        No images.
    """
    return _cifar_resnet(3, num_classes, image_shape(input_shape, "resnet20"))


def resnet56(num_classes: int = 10, input_shape: Shape = (3, 32, 32)) -> nn.Sequential:
    """ResNet of 56 layers: 853,018 parameters (0.85 M); otherwise as :func:`resnet20`."""
    return _cifar_resnet(9, num_classes, image_shape(input_shape, "resnet56"))


def _resnet(
    block: type[BasicBlock] | type[Bottleneck],
    blocks: tuple[int, ...],
    num_classes: int,
    shape: tuple[int, ...],
) -> nn.Sequential:
    with init.skipped():  # drawn below
        channels = 64
        layers: dict[str, nn.Module] = {
            "conv1": nn.Conv2d(shape[0], channels, 7, stride=2, padding=3, bias=False),
            "bn1": nn.BatchNorm2d(channels),
            "relu": nn.ReLU(),
            "maxpool": nn.MaxPool2d(3, stride=2, padding=1),
        }
        for i, count in enumerate(blocks):
            width = 64 * 2**i
            layers[f"layer{i + 1}"] = _stage(block, channels, width, count, stride=min(i + 1, 2))
            channels = block.expansion * width
        layers["avgpool"] = nn.AdaptiveAvgPool2d(1)
        layers["flatten"] = nn.Flatten()
        layers["fc"] = nn.Linear(channels, num_classes)
    return draw(nn.Sequential(layers), linear=uniform_by_inputs)


def _cifar_resnet(count: int, num_classes: int, shape: tuple[int, ...]) -> nn.Sequential:
    return nn.Sequential(
        {
            "conv1": nn.Conv2d(shape[0], 16, 3, padding=1, bias=False),
            "bn1": nn.BatchNorm2d(16),
            "relu": nn.ReLU(),
            "layer1": _stage(PlainShortcutBlock, 16, 16, count, stride=1),
            "layer2": _stage(PlainShortcutBlock, 16, 32, count, stride=2),
            "layer3": _stage(PlainShortcutBlock, 32, 64, count, stride=2),
            "avgpool": nn.AdaptiveAvgPool2d(1),
            "flatten": nn.Flatten(),
            "fc": nn.Linear(64, num_classes, nonlinearity="softmax"),
        }
    )


def _stage(block: Any, in_channels: int, channels: int, count: int, stride: int) -> nn.Sequential:
    """``count`` blocks, of which the first changes the shape."""
    first = block(in_channels, channels, stride)
    out_channels = getattr(block, "expansion", 1) * channels
    return nn.Sequential(first, *[block(out_channels, channels) for _ in range(count - 1)])


def _projection(in_channels: int, out_channels: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and in_channels == out_channels:
        return None
    return conv_norm(in_channels, out_channels, kernel_size=1, stride=stride)


def _shortcut(downsample: nn.Sequential | None, x: Any) -> Any:
    return x if downsample is None else downsample(x)
