"""LeNet-5 as in 1998 (LeCun, Bottou, Bengio & Haffner, "Gradient-based learning applied to
document recognition", section II.B).
"""

from __future__ import annotations

import math
from typing import Any

from .. import backends, init, nn
from .. import functional as F
from ..errors import ArgumentError
from ..tensor import Parameter, Tensor
from .registry import ImageShape, image_shape, register_block, register_classifier

__all__ = ["lenet5_1998"]

_Table = tuple[tuple[int, ...], ...]
#: input channels (maps of S2) of each output channel of C3: table I of the paper
_C3: _Table = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
_CODE = 84  # units of F6: the 7×12 pixels of the paper's bitmaps of the classes


@register_block
class ScaledTanh(nn.Module):
    """1.7159 tanh(2 x / 3), which maps the target values 1 and -1 to themselves (appendix A)."""

    def forward(self, x: Any) -> Tensor:
        return _scaled_tanh(x)


@register_block
class Subsampling(nn.Module):
    """scaled_tanh(weight · mean of each 2×2 window + bias), a weight and a bias per channel."""

    def __init__(self, channels: int) -> None:
        xp = backends.get("cpu").xp
        self.weight = Parameter(xp.ones(channels, "float32"))
        self.bias = Parameter(xp.zeros(channels, "float32"))

    def forward(self, x: Any) -> Tensor:
        weight, bias = (p.reshape(1, -1, 1, 1) for p in (self.weight, self.bias))
        return _scaled_tanh(F.avg_pool2d(x, 2) * weight + bias)


@register_block
class PartialConv2d(nn.Module):
    """A convolution in which each output channel reads only some of the input channels.

    Parameters
    ----------
    in_channels
        Channels of the input.
    table
        For each output channel, the input channels it reads.
    kernel_size
        Height and width of the kernels.

    Attributes
    ----------
    kernels : Parameter (connections, kernel_size, kernel_size)
    bias : Parameter (output channels,)
    places : Buffer (output channels · in_channels, connections)
        0 and 1; its product with ``kernels`` is the dense weight, zero where not connected.
    """

    def __init__(self, in_channels: int, table: _Table, kernel_size: int) -> None:
        xp = backends.get("cpu").xp
        pairs = [(o, i) for o, inputs in enumerate(table) for i in inputs]
        self.shape = (len(table), in_channels, kernel_size, kernel_size)
        self.kernels = Parameter(xp.empty((len(pairs), kernel_size, kernel_size), "float32"))
        self.bias = Parameter(xp.zeros(len(table), "float32"))
        self.places = nn.Buffer(xp.zeros((len(table) * in_channels, len(pairs)), "float32"))
        for column, (o, i) in enumerate(pairs):
            self.places.data[o * in_channels + i, column] = 1
        mean_fan_in = kernel_size**2 * len(pairs) / len(table)
        bound = 2.4 / mean_fan_in
        init.uniform_(self.kernels, -bound, bound)

    def forward(self, x: Any) -> Tensor:
        kernels = self.kernels.reshape(len(self.kernels), -1)
        weight = F.matmul(self.places, kernels).reshape(self.shape)
        return F.conv2d(x, weight, self.bias)

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        return math.prod(output_shape) // self.shape[0] * self.kernels.numel()


@register_block
class RBF(nn.Module):
    """-‖x - code‖² for each class, for x (N, 84); the codes are ±1 and not trained."""

    def __init__(self, num_classes: int) -> None:
        # rows of a Hadamard matrix: any two differ in about half of the positions
        codes = [
            [1 - 2 * ((row & column).bit_count() % 2) for column in range(_CODE)]
            for row in range(1, num_classes + 1)
        ]
        self.codes = nn.Buffer(backends.get("cpu").xp.asarray(codes, "float32"))

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        return 2 * F.linear(x, self.codes) - F.sum(x * x, 1, keepdim=True) - _CODE


@register_classifier
def lenet5_1998(num_classes: int = 10, input_shape: ImageShape = (1, 32, 32)) -> nn.Sequential:
    """LeNet-5 of the paper: 60,000 trainable parameters, with the paper's number in each layer.

    C1, conv 6@5×5 (156); S2, trainable subsampling (12); C3, conv 16@5×5, each channel of which
    reads 3 to 6 of the 6 input channels (1,516); S4 (32); C5, conv 120@5×5 (48,120); F6, 84 units
    (10,164); 1.7159 tanh(2x/3) after each; and Gaussian output units with fixed codes: the logits
    are the negative squared distances. Their cross-entropy is the paper's equation 9, which
    penalises wrong classes, without its constant for "none of the classes".

    Differences from the paper: the codes are ±1 but not bitmaps of characters (any two differ in
    about half of the 84 positions; beyond 63 classes some in fewer); a unit of S2 and S4 takes the
    mean of four pixels, not their sum, so its weight, initially 1, is four times the paper's;
    C3's kernels are drawn from one range instead of one per channel. The paper's training method
    (diagonal Levenberg-Marquardt) is not implemented.

    Parameters
    ----------
    num_classes
        2 to 127.
    input_shape
        (channels, height, width): 32×32 pixels, or 28×28, which are padded with zeros.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to logits (N, num_classes), none above zero.

    Raises
    ------
    ArgumentError
        Unsupported image size or number of classes.
    """
    channels, *size = image_shape(input_shape, "lenet5_1998")
    if size not in ([28, 28], [32, 32]):
        raise ArgumentError(f"input_shape={input_shape}: lenet5_1998 takes 28×28 and 32×32 pixels")
    if not 2 <= num_classes <= 127:
        raise ArgumentError(f"num_classes={num_classes}: lenet5_1998 has codes for 2 to 127")
    model = nn.Sequential(
        {
            "c1": nn.Conv2d(channels, 6, 5, padding=(32 - size[0]) // 2, nonlinearity="tanh"),
            "squash1": ScaledTanh(),
            "s2": Subsampling(6),
            "c3": PartialConv2d(6, _C3, 5),
            "squash3": ScaledTanh(),
            "s4": Subsampling(16),
            "c5": nn.Conv2d(16, 120, 5, nonlinearity="tanh"),
            "squash5": ScaledTanh(),
            "flatten": nn.Flatten(),
            "f6": nn.Linear(120, _CODE, nonlinearity="tanh"),
            "squash6": ScaledTanh(),
            "output": RBF(num_classes),
        }
    )
    for layer in ("c1", "c5", "f6"):
        weight = getattr(model, layer).weight
        bound = 2.4 / init.fans(weight.shape)[0]
        init.uniform_(weight, -bound, bound)
    return model


def _scaled_tanh(x: Any) -> Tensor:
    return 1.7159 * F.tanh(Tensor.of(x) * (2 / 3))
