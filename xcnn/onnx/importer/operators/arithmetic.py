"""Arithmetic, matrix products, sums and means."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .... import functional as F
from ....arrays import Array
from ....tensor import Tensor
from ..node import Node, operator


def on_device(x: Tensor, compute: Callable[[Any], Array]) -> Tensor:
    """``compute(xp)`` where ``x`` is: what F, which takes floats only, does not do."""
    if x.dtype.kind == "b":
        raise TypeError("arithmetic with booleans")
    with x.backend.active():
        return Tensor(compute(x.backend.xp))


# -- of two arrays -------------------------------------------------------------------------

_FLOATS: dict[str, Callable[..., Tensor]] = {
    "Add": F.add,
    "Sub": F.sub,
    "Mul": F.mul,
    "Div": F.div,
    "Sum": F.add,
    "Max": F.maximum,
    "Min": F.minimum,
}
_INTEGERS: dict[str, Callable[[Any, Array, Array], Array]] = {
    "Add": lambda xp, a, b: a + b,
    "Sub": lambda xp, a, b: a - b,
    "Mul": lambda xp, a, b: a * b,
    "Div": lambda xp, a, b: _truncated(xp, a, b),
    "Sum": lambda xp, a, b: a + b,
    "Max": lambda xp, a, b: xp.maximum(a, b),
    "Min": lambda xp, a, b: xp.minimum(a, b),
}


def _truncated(xp: Any, a: Array, b: Array) -> Array:
    """A / b towards zero, as in C; a GPU gives 0 where b is 0."""
    with np.errstate(divide="raise"):
        quotient = xp.floor_divide(a, b)
    if quotient.dtype.kind == "i":
        quotient += ((a < 0) != (b < 0)) & (quotient * b != a)
    return quotient


@operator("Add", "Sub", "Mul", "Div")
def binary(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return _combined(node, a, aligned(node, a, b))


@operator("Sum", "Max", "Min")
def variadic(node: Node, x: Tensor, *others: Tensor) -> Tensor:
    for other in others:
        x = _combined(node, x, other)
    return x


@operator("Pow")
def power(node: Node, x: Tensor, exponent: Tensor) -> Tensor:
    exponent = aligned(node, x, exponent)
    node.check_size(np.broadcast_shapes(x.shape, exponent.shape), x.dtype)
    if x.dtype.kind != "f":
        return on_device(x, lambda xp: xp.power(x.data, exponent.data).astype(x.dtype))
    return F.pow(x, _cast(exponent, x.dtype))


def _combined(node: Node, a: Tensor, b: Tensor) -> Tensor:
    node.check_size(np.broadcast_shapes(a.shape, b.shape), a.dtype)
    if a.dtype.kind == "f":
        return _FLOATS[node.type](a, b)
    if a.dtype != b.dtype:
        raise node.error(f"inputs are {a.dtype} and {b.dtype}: expected one type")
    return on_device(a, lambda xp: _INTEGERS[node.type](xp, a.data, b.data))


def aligned(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """``b`` as the broadcasting of operator sets before 7 wants it: its axes begin at ``axis``."""
    if node.version >= 7:
        return b
    broadcast, shape = node.integer("broadcast", 0), b.shape
    start = node.integer("axis")
    if broadcast and start is not None and b.size != 1:
        after = a.ndim - node.axis(start, a.ndim) - b.ndim
        fits = after >= 0
        for _ in range(after):
            b = F.unsqueeze(b, b.ndim)
    else:
        fits = bool(broadcast) or a.shape == b.shape
    if not fits or np.broadcast_shapes(a.shape, b.shape) != a.shape:
        raise node.error(f"shapes {a.shape} and {shape}: the second does not fit the first")
    return b


# -- of one array --------------------------------------------------------------------------

_OF_ONE: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": F.abs,
    "Erf": F.erf,
    "Exp": F.exp,
    "Log": F.log,
    "Neg": lambda x: F.mul(x, -1),
    "Reciprocal": F.reciprocal,
    "Sqrt": F.sqrt,
}


@operator(*_OF_ONE)
def unary(node: Node, x: Tensor) -> Tensor:
    if x.dtype.kind != "f" and node.type in ("Abs", "Neg"):
        name = "absolute" if node.type == "Abs" else "negative"
        return on_device(x, lambda xp: getattr(xp, name)(x.data))
    return _OF_ONE[node.type](x)


@operator("CastLike")
def cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    node.check_size(x.shape, like.dtype)
    return _cast(x, like.dtype)


def _cast(x: Tensor, dtype: Any) -> Tensor:
    if x.dtype.kind == "f" and np.dtype(dtype).kind == "f":
        return F.astype(x, str(dtype))
    with x.backend.active(), x.backend.quiet_overflow():
        return Tensor(x.data.astype(dtype))


# -- matrix products -----------------------------------------------------------------------


@operator("MatMul")
def matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    if a.ndim == 0 or b.ndim == 0:
        raise node.error(f"shapes {a.shape} and {b.shape}: expected an axis at least")
    rows = a if a.ndim > 1 else F.unsqueeze(a, 0)
    columns = b if b.ndim > 1 else F.unsqueeze(b, 1)
    if rows.shape[-1] != columns.shape[-2]:
        raise node.error(f"shapes {a.shape} and {b.shape}: inner lengths differ")
    stacks = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
    node.check_size((*stacks, rows.shape[-2], columns.shape[-1]), a.dtype)
    y = _product(node, rows, columns)
    unit = [axis for axis, x in ((-2, a), (-1, b)) if x.ndim == 1]
    return F.squeeze(y, unit) if unit else y


def _product(node: Node, a: Tensor, b: Tensor) -> Tensor:
    if a.dtype.kind != "f":
        if a.dtype != b.dtype:
            raise node.error(f"inputs are {a.dtype} and {b.dtype}: expected one type")
        return on_device(a, lambda xp: xp.matmul(a.data, b.data))
    # one product for all rows, where b is not a stack
    return F.linear(a, b.T) if b.ndim == 2 and b.shape[0] else F.matmul(a, b)


@operator("Gemm")
def gemm(
    node: Node, a: Tensor, b: Tensor, c: Tensor | None = None, *, relu: bool = False
) -> Tensor:
    """``alpha · A @ B + beta · C``; with a bias (m,) it is a linear layer."""
    if a.ndim != 2 or b.ndim != 2:
        raise node.error(f"shapes {a.shape} and {b.shape}: expected matrices")
    a = a.T if node.integer("transA", 0) else a
    weight = b if node.integer("transB", 0) else b.T
    if a.shape[1] != weight.shape[1]:
        raise node.error(f"shapes {a.shape} and {weight.shape[::-1]}: inner lengths differ")
    shape = a.shape[0], weight.shape[0]
    node.check_size(shape, a.dtype)
    if c is not None:
        _check_bias(node, c, shape)
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    if a.dtype.kind != "f":
        y = _integer_gemm(node, a, weight.T, c, alpha, beta)
        return on_device(y, lambda xp: xp.maximum(y.data, 0)) if relu else y
    if c is not None and alpha == beta == 1 and c.shape == shape[1:]:
        return F.linear(a, weight, c, relu)
    y = _scaled(F.linear(a, weight), alpha)
    y = y if c is None or beta == 0 else F.add(y, _scaled(c, beta))
    return F.relu(y) if relu else y


def _scaled(x: Tensor, factor: float) -> Tensor:
    return x if factor == 1 else F.mul(x, factor)


def _check_bias(node: Node, c: Tensor, shape: tuple[int, ...]) -> None:
    strict = node.version < 7 and not node.integer("broadcast", 0)
    if (c.shape if strict else np.broadcast_shapes(c.shape, shape)) != shape:
        raise node.error(f"C has shape {c.shape}, the product {shape}: it must broadcast to that")


def _integer_gemm(
    node: Node, a: Tensor, b: Tensor, c: Tensor | None, alpha: float, beta: float
) -> Tensor:
    if alpha % 1 or beta % 1:
        raise node.error(f"alpha={alpha}, beta={beta}: expected whole numbers for {a.dtype}")
    y = _product(node, a, b)
    return on_device(a, lambda xp: y.data * int(alpha) + (0 if c is None else c.data * int(beta)))


# -- sums and means ------------------------------------------------------------------------


@operator("ReduceSum", "ReduceMean", static=(1,))
def reduce(node: Node, x: Tensor, axes: Array = None) -> Tensor:
    dims = dims_of(node, x, axes, 13 if node.type == "ReduceSum" else 18)
    if dims is None:
        return x
    keep = bool(node.integer("keepdims", 1))
    if x.dtype.kind != "f":
        return _reduced_integers(node, x, dims, keep)
    return (F.sum if node.type == "ReduceSum" else F.mean)(x, dims, keep)


def dims_of(node: Node, x: Tensor, axes: Array, changed: int) -> tuple[int, ...] | None:
    """The axes that go, which are an attribute before version ``changed``; None: nothing to do."""
    if node.version < changed:
        axes = node.integers("axes")
    empty = axes is None or len(axes) == 0
    if empty and node.integer("noop_with_empty_axes", 0):
        return None
    dims = tuple(range(x.ndim) if empty else node.axes(axes, x.ndim))
    node.check_size([n for i, n in enumerate(x.shape) if i not in dims], x.dtype)
    return dims


def _reduced_integers(node: Node, x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    count = math.prod(x.shape[d] for d in dims)
    if count == 0 and node.type == "ReduceMean":
        raise node.error(f"the mean of no {x.dtype}: x has shape {x.shape}")

    def compute(xp: Any) -> Array:
        total = x.data.sum(axis=dims, keepdims=keep)
        if node.type == "ReduceMean":
            total = _truncated(xp, total, xp.full((), count, total.dtype))
        return total.astype(x.dtype)

    return on_device(x, compute)
