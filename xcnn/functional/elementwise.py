"""Elementwise functions: exp, log, sqrt, clamp and others."""

from __future__ import annotations

import math
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import check_number
from ..errors import ArgumentError, DTypeError
from ..tensor import Function, Tensor, dtype_name, operation

__all__ = ["abs", "astype", "clamp", "erf", "exp", "log", "reciprocal", "sqrt"]


class Elementwise(Function):
    """y = f(x), dx = f'(x) · dy, in the memory order of x, so that images stay batch-last.

    ``value`` and ``derivative`` work on 1-D arrays: views of x if it is contiguous in some order of
    its axes. ``derivative`` gets x or, with ``from_output``, y. Settings are numbers, passed by
    keyword and stored as attributes.
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


class Abs(Elementwise):
    """See :func:`abs`."""

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.absolute(x)

    def derivative(self, backend: Backend, x: Array) -> Array:
        return backend.xp.sign(x)


@operation
def abs(input: Any) -> Tensor:
    """|x|, elementwise. The gradient at 0 is 0."""
    return Abs()(input)


class Erf(Elementwise):
    """See :func:`erf`. The derivative is 2 / √π · exp(-x²)."""

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.special.erf(x, out=backend.xp.empty_like(x))  # float16 stays float16

    def derivative(self, backend: Backend, x: Array) -> Array:
        near = backend.xp.clip(x, -100, 100)  # so that x² does not overflow
        return backend.xp.exp(-(near * near)) * (2 / math.sqrt(math.pi))


@operation
def erf(input: Any) -> Tensor:
    """2 / √π times the integral of exp(-t²) from 0 to x, elementwise."""
    return Erf()(input)


class Exp(Elementwise):
    """See :func:`exp`."""

    from_output = True

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.exp(x)

    def derivative(self, backend: Backend, x: Array) -> Array:
        return x


@operation
def exp(input: Any) -> Tensor:
    """The exponential function, elementwise."""
    return Exp()(input)


class Log(Elementwise):
    """See :func:`log`."""

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.log(x)

    def derivative(self, backend: Backend, x: Array) -> Array:
        return 1 / x


@operation
def log(input: Any) -> Tensor:
    """The natural logarithm, elementwise: minus infinity at 0, NaN for negative numbers."""
    return Log()(input)


class Reciprocal(Elementwise):
    """See :func:`reciprocal`."""

    from_output = True

    def value(self, backend: Backend, x: Array) -> Array:
        return 1 / x

    def derivative(self, backend: Backend, x: Array) -> Array:
        return -(x * x)


@operation
def reciprocal(input: Any) -> Tensor:
    """1 / x, elementwise."""
    return Reciprocal()(input)


class Sqrt(Elementwise):
    """See :func:`sqrt`."""

    from_output = True

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.sqrt(x)

    def derivative(self, backend: Backend, x: Array) -> Array:
        return 0.5 / x


@operation
def sqrt(input: Any) -> Tensor:
    """√x, elementwise; NaN for negative numbers. The gradient at 0 is infinite."""
    return Sqrt()(input)


class Clamp(Elementwise):
    """See :func:`clamp`."""

    min: float | None = None
    max: float | None = None

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.clip(x, self.min, self.max)

    def derivative(self, backend: Backend, x: Array) -> Array:
        above = self.min is None or x >= self.min
        return above & (self.max is None or x <= self.max)


@operation
def clamp(input: Any, min: float | None = None, max: float | None = None) -> Tensor:
    """Limit each element to the range from ``min`` to ``max``.

    NaN stays NaN; if ``min`` > ``max``, the result is ``max``. The gradient at the bounds is 1, as
    between them.

    Parameters
    ----------
    min, max
        Numbers; None: no bound on that side.

    Raises
    ------
    ArgumentError
        Both are None, or one is not a number.
    """
    bounds = {name: v for name, v in (("min", min), ("max", max)) if v is not None}
    if not bounds:
        raise ArgumentError("clamp: min and max are both None; pass at least one of them")
    return Clamp(**bounds)(input)


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
    return AsType(name)(input) if is_float else Tensor(input.data.astype(name))
