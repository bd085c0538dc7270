"""Arithmetic, matrix products and reductions."""

from __future__ import annotations

from typing import Any

from ....errors import UnsupportedOperatorError
from ....extend import onnx_emitter
from ..writer import Value, Writer


def _register_binary(function: str) -> None:
    """The ONNX operator is named by the first three letters: maximum is Max."""

    @onnx_emitter(function)
    def emit(w: Writer, alpha: float = 1, rounding_mode: str | None = None, **operands: Any) -> str:
        a, b = operands.values()
        type, first, second = function[:3].capitalize(), _operand(w, a, b), _operand(w, b, a)
        if alpha != 1:
            second = w.node("Mul", second, w.like(a if isinstance(a, Value) else b, alpha))
        if rounding_mode is not None:
            raise UnsupportedOperatorError(f"div: rounding_mode={rounding_mode!r} has no ONNX form")
        return w.node(type, first, second)


def _register_reduction(function: str) -> None:
    @onnx_emitter(function)
    def emit(w: Writer, input: Value, dim: Any, keepdim: bool, dtype: Any) -> str:
        type, keepdims = f"Reduce{function.capitalize()}", int(keepdim)
        x = input if dtype is None else w.cast(input, dtype)
        axes = [] if dim is None else [dim] if isinstance(dim, int) else list(dim)
        if not axes or not input.ndim:
            return w.node(type, x, keepdims=keepdims)
        return w.node(type, x, w.ints(axes), keepdims=keepdims)


for _function in ("add", "div", "maximum", "minimum", "mul", "pow", "sub"):
    _register_binary(_function)
for _function in ("mean", "sum"):
    _register_reduction(_function)


@onnx_emitter("where")
def where(w: Writer, condition: Value, input: Any, other: Any) -> str:
    return w.node("Where", condition, _operand(w, input, other), _operand(w, other, input))


def _operand(w: Writer, x: Any, other: Any) -> Any:
    """A number as a constant with the other operand's dtype."""
    return x if isinstance(x, Value) else w.like(other, x)


@onnx_emitter("astype")
def astype(w: Writer, input: Value, dtype: Any) -> str:
    return w.cast(input, dtype)


@onnx_emitter("matmul")
def matmul(w: Writer, input: Value, other: Value) -> str:
    return w.node("MatMul", input, other)


@onnx_emitter("linear")
def linear(w: Writer, input: Value, weight: Value, bias: Value | None, relu: bool) -> str:
    if input.ndim == 2:
        y = w.node("Gemm", input, weight, bias, transB=1)
    else:
        y = w.node("MatMul", input, w.node("Transpose", weight, perm=[1, 0]))
        y = y if bias is None else w.node("Add", y, bias)
    return w.node("Relu", y) if relu else y
