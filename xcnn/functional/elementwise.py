"""Elementwise functions: a table of those of one array, then clamp, round and others.

Integers and bools become float32, as in PyTorch, except in functions that give integers for
integers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol

from ..arrays import Array
from ..backends import Backend
from ..checks import as_float, check_int, check_number, is_int
from ..errors import ArgumentError, DTypeError
from ..tensor import Function, Tensor, dtype_name, operation
from .arithmetic import (
    add,
    atan2,
    binary,
    div,
    ge,
    gt,
    le,
    logical_or,
    lt,
    mul,
    ne,
    operands,
    sub,
    where,
)

# fmt: off
__all__ = [
    "abs", "absolute", "acos", "acosh", "addcdiv", "addcmul", "arccos", "arcsin", "arctan",
    "arctan2", "asin", "asinh", "astype", "atan", "atanh", "ceil", "clamp", "clamp_max",
    "clamp_min", "clip", "cos", "cosh", "deg2rad", "divide", "erf", "erfc", "exp", "exp2", "expm1",
    "fix", "floor", "frac", "greater", "greater_equal", "isfinite", "isinf", "isnan", "isneginf",
    "isposinf", "lerp", "less", "less_equal", "log", "log1p", "log2", "log10", "logit", "multiply",
    "nan_to_num", "neg", "negative", "not_equal", "positive", "rad2deg", "reciprocal", "round",
    "rsqrt", "sign", "signbit", "sin", "sinh", "sqrt", "square", "subtract", "tan",
    "true_divide", "trunc",
]
# fmt: on


class Elementwise(Function):
    """y = f(x), dx = f'(x) · dy, in the memory order of x, so that images stay batch-last.

    ``value`` and ``derivative`` work on 1-D arrays: views of x if it is contiguous in some order of
    its axes. ``derivative`` gets x or, with ``from_output``, y. Settings are numbers, passed by
    keyword and stored as attributes. Poles and overflows give infinity or NaN without a warning.
    """

    arguments = ("input",)
    from_output = False

    def __init__(self, **settings: float) -> None:
        vars(self).update({name: check_number(name, v) for name, v in settings.items()})

    def forward(self, backend: Backend, x: Array) -> Array:
        self.shape = x.shape
        self.order = sorted(range(x.ndim), key=lambda axis: -math.fabs(x.strides[axis]))
        x = self._flat(x)
        y = self.value(backend, x)
        self.save(x=y if self.from_output else x)
        return self._shaped(y)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return self._shaped(self.derivative(backend, self.saved.x) * self._flat(dy))

    def _flat(self, x: Array) -> Array:
        return x.transpose(self.order).reshape(-1)

    def _shaped(self, flat: Array) -> Array:
        axes = sorted(range(len(self.order)), key=self.order.__getitem__)
        return flat.reshape([self.shape[axis] for axis in self.order]).transpose(axes)

    def value(self, backend: Backend, x: Array) -> Array:
        raise NotImplementedError

    def derivative(self, backend: Backend, x: Array) -> Array:
        raise NotImplementedError


class UnaryOperation(Protocol):
    """A function of one array."""

    def __call__(self, input: Any) -> Tensor: ...


def unary(
    name: str,
    doc: str,
    derivative: Callable[[Any, Array], Array] | None = None,
    value: str | Callable[[Backend, Array], Array] = "",
    *,
    from_output: bool = False,
    exact: bool = False,
) -> UnaryOperation:
    """Make the operation ``name``.

    Parameters
    ----------
    doc
        Its docstring without ", elementwise." at the end.
    derivative
        A function of ``xp`` and x or, with ``from_output``, y; None: the result has no gradient.
    value
        y: the name of a function of ``xp`` (default: ``name``), or a function of the backend and x.
    exact
        Integers stay integers; otherwise they become float32.
    """
    slope = derivative or _zero
    compute = value if callable(value) else lambda b, x: getattr(b.xp, value or name)(x)
    members = {
        "__doc__": f"See :func:`{name}`.",
        "any_dtype": ("input",),
        "from_output": from_output,
        "value": lambda self, backend, x: compute(backend, x),
        "derivative": lambda self, backend, x: slope(backend.xp, x),
    }
    kind = type(name.capitalize(), (Elementwise,), members)

    def call(input: Any) -> Tensor:
        input = numbers(input) if exact else floats(input)
        return kind()(input if derivative else input.detach())

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"{doc}, elementwise."
    return operation(call)


def floats(input: Any) -> Tensor:
    """``input`` as a Tensor; integers and bools as float32."""
    input = Tensor.of(input)
    return input if input.dtype.kind == "f" else astype(input, "float32")


def numbers(input: Any) -> Tensor:
    """``input`` as a Tensor of floats or integers.

    Raises
    ------
    DTypeError
        It is of another type.
    """
    input = Tensor.of(input)
    if input.dtype.kind not in "fiu":
        raise DTypeError(
            f"input is {input.dtype}, expected numbers; convert it, for example with "
            ".astype('float32')"
        )
    return input


def _rounded(name: str) -> Callable[[Backend, Array], Array]:
    """The value of a rounding function; integers are round already."""
    return lambda backend, x: getattr(backend.xp, name)(x) if x.dtype.kind == "f" else x.copy()


def _special(name: str) -> Callable[[Backend, Array], Array]:
    """The value of a function of scipy.special; float16 stays float16."""
    return lambda backend, x: getattr(backend.special, name)(x, out=backend.xp.empty_like(x))


def _bell(xp: Any, x: Array) -> Array:
    """2 / √π · exp(-x²)."""
    near = xp.clip(x, -100, 100)  # so that x² does not overflow
    return xp.exp(-(near * near)) * (2 / math.sqrt(math.pi))


def _zero(xp: Any, x: Array) -> Array:
    return xp.zeros_like(x)


_LN2, _LN10 = math.log(2), math.log(10)

abs = unary("abs", "|x|, gradient 0 at 0", lambda xp, x: xp.sign(x), exact=True)
acos = unary("acos", "Inverse cosine in radians", lambda xp, x: -1 / xp.sqrt(1 - x * x))
acosh = unary("acosh", "Inverse hyperbolic cosine", lambda xp, x: 1 / xp.sqrt(x * x - 1))
asin = unary("asin", "Inverse sine in radians", lambda xp, x: 1 / xp.sqrt(1 - x * x))
asinh = unary("asinh", "Inverse hyperbolic sine", lambda xp, x: 1 / xp.sqrt(x * x + 1))
atan = unary("atan", "Inverse tangent in radians", lambda xp, x: 1 / (x * x + 1))
atanh = unary("atanh", "Inverse hyperbolic tangent", lambda xp, x: 1 / (1 - x * x))
ceil = unary("ceil", "Smallest integer >= x, gradient 0", _zero, _rounded("ceil"), exact=True)
cos = unary("cos", "Cosine of x in radians", lambda xp, x: -xp.sin(x))
cosh = unary("cosh", "Hyperbolic cosine", lambda xp, x: xp.sinh(x))
erf = unary("erf", "2 / √π times the integral of exp(-t²) from 0 to x", _bell, _special("erf"))
erfc = unary("erfc", "1 - erf(x), accurate near 0", lambda xp, x: -_bell(xp, x), _special("erfc"))
exp = unary("exp", "Exponential function", lambda xp, y: y, from_output=True)
exp2 = unary("exp2", "2 to the power of x", lambda xp, y: y * _LN2, from_output=True)
expm1 = unary("expm1", "exp(x) - 1, accurate near 0", lambda xp, y: y + 1, from_output=True)
floor = unary("floor", "Largest integer <= x, gradient 0", _zero, _rounded("floor"), exact=True)
isneginf = unary("isneginf", "Whether x is minus infinity, as bool")
isposinf = unary("isposinf", "Whether x is plus infinity, as bool")
isfinite = unary("isfinite", "Whether x is neither infinite nor NaN, as bool")
isinf = unary("isinf", "Whether x is infinite, as bool")
isnan = unary("isnan", "Whether x is NaN, as bool")
log = unary("log", "Natural logarithm: -inf at 0, NaN below", lambda xp, x: 1 / x)
log10 = unary("log10", "Logarithm to base 10", lambda xp, x: 1 / (x * _LN10))
log1p = unary("log1p", "log(1 + x), accurate near 0", lambda xp, x: 1 / (x + 1))
log2 = unary("log2", "Logarithm to base 2", lambda xp, x: 1 / (x * _LN2))
neg = unary("neg", "-x", lambda xp, x: xp.full_like(x, -1), "negative", exact=True)
positive = unary("positive", "x itself", lambda xp, x: xp.ones_like(x), exact=True)
reciprocal = unary(
    "reciprocal", "1 / x", lambda xp, y: -(y * y), lambda backend, x: 1 / x, from_output=True
)
sign = unary(
    "sign",
    "-1, 0 (also for NaN) or 1: the sign of x, gradient 0",
    _zero,
    lambda backend, x: (x > 0) * x.dtype.type(1) - (x < 0),
    exact=True,
)
signbit = unary("signbit", "Whether x has a minus sign, as bool", exact=True)
sin = unary("sin", "Sine of x in radians", lambda xp, x: xp.cos(x))
sinh = unary("sinh", "Hyperbolic sine", lambda xp, x: xp.cosh(x))
sqrt = unary("sqrt", "√x; NaN for negative numbers", lambda xp, y: 0.5 / y, from_output=True)
square = unary("square", "x²", lambda xp, x: x * 2, lambda backend, x: x * x, exact=True)
tan = unary("tan", "Tangent of x in radians", lambda xp, y: y * y + 1, from_output=True)
_round = unary("round", "The nearest integer", _zero, _rounded("rint"), exact=True)
trunc = unary("trunc", "x without its fraction, gradient 0", _zero, _rounded("trunc"), exact=True)
_logit = unary(
    "logit",
    "log(x / (1 - x))",
    lambda xp, x: 1 / xp.square(xp.sqrt(x * (1 - x))),  # NaN outside 0 to 1
    lambda backend, x: backend.xp.log(x) - backend.xp.log1p(-x),
)


@operation
def deg2rad(input: Any) -> Tensor:
    """x · π / 180, degrees to radians, elementwise."""
    return mul(floats(input), math.pi / 180)


@operation
def rad2deg(input: Any) -> Tensor:
    """x · 180 / π, radians to degrees, elementwise."""
    return mul(floats(input), 180 / math.pi)


@operation
def frac(input: Any) -> Tensor:
    """x - trunc(x), elementwise, with gradient 1."""
    return sub(input, trunc(input))


@operation
def rsqrt(input: Any) -> Tensor:
    """1 / √x, elementwise; NaN for negative numbers."""
    return div(1.0, sqrt(input))


@operation
def round(input: Any, *, decimals: int = 0) -> Tensor:
    """Round to the nearest integer, halves to the even one, elementwise. The gradient is 0.

    Parameters
    ----------
    decimals
        Digits after the decimal point to keep, -30 to 30; negative: round that many digits before
        it. Integers stay as they are.

    Raises
    ------
    ArgumentError
        decimals is not an int from -30 to 30.
    """
    digits = check_number("decimals", check_int("decimals", decimals, -30), high=30)
    scale, input = 10.0 ** math.fabs(digits), numbers(input)
    if digits == 0 or input.dtype.kind != "f":
        return _round(input)
    return _round(input * scale) / scale if digits > 0 else _round(input / scale) * scale


class Clamp(Elementwise):
    """See :func:`clamp`."""

    any_dtype: tuple[str, ...] = ("input",)
    min: float | None = None
    max: float | None = None

    def value(self, backend: Backend, x: Array) -> Array:
        bounds = [self.min, self.max]
        if x.dtype.kind != "f":
            limits = backend.xp.iinfo(x.dtype)
            bounds = [v if v is None else min(max(int(v), limits.min), limits.max) for v in bounds]
        return backend.xp.clip(x, *bounds)

    def derivative(self, backend: Backend, x: Array) -> Array:
        above = self.min is None or x >= self.min
        return above & (self.max is None or x <= self.max)


# named for their error messages
_BEYOND = {
    "min": binary("clamp", "Whether input < min", ufunc="less"),
    "max": binary("clamp", "Whether input > max", ufunc="greater"),
}


@operation
def clamp(input: Any, min: Any = None, max: Any = None) -> Tensor:
    """Limit each element to the range from ``min`` to ``max``.

    NaN stays NaN; if ``min`` > ``max``, the result is ``max``. The gradient at the bounds is 1, as
    between them. An array as a bound gets the gradient where it takes effect.

    Parameters
    ----------
    input
        Integers stay integers if the bounds are.
    min, max
        Numbers, or arrays that broadcast with input; None: no bound on that side.

    Raises
    ------
    ArgumentError
        Both are None, or one is neither a number nor an array.
    ShapeError
        A bound does not broadcast with input.
    """
    bounds = {name: v for name, v in (("min", min), ("max", max)) if v is not None}
    if not bounds:
        raise ArgumentError("clamp: min and max are both None; pass at least one of them")
    if not any(hasattr(v, "shape") and math.isnan(as_float(v)) for v in bounds.values()):
        whole = all(map(is_int, bounds.values()))
        return Clamp(**bounds)(numbers(input) if whole else floats(input))
    result = Tensor.of(input)
    for name, value in bounds.items():
        result, bound = operands(result, value)
        is_beyond = _BEYOND[name](result, bound)
        result = where(logical_or(is_beyond, ne(bound, bound)), bound, result)
    return result


@operation
def clamp_min(input: Any, min: Any) -> Tensor:
    """Limit each element to at least ``min``; see :func:`clamp`."""
    return clamp(input, min=min)


@operation
def clamp_max(input: Any, max: Any) -> Tensor:
    """Limit each element to at most ``max``; see :func:`clamp`."""
    return clamp(input, max=max)


@operation
def nan_to_num(
    input: Any, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """Replace NaN and infinities, elementwise. Their gradient is 0.

    Parameters
    ----------
    nan, posinf, neginf
        Replacements for NaN, infinity and minus infinity; None: 0, and the largest and the smallest
        number of the dtype.

    Raises
    ------
    ArgumentError
        One of them is not a number.
    """
    input = Tensor.of(input)
    if input.dtype.kind != "f":
        return input.clone()
    largest = float(input.backend.xp.finfo(input.dtype).max)
    y = input
    for name, found, number, default in (
        ("nan", isnan(input), nan, 0.0),
        ("posinf", isposinf(input), posinf, largest),
        ("neginf", isneginf(input), neginf, -largest),
    ):
        y = where(found, default if number is None else check_number(name, number), y)
    return y


@operation
def logit(input: Any, eps: float | None = None) -> Tensor:
    """log(x / (1 - x)), elementwise, the inverse of ``sigmoid``; NaN outside 0 to 1.

    Parameters
    ----------
    eps
        Limit x to the range from eps to 1 - eps first.

    Raises
    ------
    ArgumentError
        eps is not a number.
    """
    if eps is None:
        return _logit(input)
    eps = check_number("eps", eps)
    return _logit(clamp(floats(input), eps, 1 - eps))


@operation
def lerp(input: Any, end: Any, weight: Any) -> Tensor:
    """input + weight · (end - input), with NumPy broadcasting; ``weight`` may be a number."""
    input = Tensor.of(input)
    return add(input, mul(sub(end, input), weight))


@operation
def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Tensor:
    """input + value · tensor1 · tensor2, with NumPy broadcasting; ``value`` is a number."""
    return add(input, mul(tensor1, tensor2), _factor(value))


@operation
def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: float = 1) -> Tensor:
    """input + value · tensor1 / tensor2, with NumPy broadcasting; ``value`` is a number."""
    return add(input, div(tensor1, tensor2), _factor(value))


def _factor(value: Any) -> float:
    return value if is_int(value) else check_number("value", value)


class AsType(Function):
    """See :func:`astype`."""

    arguments = ("input",)

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def forward(self, backend: Backend, x: Array) -> Array:
        return x.astype(self.dtype)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return dy  # Tensor.backward casts it to the input's dtype


@operation
def astype(input: Any, dtype: Any) -> Tensor:
    """Convert to another dtype; ``input`` itself if it already has it.

    Gradients flow through a conversion between floating-point dtypes.

    Parameters
    ----------
    dtype
        A name such as ``"float32"``, ``"int64"`` or ``"bool"``, or NumPy's dtype.

    Raises
    ------
    DTypeError
        No such dtype.
    """
    input = Tensor.of(input)
    name = dtype_name(dtype)
    if input.dtype == name:
        return input
    if input.dtype.kind not in "fiub":
        raise DTypeError(f"astype: input is {input.dtype}: expected numbers or bools")
    is_float = input.dtype.kind == "f" and name.startswith("float")
    if is_float:
        return AsType(name)(input)
    with input.backend.active():
        return Tensor(input.data.astype(name))


# PyTorch's other names
absolute, clip, fix, negative = abs, clamp, trunc, neg
arccos, arcsin, arctan, arctan2 = acos, asin, atan, atan2
divide, multiply, subtract, true_divide = div, mul, sub, div
greater, greater_equal, less, less_equal, not_equal = gt, ge, lt, le, ne
