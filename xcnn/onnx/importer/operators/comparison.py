"""Comparisons, logic and Where."""

from __future__ import annotations

from .... import functional as F
from ....tensor import Tensor
from ..node import Node, operator
from .arithmetic import aligned

_COMPARISONS = {
    "Equal": F.eq,
    "Greater": F.gt,
    "GreaterOrEqual": F.ge,
    "Less": F.lt,
    "LessOrEqual": F.le,
}
_LOGIC = {"And": F.logical_and, "Or": F.logical_or, "Xor": F.logical_xor}
_BITS = {"BitwiseAnd": F.bitwise_and, "BitwiseOr": F.bitwise_or, "BitwiseXor": F.bitwise_xor}
_FUNCTIONS = {**_COMPARISONS, **_LOGIC, **_BITS}


@operator(*_FUNCTIONS)
def compare(node: Node, a: Tensor, b: Tensor) -> Tensor:
    if node.type in _LOGIC:
        _check_bool(node, a)
    b = aligned(node, a, b)
    node.check_same_dtype(a, b)
    node.check_broadcast(a.dtype if node.type in _BITS else "bool", a, b)
    return _FUNCTIONS[node.type](a, b)


@operator("Not", "BitwiseNot")
def negate(node: Node, x: Tensor) -> Tensor:
    if node.type == "Not":
        _check_bool(node, x)
    return F.bitwise_not(x)


def _check_bool(node: Node, x: Tensor) -> None:
    if x.dtype.kind != "b":
        raise node.error(f"an input is {x.dtype}: expected bool")


@operator("Where")
def where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    node.check_broadcast(a.dtype, condition, a, b)
    return F.where(condition, a, b)
