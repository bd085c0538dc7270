"""Comparisons, logic and Where."""

from __future__ import annotations

from .... import functional as F
from ....tensor import Tensor
from ..node import Node, operator
from .arithmetic import aligned

_COMPARISONS = {
    "Equal": "equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
}
_LOGIC = {"And": "logical_and", "Or": "logical_or"}
_UFUNCS = {**_COMPARISONS, **_LOGIC}


@operator(*_UFUNCS)
def compare(node: Node, a: Tensor, b: Tensor) -> Tensor:
    if node.type in _LOGIC:
        _check_bool(node, a)
    b = aligned(node, a, b)
    node.check_same_dtype(a, b)
    node.check_broadcast("bool", a, b)
    with a.backend.active():
        return Tensor(getattr(a.backend.xp, _UFUNCS[node.type])(a.data, b.data))


@operator("Not")
def negate(node: Node, x: Tensor) -> Tensor:
    _check_bool(node, x)
    with x.backend.active():
        return Tensor(x.backend.xp.logical_not(x.data))


def _check_bool(node: Node, x: Tensor) -> None:
    if x.dtype.kind != "b":
        raise node.error(f"an input is {x.dtype}: expected bool")


@operator("Where")
def where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    node.check_broadcast(a.dtype, condition, a, b)
    return F.where(condition, a, b)
