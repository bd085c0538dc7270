"""A network that transfers one style (Johnson et al. 2016, "Perceptual losses for real-time style
transfer and super-resolution", arXiv:1603.08155).

With the names of weights of PyTorch's example ``fast_neural_style``.
"""

from __future__ import annotations

from typing import Any

from .. import functional as F
from .. import nn
from ..tensor import Tensor
from .registry import ImageShape, image_shape, register_block, register_network

__all__ = ["transformer_net"]


@register_block
class StyleConv(nn.Module):
    """A convolution after reflection padding, and after enlarging by ``upsample``, if not 1."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, upsample: int = 1
    ) -> None:
        self.reflection_pad = nn.ReflectionPad2d(kernel_size // 2)
        self.conv2d = nn.Conv2d(in_channels, out_channels, kernel_size, stride)
        self.upsample = upsample

    def forward(self, x: Any) -> Tensor:
        if self.upsample > 1:
            x = F.interpolate(x, scale_factor=self.upsample, mode="nearest")
        return self.conv2d(self.reflection_pad(x))


@register_block
class StyleResidual(nn.Module):
    """x + two convolutions with instance norms and a ReLU between them."""

    def __init__(self, channels: int) -> None:
        self.conv1 = StyleConv(channels, channels, 3, 1)
        self.in1 = nn.InstanceNorm2d(channels, affine=True)
        self.conv2 = StyleConv(channels, channels, 3, 1)
        self.in2 = nn.InstanceNorm2d(channels, affine=True)

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        return x + self.in2(self.conv2(F.relu(self.in1(self.conv1(x)))))


@register_block
class TransformerNet(nn.Module):
    """See :func:`transformer_net`."""

    def __init__(self, channels: int = 3, width: int = 32) -> None:
        self.conv1 = StyleConv(channels, width, 9, 1)
        self.conv2 = StyleConv(width, 2 * width, 3, 2)
        self.conv3 = StyleConv(2 * width, 4 * width, 3, 2)
        for n in range(1, 6):
            setattr(self, f"res{n}", StyleResidual(4 * width))
        self.deconv1 = StyleConv(4 * width, 2 * width, 3, 1, 2)
        self.deconv2 = StyleConv(2 * width, width, 3, 1, 2)
        self.deconv3 = StyleConv(width, channels, 9, 1)
        for n, count in enumerate((1, 2, 4, 2, 1), 1):
            setattr(self, f"in{n}", nn.InstanceNorm2d(count * width, affine=True))

    def forward(self, x: Any) -> Tensor:
        convolutions = self.conv1, self.conv2, self.conv3, self.deconv1, self.deconv2
        for n, conv in enumerate(convolutions, 1):
            x = F.relu(getattr(self, f"in{n}")(conv(x)))
            if n == 3:
                for i in range(1, 6):
                    x = getattr(self, f"res{i}")(x)
        return self.deconv3(x)


@register_network
def transformer_net(
    num_classes: int | None = None, input_shape: ImageShape = (3, 256, 256), width: int = 32
) -> TransformerNet:
    """Paints pictures in the style that it was trained for: 1,679,235 parameters.

    A 9×9 convolution and two that halve the size, five residual blocks, two that double it after
    copying pixels, and a 9×9 one; each but the last with an instance norm and a ReLU, and with
    reflection padding.

    Parameters
    ----------
    num_classes
        Ignored: this network has no classes.
    input_shape
        (channels, height, width), at least 16×16 pixels; the weights do not depend on height and
        width. The result has the same size if both are divisible by 4, else up to 3 pixels more.
    width
        Channels of the first convolution; the others have 1, 2 or 4 times as many.

    Returns
    -------
    TransformerNet
        (N, channels, height, width) to (N, channels, height, width).

    Raises
    ------
    ArgumentError
        Images too small, or not an image shape.
    """
    return TransformerNet(image_shape(input_shape, "transformer_net", 16)[0], width)
