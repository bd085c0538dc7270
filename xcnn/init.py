"""Initial weights, drawn on the host so that every device starts from the same numbers.

Each function fills a Parameter in place. fan_in is the number of inputs summed into one output,
fan_out the number of outputs that one input contributes to: C·kH·kW and F·kH·kW for a convolution
weight (F, C, kH, kW).

=============  =============================  ==========================================
function       variance                       source
=============  =============================  ==========================================
``kaiming_*``  gain² / fan_in                 He et al. 2015, arXiv:1502.01852
``xavier_*``   gain² · 2 / (fan_in+fan_out)   Glorot & Bengio 2010
``lecun_*``    1 / fan_in                     LeCun et al. 1998, "Efficient BackProp"
=============  =============================  ==========================================

The gains of ``kaiming_*`` are PyTorch's: √2 for relu, 5/3 for tanh, 3/4 for selu, √(2 / (1 + a²))
for leaky_relu (a = 0.01), prelu (a = 0.25, its initial slope) and rrelu (a = 11/48, its mean
slope), and 1 for linear, identity, softmax and sigmoid. PyTorch has none for the others: those
similar in shape to relu (elu, celu, gelu, hardswish, mish, relu6, silu, softplus, logsigmoid) get
relu's, the symmetric ones (hardtanh, softsign, hardshrink, softshrink, tanhshrink) and hardsigmoid
get 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from numpy.random import Generator

from . import random
from .arrays import Array
from .checks import are_ints, check_choice, check_number
from .errors import ArgumentError, DTypeError, show
from .tensor import Tensor

_Rng = Generator | None
_skip = ContextVar("skip", default=False)
# fmt: off
_RELU_LIKE = (
    "celu", "elu", "gelu", "hardswish", "logsigmoid", "mish", "relu", "relu6", "silu", "softplus",
)
_GLOROT = (
    "hardshrink", "hardsigmoid", "hardtanh", "identity", "linear", "sigmoid", "softmax",
    "softshrink", "softsign", "tanh", "tanhshrink",
)
# fmt: on
_GAINS = {
    **dict.fromkeys(_RELU_LIKE, math.sqrt(2)),
    **dict.fromkeys(_GLOROT, 1.0),
    "leaky_relu": math.sqrt(2 / (1 + 0.01**2)),
    "prelu": math.sqrt(2 / (1 + 0.25**2)),
    "rrelu": math.sqrt(2 / (1 + (11 / 48) ** 2)),
    "selu": 3 / 4,
    "tanh": 5 / 3,
}


def gain(nonlinearity: str) -> float:
    """Return the gain that preserves the variance through an activation.

    Raises
    ------
    ArgumentError
        Unknown name.
    """
    return _GAINS[check_choice("nonlinearity", nonlinearity, sorted(_GAINS))]


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight (out, in) or (F, C, kH, kW).

    Raises
    ------
    ArgumentError
        Fewer than two axes.
    """
    if not isinstance(shape, tuple | list) or not are_ints(shape, max(2, len(shape))):
        raise ArgumentError(f"a weight of shape {shape} has no fan-in: expected at least two axes")
    window = math.prod(shape[2:])
    return shape[1] * window, shape[0] * window


def _fans(tensor: Tensor) -> tuple[int, int]:
    return fans(_checked(tensor).shape)


def _checked(tensor: Any) -> Tensor:
    if not isinstance(tensor, Tensor) or tensor.dtype.kind != "f":
        raise DTypeError(
            f"tensor is {getattr(tensor, 'dtype', type(tensor).__name__)}: expected a Tensor of "
            "floats, such as layer.weight"
        )
    return tensor


def kaiming_normal_(tensor: Tensor, nonlinearity: str = "relu", generator: _Rng = None) -> Tensor:
    """He initialisation, normal: std = gain / √fan_in."""
    return normal_(tensor, gain(nonlinearity) / math.sqrt(_fans(tensor)[0]), generator)


def kaiming_uniform_(tensor: Tensor, nonlinearity: str = "relu", generator: _Rng = None) -> Tensor:
    """He initialisation, uniform within ± gain · √(3 / fan_in)."""
    std = gain(nonlinearity) / math.sqrt(_fans(tensor)[0])
    return uniform_(tensor, math.sqrt(3) * std, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: _Rng = None) -> Tensor:
    """Glorot initialisation, normal: std = gain · √(2 / (fan_in + fan_out))."""
    gain = check_number("gain", gain, 0)
    return normal_(tensor, gain * math.sqrt(2 / sum(_fans(tensor))), generator)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: _Rng = None) -> Tensor:
    """Glorot initialisation, uniform within ± gain · √(6 / (fan_in + fan_out))."""
    gain = check_number("gain", gain, 0)
    return uniform_(tensor, gain * math.sqrt(6 / sum(_fans(tensor))), generator)


def lecun_normal_(tensor: Tensor, generator: _Rng = None) -> Tensor:
    """LeCun initialisation, normal: std = 1 / √fan_in."""
    return normal_(tensor, 1 / math.sqrt(_fans(tensor)[0]), generator)


def lecun_uniform_(tensor: Tensor, generator: _Rng = None) -> Tensor:
    """LeCun initialisation, uniform within ± √(3 / fan_in)."""
    return uniform_(tensor, math.sqrt(3 / _fans(tensor)[0]), generator)


def for_activation_(tensor: Tensor, nonlinearity: str, generator: _Rng = None) -> Tensor:
    """Initialise for the activation that follows.

    LeCun, normal, for selu; Glorot, uniform, for tanh and all whose gain is 1 (see
    :mod:`xcnn.init`); He, normal, for the others: relu and the like.

    Raises
    ------
    ArgumentError
        Unknown activation.
    """
    if check_choice("nonlinearity", nonlinearity, sorted(_GAINS)) in _GLOROT:
        return xavier_uniform_(tensor, generator=generator)
    if nonlinearity == "selu":
        return lecun_normal_(tensor, generator)
    return kaiming_normal_(tensor, nonlinearity, generator)


@contextmanager
def skipped() -> Iterator[None]:
    """Skip initialisation inside a ``with`` block, to load or draw the weights afterwards."""
    token = _skip.set(True)
    try:
        yield
    finally:
        _skip.reset(token)


def normal_(tensor: Tensor, std: float = 1.0, generator: _Rng = None) -> Tensor:
    """Normal distribution with mean 0 and standard deviation ``std``."""
    std = check_number("std", std, 0)
    return _fill(tensor, generator, lambda rng: rng.standard_normal(tensor.shape) * std)


def uniform_(tensor: Tensor, bound: float = 1.0, generator: _Rng = None) -> Tensor:
    """Uniform distribution within ± ``bound``."""
    bound = check_number("bound", bound, 0, 1e38)
    return _fill(tensor, generator, lambda rng: rng.uniform(-bound, bound, tensor.shape))


def _fill(tensor: Tensor, rng: _Rng, draw: Callable[[Generator], Array]) -> Tensor:
    _checked(tensor)
    if rng is not None and not isinstance(rng, Generator):
        raise ArgumentError(f"generator={show(rng)}: expected a numpy.random.Generator or None")
    if not _skip.get():
        values = draw(rng or random.generator())
        tensor.data[...] = tensor.backend.asarray(values, tensor.dtype)
    return tensor
