"""Linear maps and matrix products."""

from __future__ import annotations

from ..writer import Value, Writer, emits


@emits("linear")
def linear(w: Writer, input: Value, weight: Value, bias: Value | None, relu: bool) -> str:
    if input.ndim == 2:
        y = w.node("Gemm", input, weight, bias, transB=1)
    else:
        y = w.node("MatMul", input, w.node("Transpose", weight, perm=[1, 0]))
        y = y if bias is None else w.node("Add", y, bias)
    return w.node("Relu", y) if relu else y


@emits("matmul")
def matmul(w: Writer, a: Value, b: Value) -> str:
    return w.node("MatMul", a, b)
