"""Arithmetic, matrix products and reductions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .... import functional as F
from ....arrays import Array
from ....tensor import Tensor
from ..node import Node, operator
from .constants import as_type


def check_numbers(x: Tensor) -> Tensor:
    """``x``, which must not be of bools.

    Raises
    ------
    TypeError
        It is.
    """
    if x.dtype.kind == "b":
        raise TypeError("the input is bool: expected numbers")
    return x


def on_device(x: Tensor, compute: Callable[[Any], Array]) -> Tensor:
    """Run ``compute(xp)`` on the device of ``x``; for integers, without a gradient."""
    with check_numbers(x).backend.active():
        return Tensor(compute(x.backend.xp))


# -- binary --------------------------------------------------------------------------------

_BINARY: dict[str, Callable[..., Tensor]] = {
    "Add": F.add,
    "Sub": F.sub,
    "Mul": F.mul,
    "Div": F.div,
    "Sum": F.add,
    "Max": F.maximum,
    "Min": F.minimum,
}


def _truncated(xp: Any, a: Array, b: Array) -> Array:
    """a / b rounded towards zero, as in C; 0 on a GPU where b is 0."""
    with np.errstate(divide="raise"):
        quotient = xp.floor_divide(a, b)
    if quotient.dtype.kind == "i":
        quotient += ((a < 0) != (b < 0)) & (quotient * b != a)
    return quotient


@operator("Sum", "Max", "Min")
def variadic(node: Node, x: Tensor, *others: Tensor) -> Tensor:
    return functools.reduce(functools.partial(binary, node), others, x)


@operator("Add", "Sub", "Mul", "Div")
def binary(node: Node, a: Tensor, b: Tensor) -> Tensor:
    b = aligned(node, a, b) if node.type in ("Add", "Sub", "Mul", "Div") else b
    node.check_broadcast(a.dtype, a, b)
    node.check_same_dtype(a, b)
    if node.type == "Div" and a.dtype.kind != "f":
        return on_device(a, lambda xp: _truncated(xp, a.data, b.data))
    return _BINARY[node.type](check_numbers(a), b)


@operator("Pow")
def power(node: Node, x: Tensor, exponent: Tensor) -> Tensor:
    exponent = aligned(node, x, exponent)
    node.check_broadcast(x.dtype, x, exponent)
    if x.dtype.kind != "f":
        return on_device(x, lambda xp: xp.power(x.data, exponent.data).astype(x.dtype))
    return F.pow(x, as_type(node, exponent, x.dtype))


def aligned(node: Node, a: Tensor, b: Tensor) -> Tensor:
    """``b`` in a shape that broadcasts; before version 7, its axes start at ``axis`` of ``a``."""
    if node.version >= 7:
        return b
    broadcast, start, shape = node.integer("broadcast", 0), node.integer("axis"), b.shape
    fits = bool(broadcast) or a.shape == b.shape
    if broadcast and start is not None and b.numel() != 1:
        after = a.ndim - node.axis(start, a.ndim) - b.ndim
        fits = after >= 0
        b = F.reshape(b, (*shape, *(1,) * after))
    if not fits or np.broadcast_shapes(a.shape, b.shape) != a.shape:
        raise node.error(f"shapes {a.shape} and {shape}: the second must broadcast to the first")
    return b


@operator("Mod")
def mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    node.check_broadcast(a.dtype, a, b)
    node.check_same_dtype(a, b)
    return (F.fmod if node.integer("fmod", 0) else F.remainder)(check_numbers(a), b)


# -- unary ---------------------------------------------------------------------------------

_FLOATS = (
    *("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp"),
    *("Floor", "Log", "Reciprocal", "Round", "Sin", "Sinh", "Sqrt", "Tan"),
)
_NUMBERS = ("Abs", "Neg", "Sign")


@operator(*_FLOATS, *_NUMBERS)
def unary(node: Node, x: Tensor) -> Tensor:
    if x.dtype.kind != "f" and node.type not in _NUMBERS:
        raise node.error(f"the input is {x.dtype}: expected floats")
    return getattr(F, node.type.lower())(check_numbers(x))


@operator("IsNaN")
def is_nan(node: Node, x: Tensor) -> Tensor:
    return F.isnan(x)


@operator("IsInf")
def is_inf(node: Node, x: Tensor) -> Tensor:
    signs = [s for s, n in ((1, "positive"), (-1, "negative")) if node.integer(f"detect_{n}", 1)]
    found = [F.eq(x, sign * math.inf) for sign in signs]
    return functools.reduce(F.logical_or, found, F.lt(x, x))


@operator("Shrink")
def shrink(node: Node, x: Tensor) -> Tensor:
    limit, bias = node.number("lambd", 0.5), node.number("bias", 0.0)
    moved = F.sub(x, F.mul(F.sign(check_numbers(x)), bias))
    y = F.where(F.gt(F.abs(x), limit), moved, F.mul(x, 0))
    return y if y.dtype == x.dtype else as_type(node, y, x.dtype)


# -- matrix products -----------------------------------------------------------------------


@operator("MatMul")
def matmul(node: Node, a: Tensor, b: Tensor) -> Tensor:
    if a.ndim == 0 or b.ndim == 0:
        raise node.error(f"shapes {a.shape} and {b.shape}: expected at least one axis each")
    rows = a if a.ndim > 1 else F.unsqueeze(a, 0)
    columns = b if b.ndim > 1 else F.unsqueeze(b, 1)
    if rows.shape[-1] != columns.shape[-2]:
        raise node.error(f"shapes {a.shape} and {b.shape}: inner lengths differ")
    batch = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
    node.check_size((*batch, rows.shape[-2], columns.shape[-1]), a.dtype)
    y = _product(node, rows, columns)
    unit = [axis for axis, x in ((-2, a), (-1, b)) if x.ndim == 1]
    return F.squeeze(y, unit) if unit else y


def _product(node: Node, a: Tensor, b: Tensor) -> Tensor:
    node.check_same_dtype(check_numbers(a), b)
    # with a 2-D b, one product computes all rows
    as_rows = a.dtype.kind == "f" and b.ndim == 2 and b.shape[0]
    return F.linear(a, b.T) if as_rows else F.matmul(a, b)


@operator("Gemm")
def gemm(
    node: Node, a: Tensor, b: Tensor, c: Tensor | None = None, *, relu: bool = False
) -> Tensor:
    """alpha · A @ B + beta · C; a linear layer if C is a bias (m,)."""
    if a.ndim != 2 or b.ndim != 2:
        raise node.error(f"shapes {a.shape} and {b.shape}: expected matrices")
    a = a.T if node.integer("transA", 0) else a
    weight = b if node.integer("transB", 0) else b.T
    if a.shape[1] != weight.shape[1]:
        raise node.error(f"shapes {a.shape} and {weight.shape[::-1]}: inner lengths differ")
    shape = a.shape[0], weight.shape[0]
    node.check_size(shape, a.dtype)
    if c is not None:
        is_strict = node.version < 7 and not node.integer("broadcast", 0)
        if (c.shape if is_strict else np.broadcast_shapes(c.shape, shape)) != shape:
            raise node.error(f"C has shape {c.shape}, which does not broadcast to {shape}")
    alpha, beta = node.number("alpha", 1.0), node.number("beta", 1.0)
    is_float = a.dtype.kind == "f"
    if is_float and c is not None and alpha == beta == 1 and c.shape == shape[1:]:
        return F.linear(a, weight, c, relu)
    if not is_float:
        if alpha % 1 or beta % 1:
            raise node.error(f"alpha={alpha}, beta={beta}: expected whole numbers for {a.dtype}")
        alpha, beta = int(alpha), int(beta)
    y = _scaled(_product(node, a, weight.T), alpha)
    y = y if c is None or beta == 0 else F.add(y, _scaled(c, beta))
    return F.maximum(y, 0) if relu else y


def _scaled(x: Tensor, factor: float) -> Tensor:
    return x if factor == 1 else F.mul(x, factor)


# -- reductions ----------------------------------------------------------------------------

_Reduce = Callable[[Tensor, Any, bool], Tensor]
_REDUCTIONS: dict[str, _Reduce] = {
    "ReduceL1": lambda x, dims, keep: F.sum(F.abs(x), dims, keep),
    "ReduceL2": lambda x, dims, keep: F.norm(_floats(x), 2, dims, keep),
    "ReduceLogSum": lambda x, dims, keep: F.log(F.sum(_floats(x), dims, keep)),
    "ReduceLogSumExp": lambda x, dims, keep: F.logsumexp(_floats(x), dims, keep),
    "ReduceMax": lambda x, dims, keep: _extremum("max", x, dims, keep),
    "ReduceMean": F.mean,
    "ReduceMin": lambda x, dims, keep: _extremum("min", x, dims, keep),
    "ReduceProd": F.prod,
    "ReduceSum": F.sum,
    "ReduceSumSquare": lambda x, dims, keep: F.sum(F.square(x), dims, keep),
}


def _floats(x: Tensor) -> Tensor:
    return x if x.dtype.kind == "f" else F.astype(x, "float64")


@operator(*_REDUCTIONS, static=(1,))
def reduce(node: Node, x: Tensor, axes: Array = None) -> Tensor:
    if node.version < (13 if node.type == "ReduceSum" else 18):
        axes = node.integers("axes")
    is_empty, dtype = axes is None or len(axes) == 0, x.dtype
    keep = bool(node.integer("keepdims", 1))
    if is_empty and node.integer("noop_with_empty_axes", 0):
        x, axes, is_empty, keep = F.unsqueeze(x, -1), [-1], False, False
    dims = tuple(range(x.ndim) if is_empty else node.axes(axes, x.ndim))
    node.check_size([n for i, n in enumerate(x.shape) if i not in dims], dtype)
    if dtype.kind != "f":  # some are computed in float64
        node.check_size(x.shape, "float64")
    if node.type in ("ReduceMax", "ReduceMin"):
        return _REDUCTIONS[node.type](x, dims, keep)
    if node.type != "ReduceMean" or dtype.kind == "f":
        y = _REDUCTIONS[node.type](check_numbers(x), dims, keep)
        return y if y.dtype == dtype else as_type(node, y, dtype)
    count = math.prod(x.shape[d] for d in dims)
    if count == 0:
        raise node.error(f"the mean of zero {dtype} elements: the input has shape {x.shape}")
    total = F.sum(check_numbers(x), dims, keep)
    quotient = on_device(
        total, lambda xp: _truncated(xp, total.data, xp.full((), count, total.dtype))
    )
    return as_type(node, quotient, dtype)


def _extremum(name: str, x: Tensor, dims: tuple[int, ...], keep: bool) -> Tensor:
    if x.numel():
        return (F.amax if name == "max" else F.amin)(x, dims, keep)
    shape = [1 if i in dims else n for i, n in enumerate(x.shape) if keep or i not in dims]
    if x.dtype.kind == "f":
        lowest, highest = -math.inf, math.inf
    else:
        limits = np.iinfo("uint8" if x.dtype.kind == "b" else str(x.dtype))
        lowest, highest = limits.min, limits.max
    with x.backend.active():
        return Tensor(x.backend.xp.full(shape, lowest if name == "max" else highest, x.dtype))


@operator("ArgMax", "ArgMin")
def position(node: Node, x: Tensor) -> Tensor:
    axis, keep = node.axis(node.integer("axis", 0), x.ndim), bool(node.integer("keepdims", 1))
    function = F.argmax if node.type == "ArgMax" else F.argmin
    if not node.integer("select_last_index", 0):
        return function(check_numbers(x), axis, keep)
    return F.sub(x.shape[axis] - 1, function(F.flip(check_numbers(x), axis), axis, keep))


@operator("CumSum", static=(1,))
def cumulative_sum(node: Node, x: Tensor, axis: Array) -> Tensor:
    dim, is_reverse = node.axis(int(axis), x.ndim), node.integer("reverse", 0)
    x = F.flip(x, dim) if is_reverse else x
    y = F.cumsum(check_numbers(x), dim)
    if node.integer("exclusive", 0) and x.shape[dim]:
        sides = [0, 0] * (x.ndim - 1 - dim)
        y = F.pad(F.narrow(y, dim, 0, x.shape[dim] - 1), [*sides, 1, 0])
    y = F.flip(y, dim) if is_reverse else y
    return y if y.dtype == x.dtype else as_type(node, y, x.dtype)


@operator("TopK", static=(1,))
def top_k(node: Node, x: Tensor, k: Array = None) -> tuple[Tensor, Tensor]:
    """Of equal elements, the first comes first."""
    axis = node.axis(node.integer("axis", -1), x.ndim)
    count, length = int(node.integer("k") if k is None else k.item()), x.shape[axis]
    if not 0 <= count <= length:
        raise node.error(f"K={count}: axis {axis} has {length} elements")
    is_largest = bool(node.integer("largest", 1))
    values, indices = F.sort(check_numbers(x), axis, is_largest, stable=True)
    return F.narrow(values, axis, 0, count), F.narrow(indices, axis, 0, count)


@operator("Einsum")
def einsum(node: Node, *inputs: Tensor) -> Tensor:
    equation = node.text("equation", "").replace(" ", "")
    lengths: dict[Any, int] = {}
    left, arrow, right = equation.partition("->")
    for term, x in zip(left.split(","), inputs, strict=True):
        for label, n in zip(_labels(term, x.ndim), x.shape, strict=True):
            lengths[label] = max(n, lengths.get(label, 1))
    hidden = [label for label in lengths if isinstance(label, int)]
    result = [*hidden, *right.replace("...", "")] if arrow else list(lengths)
    # the product of more than two arrays passes through results with more axes
    labels = result if len(inputs) < 3 else list(lengths)
    node.check_size([lengths[label] for label in labels], inputs[0].dtype)
    return F.einsum(equation, *inputs)


def _labels(term: str, ndim: int) -> list[Any]:
    """A letter for each axis, and negative numbers for those of an ellipsis."""
    head, dots, tail = term.partition("...")
    return [*head, *(range(len(head) + len(tail) - ndim, 0) if dots else ()), *tail]
