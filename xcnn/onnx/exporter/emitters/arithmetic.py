"""Arithmetic and sums."""

from __future__ import annotations

from typing import Any

from ..writer import Value, Writer, emits


def _binary(function: str, type: str) -> None:
    @emits(function)
    def emit(w: Writer, a: Any, b: Any) -> str:
        return w.node(type, _operand(w, a, b), _operand(w, b, a))


for _function, _type in {
    "add": "Add",
    "div": "Div",
    "maximum": "Max",
    "minimum": "Min",
    "mul": "Mul",
    "sub": "Sub",
}.items():
    _binary(_function, _type)


@emits("pow")
def pow(w: Writer, input: Value, exponent: Any) -> str:
    return w.node("Pow", _operand(w, input, exponent), _operand(w, exponent, input))


@emits("where")
def where(w: Writer, condition: Value, a: Any, b: Any) -> str:
    return w.node("Where", condition, _operand(w, a, b), _operand(w, b, a))


def _operand(w: Writer, x: Any, other: Any) -> Any:
    """A plain number in the other's type."""
    return x if isinstance(x, Value) else w.like(other, x)


def _reduction(function: str, type: str) -> None:
    @emits(function)
    def emit(w: Writer, input: Value, dim: Any, keepdim: bool) -> str:
        if dim is None:
            return w.node(type, input, keepdims=int(keepdim))
        axes = [dim] if isinstance(dim, int) else list(dim)
        if not axes:  # which ONNX would take for all
            return w.node("Identity", input)
        return w.node(type, input, w.ints(axes), keepdims=int(keepdim))


for _function, _type in {"mean": "ReduceMean", "sum": "ReduceSum"}.items():
    _reduction(_function, _type)


@emits("astype")
def astype(w: Writer, input: Value, dtype: Any) -> str:
    return w.cast(input, dtype)
