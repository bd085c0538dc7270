"""GoogLeNet (Szegedy et al. 2015, "Going deeper with convolutions", arXiv:1409.4842).

With batch-norm, and torchvision's names and shapes of the weights.
"""

from __future__ import annotations

from typing import Any

from .. import functional as F
from .. import init, nn
from ..tensor import Tensor
from .blocks import init_weights, norm_relu, normal_001
from .registry import ImageShape, image_shape, register_block, register_classifier

__all__ = ["googlenet"]


@register_block
class ConvBNReLU(nn.Module):
    """Convolution without bias, batch-norm, ReLU."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
    ) -> None:
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x: Any) -> Tensor:
        return norm_relu(self.bn, self.conv(x))


@register_block
class Inception(nn.Module):
    """Four parallel branches, concatenated along the channels.

    1×1 convolution; 1×1 then 3×3; 1×1 then 3×3, as in torchvision (5×5 in the paper); 3×3 max-pool
    then 1×1.

    Parameters
    ----------
    in_channels
        Channels of the input.
    one, three, five, pooled
        Output channels of the branches; (reduced, out) if a 1×1 convolution comes first.
    """

    def __init__(
        self, in_channels: int, one: int, three: tuple[int, int], five: tuple[int, int], pooled: int
    ) -> None:
        self.branch1 = ConvBNReLU(in_channels, one, 1)
        self.branch2, self.branch3 = (
            nn.Sequential(ConvBNReLU(in_channels, widths[0], 1), ConvBNReLU(*widths, 3, padding=1))
            for widths in (three, five)
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True), ConvBNReLU(in_channels, pooled, 1)
        )

    def forward(self, x: Any) -> Tensor:
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return F.concat([branch(x) for branch in branches], 1)


@register_block
class InceptionAux(nn.Module):
    """An auxiliary classifier, whose loss adds gradients to the first half of the network."""

    def __init__(self, in_channels: int, num_classes: int) -> None:
        self.pool = nn.AdaptiveAvgPool2d(4)
        self.conv = ConvBNReLU(in_channels, 128, 1)
        self.fc1 = nn.Linear(2048, 1024)
        self.dropout = nn.Dropout(0.7)
        self.fc2 = nn.Linear(1024, num_classes)

    def forward(self, x: Any) -> Tensor:
        x = F.flatten(self.conv(self.pool(x)), 1)
        return self.fc2(self.dropout(self.fc1(x, relu=True)))


@register_block
class GoogLeNet(nn.Module):
    """See :func:`googlenet`."""

    def __init__(self, channels: int, num_classes: int, aux_logits: bool, dropout: float) -> None:
        self.aux_logits = aux_logits
        self.conv1 = ConvBNReLU(channels, 64, 7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = ConvBNReLU(64, 64, 1)
        self.conv3 = ConvBNReLU(64, 192, 3, padding=1)
        self.maxpool2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception3a = Inception(192, 64, (96, 128), (16, 32), 32)
        self.inception3b = Inception(256, 128, (128, 192), (32, 96), 64)
        self.maxpool3 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.inception4a = Inception(480, 192, (96, 208), (16, 48), 64)
        self.inception4b = Inception(512, 160, (112, 224), (24, 64), 64)
        self.inception4c = Inception(512, 128, (128, 256), (24, 64), 64)
        self.inception4d = Inception(512, 112, (144, 288), (32, 64), 64)
        self.inception4e = Inception(528, 256, (160, 320), (32, 128), 128)
        self.maxpool4 = nn.MaxPool2d(2, stride=2, ceil_mode=True)
        self.inception5a = Inception(832, 256, (160, 320), (32, 128), 128)
        self.inception5b = Inception(832, 384, (192, 384), (48, 128), 128)
        self.aux1 = InceptionAux(512, num_classes) if aux_logits else None
        self.aux2 = InceptionAux(528, num_classes) if aux_logits else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(1024, num_classes)

    def forward(self, x: Any) -> Any:
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        first = x = self.inception4a(x)
        second = x = self.inception4d(self.inception4c(self.inception4b(x)))
        x = self.maxpool4(self.inception4e(x))
        x = self.inception5b(self.inception5a(x))
        x = self.fc(self.dropout(F.flatten(self.avgpool(x), 1)))
        if self.training and self.aux1 is not None and self.aux2 is not None:
            return x, self.aux2(second), self.aux1(first)
        return x


@register_classifier
def googlenet(
    num_classes: int = 1000,
    input_shape: ImageShape = (3, 224, 224),
    aux_logits: bool = False,
    dropout: float = 0.2,
) -> GoogLeNet:
    """GoogLeNet: 6,624,904 parameters, 13,004,888 with the auxiliary classifiers.

    Torchvision's pretrained weights have the auxiliary classifiers, and are for pixels normalised
    with a mean and a standard deviation of 0.5.

    Parameters
    ----------
    num_classes
        Number of classes.
    input_shape
        (channels, height, width); the weights do not depend on height and width.
    aux_logits
        Add two auxiliary classifiers. In training the network then returns (logits, logits of the
        second, logits of the first). The Trainer takes networks with one output, so this needs
        a custom training loop; the paper weights each auxiliary loss by 0.3.
    dropout
        Dropout probability before the last layer.

    Returns
    -------
    GoogLeNet
        (N, channels, height, width) to logits (N, num_classes).

    Raises
    ------
    ArgumentError
        Not an image shape.
    """
    channels = image_shape(input_shape, "googlenet")[0]
    with init.skipped():  # init_weights() initialises
        model = GoogLeNet(channels, num_classes, aux_logits, dropout)
    return init_weights(model, linear=normal_001, conv=normal_001)
