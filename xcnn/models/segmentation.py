"""Heads for semantic segmentation on a dilated ResNet, with torchvision's names of the weights.

FCN (Long et al. 2015, "Fully convolutional networks for semantic segmentation", arXiv:1411.4038)
and DeepLabV3 (Chen et al. 2017, "Rethinking atrous convolution for semantic image segmentation",
arXiv:1706.05587).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .. import functional as F
from .. import nn
from ..tensor import Tensor
from .blocks import init_weights, uniform_by_fan_in
from .registry import ImageShape, family, image_shape, register_block, register_network
from .resnet import BasicBlock, Bottleneck, large_stages

__all__ = [
    "deeplabv3_resnet18", "deeplabv3_resnet50", "deeplabv3_resnet101",
    "fcn_resnet18", "fcn_resnet50", "fcn_resnet101",
]  # fmt: skip

_BLOCKS: dict[str, Any] = {"basic": BasicBlock, "bottleneck": Bottleneck}


@register_block
class SegmentationNetwork(nn.Module):
    """A dilated ResNet and a head for each pixel; see :func:`fcn_resnet50`."""

    def __init__(
        self,
        head: str,
        block: str,
        counts: tuple[int, ...],
        in_channels: int,
        num_classes: int,
        aux_loss: bool = False,
    ) -> None:
        layers, channels = large_stages(in_channels, _BLOCKS[block], counts, dilated=2)
        self.backbone = init_weights(nn.Sequential(layers), linear=uniform_by_fan_in)
        make = _deeplab_head if head == "deeplabv3" else _fcn_head
        self.classifier = make(channels, num_classes)
        self.aux_classifier = _fcn_head(channels // 2, num_classes) if aux_loss else None

    def forward(self, x: Any) -> Any:
        middle = self.backbone[:-1](x)
        y = _resized(self.classifier(self.backbone[-1](middle)), x)
        if self.training and self.aux_classifier is not None:
            return {"out": y, "aux": _resized(self.aux_classifier(middle), x)}
        return y


@register_block
class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: convolutions of several dilations, and the mean.

    1×1 convolution, a 3×3 convolution for each of ``rates`` and global average pooling side by
    side, each with batch-norm and ReLU; then a 1×1 convolution of all, and dropout.
    """

    def __init__(
        self, in_channels: int, rates: tuple[int, ...] = (12, 24, 36), out_channels: int = 256
    ) -> None:
        dilated = [_conv_relu(in_channels, out_channels, 3, rate) for rate in rates]
        mean = _conv_relu(in_channels, out_channels, before=[nn.AdaptiveAvgPool2d(1)])
        self.convs = [_conv_relu(in_channels, out_channels), *dilated, mean]
        count = len(self.convs)
        self.project = _conv_relu(count * out_channels, out_channels, after=[nn.Dropout(0.5)])

    def forward(self, x: Any) -> Tensor:
        *same, mean = (conv(x) for conv in self.convs)
        return self.project(F.concat([*same, _resized(mean, x)], 1))


def _conv_relu(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 1,
    dilation: int = 1,
    before: list[nn.Module] | None = None,
    after: list[nn.Module] | None = None,
) -> nn.Sequential:
    """Convolution without bias that keeps the size, batch-norm, ReLU, and layers around them."""
    padding = dilation * (kernel_size // 2)
    settings: Any = {"padding": padding, "dilation": dilation, "bias": False}
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, **settings)
    return nn.Sequential(
        *(before or []), conv, nn.BatchNorm2d(out_channels), nn.ReLU(), *(after or [])
    )


def _fcn_head(channels: int, num_classes: int) -> nn.Sequential:
    hidden = _conv_relu(channels, channels // 4, 3, after=[nn.Dropout(0.1)])
    return hidden.append(nn.Conv2d(channels // 4, num_classes, 1, nonlinearity="softmax"))


def _deeplab_head(channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(
        ASPP(channels),
        *_conv_relu(256, 256, 3),
        nn.Conv2d(256, num_classes, 1, nonlinearity="softmax"),
    )


def _resized(y: Tensor, like: Any) -> Tensor:
    return F.interpolate(y, size=like.shape[2:], mode="bilinear", align_corners=False)


def _network(
    num_classes: int = 21,
    input_shape: ImageShape = (3, 224, 224),
    aux_loss: bool = False,
    *,
    name: str,
    block: str = "bottleneck",
    counts: tuple[int, ...] = (3, 4, 6, 3),
) -> SegmentationNetwork:
    """A head for segmentation on a ResNet.

    The last two stages of the ResNet are dilated instead of halving the size, so that its output
    has an eighth of the input's height and width; the logits are resized to the input's by bilinear
    interpolation. "fcn" has a 3×3 and a 1×1 convolution; "deeplabv3" looks at neighbourhoods of
    several sizes first. With torchvision's names and shapes of the weights, whose files fit
    (``aux_loss`` or not).

    Parameters
    ----------
    num_classes
        Output channels.
    input_shape
        (channels, height, width); the weights do not depend on height and width.
    aux_loss
        Add an FCN head on the third stage. In training the network then returns a dict of logits
        "out" and "aux", in evaluation only the former. Torchvision's training adds the
        cross-entropies of both, that of "aux" times 0.5.

    Returns
    -------
    SegmentationNetwork
        (N, channels, height, width) to logits (N, num_classes, height, width).

    Raises
    ------
    ArgumentError
        Not an image shape.
    """
    channels = image_shape(input_shape, name)[0]
    head = name.partition("_")[0]
    return SegmentationNetwork(head, block, counts, channels, num_classes, aux_loss)


_define: Callable[..., Any] = partial(family, register=register_network)(_network)
_101, _18 = (3, 4, 23, 3), (2, 2, 2, 2)
fcn_resnet18 = _define("fcn_resnet18", 11_769_301, block="basic", counts=_18)
fcn_resnet50 = _define("fcn_resnet50", 32_957_013)
fcn_resnet101 = _define("fcn_resnet101", 51_949_141, counts=_101)
deeplabv3_resnet18 = _define("deeplabv3_resnet18", 15_904_085, block="basic", counts=_18)
deeplabv3_resnet50 = _define("deeplabv3_resnet50", 39_638_869)
deeplabv3_resnet101 = _define("deeplabv3_resnet101", 58_630_997, counts=_101)
