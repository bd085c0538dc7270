"""Activation layers.

To add one, write a subclass of :class:`Activation` and add it to ``__all__``.
"""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..checks import check_choice, check_int, check_number
from ..tensor import Parameter, Tensor
from .module import Module, full
from .operation import OperationLayer

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Hardsigmoid",
    "Hardswish",
    "Identity",
    "LeakyReLU",
    "LogSoftmax",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softplus",
    "Tanh",
    "activation",
]


class Activation(OperationLayer):
    """Base class of elementwise activations, which :func:`activation` creates by name."""


class ReLU(Activation):
    """max(x, 0)."""

    function = staticmethod(F.relu)


class ReLU6(Activation):
    """min(max(x, 0), 6)."""

    function = staticmethod(F.relu6)


class LeakyReLU(Activation):
    """x where x > 0, else negative_slope · x."""

    function = staticmethod(F.leaky_relu)

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = check_number("negative_slope", negative_slope)


class PReLU(Activation):
    """x where x > 0, else weight · x, with a trainable weight.

    Parameters
    ----------
    num_parameters
        1: one slope for all channels; C: one for each channel of (N, C, ...).
    init
        Initial slope.

    Attributes
    ----------
    weight : Parameter (num_parameters,)
    """

    function = staticmethod(F.prelu)

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        self.num_parameters = check_int("num_parameters", num_parameters)
        self.weight = Parameter(full(self.num_parameters, check_number("init", init)))

    def forward(self, x: Any) -> Tensor:
        return F.prelu(x, self.weight)


class ELU(Activation):
    """x where x > 0, else alpha · (exp(x) - 1)."""

    function = staticmethod(F.elu)

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = check_number("alpha", alpha)


class SELU(Activation):
    """scale · elu(x, alpha), which preserves mean 0 and variance 1."""

    function = staticmethod(F.selu)


class GELU(Activation):
    """x · Φ(x), with Φ the cumulative distribution function of the standard normal distribution.

    Parameters
    ----------
    approximate
        "none" for the exact formula, "tanh" for an approximation.
    """

    function = staticmethod(F.gelu)

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = check_choice("approximate", approximate, ("none", "tanh"))


class SiLU(Activation):
    """x · sigmoid(x); also called swish."""

    function = staticmethod(F.silu)


class Softplus(Activation):
    """log(1 + exp(beta · x)) / beta; x where beta · x > threshold."""

    function = staticmethod(F.softplus)

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = check_number("beta", beta)
        self.threshold = check_number("threshold", threshold)


class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    function = staticmethod(F.sigmoid)


class Tanh(Activation):
    """tanh(x)."""

    function = staticmethod(F.tanh)


class Hardsigmoid(Activation):
    """min(max(x / 6 + 1 / 2, 0), 1)."""

    function = staticmethod(F.hardsigmoid)


class Hardswish(Activation):
    """x · hardsigmoid(x)."""

    function = staticmethod(F.hardswish)


class _AlongDim(OperationLayer):
    def __init__(self, dim: int = 1) -> None:
        self.dim = dim


class Softmax(_AlongDim):
    """exp(x) / sum(exp(x)) along ``dim`` (default: classes of (N, C, ...))."""

    function = staticmethod(F.softmax)


class LogSoftmax(_AlongDim):
    """log(softmax(x)) along ``dim`` (default: classes of (N, C, ...))."""

    function = staticmethod(F.log_softmax)


class Identity(Module):
    """Return the input unchanged; a placeholder."""

    def forward(self, x: Any) -> Tensor:
        return Tensor.of(x)


_BY_NAME: dict[str, type[Module]] = {
    "identity": Identity,
    **{cls.function.__name__: cls for cls in Activation.__subclasses__()},
}


def activation(name: str) -> Module:
    """Create an activation layer by name, such as "relu" or "leaky_relu", with its defaults.

    :func:`xcnn.init.for_activation_` accepts the same names.

    Raises
    ------
    ArgumentError
        Unknown name; the message lists the valid ones.
    """
    return _BY_NAME[check_choice("activation", name, sorted(_BY_NAME))]()
