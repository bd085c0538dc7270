"""ShuffleNetV2 (Ma et al. 2018, arXiv:1807.11164), with torchvision's weight names."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from .. import init, nn
from ..tensor import Tensor
from .blocks import conv_norm, init_weights, uniform_by_fan_in, with_head
from .registry import ImageShape, family, image_shape, register_block

__all__ = ["shufflenet_v2_x0_5", "shufflenet_v2_x1_0", "shufflenet_v2_x1_5", "shufflenet_v2_x2_0"]


@register_block
class ShuffleUnit(nn.Module):
    """Half of the channels pass three convolutions; the halves are concatenated and shuffled.

    With stride 2, both halves are computed from all channels of the input.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        half = out_channels // 2
        self.stride = stride
        if stride > 1:
            self.branch1 = nn.Sequential(
                *conv_norm(in_channels, in_channels, 3, stride, in_channels),
                *conv_norm(in_channels, half, 1, activation=nn.ReLU()),
            )
        self.branch2 = nn.Sequential(
            *conv_norm(in_channels if stride > 1 else half, half, 1, activation=nn.ReLU()),
            *conv_norm(half, half, 3, stride, half),
            *conv_norm(half, half, 1, activation=nn.ReLU()),
        )

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        if self.stride > 1:
            halves = [self.branch1(x), self.branch2(x)]
        else:
            half = x.shape[1] // 2
            halves = [x[:, :half], self.branch2(x[:, half:])]
        return F.channel_shuffle(F.concat(halves, 1), 2)


@family
def _shufflenet(
    num_classes: int = 1000,
    input_shape: ImageShape = (3, 224, 224),
    *,
    name: str,
    widths: tuple[int, int, int],
    last: int = 1024,
) -> nn.Sequential:
    """ShuffleNetV2.

    3×3 convolution and max-pool, each of stride 2; three stages of 4, 8 and 4 units; a 1×1
    convolution; global average pooling; one linear layer.

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
    channels = 24
    with init.skipped():  # init_weights() initialises
        in_channels = image_shape(input_shape, name)[0]
        layers: dict[str, nn.Module] = {
            "conv1": conv_norm(in_channels, channels, 3, 2, activation=nn.ReLU()),
            "maxpool": nn.MaxPool2d(3, stride=2, padding=1),
        }
        for stage, count, width in zip((2, 3, 4), (4, 8, 4), widths, strict=True):
            rest = [ShuffleUnit(width, width, 1) for _ in range(count - 1)]
            layers[f"stage{stage}"] = nn.Sequential(ShuffleUnit(channels, width, 2), *rest)
            channels = width
        layers["conv5"] = conv_norm(channels, last, 1, activation=nn.ReLU())
        model = with_head(layers, fc=nn.Linear(last, num_classes))
    return init_weights(model, linear=uniform_by_fan_in, conv=uniform_by_fan_in)


shufflenet_v2_x0_5 = _shufflenet("shufflenet_v2_x0_5", 1_366_792, widths=(48, 96, 192))
shufflenet_v2_x1_0 = _shufflenet("shufflenet_v2_x1_0", 2_278_604, widths=(116, 232, 464))
shufflenet_v2_x1_5 = _shufflenet("shufflenet_v2_x1_5", 3_503_624, widths=(176, 352, 704))
shufflenet_v2_x2_0 = _shufflenet("shufflenet_v2_x2_0", 7_393_996, widths=(244, 488, 976), last=2048)
