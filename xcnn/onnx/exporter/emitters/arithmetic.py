"""Arithmetic, comparisons, matrix products, reductions and sorting."""

from __future__ import annotations

import string
from typing import Any

import numpy as np

from .... import functional as F
from ....extend import onnx_emitter
from ..writer import Value, Writer

#: by operation: the ONNX operator
_BINARY = {
    "add": "Add", "bitwise_and": "BitwiseAnd", "bitwise_or": "BitwiseOr",
    "bitwise_xor": "BitwiseXor", "div": "Div", "eq": "Equal", "floor_divide": "Div", "fmod": "Mod",
    "ge": "GreaterOrEqual", "gt": "Greater", "le": "LessOrEqual", "lt": "Less", "maximum": "Max",
    "minimum": "Min", "mul": "Mul", "pow": "Pow", "remainder": "Mod", "sub": "Sub",
}  # fmt: skip
_LOGIC = {"and": "And", "or": "Or", "xor": "Xor"}


def _operands(w: Writer, a: Any, b: Any, *, as_floats: bool = False) -> tuple[Any, Any, Any]:
    """Both operands, in the dtype that xcnn computes in, and that dtype."""
    given = [np.ones((), str(x.dtype)) if isinstance(x, Value) else x for x in (a, b)]
    dtype = (F.div if as_floats else F.mul)(*given).dtype
    return *(_as_dtype(w, x, dtype) for x in (a, b)), dtype


def _as_dtype(w: Writer, x: Any, dtype: Any) -> Any:
    if not isinstance(x, Value):
        return w.number(x, dtype)
    return x if x.dtype == dtype else w.cast(x, dtype)


def _register_binary(function: str, type: str) -> None:
    @onnx_emitter(function)
    def emit(
        w: Writer, alpha: float = 1, rounding_mode: str | None = None, **both: Any
    ) -> str | None:
        a, b, dtype = _operands(
            w, *both.values(), as_floats=function == "div" and not rounding_mode
        )
        is_float = dtype.kind == "f"
        if rounding_mode or (is_float and function in ("floor_divide", "remainder")):
            return None
        if dtype.kind == "b" and function.startswith("bitwise"):
            return w.node(_LOGIC[function.removeprefix("bitwise_")], a, b)
        if function == "floor_divide":  # ONNX rounds towards 0
            a = w.node("Sub", a, w.node("Mod", a, b))
        b = b if alpha == 1 else w.node("Mul", b, w.number(alpha, dtype))
        return w.node(type, a, b, fmod=1 if function == "fmod" else None)


def _register_logic(function: str, type: str) -> None:
    @onnx_emitter(f"logical_{function}")
    def emit(w: Writer, input: Any, other: Any) -> str:
        return w.node(type, _as_dtype(w, input, "bool"), _as_dtype(w, other, "bool"))


#: by operation: the ONNX operator, and whether it adds up, which integers do in int64
_REDUCTIONS = {
    "amax": ("Max", False),
    "amin": ("Min", False),
    "logsumexp": ("LogSumExp", False),
    "mean": ("Mean", False),
    "prod": ("Prod", True),
    "sum": ("Sum", True),
}


def _register_reduction(function: str, type: str, adds_up: bool) -> None:
    @onnx_emitter(function)
    def emit(w: Writer, input: Value, dim: Any, keepdim: bool, dtype: Any = None) -> str:
        x = input if dtype is None else w.cast(input, dtype)
        if adds_up and dtype is None and input.dtype.kind != "f":
            x = w.cast(input, "int64")
        return reduced(w, f"Reduce{type}", x, input.ndim, dim, keepdim)


def reduced(w: Writer, type: str, x: Any, ndim: int, dim: Any, keepdim: bool) -> str:
    """A reduction over the axes ``dim``, all if there are none."""
    axes = [] if dim is None else [dim] if isinstance(dim, int) else list(dim)
    return w.node(type, x, w.ints(axes) if axes and ndim else None, keepdims=int(keepdim))


for _function, _type in _BINARY.items():
    _register_binary(_function, _type)
for _function, _type in _LOGIC.items():
    _register_logic(_function, _type)
for _function, (_type, _adds_up) in _REDUCTIONS.items():
    _register_reduction(_function, _type, _adds_up)


