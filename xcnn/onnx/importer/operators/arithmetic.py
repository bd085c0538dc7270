"""Arithmetic, matrix products and reductions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .... import functional as F
from ....arrays import Array
from ....backends import Backend
from ....tensor import Function, Tensor
from ..node import Node, operator
from .constants import as_type


def on_device(x: Tensor, compute: Callable[[Any], Array]) -> Tensor:
    """Run ``compute(xp)`` on the device of ``x``; for integers, without a gradient."""
    if x.dtype.kind == "b":
        raise TypeError("the input is bool: expected numbers")
    with x.backend.active():
        return Tensor(compute(x.backend.xp))


# -- binary --------------------------------------------------------------------------------

#: by type: the operation on floats, and ``compute(xp, a, b)`` on integers
_BINARY: dict[str, tuple[Callable[..., Tensor], Callable[[Any, Array, Array], Array]]] = {
    "Add": (F.add, lambda xp, a, b: a + b),
    "Sub": (F.sub, lambda xp, a, b: a - b),
    "Mul": (F.mul, lambda xp, a, b: a * b),
    "Div": (F.div, lambda xp, a, b: _truncated(xp, a, b)),
    "Sum": (F.add, lambda xp, a, b: a + b),
    "Max": (F.maximum, lambda xp, a, b: xp.maximum(a, b)),
    "Min": (F.minimum, lambda xp, a, b: xp.minimum(a, b)),
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
    on_floats, on_integers = _BINARY[node.type]
    b = aligned(node, a, b) if node.type in ("Add", "Sub", "Mul", "Div") else b
    node.check_broadcast(a.dtype, a, b)
    node.check_same_dtype(a, b)
    if a.dtype.kind == "f":
        return on_floats(a, b)
    return on_device(a, lambda xp: on_integers(xp, a.data, b.data))


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


class Remainder(Function):
    """a - n · b with an integer n: "fmod" has the sign of a, "remainder" that of b."""

    arguments = ("a", "b")

    def __init__(self, name: str) -> None:
        self.name = name

    def forward(self, backend: Backend, a: Array, b: Array) -> Array:
        y = getattr(backend.xp, self.name)(a, b)
        self.save(a=a, b=b, y=y)
        return y

    def backward(self, backend: Backend, dy: Array) -> tuple:
        times = backend.xp.rint((self.saved.a - self.saved.y) / self.saved.b)
        return dy, -dy * times


@operator("Mod")
def mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    name = "fmod" if node.integer("fmod", 0) else "remainder"
    node.check_broadcast(a.dtype, a, b)
    node.check_same_dtype(a, b)
    if a.dtype.kind == "f":
        shape = np.broadcast_shapes(a.shape, b.shape)
        return Remainder(name)(F.expand(a, shape), F.expand(b, shape))

    with np.errstate(divide="raise"):  # a GPU gives 0 where b is 0
        return on_device(a, lambda xp: getattr(xp, name)(a.data, b.data))


# -- unary ---------------------------------------------------------------------------------

_UNARY: dict[str, Callable[[Tensor], Tensor]] = {
    "Abs": F.abs,
    "Erf": F.erf,
    "Exp": F.exp,
    "Log": F.log,
    "Neg": lambda x: F.mul(x, -1),
    "Reciprocal": F.reciprocal,
    "Sqrt": F.sqrt,
}
_ON_INTEGERS = {"Abs": "absolute", "Neg": "negative"}
#: piecewise constant, so without a gradient
_ROUNDING = {"Ceil": "ceil", "Floor": "floor", "Round": "rint", "Sign": "sign"}


@operator(*_UNARY)
def unary(node: Node, x: Tensor) -> Tensor:
    if x.dtype.kind != "f" and node.type in _ON_INTEGERS:
        return on_device(x, lambda xp: getattr(xp, _ON_INTEGERS[node.type])(x.data))
    return _UNARY[node.type](x)


@operator(*_ROUNDING)
def rounding(node: Node, x: Tensor) -> Tensor:
    if x.dtype.kind != "f" and node.type != "Sign":
        raise node.error(f"the input is {x.dtype}: expected floats")
    return on_device(x, lambda xp: getattr(xp, _ROUNDING[node.type])(x.data))


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
    if a.dtype.kind != "f":
        node.check_same_dtype(a, b)
        return on_device(a, lambda xp: xp.matmul(a.data, b.data))
    # with a 2-D b, one product computes all rows
    return F.linear(a, b.T) if b.ndim == 2 and b.shape[0] else F.matmul(a, b)


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
    if a.dtype.kind != "f":
        return _integer_gemm(node, a, weight.T, c, alpha, beta, relu)
    if c is not None and alpha == beta == 1 and c.shape == shape[1:]:
        return F.linear(a, weight, c, relu)
    y = _scaled(F.linear(a, weight), alpha)
    y = y if c is None or beta == 0 else F.add(y, _scaled(c, beta))
    return F.relu(y) if relu else y


def _scaled(x: Tensor, factor: float) -> Tensor:
    return x if factor == 1 else F.mul(x, factor)


def _integer_gemm(
    node: Node, a: Tensor, b: Tensor, c: Tensor | None, alpha: float, beta: float, relu: bool
) -> Tensor:
    if alpha % 1 or beta % 1:
        raise node.error(f"alpha={alpha}, beta={beta}: expected whole numbers for {a.dtype}")

    def compute(xp: Any) -> Array:
        y = xp.matmul(a.data, b.data) * int(alpha) + (0 if c is None else c.data * int(beta))
        return xp.maximum(y, 0) if relu else y

    node.check_same_dtype(a, b)
    return on_device(a, compute)


# -- reductions ----------------------------------------------------------------------------


@operator("ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", static=(1,))
def reduce(node: Node, x: Tensor, axes: Array = None) -> Tensor:
    if node.version < (13 if node.type == "ReduceSum" else 18):
        axes = node.integers("axes")
    is_empty = axes is None or len(axes) == 0
    if is_empty and node.integer("noop_with_empty_axes", 0):
        return x
    dims = tuple(range(x.ndim) if is_empty else node.axes(axes, x.ndim))
    node.check_size([n for i, n in enumerate(x.shape) if i not in dims], x.dtype)
    keep = bool(node.integer("keepdims", 1))
    if node.type in ("ReduceMax", "ReduceMin"):
        return _extremum(node.type.removeprefix("Reduce").lower(), x, dims, keep)
    is_mean = node.type == "ReduceMean"
    if x.dtype.kind == "f":
        return (F.mean if is_mean else F.sum)(x, dims, keep)
    count = math.prod(x.shape[d] for d in dims)
    if count == 0 and is_mean:
        raise node.error(f"the mean of zero {x.dtype} elements: the input has shape {x.shape}")

    def compute(xp: Any) -> Array:
        total = x.data.sum(axis=dims, keepdims=keep)
        if is_mean:
            total = _truncated(xp, total, xp.full((), count, total.dtype))
        return total.astype(x.dtype)

    return on_device(x, compute)


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
