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
from .simple import image_shape

#: which maps of S2 each map of C3 sees: table I of the paper
_C3 = (
    *((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (0, 4, 5), (0, 1, 5)),
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (0, 3, 4, 5), (0, 1, 4, 5), (0, 1, 2, 5)),
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),
    (0, 1, 2, 3, 4, 5),
)
_CODE = 84  # units of F6: the 7×12 pixels of the paper's pictures of the classes


class ScaledTanh(nn.Module):
    """1.7159 tanh(2 x / 3), which leaves 1 and -1, the values wanted, as they are (appendix A)."""

    def forward(self, x: Any) -> Tensor:
        return _squash(x)


class Subsampling(nn.Module):
    """The mean of each 2×2 window, times one weight and plus one bias per channel, squashed."""

    def __init__(self, channels: int) -> None:
        xp = backends.get("cpu").xp
        self.weight = Parameter(xp.ones(channels, "float32"))
        self.bias = Parameter(xp.zeros(channels, "float32"))

    def forward(self, x: Any) -> Tensor:
        weight, bias = (p.reshape(1, -1, 1, 1) for p in (self.weight, self.bias))
        return _squash(F.avg_pool2d(x, 2) * weight + bias)


class PartialConv2d(nn.Module):
    """A convolution whose output channels each see some of the input channels.

    Parameters
    ----------
    in_channels
        Channels of the input.
    table
        For each output channel, the input channels that it sees.
    kernel_size
        Height and width of the kernels.

    Attributes
    ----------
    kernels : Parameter (pairs of channels that are connected, kernel_size, kernel_size)
    bias : Parameter (output channels,)
    places : Buffer, what puts the kernels into a weight that has zeros elsewhere
    """

    def __init__(self, in_channels: int, table: tuple[tuple[int, ...], ...], kernel_size: int):
        xp = backends.get("cpu").xp
        pairs = [(o, i) for o, seen in enumerate(table) for i in seen]
        self.shape = (len(table), in_channels, kernel_size, kernel_size)
        self.kernels = Parameter(xp.empty((len(pairs), kernel_size, kernel_size), "float32"))
        self.bias = Parameter(xp.zeros(len(table), "float32"))
        self.places = nn.Buffer(xp.zeros((len(table) * in_channels, len(pairs)), "float32"))
        for column, (o, i) in enumerate(pairs):
            self.places.data[o * in_channels + i, column] = 1
        fan_in = kernel_size**2 * len(pairs) / len(table)
        init.uniform_(self.kernels, 2.4 / fan_in)

    def forward(self, x: Any) -> Tensor:
        kernels = self.kernels.reshape(len(self.kernels), -1)
        weight = F.matmul(self.places, kernels).reshape(self.shape)
        return F.conv2d(x, weight, self.bias)

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        return math.prod(output_shape) // self.shape[0] * self.kernels.size


class RBF(nn.Module):
    """Minus the squared distance of x (N, 84) from each class's code; codes are ±1 and fixed."""

    def __init__(self, num_classes: int) -> None:
        xp = backends.get("cpu").xp
        # the parity of the bits that two numbers share: any two rows differ in about half
        codes = [
            [1 - 2 * ((row & column).bit_count() % 2) for column in range(_CODE)]
            for row in range(1, num_classes + 1)
        ]
        self.codes = nn.Buffer(xp.asarray(codes, "float32"))

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        return 2 * F.linear(x, self.codes) - F.sum(x * x, 1, keepdim=True) - _CODE


def lenet5_1998(
    num_classes: int = 10, input_shape: tuple[int, int, int] = (1, 32, 32)
) -> nn.Sequential:
    """LeNet-5 of the paper: 60,000 parameters to train, as it says, in every layer as many.

    C1, conv 6@5×5 (156); S2, trainable subsampling (12); C3, conv 16@5×5, each map of which sees
    3 to 6 of the 6 below (1,516); S4 (32); C5, conv 120@5×5 (48,120); F6, 84 units (10,164); all
    of them squashed by 1.7159 tanh(2x/3); and Gaussian output units with fixed codes, whose
    squared distances, minus their sign, are the logits. Their cross-entropy is the paper's
    equation 9, which keeps classes apart, without its constant for "none of them".

    What is simplified: the codes are ±1, but no pictures of characters (any two differ in about
    half of the 84 places; of more than 63 classes some in fewer); a unit of S2 and S4 takes the
    mean of four pixels, not their sum, so that its weight, 1 at first, is four times the paper's;
    C3's kernels are drawn within one range instead of one per map. The paper's training (diagonal
    Levenberg-Marquardt) is not here.

    Parameters
    ----------
    num_classes
        2 to 127.
    input_shape
        (channels, height, width): 32×32 pixels, or 28×28, which are padded with zeros.

    Returns
    -------
    nn.Sequential
        (N, channels, height, width) to logits (N, num_classes), all below zero.

    Raises
    ------
    ArgumentError
        Another size or number of classes.
    """
    channels, height, width = image_shape(input_shape, "lenet5_1998")
    if (height, width) not in ((28, 28), (32, 32)):
        raise ArgumentError(f"input_shape={input_shape}: lenet5_1998 takes 28×28 and 32×32 pixels")
    if not 2 <= num_classes <= 127:
        raise ArgumentError(f"num_classes={num_classes}: lenet5_1998 has codes for 2 to 127")
    model = nn.Sequential(
        {
            "c1": nn.Conv2d(channels, 6, 5, padding=(32 - height) // 2, nonlinearity="tanh"),
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
        init.uniform_(weight, 2.4 / init.fans(weight.shape)[0])
    return model


def _squash(x: Any) -> Tensor:
    return 1.7159 * F.tanh(Tensor.of(x) * (2 / 3))
