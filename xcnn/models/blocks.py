"""What several networks are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from .. import functional as F
from .. import init, nn
from ..tensor import Tensor


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    stride: int = 1,
    groups: int = 1,
    activation: nn.Module | None = None,
) -> nn.Sequential:
    """Convolution without bias, batch-norm and ``activation``, if any; keeps the size / stride."""
    padding = (kernel_size - 1) // 2
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False
    )
    last = [] if activation is None else [activation]
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), *last)


class StochasticDepth(nn.Module):
    """Zero the whole of an example with probability ``p`` in training, scale others by 1 / (1 - p).

    Put at the end of a branch beside a shortcut, it leaves the branch out (Huang et al. 2016,
    "Deep networks with stochastic depth", arXiv:1603.09382).
    """

    def __init__(self, p: float) -> None:
        self.p = p

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        if not self.training or self.p == 0:
            return x
        with x.backend.active():
            ones = x.backend.xp.ones((len(x), *[1] * (x.ndim - 1)), x.dtype)
        return x * F.dropout(ones, self.p)


class SqueezeExcitation(nn.Module):
    """Weigh each channel by what all channels hold on average (Hu et al. 2018, arXiv:1709.01507).

    x · sigmoid(fc2(silu(fc1(mean of x over the pixels)))).
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        return x * F.sigmoid(self.fc2(F.silu(self.fc1(self.avgpool(x)))))


def draw(
    model: nn.Module, linear: Callable[[Tensor], Any], conv: Callable[[Tensor], Any] | None = None
) -> Any:
    """Draw the weights of all convolutions and linear layers with these functions; ``model``.

    Convolutions: by default normal with variance 2 / fan_out, which keeps the variance of the
    gradients through ReLU (He et al. 2015). Biases stay zero, batch-norms one and zero.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            (conv or normal_by_fan_out)(module.weight)
        elif isinstance(module, nn.Linear):
            linear(module.weight)
    return model


def normal_by_fan_out(weight: Tensor) -> None:
    """Normal with variance 2 / fan_out."""
    init.normal_(weight, math.sqrt(2 / init.fans(weight.shape)[1]))


def narrow(weight: Tensor) -> None:
    """Normal with standard deviation 0.01."""
    init.normal_(weight, 0.01)


def uniform_by_inputs(weight: Tensor) -> None:
    """Uniform within ± 1 / √inputs."""
    init.uniform_(weight, 1 / math.sqrt(weight.shape[1]))
