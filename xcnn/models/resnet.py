"""ResNet (He et al. 2016, "Deep residual learning for image recognition", arXiv:1512.03385).

resnet20 and resnet56 are the paper's networks for CIFAR-10 (section 4.2); the others are for large
images, with torchvision's names and shapes of the weights. Also ResNeXt, with grouped convolutions
(Xie et al. 2017, arXiv:1611.05431), and Wide ResNet (Zagoruyko & Komodakis 2016, arXiv:1605.07146).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .. import functional as F
from .. import init, nn
from ..tensor import Tensor
from .blocks import conv_norm, init_weights, norm_relu, uniform_by_fan_in, with_head
from .registry import ImageShape, family, image_shape, register_block

__all__ = [
    "resnet18", "resnet20", "resnet34", "resnet50", "resnet56", "resnet101", "resnet152",
    "resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2",
    "wide_resnet101_2",
]  # fmt: skip


def _conv3(
    in_channels: int, out_channels: int, stride: int, dilation: int, groups: int = 1
) -> nn.Conv2d:
    """3×3 convolution without bias; only the stride changes the size."""
    settings: Any = {"dilation": dilation, "groups": groups, "bias": False}
    return nn.Conv2d(in_channels, out_channels, 3, stride, dilation, **settings)


class _ResidualBlock(nn.Module):
    """Two 3×3 convolutions plus the shortcut, by default the input."""

    expansion = 1  # ratio of output channels to ``channels``
    downsample: nn.Sequential | None = None

    def __init__(self, in_channels: int, channels: int, stride: int = 1, dilation: int = 1) -> None:
        self.conv1 = _conv3(in_channels, channels, stride, dilation)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3(channels, channels, 1, dilation)
        self.bn2 = nn.BatchNorm2d(channels)

    def shortcut(self, x: Any) -> Any:
        return x if self.downsample is None else self.downsample(x)

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        y = norm_relu(self.bn1, self.conv1(x))
        return norm_relu(self.bn2, self.conv2(y), self.shortcut(x))


_Block = type[_ResidualBlock]


@register_block
class BasicBlock(_ResidualBlock):
    """Two 3×3 convolutions plus the input.

    Where the shape changes, the shortcut is a 1×1 convolution (option B of the paper).
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(in_channels, channels, stride, dilation)
        if stride != 1 or in_channels != channels:
            self.downsample = conv_norm(in_channels, channels, 1, stride)


@register_block
class Bottleneck(_ResidualBlock):
    """1×1, 3×3 and 1×1 convolution, the last to four times the channels, plus the input.

    The stride is in the 3×3 convolution, as in torchvision; the paper has it in the first. That
    convolution has ``groups`` groups of channels · group_width / 64.
    """

    expansion = 4

    def __init__(
        self,
        in_channels: int,
        channels: int,
        stride: int = 1,
        groups: int = 1,
        group_width: int = 64,
        dilation: int = 1,
    ) -> None:
        out_channels = self.expansion * channels
        width = channels * group_width // 64 * groups
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = _conv3(width, width, stride, dilation, groups)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        if stride != 1 or in_channels != out_channels:
            self.downsample = conv_norm(in_channels, out_channels, 1, stride)

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        y = norm_relu(self.bn1, self.conv1(x))
        y = norm_relu(self.bn2, self.conv2(y))
        return norm_relu(self.bn3, self.conv3(y), self.shortcut(x))


@register_block
class PlainShortcutBlock(_ResidualBlock):
    """Two 3×3 convolutions plus the input, without weights in the shortcut (option A).

    Where the shape changes, the shortcut takes every second pixel and pads missing channels with
    zeros.
    """

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        self.stride = stride
        self.extra = channels - in_channels
        super().__init__(in_channels, channels, stride)

    def shortcut(self, x: Any) -> Any:
        if self.stride > 1:
            x = F.avg_pool2d(x, 1, self.stride)
        return F.pad(x, (0, 0, 0, 0, 0, self.extra)) if self.extra else x


