"""Arithmetic, matrix products and reductions."""

from __future__ import annotations

from typing import Any

from ....extend import onnx_emitter
from ..writer import Value, Writer

_PAIRS = {
    "add": "Add",
    "div": "Div",
    "maximum": "Max",
    "minimum": "Min",
    "mul": "Mul",
    "sub": "Sub",
}
_REDUCTIONS = {"mean": "ReduceMean", "sum": "ReduceSum"}


def _register_binary(function: str, type: str) -> None:
    @onnx_emitter(function)
    def emit(w: Writer, a: Any, b: Any) -> str:
        return w.node(type, _operand(w, a, b), _operand(w, b, a))


def _register_reduction(function: str, type: str) -> None:
    @onnx_emitter(function)
    def emit(w: Writer, input: Value, dim: Any, keepdim: bool) -> str:
        if dim is None:
            return w.node(type, input, keepdims=int(keepdim))
        axes = [dim] if isinstance(dim, int) else list(dim)
        if not axes:  # ONNX would reduce all
            return w.node("Identity", input)
        return w.node(type, input, w.ints(axes), keepdims=int(keepdim))


for _item in _PAIRS.items():
    _register_binary(*_item)
for _item in _REDUCTIONS.items():
    _register_reduction(*_item)


@onnx_emitter("pow")
def pow(w: Writer, input: Any, exponent: Any) -> str:
    return w.node("Pow", _operand(w, input, exponent), _operand(w, exponent, input))


@onnx_emitter("where")
def where(w: Writer, condition: Value, a: Any, b: Any) -> str:
    return w.node("Where", condition, _operand(w, a, b), _operand(w, b, a))


def _operand(w: Writer, x: Any, other: Any) -> Any:
    """A number as a constant with the other operand's dtype."""
    return x if isinstance(x, Value) else w.like(other, x)


@onnx_emitter("astype")
def astype(w: Writer, input: Value, dtype: Any) -> str:
    return w.cast(input, dtype)


@onnx_emitter("matmul")
def matmul(w: Writer, a: Value, b: Value) -> str:
    return w.node("MatMul", a, b)


@onnx_emitter("linear")
def linear(w: Writer, input: Value, weight: Value, bias: Value | None, relu: bool) -> str:
    if input.ndim == 2:
        y = w.node("Gemm", input, weight, bias, transB=1)
    else:
        y = w.node("MatMul", input, w.node("Transpose", weight, perm=[1, 0]))
        y = y if bias is None else w.node("Add", y, bias)
    return w.node("Relu", y) if relu else y