@onnx_emitter("logical_not")
def invert(w: Writer, input: Value) -> str:
    return w.node("Not", input if input.dtype.kind == "b" else w.cast(input, "bool"))


@onnx_emitter("bitwise_not")
def bitwise_not(w: Writer, input: Value) -> str:
    return w.node("Not" if input.dtype.kind == "b" else "BitwiseNot", input)


@onnx_emitter("norm")
def norm(w: Writer, input: Value, p: Any, dim: Any, keepdim: bool, dtype: Any) -> str | None:
    order = 2 if p in (None, "fro") else p
    if order not in (1, 2) or dtype is not None:
        return None
    return reduced(w, f"ReduceL{int(order)}", input, input.ndim, dim, keepdim)


@onnx_emitter("where")
def where(w: Writer, condition: Value, input: Any, other: Any) -> str | None:
    if input is None and other is None:
        return None
    a, b, _ = _operands(w, input, other)
    return w.node("Where", condition, a, b)


@onnx_emitter("astype")
def astype(w: Writer, input: Value, dtype: Any) -> str:
    return w.cast(input, dtype)


@onnx_emitter("matmul")
def matmul(w: Writer, input: Value, other: Value) -> str:
    return w.node("MatMul", input, other)


@onnx_emitter("einsum")
def einsum(w: Writer, equation: str, operands: Any) -> str:
    is_list = len(operands) == 1 and not isinstance(operands[0], Value)
    tensors = operands[0] if is_list else operands
    left, arrow, right = equation.replace(" ", "").partition("->")
    if not arrow:  # runtimes differ without
        once = sorted(c for c in {*left} if c.isalpha() and left.count(c) == 1)
        right = "..." * ("..." in left) + "".join(once)
    if "..." not in right:  # runtimes do not sum over it
        free = [c for c in string.ascii_letters if c not in equation]
        terms = []
        for term, x in zip(left.split(","), tensors, strict=True):
            count = x.ndim - len(term.replace("...", ""))
            terms.append(term.replace("...", "".join(free[:count][::-1])))
        left = ",".join(terms)
    return w.node("Einsum", *tensors, equation=f"{left}->{right}")


@onnx_emitter("linear")
def linear(w: Writer, input: Value, weight: Value, bias: Value | None, relu: bool) -> str:
    if input.ndim == 2:
        y = w.node("Gemm", input, weight, bias, transB=1)
    else:
        y = w.node("MatMul", input, w.node("Transpose", weight, perm=[1, 0]))
        y = y if bias is None else w.node("Add", y, bias)
    return w.node("Relu", y) if relu else y


@onnx_emitter("cumsum")
def cumsum(w: Writer, input: Value, dim: int, dtype: Any) -> str:
    kind = "int64" if dtype is None and input.dtype.kind != "f" else dtype
    x = input if kind is None else w.cast(input, kind)
    return w.node("CumSum", x, w.number(dim, "int64"))


# -- sorting ------------------------------------------------------------------------------------


def _register_position(function: str, type: str) -> None:
    @onnx_emitter(function)
    def emit(w: Writer, input: Value, dim: int | None, keepdim: bool) -> str | None:
        if dim is None:
            return None
        return w.node(type, input, axis=int(dim), keepdims=int(keepdim))


_register_position("argmax", "ArgMax")
_register_position("argmin", "ArgMin")


@onnx_emitter("topk")
def topk(w: Writer, input: Value, k: int, dim: int, largest: bool, **_: Any) -> list[str]:
    return w.node("TopK", input, w.ints([k]), outputs=2, axis=int(dim), largest=int(largest))


@onnx_emitter("sort")
def sort(w: Writer, input: Value, dim: int, descending: bool, **_: Any) -> list[str]:
    return topk(w, input, input.shape[dim], dim, descending)


@onnx_emitter("unique")
def unique(
    w: Writer,
    input: Value,
    return_inverse: bool,
    return_counts: bool,
    dim: int | None,
    **_: Any,
) -> list[str]:
    y, _indices, inverse, counts = w.node("Unique", input, outputs=4, axis=dim)
    if dim is None and input.ndim != 1:
        inverse = w.node("Reshape", inverse, w.node("Shape", input))
    return [y, *[inverse] * return_inverse, *[counts] * return_counts]