@family
def _large(
    num_classes: int = 1000,
    input_shape: ImageShape = (3, 224, 224),
    *,
    name: str,
    counts: tuple[int, ...],
    block: _Block = Bottleneck,
    **groups: int,
) -> nn.Sequential:
    """ResNet for large images.

    7×7 convolution and max-pool, each of stride 2; four stages of blocks with 64, 128, 256 and 512
    channels; global average pooling; one linear layer.

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
    with init.skipped():  # init_weights() initialises
        channels = image_shape(input_shape, name)[0]
        stages = large_stages(channels, partial(block, **groups), counts)
        model = _with_classifier(*stages, num_classes)
    return init_weights(model, linear=uniform_by_fan_in)


def large_stages(
    channels: int, block: Callable[..., Any], counts: tuple[int, ...], dilated: int = 0
) -> tuple[dict[str, nn.Module], int]:
    """Layers of a ResNet for large images, "conv1" to "layer4", and the channels at the end.

    The last ``dilated`` stages keep the size: their convolutions are dilated instead.
    """
    conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    maxpool = nn.MaxPool2d(3, stride=2, padding=1)
    return _stages(conv1, block, counts, dilated, maxpool=maxpool)


_50, _101 = (3, 4, 6, 3), (3, 4, 23, 3)
resnet18 = _large("resnet18", 11_689_512, block=BasicBlock, counts=(2, 2, 2, 2))
resnet34 = _large("resnet34", 21_797_672, block=BasicBlock, counts=_50)
resnet50 = _large("resnet50", 25_557_032, counts=_50)
resnet101 = _large("resnet101", 44_549_160, counts=_101)
resnet152 = _large("resnet152", 60_192_808, counts=(3, 8, 36, 3))
resnext50_32x4d = _large("resnext50_32x4d", 25_028_904, counts=_50, groups=32, group_width=4)
resnext101_32x8d = _large("resnext101_32x8d", 88_791_336, counts=_101, groups=32, group_width=8)
resnext101_64x4d = _large("resnext101_64x4d", 83_455_272, counts=_101, groups=64, group_width=4)
wide_resnet50_2 = _large("wide_resnet50_2", 68_883_240, counts=_50, group_width=128)
wide_resnet101_2 = _large("wide_resnet101_2", 126_886_696, counts=_101, group_width=128)


@family
def _small(
    num_classes: int = 10, input_shape: ImageShape = (3, 32, 32), *, name: str, count: int
) -> nn.Sequential:
    """ResNet for CIFAR-10.

    3×3 convolution; three stages of blocks with 16, 32 and 64 channels, the second and third at
    half the size; global average pooling; one linear layer. Shortcuts have no weights (option A).

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
    conv1 = nn.Conv2d(image_shape(input_shape, name)[0], 16, 3, padding=1, bias=False)
    return _with_classifier(*_stages(conv1, PlainShortcutBlock, (count,) * 3), num_classes)


resnet20 = _small("resnet20", 269_722, count=3)
resnet56 = _small("resnet56", 853_018, count=9)


def _stages(
    conv1: nn.Conv2d,
    block: Callable[..., _ResidualBlock],
    counts: tuple[int, ...],
    dilated: int = 0,
    **pool: nn.Module,
) -> tuple[dict[str, nn.Module], int]:
    """``conv1``, batch-norm, ReLU, ``pool``, a stage of blocks per count; the channels at the end.

    Each stage but the first doubles the channels and halves the size; the last ``dilated`` ones
    keep it, and from their second block on double the dilation.
    """
    channels = width = len(conv1.weight)
    layers = {"conv1": conv1, "bn1": nn.BatchNorm2d(width), "relu": nn.ReLU(), **pool}
    settings: dict[str, int] = {}
    for i, count in enumerate(counts):
        keeps_size = i >= len(counts) - dilated
        first = block(channels, width, 1 if i == 0 or keeps_size else 2, **settings)
        if keeps_size:
            settings = {"dilation": 2 * settings.get("dilation", 1)}
        channels = width * first.expansion
        rest = [block(channels, width, **settings) for _ in range(count - 1)]
        layers[f"layer{i + 1}"] = nn.Sequential(first, *rest)
        width *= 2
    return layers, channels


def _with_classifier(
    layers: dict[str, nn.Module], channels: int, num_classes: int
) -> nn.Sequential:
    return with_head(layers, fc=nn.Linear(channels, num_classes, nonlinearity="softmax"))
