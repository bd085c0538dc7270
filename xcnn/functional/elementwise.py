"""Functions of one number at a time: exp, log, sqrt, clamp and the like."""

from __future__ import annotations

import math
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import number
from ..errors import ArgumentError, DTypeError
from ..tensor import Function, Tensor, operation


class Elementwise(Function):
    """y = value(x), dx = dy · slope(x); both in memory of x's order: images stay batch-last.

    Subclasses give ``value``, a new array, and ``slope``, whatever dy can be multiplied with.
    """

    arguments = ("input",)

    def forward(self, backend: Backend, x: Array) -> Array:
        self.save(x=x)
        return self.value(backend, x)

    def backward(self, backend: Backend, dy: Array) -> Array:
        x = self.saved.x
        return backend.xp.multiply(dy, self.slope(backend, x), out=backend.xp.empty_like(x))

    def value(self, backend: Backend, x: Array) -> Array:
        raise NotImplementedError

    def slope(self, backend: Backend, x: Array) -> Array:
        raise NotImplementedError


class _OfResult(Elementwise):
    """Where the slope is simpler in y than in x: ``slope`` is given y."""

    def forward(self, backend: Backend, x: Array) -> Array:
        y = self.value(backend, x)
        self.save(x=y)
        return y


class Abs(Elementwise):
    """See :func:`abs`."""

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.absolute(x, out=backend.xp.empty_like(x))

    def slope(self, backend: Backend, x: Array) -> Array:
        return backend.xp.sign(x)


class Erf(Elementwise):
    """See :func:`erf`. The slope is 2 / √π · exp(-x²)."""

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.special.erf(x, out=backend.xp.empty_like(x))

    def slope(self, backend: Backend, x: Array) -> Array:
        xp = backend.xp
        near = xp.clip(x, -100, 100, out=xp.empty_like(x))  # x² does not overflow
        slope = xp.multiply(near, near, out=xp.empty_like(x))
        xp.negative(slope, out=slope)
        xp.exp(slope, out=slope)
        slope *= 2 / math.sqrt(math.pi)
        return slope


class Exp(_OfResult):
    """See :func:`exp`."""

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.exp(x, out=backend.xp.empty_like(x))

    def slope(self, backend: Backend, x: Array) -> Array:
        return x


class Log(Elementwise):
    """See :func:`log`."""

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.log(x, out=backend.xp.empty_like(x))

    def slope(self, backend: Backend, x: Array) -> Array:
        return 1 / x


class Reciprocal(_OfResult):
    """See :func:`reciprocal`."""

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.true_divide(1, x, out=backend.xp.empty_like(x))

    def slope(self, backend: Backend, x: Array) -> Array:
        return -(x * x)


class Sqrt(_OfResult):
    """See :func:`sqrt`."""

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.sqrt(x, out=backend.xp.empty_like(x))

    def slope(self, backend: Backend, x: Array) -> Array:
        return 0.5 / x


@operation
def abs(input: Any) -> Tensor:
    """|x|, elementwise. The gradient at 0 is 0."""
    return Abs()(input)


@operation
def erf(input: Any) -> Tensor:
    """2 / √π times the integral of exp(-t²) from 0 to x, elementwise."""
    return Erf()(input)


@operation
def exp(input: Any) -> Tensor:
    """The exponential function, elementwise."""
    return Exp()(input)


@operation
def log(input: Any) -> Tensor:
    """The natural logarithm, elementwise: minus infinity of 0, NaN of negative numbers."""
    return Log()(input)


@operation
def reciprocal(input: Any) -> Tensor:
    """1 / x, elementwise."""
    return Reciprocal()(input)


@operation
def sqrt(input: Any) -> Tensor:
    """√x, elementwise; NaN of negative numbers. The gradient at 0 is infinite."""
    return Sqrt()(input)


class Clamp(Elementwise):
    """See :func:`clamp`."""

    def __init__(self, min: float | None, max: float | None) -> None:
        self.min = None if min is None else number("min", min)
        self.max = None if max is None else number("max", max)

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.clip(x, self.min, self.max, out=backend.xp.empty_like(x))

    def slope(self, backend: Backend, x: Array) -> Array:
        if self.min is None:
            return x <= self.max
        above = x >= self.min
        return above if self.max is None else above & (x <= self.max)


@operation
def clamp(input: Any, min: float | None = None, max: float | None = None) -> Tensor:
    """``min`` for smaller numbers, ``max`` for larger ones, the others as they are.

    NaN stays NaN; where ``min`` is larger than ``max``, everything is ``max``. The gradient of
    the two bounds themselves is 1, as that of what lies between.

    Parameters
    ----------
    min, max
        Numbers; None: no bound on that side.

    Raises
    ------
    ArgumentError
        Neither is given, or one is not a number.
    """
    if min is None and max is None:
        raise ArgumentError("clamp: neither min nor max is given; expected one of them, or both")
    return Clamp(min, max)(input)


_FLOATS = ("float16", "float32", "float64")


class AsType(Function):
    """See :func:`astype`."""

    arguments = ("input",)

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def forward(self, backend: Backend, x: Array) -> Array:
        return x.astype(self.dtype)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return dy  # the walk gives it the input's type


@operation
def astype(input: Any, dtype: Any) -> Tensor:
    """The same values in another floating-point type; itself if it is of that type.

    Raises
    ------
    DTypeError
        Not a floating-point type.
    """
    input = Tensor.of(input)
    if str(dtype) not in _FLOATS:
        raise DTypeError(f"dtype={dtype!r}: expected one of {', '.join(_FLOATS)}")
    return input if input.dtype == dtype else AsType(dtype)(input)
