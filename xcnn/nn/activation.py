"""Activation layers.

To add one, write ``class NAME(Activation, function=F.name)`` and add it to ``__all__``.
"""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..checks import check_choice, check_flag, check_int, check_number
from ..errors import ShapeError
from ..tensor import Parameter, Tensor
from .module import Module, full
from .operation import OperationLayer

# fmt: off
__all__ = [
    "CELU", "ELU", "GELU", "GLU", "SELU", "Hardshrink", "Hardsigmoid", "Hardswish", "Hardtanh",
    "Identity", "LeakyReLU", "LogSigmoid", "LogSoftmax", "Mish", "PReLU", "RReLU", "ReLU", "ReLU6",
    "SiLU", "Sigmoid", "Softmax", "Softmax2d", "Softmin", "Softplus", "Softshrink", "Softsign",
    "Tanh", "Tanhshrink", "Threshold", "activation",
]
# fmt: on


class Activation(OperationLayer):
    """Base class of elementwise activations, which :func:`activation` creates by name.

    What ``inplace`` does is in :mod:`xcnn.functional.activation`.
    """


class _Plain(Activation):
    def __init__(self, inplace: bool = False) -> None:
        self.inplace = check_flag("inplace", inplace)


class ReLU(_Plain, function=F.relu):
    """max(x, 0)."""


class ReLU6(_Plain, function=F.relu6):
    """min(max(x, 0), 6)."""


class Hardtanh(Activation, function=F.hardtanh):
    """min(max(x, min_val), max_val)."""

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        self.min_val = check_number("min_val", min_val)
        self.max_val = check_number("max_val", max_val, self.min_val)
        self.inplace = check_flag("inplace", inplace)


class LeakyReLU(Activation, function=F.leaky_relu):
    """x where x > 0, else negative_slope · x."""

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope = check_number("negative_slope", negative_slope)
        self.inplace = check_flag("inplace", inplace)


class RReLU(Activation, function=F.rrelu):
    """x where x > 0, else slope · x: random slopes from lower to upper in training, else the mean.

    See :func:`xcnn.functional.rrelu`.
    """

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        self.upper = check_number("upper", upper)
        self.lower = check_number("lower", lower, high=self.upper)
        self.inplace = check_flag("inplace", inplace)

    def forward(self, x: Any) -> Tensor:
        return F.rrelu(x, self.lower, self.upper, self.training)


class PReLU(Activation, function=F.prelu):
    """x where x > 0, else weight · x, with a trainable weight.

    Parameters
    ----------
    num_parameters
        1: one slope for all channels; C: one for each channel of (N, C, ...).
    init
        Initial slope.
    device, dtype
        Of the parameter; default: the CPU and float32.

    Attributes
    ----------
    weight : Parameter (num_parameters,)
    """

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self.num_parameters = check_int("num_parameters", num_parameters)
        self.weight = Parameter(full(self.num_parameters, check_number("init", init)))
        self.to(device=device, dtype=dtype)

    def forward(self, x: Any) -> Tensor:
        return F.prelu(x, self.weight)


class _WithAlpha(Activation):
    def __init__(self, alpha: float = 1.0, inplace: bool = False) -> None:
        self.alpha = check_number("alpha", alpha)
        self.inplace = check_flag("inplace", inplace)


class ELU(_WithAlpha, function=F.elu):
    """x where x > 0, else alpha · (exp(x) - 1)."""


class CELU(_WithAlpha, function=F.celu):
    """x where x > 0, else alpha · (exp(x / alpha) - 1)."""


class SELU(_Plain, function=F.selu):
    """scale · elu(x, alpha), which preserves mean 0 and variance 1."""


class GELU(Activation, function=F.gelu):
    """x · Φ(x), with Φ the cumulative distribution function of the standard normal distribution.

    Parameters
    ----------
    approximate
        "none" for the exact formula, "tanh" for an approximation.
    """

    def __init__(self, approximate: str = "none") -> None:
        self.approximate = check_choice("approximate", approximate, ("none", "tanh"))


class SiLU(_Plain, function=F.silu):
    """x · sigmoid(x); also called swish."""


class Mish(_Plain, function=F.mish):
    """x · tanh(softplus(x))."""


class Softplus(Activation, function=F.softplus):
    """log(1 + exp(beta · x)) / beta; x where beta · x > threshold."""

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = check_number("beta", beta)
        self.threshold = check_number("threshold", threshold)


class Sigmoid(Activation, function=F.sigmoid):
    """1 / (1 + exp(-x))."""


class LogSigmoid(Activation, function=F.logsigmoid):
    """log(sigmoid(x))."""


class Tanh(Activation, function=F.tanh):
    """tanh(x)."""


class Tanhshrink(Activation, function=F.tanhshrink):
    """x - tanh(x)."""


class Softsign(Activation, function=F.softsign):
    """x / (1 + |x|)."""


class _WithLambd(Activation):
    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = check_number("lambd", lambd)


class Hardshrink(_WithLambd, function=F.hardshrink):
    """x where |x| > lambd, else 0."""


class Softshrink(_WithLambd, function=F.softshrink):
    """x moved towards 0 by lambd, or to 0 where |x| <= lambd."""


class Hardsigmoid(_Plain, function=F.hardsigmoid):
    """min(max(x / 6 + 1 / 2, 0), 1)."""


class Hardswish(_Plain, function=F.hardswish):
    """x · hardsigmoid(x)."""


class Threshold(OperationLayer, function=F.threshold):
    """x where x > threshold, else value."""

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        self.threshold = check_number("threshold", threshold)
        self.value = check_number("value", value)
        self.inplace = check_flag("inplace", inplace)


class GLU(OperationLayer, function=F.glu):
    """The first half of the input along ``dim``, times the sigmoid of the second half."""

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim


class _AlongDim(OperationLayer):
    def __init__(self, dim: int | None = 1) -> None:
        self.dim = dim


class Softmax(_AlongDim, function=F.softmax):
    """exp(x) / sum(exp(x)) along ``dim`` (default: classes of (N, C, ...))."""


class LogSoftmax(_AlongDim, function=F.log_softmax):
    """log(softmax(x)) along ``dim`` (default: classes of (N, C, ...))."""


class Softmin(_AlongDim, function=F.softmin):
    """softmax(-x) along ``dim`` (default: classes of (N, C, ...))."""


class Softmax2d(Module):
    """Softmax over the channels of each pixel, (N, C, H, W) or (C, H, W)."""

    def forward(self, x: Any) -> Tensor:
        x = Tensor.of(x)
        if x.ndim not in (3, 4):
            raise ShapeError(f"input has shape {x.shape}: expected (N, C, H, W) or (C, H, W)")
        return F.softmax(x, -3)


class Identity(Module):
    """Return the input unchanged; a placeholder, which takes any arguments."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._init_arguments = {}  # nothing to save

    def forward(self, x: Any) -> Tensor:
        return Tensor.of(x)


_BY_NAME: dict[str, type[Module]] = {
    "identity": Identity,
    **{
        cls.function.__name__: cls
        for cls in list(globals().values())
        if isinstance(cls, type) and issubclass(cls, Activation) and hasattr(cls, "function")
    },
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
