"""Numbers cut to a range."""

from __future__ import annotations

from typing import Any

from ..backends import Backend
from ..errors import ArgumentError
from ..tensor import Tensor
from ..tracing import operation
from .elementwise import Elementwise, number

Array = Any


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


def _install_methods() -> None:
    methods: dict[str, Any] = {"clamp": clamp}
    for name, method in methods.items():
        setattr(Tensor, name, method)


_install_methods()
