"""What activations of one number at a time share."""

from __future__ import annotations

from numbers import Real
from typing import Any

from ..autograd import Function
from ..backends import Backend
from ..errors import ArgumentError

Array = Any


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


def number(name: str, value: Any) -> float:
    """A setting as a float, whose type leaves that of arrays as it is.

    Raises
    ------
    ArgumentError
        Not a number, or NaN.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or value != value:
        raise ArgumentError(f"{name}={value!r}: expected a number")
    return float(value)
