"""Activation layers.

To add one, write a subclass of :class:`Activation` and add it to ``__all__``.
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


class ReLU(_Plain):
    """max(x, 0)."""

    function = staticmethod(F.relu)


class ReLU6(_Plain):
    """min(max(x, 0), 6)."""

    function = staticmethod(F.relu6)


class Hardtanh(Activation):
    """min(max(x, min_val), max_val)."""

    function = staticmethod(F.hardtanh)

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> None:
        self.min_val = check_number("min_val", min_val)
        self.max_val = check_number("max_val", max_val, self.min_val)
        self.inplace = check_flag("inplace", inplace)


class LeakyReLU(Activation):
    """x where x > 0, else negative_slope · x."""

    function = staticmethod(F.leaky_relu)

    def __init__(self, negative_slope: float = 0.01, inplace: bool = False) -> None:
        self.negative_slope = check_number("negative_slope", negative_slope)
        self.inplace = check_flag("inplace", inplace)


class RReLU(Activation):
    """x where x > 0, else slope · x: random slopes from lower to upper in training, else the mean.

    See :func:`xcnn.functional.rrelu`.
    """

    function = staticmethod(F.rrelu)

    def __init__(self, lower: float = 1 / 8, upper: float = 1 / 3, inplace: bool = False) -> None:
        self.upper = check_number("upper", upper)
        self.lower = check_number("lower", lower, high=self.upper)
        self.inplace = check_flag("inplace", inplace)

    def forward(self, x: Any) -> Tensor:
        return F.rrelu(x, self.lower, self.upper, self.training)


class PReLU(Activation):
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

    function = staticmethod(F.prelu)

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


class ELU(_WithAlpha):
    """x where x > 0, else alpha · (exp(x) - 1)."""

    function = staticmethod(F.elu)


class CELU(_WithAlpha):
    """x where x > 0, else alpha · (exp(x / alpha) - 1)."""

    function = staticmethod(F.celu)


class SELU(_Plain):
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


class SiLU(_Plain):
    """x · sigmoid(x); also called swish."""

    function = staticmethod(F.silu)


class Mish(_Plain):
    """x · tanh(softplus(x))."""

    function = staticmethod(F.mish)


class Softplus(Activation):
    """log(1 + exp(beta · x)) / beta; x where beta · x > threshold."""

    function = staticmethod(F.softplus)

    def __init__(self, beta: float = 1.0, threshold: float = 20.0) -> None:
        self.beta = check_number("beta", beta)
        self.threshold = check_number("threshold", threshold)


class Sigmoid(Activation):
    """1 / (1 + exp(-x))."""

    function = staticmethod(F.sigmoid)


class LogSigmoid(Activation):
    """log(sigmoid(x))."""

    function = staticmethod(F.logsigmoid)


class Tanh(Activation):
    """tanh(x)."""

    function = staticmethod(F.tanh)


class Tanhshrink(Activation):
    """x - tanh(x)."""

    function = staticmethod(F.tanhshrink)


class Softsign(Activation):
    """x / (1 + |x|)."""

    function = staticmethod(F.softsign)


class _WithLambd(Activation):
    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = check_number("lambd", lambd)


class Hardshrink(_WithLambd):
    """x where |x| > lambd, else 0."""

    function = staticmethod(F.hardshrink)


class Softshrink(_WithLambd):
    """x moved towards 0 by lambd, or to 0 where |x| <= lambd."""

    function = staticmethod(F.softshrink)


class Hardsigmoid(_Plain):
    """min(max(x / 6 + 1 / 2, 0), 1)."""

    function = staticmethod(F.hardsigmoid)


class Hardswish(_Plain):
    """x · hardsigmoid(x)."""

    function = staticmethod(F.hardswish)


class Threshold(OperationLayer):
    """x where x > threshold, else value."""

    function = staticmethod(F.threshold)

    def __init__(self, threshold: float, value: float, inplace: bool = False) -> None:
        self.threshold = check_number("threshold", threshold)
        self.value = check_number("value", value)
        self.inplace = check_flag("inplace", inplace)


class GLU(OperationLayer):
    """The first half of the input along ``dim``, times the sigmoid of the second half."""

    function = staticmethod(F.glu)

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim


class _AlongDim(OperationLayer):
    def __init__(self, dim: int | None = 1) -> None:
        self.dim = dim


class Softmax(_AlongDim):
    """exp(x) / sum(exp(x)) along ``dim`` (default: classes of (N, C, ...))."""

    function = staticmethod(F.softmax)


class LogSoftmax(_AlongDim):
    """log(softmax(x)) along ``dim`` (default: classes of (N, C, ...))."""

    function = staticmethod(F.log_softmax)


class Softmin(_AlongDim):
    """softmax(-x) along ``dim`` (default: classes of (N, C, ...))."""

    function = staticmethod(F.softmin)


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
