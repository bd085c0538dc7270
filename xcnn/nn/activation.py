"""Activation layers."""

from __future__ import annotations

from typing import Any

from .. import backends
from .. import functional as F
from ..checks import check_approximate, check_features, number
from ..errors import ArgumentError
from ..tensor import Parameter, Tensor
from .module import Module


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Any) -> Tensor:
        return F.relu(x)


class ReLU6(Module):
    """min(max(x, 0), 6)."""

    def forward(self, x: Any) -> Tensor:
        return F.relu6(x)


class LeakyReLU(Module):
    """X where x > 0, else negative_slope · x."""

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = number("negative_slope", negative_slope)

    def forward(self, x: Any) -> Tensor:
        return F.leaky_relu(x, self.negative_slope)


class PReLU(Module):
    """X where x > 0, else weight · x, with a weight that is trained.

    Parameters
    ----------
    num_parameters
        1: one slope for all channels; C: one for each channel of (N, C, ...).
    init
        The slopes to begin with.

    Attributes
    ----------
    weight : Parameter (num_parameters,)
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        self.num_parameters = check_features("num_parameters", num_parameters)
        xp = backends.get("cpu").xp
        self.weight = Parameter(xp.full(self.num_parameters, number("init", init), "float32"))

    def forward(self, x: Any) -> Tensor:
        return F.prelu(x, self.weight)


class ELU(Module):
    """X where x > 0, else alpha · (exp(x) - 1)."""

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = number("alpha", alpha)

    def forward(self, x: Any) -> Tensor:
        return F.elu(x, self.alpha)


class SELU(Module):
    """scale · elu(x, alpha): keeps mean 0 and variance 1."""

    def forward(self, x: Any) -> Tensor:
        return F.selu(x)


class GELU(Module):
    """X · Φ(x), Φ the distribution function of the normal distribution.

    Parameters
    ----------
    approximate
        "none", or "tanh" for an approximation by tanh.
    """

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = check_approximate(approximate)

    def forward(self, x: Any) -> Tensor:
        return F.gelu(x, self.approximate)


class SiLU(Module):
    """X · sigmoid(x); also called swish."""

    def forward(self, x: Any) -> Tensor:
        return F.silu(x)


class Hardswish(Module):
    """X · hardsigmoid(x)."""

    def forward(self, x: Any) -> Tensor:
        return F.hardswish(x)


class Hardsigmoid(Module):
    """min(max(x / 6 + 1 / 2, 0), 1)."""

    def forward(self, x: Any) -> Tensor:
        return F.hardsigmoid(x)


class Softplus(Module):
    """log(1 + exp(beta · x)) / beta; x itself where beta · x > threshold."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta, self.threshold = number("beta", beta), number("threshold", threshold)

    def forward(self, x: Any) -> Tensor:
        return F.softplus(x, self.beta, self.threshold)


class Identity(Module):
    """The input as it is, where a layer is asked for."""

    def forward(self, x: Any) -> Tensor:
        return Tensor.of(x)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Any) -> Tensor:
        return F.sigmoid(x)


class Tanh(Module):
    """tanh(x)."""

    def forward(self, x: Any) -> Tensor:
        return F.tanh(x)


class Softmax(Module):
    """exp(x) / sum(exp(x)) along ``dim`` (default: classes of (N, C, ...))."""

    def __init__(self, dim: int = 1) -> None:
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        return F.softmax(x, self.dim)


class LogSoftmax(Module):
    """log(softmax(x)) along ``dim`` (default: classes of (N, C, ...))."""

    def __init__(self, dim: int = 1) -> None:
        self.dim = dim

    def forward(self, x: Any) -> Tensor:
        return F.log_softmax(x, self.dim)


_BY_NAME: dict[str, type[Module]] = {
    "elu": ELU,
    "gelu": GELU,
    "hardsigmoid": Hardsigmoid,
    "hardswish": Hardswish,
    "identity": Identity,
    "leaky_relu": LeakyReLU,
    "prelu": PReLU,
    "relu": ReLU,
    "relu6": ReLU6,
    "selu": SELU,
    "sigmoid": Sigmoid,
    "silu": SiLU,
    "softplus": Softplus,
    "tanh": Tanh,
}


def activation(name: str) -> Module:
    """The layer of that name, with its defaults, such as "relu", "leaky_relu" or "gelu".

    :func:`xcnn.init.for_activation_` knows the same names.

    Raises
    ------
    ArgumentError
        An unknown name; the text lists those there are.
    """
    if name not in _BY_NAME:
        raise ArgumentError(f"activation={name!r}: expected one of {sorted(_BY_NAME)}")
    return _BY_NAME[name]()
