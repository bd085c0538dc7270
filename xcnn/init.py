"""Initial weights, drawn on the host so that every device starts equal.

Each function fills a Parameter in place. fan_in is the number of inputs that one output sums,
fan_out the number of outputs that one input reaches: for a convolution weight (F, C, kH, kW),
C·kH·kW and F·kH·kW.

=============  =============================  ==========================================
function       variance                       source
=============  =============================  ==========================================
``kaiming_*``  gain² / fan_in                 He et al. 2015, arXiv:1502.01852
``xavier_*``   gain² · 2 / (fan_in+fan_out)   Glorot & Bengio 2010
``lecun_*``    1 / fan_in                     LeCun et al. 1998, "Efficient BackProp"
=============  =============================  ==========================================

The gain, in ``kaiming_*``, is PyTorch's: √2 for relu, 5/3 for tanh, 3/4 for selu, √(2 / (1 + a²))
for leaky_relu (a = 0.01) and prelu (a = 0.25, where it starts), and 1 for linear, identity,
softmax, sigmoid and hardsigmoid. For elu, gelu, hardswish, relu6, silu and softplus, which have
none there, it is that of relu, whose shape they share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from . import random
from .errors import ArgumentError
from .tensor import Tensor

_skip = ContextVar("skip", default=False)
_GAINS = {
    **dict.fromkeys(
        ("elu", "gelu", "hardswish", "relu", "relu6", "silu", "softplus"), math.sqrt(2)
    ),
    **dict.fromkeys(("hardsigmoid", "identity", "linear", "sigmoid", "softmax"), 1.0),
    "leaky_relu": math.sqrt(2 / (1 + 0.01**2)),
    "prelu": math.sqrt(2 / (1 + 0.25**2)),
    "selu": 3 / 4,
    "tanh": 5 / 3,
}
_GLOROT = ("hardsigmoid", "identity", "linear", "sigmoid", "softmax", "tanh")


def gain(nonlinearity: str) -> float:
    """The factor that keeps the variance through an activation.

    Raises
    ------
    ArgumentError
        An unknown name.
    """
    if nonlinearity not in _GAINS:
        raise ArgumentError(f"nonlinearity={nonlinearity!r}: expected one of {sorted(_GAINS)}")
    return _GAINS[nonlinearity]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """(fan_in, fan_out) of a weight (out, in) or (F, C, kH, kW).

    Raises
    ------
    ArgumentError
        Fewer than two axes.
    """
    if len(shape) < 2:
        raise ArgumentError(f"a weight of shape {shape} has no fan-in: expected two axes or more")
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def kaiming_normal_(tensor: Tensor, nonlinearity: str = "relu", generator: Any = None) -> Tensor:
    """He initialisation, normal: std = gain / √fan_in."""
    return normal_(tensor, gain(nonlinearity) / math.sqrt(fans(tensor.shape)[0]), generator)


def kaiming_uniform_(tensor: Tensor, nonlinearity: str = "relu", generator: Any = None) -> Tensor:
    """He initialisation, uniform within ± gain · √(3 / fan_in)."""
    std = gain(nonlinearity) / math.sqrt(fans(tensor.shape)[0])
    return uniform_(tensor, math.sqrt(3) * std, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Glorot initialisation, normal: std = gain · √(2 / (fan_in + fan_out))."""
    return normal_(tensor, gain * math.sqrt(2 / sum(fans(tensor.shape))), generator)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Glorot initialisation, uniform within ± gain · √(6 / (fan_in + fan_out))."""
    return uniform_(tensor, gain * math.sqrt(6 / sum(fans(tensor.shape))), generator)


def lecun_normal_(tensor: Tensor, generator: Any = None) -> Tensor:
    """LeCun initialisation, normal: std = 1 / √fan_in."""
    return normal_(tensor, 1 / math.sqrt(fans(tensor.shape)[0]), generator)


def lecun_uniform_(tensor: Tensor, generator: Any = None) -> Tensor:
    """LeCun initialisation, uniform within ± √(3 / fan_in)."""
    return uniform_(tensor, math.sqrt(3 / fans(tensor.shape)[0]), generator)


def for_activation_(tensor: Tensor, nonlinearity: str, generator: Any = None) -> Tensor:
    """What each activation was derived for: He for relu and those of its shape (leaky_relu, prelu,
    relu6, elu, gelu, silu, hardswish, softplus), LeCun for selu, and Glorot for tanh, sigmoid,
    hardsigmoid, softmax, linear and identity.

    Raises
    ------
    ArgumentError
        An unknown activation.
    """
    gain(nonlinearity)  # refuses unknown names
    if nonlinearity in _GLOROT:
        return xavier_uniform_(tensor, generator=generator)
    if nonlinearity == "selu":
        return lecun_normal_(tensor, generator)
    return kaiming_normal_(tensor, nonlinearity, generator)


@contextmanager
def skipped() -> Iterator[None]:
    """Draw nothing and leave weights as they are: they are about to be loaded."""
    token = _skip.set(True)
    try:
        yield
    finally:
        _skip.reset(token)


def normal_(tensor: Tensor, std: float = 1.0, generator: Any = None) -> Tensor:
    """Normal with mean 0."""
    if _skip.get():
        return tensor
    drawn = (generator or random.generator()).standard_normal(tensor.shape)
    return _fill(tensor, drawn * std)


def uniform_(tensor: Tensor, bound: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform within ± ``bound``."""
    if _skip.get():
        return tensor
    return _fill(tensor, (generator or random.generator()).uniform(-bound, bound, tensor.shape))


def _fill(tensor: Tensor, values: Any) -> Tensor:
    tensor.data[...] = tensor.backend.asarray(values, tensor.dtype)
    return tensor
