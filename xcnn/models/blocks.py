"""Shared building blocks and weight initialisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from .. import functional as F
from .. import init, nn
from ..tensor import Tensor
from .registry import register_block


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel_size: int = 3,
    stride: int = 1,
    groups: int = 1,
    activation: nn.Module | None = None,
    **norm: Any,
) -> nn.Sequential:
    """Convolution without bias, batch-norm (of settings ``norm``) and an optional activation.

    The padding is (kernel_size - 1) / 2, so only the stride changes the size.
    """
    padding = (kernel_size - 1) // 2
    conv = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False
    )
    activations = [] if activation is None else [activation]
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels, **norm), *activations)


def expand(
    in_channels: int,
    hidden: int,
    kernel_size: int,
    stride: int,
    activation: Callable[[], nn.Module],
    **norm: Any,
) -> list[nn.Module]:
    """First layers of an inverted residual: 1×1 to ``hidden`` channels, then depthwise.

    The 1×1 convolution is omitted if it would not change the number of channels.
    """
    layers: list[nn.Module] = []
    if hidden != in_channels:
        layers = [conv_norm(in_channels, hidden, 1, activation=activation(), **norm)]
    return [*layers, conv_norm(hidden, hidden, kernel_size, stride, hidden, activation(), **norm)]


def norm_relu(norm: nn.Module, x: Any, residual: Any = None) -> Tensor:
    """max(norm(x) + residual, 0), in one pass unless the layer is observed or replaced."""
    is_plain = type(norm) in (nn.BatchNorm2d, nn.SyncBatchNorm) and not norm.is_observed
    if is_plain and (residual is None or (residual.shape, residual.dtype) == (x.shape, x.dtype)):
        return norm(x, residual=residual, relu=True)
    y = norm(x)
    return F.relu(y if residual is None else y + residual)


def with_classifier(
    features: list[nn.Module], classifier: nn.Module, pooled: int | tuple[int, int] = 1
) -> nn.Sequential:
    """Chain ``features``, average pooling to ``pooled`` pixels, flattening and ``classifier``."""
    return with_head({"features": nn.Sequential(*features)}, pooled, classifier=classifier)


def with_head(
    layers: Mapping[str, nn.Module], pooled: int | tuple[int, int] = 1, **head: nn.Module
) -> nn.Sequential:
    """Chain ``layers``, average pooling to ``pooled`` pixels, flattening and ``head``."""
    pool = {"avgpool": nn.AdaptiveAvgPool2d(pooled), "flatten": nn.Flatten()}
    return nn.Sequential({**layers, **pool, **head})


@register_block
class StochasticDepth(nn.Module):
    """In training, zero each example with probability ``p`` and scale the rest by 1 / (1 - p).

    As the last layer of a residual branch it skips the branch at random (Huang et al. 2016,
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


@register_block
class SqueezeExcitation(nn.Module):
    """Scale each channel by a gate computed from all channel means (Hu et al. 2018,
    arXiv:1709.01507).

    y = x · gate(fc2(activation(fc1(mean of x over the pixels)))), named as in
    :func:`xcnn.nn.activation`.
    """

    def __init__(
        self, channels: int, squeezed: int, activation: str = "silu", gate: str = "sigmoid"
    ) -> None:
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)
        self.activation, self.gate = nn.activation(activation), nn.activation(gate)

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        return x * self.gate(self.fc2(self.activation(self.fc1(self.avgpool(x)))))


def make_divisible(width: float) -> int:
    """The nearest multiple of 8, at least 8, that is not more than 10 % smaller."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest


def init_weights(
    model: nn.Module, linear: Callable[[Tensor], Any], conv: Callable[[Tensor], Any] | None = None
) -> Any:
    """Initialise the weights of all convolutions and linear layers; returns ``model``.

    Convolutions default to a normal distribution of variance 2 / fan_out, which preserves the
    variance of the gradients through ReLU (He et al. 2015). Biases and batch-norms are unchanged.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            (conv or normal_by_fan_out)(module.weight)
        elif isinstance(module, nn.Linear):
            linear(module.weight)
    return model


def normal_by_fan_out(weight: Tensor) -> None:
    """Normal with variance 2 / fan_out."""
    init.kaiming_normal_(weight, mode="fan_out")


def normal_001(weight: Tensor) -> None:
    """Normal with standard deviation 0.01."""
    init.normal_(weight, std=0.01)


def normal_002(weight: Tensor) -> None:
    """Normal with standard deviation 0.02, truncated."""
    init.trunc_normal_(weight, std=0.02)


def uniform_by_fan_in(weight: Tensor) -> None:
    """Uniform within ± 1 / √fan_in."""
    bound = 1 / math.sqrt(init.fans(weight.shape)[0])
    init.uniform_(weight, -bound, bound)


def uniform_by_fan_out(weight: Tensor) -> None:
    """Uniform within ± 1 / √fan_out."""
    bound = 1 / math.sqrt(init.fans(weight.shape)[1])
    init.uniform_(weight, -bound, bound)
