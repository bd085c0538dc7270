"""SqueezeNet (Iandola et al. 2016, arXiv:1602.07360), with torchvision's weight names."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from .. import init, nn
from ..tensor import Tensor
from .blocks import init_weights, normal_001, with_head
from .registry import ImageShape, family, image_shape, register_block

__all__ = ["squeezenet1_0", "squeezenet1_1"]


@register_block
class Fire(nn.Module):
    """1×1 convolution to few channels, then 1×1 and 3×3 side by side, each with ReLU."""

    def __init__(self, in_channels: int, squeezed: int, expanded: int) -> None:
        self.squeeze = nn.Conv2d(in_channels, squeezed, 1)
        self.expand1x1 = nn.Conv2d(squeezed, expanded, 1)
        self.expand3x3 = nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Any) -> Tensor:
        x = self.squeeze(x, relu=True)
        return F.concat([self.expand1x1(x, relu=True), self.expand3x3(x, relu=True)], 1)


@family
def _squeezenet(
    num_classes: int = 1000,
    input_shape: ImageShape = (3, 224, 224),
    dropout: float = 0.5,
    *,
    name: str,
    smallest: int,
    stem: tuple[int, int],
    pooled: tuple[int, ...],
) -> nn.Sequential:
    """SqueezeNet.

    A convolution of stride 2, eight Fire modules with max-pools between them, a 1×1 convolution to
    the classes with ReLU, and global average pooling.

    Parameters
    ----------
    num_classes
        Number of classes.
    input_shape
        (channels, height, width); the weights do not depend on height and width.
    dropout
        Dropout probability before the last convolution.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to logits (N, num_classes).

    Raises
    ------
    ArgumentError
        Images too small, or not an image shape.
    """
    channels, kernel_size = stem
    with init.skipped():  # init_weights() initialises
        in_channels = image_shape(input_shape, name, smallest)[0]
        features = [nn.Conv2d(in_channels, channels, kernel_size, stride=2), nn.ReLU()]
        for i, squeezed in enumerate((16, 16, 32, 32, 48, 48, 64, 64)):
            if i in pooled:
                features.append(nn.MaxPool2d(3, stride=2, ceil_mode=True))
            features.append(Fire(channels, squeezed, 4 * squeezed))
            channels = 8 * squeezed
        last = nn.Conv2d(channels, num_classes, 1)
        layers = {
            "features": nn.Sequential(*features),
            "classifier": nn.Sequential(nn.Dropout(dropout), last, nn.ReLU()),
        }
        model = with_head(layers)
    init_weights(model, linear=normal_001, conv=init.kaiming_uniform_)
    normal_001(last.weight)
    return model


squeezenet1_0 = _squeezenet("squeezenet1_0", 1_248_424, smallest=21, stem=(96, 7), pooled=(0, 3, 7))
squeezenet1_1 = _squeezenet("squeezenet1_1", 1_235_496, smallest=17, stem=(64, 3), pooled=(0, 2, 4))
