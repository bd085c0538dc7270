"""Initial weights, drawn on the host so that every device starts from the same numbers.

Each function fills a Parameter in place. fan_in is the number of inputs summed into one output,
fan_out the number of outputs that one input contributes to: C·kH·kW and F·kH·kW for a convolution
weight (F, C, kH, kW).

The variance of the weights:

- ``kaiming_*``: gain² / fan_in (He et al. 2015, arXiv:1502.01852)
- ``xavier_*``: gain² · 2 / (fan_in + fan_out) (Glorot & Bengio 2010)
- ``lecun_*``: 1 / fan_in (LeCun et al. 1998, "Efficient BackProp")

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
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy import eye, full, linalg, sign, zeros

from . import random
from .arrays import Array
from .checks import are_ints, check_choice, check_int, check_number
from .errors import ArgumentError, DTypeError, show
from .tensor import Tensor

if TYPE_CHECKING:  # importing numpy.random takes a while
    from numpy.random import Generator

    _Rng = Generator | None

# fmt: off
__all__ = [
    "calculate_gain", "constant_", "dirac_", "eye_", "fans", "for_activation_", "gain",
    "kaiming_normal_", "kaiming_uniform_", "lecun_normal_", "lecun_uniform_", "normal_", "ones_",
    "orthogonal_", "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_",
]
# fmt: on
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
    **dict.fromkeys((f"conv{t}{n}d" for t in ("", "_transpose") for n in "123"), 1.0),
    "leaky_relu": 0.0,  # by its slope
    "prelu": math.sqrt(2 / (1 + 0.25**2)),
    "rrelu": math.sqrt(2 / (1 + (11 / 48) ** 2)),
    "selu": 3 / 4,
    "tanh": 5 / 3,
}


def gain(nonlinearity: str, param: float | None = None) -> float:
    """Return the gain that preserves the variance through an activation.

    Parameters
    ----------
    nonlinearity
        The name of an activation; a convolution's, such as "conv2d", counts as "linear".
    param
        The slope of "leaky_relu"; default: 0.01.

    Raises
    ------
    ArgumentError
        Unknown name.
    """
    if check_choice("nonlinearity", nonlinearity, sorted(_GAINS)) == "leaky_relu":
        slope = 0.01 if param is None else check_number("param", param, -1e150, 1e150)
        return math.sqrt(2 / (1 + slope**2))
    return _GAINS[nonlinearity]


calculate_gain = gain  # PyTorch's name


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


def _fans(tensor: Any) -> tuple[int, int]:
    return fans(_checked(tensor).shape)


def _checked(tensor: Any) -> Tensor:
    """A Tensor of floats, or an array of them as one."""
    if not hasattr(tensor, "dtype") or Tensor.of(tensor).dtype.kind != "f":
        raise DTypeError(
            f"tensor is {getattr(tensor, 'dtype', type(tensor).__name__)}: expected a Tensor of "
            "floats, such as layer.weight"
        )
    return Tensor.of(tensor)


def _kaiming_std(tensor: Any, a: float, mode: str, nonlinearity: str) -> float:
    if isinstance(a, str):
        raise ArgumentError(f"a={a!r}: expected a slope; pass nonlinearity={a!r} by name")
    fan_in, fan_out = _fans(tensor)
    fan = fan_in if check_choice("mode", mode, ("fan_in", "fan_out")) == "fan_in" else fan_out
    return gain(nonlinearity, check_number("a", a)) / math.sqrt(fan)


def kaiming_normal_(
    tensor: Any,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: _Rng = None,
) -> Any:
    """He initialisation, normal: std = gain / √fan.

    Parameters
    ----------
    tensor
        A Tensor of floats, or an array.
    a
        Slope of "leaky_relu"; with 0, the default, it is relu.
    mode
        "fan_in" preserves the variance of the forward pass, "fan_out" that of the backward pass.
    nonlinearity
        The activation, see :func:`gain`.
    generator
        A NumPy generator; default: the library's (see :func:`xcnn.manual_seed`).
    """
    return normal_(tensor, 0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def kaiming_uniform_(
    tensor: Any,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: _Rng = None,
) -> Any:
    """He initialisation, uniform within ± gain · √(3 / fan); see :func:`kaiming_normal_`."""
    bound = math.sqrt(3) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Any, gain: float = 1.0, generator: _Rng = None) -> Any:
    """Glorot initialisation, normal: std = gain · √(2 / (fan_in + fan_out))."""
    gain = check_number("gain", gain, 0)
    return normal_(tensor, 0, gain * math.sqrt(2 / sum(_fans(tensor))), generator)


def xavier_uniform_(tensor: Any, gain: float = 1.0, generator: _Rng = None) -> Any:
    """Glorot initialisation, uniform within ± gain · √(6 / (fan_in + fan_out))."""
    bound = check_number("gain", gain, 0) * math.sqrt(6 / sum(_fans(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def lecun_normal_(tensor: Any, generator: _Rng = None) -> Any:
    """LeCun initialisation, normal: std = 1 / √fan_in."""
    return normal_(tensor, 0, 1 / math.sqrt(_fans(tensor)[0]), generator)


def lecun_uniform_(tensor: Any, generator: _Rng = None) -> Any:
    """LeCun initialisation, uniform within ± √(3 / fan_in)."""
    bound = math.sqrt(3 / _fans(tensor)[0])
    return uniform_(tensor, -bound, bound, generator)


def for_activation_(tensor: Any, nonlinearity: str, generator: _Rng = None) -> Any:
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
    return normal_(tensor, 0, gain(nonlinearity) / math.sqrt(_fans(tensor)[0]), generator)


@contextmanager
def skipped() -> Iterator[None]:
    """Skip initialisation inside a ``with`` block, to load or draw the weights afterwards."""
    token = _skip.set(True)
    try:
        yield
    finally:
        _skip.reset(token)


def normal_(tensor: Any, mean: float = 0.0, std: float = 1.0, generator: _Rng = None) -> Any:
    """Normal distribution."""
    mean, std = check_number("mean", mean), check_number("std", std, 0)
    return _fill(tensor, generator, lambda rng, shape: rng.standard_normal(shape) * std + mean)


def uniform_(tensor: Any, a: float = 0.0, b: float = 1.0, generator: _Rng = None) -> Any:
    """Uniform distribution from ``a`` to ``b``."""
    low = check_number("a", a, -1e38, 1e38)
    high = check_number("b", b, low, 1e38)
    return _fill(tensor, generator, lambda rng, shape: rng.uniform(low, high, shape))


def trunc_normal_(
    tensor: Any,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: _Rng = None,
) -> Any:
    """Normal distribution of which only numbers from ``a`` to ``b`` are drawn.

    Raises
    ------
    ArgumentError
        The range is empty, or more than five standard deviations away from the mean.
    """
    mean, std = check_number("mean", mean), check_number("std", std, 0, above=True)
    low, high = check_number("a", a), check_number("b", b)
    if not low < high or low > mean + 5 * std or high < mean - 5 * std:
        raise ArgumentError(f"a={a}, b={b}: expected a < b, near mean={mean} in units of std={std}")

    def draw(rng: Generator, shape: tuple[int, ...]) -> Array:
        from scipy import special  # slow to import

        first, last = (special.ndtr((bound - mean) / std) for bound in (low, high))
        values = special.ndtri(rng.uniform(first, last, shape)) * std + mean
        return values.clip(low, high)  # rounding

    return _fill(tensor, generator, draw)


def orthogonal_(tensor: Any, gain: float = 1.0, generator: _Rng = None) -> Any:
    """A random (semi-)orthogonal matrix (F, C·kH·kW), times ``gain``.

    Source: Saxe et al. 2014, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks", arXiv:1312.6120.
    """
    columns, rows = _fans(tensor)[0], tensor.shape[0]
    gain = check_number("gain", gain)

    def draw(rng: Generator, shape: tuple[int, ...]) -> Array:
        q, r = linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
        q *= gain * sign(r.diagonal())  # uniformly distributed
        return (q.T if rows < columns else q).reshape(shape)

    return _fill(tensor, generator, draw)


def constant_(tensor: Any, val: float) -> Any:
    """``val`` everywhere."""
    value = check_number("val", val)
    return _fill(tensor, None, lambda rng, shape: full(shape, value))


def ones_(tensor: Any) -> Any:
    """1 everywhere."""
    return constant_(tensor, 1)


def zeros_(tensor: Any) -> Any:
    """0 everywhere."""
    return constant_(tensor, 0)


def eye_(tensor: Any) -> Any:
    """The identity matrix, for a weight (out, in)."""
    if _checked(tensor).ndim != 2:
        raise ArgumentError(f"eye_: the tensor has shape {tensor.shape}: expected two axes")
    return _fill(tensor, None, lambda rng, shape: eye(shape[0], shape[1]))


def dirac_(tensor: Any, groups: int = 1) -> Any:
    """A convolution that returns its input: 1 in the middle of channel i of filter i, else 0.

    For a weight (F, C, k), (F, C, kH, kW) or (F, C, kD, kH, kW); each group has its own filters.
    """
    shape = _checked(tensor).shape
    groups = check_int("groups", groups)
    if len(shape) not in (3, 4, 5) or shape[0] % groups:
        raise ArgumentError(
            f"dirac_: the weight has shape {shape}, groups={groups}: expected three to five axes, "
            "and filters that are a multiple of groups"
        )

    def draw(rng: Generator, shape: tuple[int, ...]) -> Array:
        values: Array = zeros(shape)
        filters = shape[0] // groups
        middle = tuple(n // 2 for n in shape[2:])
        for i in range(min(filters, shape[1])):
            values[(slice(i, None, filters), i, *middle)] = 1
        return values

    return _fill(tensor, None, draw)


def _fill(tensor: Any, rng: _Rng, draw: Callable[[Generator, tuple[int, ...]], Array]) -> Any:
    checked = _checked(tensor)
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise ArgumentError(f"generator={show(rng)}: expected a numpy.random.Generator or None")
    if not _skip.get():
        values = draw(rng or random.generator(), checked.shape)
        checked.data[...] = checked.backend.asarray(values, checked.dtype)
    return tensor
