"""Fully connected layers."""

from __future__ import annotations

import math
from typing import Any

from .. import functional as F
from .. import init
from ..checks import check_flag, check_int
from ..tensor import Parameter, Tensor
from .module import Module, full

__all__ = ["Bilinear", "Linear"]


class Linear(Module):
    """y = x Wᵀ + b, from (N, in_features) to (N, out_features).

    Parameters
    ----------
    in_features, out_features
        Sizes of input and output.
    bias
        Whether to add a trainable bias per output.
    nonlinearity
        The activation that follows; determines the initial weights
        (:func:`xcnn.init.for_activation_`). The bias starts at zero.
    device, dtype
        Of the parameters; default: the CPU and float32.

    Attributes
    ----------
    weight : Parameter (out_features, in_features)
    bias : Parameter (out_features,) or None
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        nonlinearity: str = "relu",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self.in_features = check_int("in_features", in_features)
        self.out_features = check_int("out_features", out_features)
        self.weight = Parameter(full((self.out_features, self.in_features)))
        init.for_activation_(self.weight, nonlinearity)
        self.bias = Parameter(full(self.out_features)) if check_flag("bias", bias) else None
        self.to(device=device, dtype=dtype)

    def forward(self, input: Any, relu: bool = False) -> Tensor:
        return F.linear(input, self.weight, self.bias, relu)

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        return math.prod(output_shape) * self.in_features


class Bilinear(Module):
    """y = x1ᵀ W x2 + b per output; see :func:`xcnn.functional.bilinear`.

    Parameters
    ----------
    in1_features, in2_features, out_features
        Sizes of the inputs and of the output.
    bias, device, dtype
        As in :class:`Linear`.

    Attributes
    ----------
    weight : Parameter (out_features, in1_features, in2_features)
    bias : Parameter (out_features,) or None
        Both from the uniform distribution within ± 1 / √in1_features.
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self.in1_features = check_int("in1_features", in1_features)
        self.in2_features = check_int("in2_features", in2_features)
        self.out_features = check_int("out_features", out_features)
        bound = 1 / math.sqrt(self.in1_features)
        self.weight = Parameter(full((self.out_features, self.in1_features, self.in2_features)))
        self.bias = Parameter(full(self.out_features)) if check_flag("bias", bias) else None
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)
        self.to(device=device, dtype=dtype)

    def forward(self, input1: Any, input2: Any) -> Tensor:
        return F.bilinear(input1, input2, self.weight, self.bias)

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        return math.prod(output_shape) * self.in1_features * (self.in2_features + 1)
