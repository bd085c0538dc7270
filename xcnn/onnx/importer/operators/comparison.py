"""Comparisons, choices, remainders, extremes, whole numbers and ranges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .... import functional as F
from ....arrays import Array
from ....backends import Backend
from ....functional.arithmetic import Binary, sum_to
from ....tensor import Function, Tensor
from ..node import Node, operator
from .arithmetic import aligned, dims_of, on_device

# -- comparisons ---------------------------------------------------------------------------

_COMPARISONS = {
    "Equal": "equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
}
_LOGIC = {"And": "logical_and", "Or": "logical_or"}


@operator(*_COMPARISONS)
def compare(node: Node, a: Tensor, b: Tensor) -> Tensor:
    return _pairwise(node, _COMPARISONS[node.type], a, b)


@operator(*_LOGIC)
def combine(node: Node, a: Tensor, b: Tensor) -> Tensor:
    _check_bool(node, a)
    return _pairwise(node, _LOGIC[node.type], a, b)


@operator("Not")
def negate(node: Node, x: Tensor) -> Tensor:
    _check_bool(node, x)
    with x.backend.active():
        return Tensor(x.backend.xp.logical_not(x.data))


def _pairwise(node: Node, name: str, a: Tensor, b: Tensor) -> Tensor:
    b = aligned(node, a, b)
    if a.dtype != b.dtype:
        raise node.error(f"inputs are {a.dtype} and {b.dtype}: expected one type")
    node.check_size(np.broadcast_shapes(a.shape, b.shape), "bool")
    with a.backend.active():
        return Tensor(getattr(a.backend.xp, name)(a.data, b.data))


def _check_bool(node: Node, x: Tensor) -> None:
    if x.dtype.kind != "b":
        raise node.error(f"an input is {x.dtype}: expected bool")


@operator("Where")
def where(node: Node, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
    node.check_size(np.broadcast_shapes(condition.shape, a.shape, b.shape), a.dtype)
    return F.where(condition, a, b)


# -- remainders ----------------------------------------------------------------------------


class Remainder(Binary):
    """What whole multiples of b leave of a: "fmod" of the sign of a, "remainder" of that of b."""

    def __init__(self, name: str) -> None:
        self.name = name

    def forward(self, backend: Backend, a: Array, b: Array) -> Array:
        y = self._apply(backend, self.name, a, b)
        self.save(a=a, b=b, y=y)
        return y

    def backward(self, backend: Backend, dy: Array) -> tuple:
        a, b = self.saved.a, self.saved.b
        times = backend.xp.rint((a - self.saved.y) / b)
        return sum_to(dy, a.shape), sum_to(-dy * times, b.shape)


@operator("Mod")
def mod(node: Node, a: Tensor, b: Tensor) -> Tensor:
    name = "fmod" if node.integer("fmod", 0) else "remainder"
    node.check_size(np.broadcast_shapes(a.shape, b.shape), a.dtype)
    if a.dtype != b.dtype:
        raise node.error(f"inputs are {a.dtype} and {b.dtype}: expected one type")
    if a.dtype.kind == "f":
        return Remainder(name)(a, b)

    def compute(xp: Any) -> Array:
        with np.errstate(divide="raise"):  # a GPU gives 0 where b is 0
            return getattr(xp, name)(a.data, b.data)

    return on_device(a, compute)


# -- extremes ------------------------------------------------------------------------------


class Extremes(Function):
    """The largest, or smallest, along axes; those that are equal share its gradient."""

    arguments = ("data",)
    any_dtype = ("data",)

    def __init__(self, name: str, dims: tuple[int, ...], keep: bool) -> None:
        self.name = name
        self.dims = dims
        self.keep = keep

    def forward(self, backend: Backend, x: Array) -> Array:
        y = getattr(x, self.name)(axis=self.dims, keepdims=True)
        self.save(x=x, y=y)
        kept = [n for i, n in enumerate(y.shape) if self.keep or i not in self.dims]
        return y.reshape(kept)

    def backward(self, backend: Backend, dy: Array) -> Array:
        x, y = self.saved.x, self.saved.y
        share = (x == y).astype(dy.dtype)
        share *= dy.reshape(y.shape) / share.sum(axis=self.dims, keepdims=True)
        return share


@operator("ReduceMax", "ReduceMin", static=(1,))
def extreme(node: Node, x: Tensor, axes: Array = None) -> Tensor:
    dims = dims_of(node, x, axes, 18)
    if dims is None:
        return x
    keep, name = bool(node.integer("keepdims", 1)), "max" if node.type == "ReduceMax" else "min"
    return Extremes(name, dims, keep)(x) if x.size else _of_none(x, name, dims, keep)


def _of_none(x: Tensor, name: str, dims: tuple[int, ...], keep: bool) -> Tensor:
    """What a maximum or minimum begins with."""
    shape = [1 if i in dims else n for i, n in enumerate(x.shape) if keep or i not in dims]
    if x.dtype.kind == "f":
        first: Any = -math.inf if name == "max" else math.inf
    elif x.dtype.kind == "b":
        first = name == "min"
    else:
        limits = np.iinfo(str(x.dtype))
        first = limits.min if name == "max" else limits.max
    with x.backend.active():
        return Tensor(x.backend.xp.full(shape, first, x.dtype))


# -- whole numbers -------------------------------------------------------------------------

_OF_ONE = {"Ceil": "ceil", "Floor": "floor", "Round": "rint", "Sign": "sign"}


@operator(*_OF_ONE)
def step(node: Node, x: Tensor) -> Tensor:
    """Functions whose gradient is 0 everywhere: there is none."""
    if x.dtype.kind != "f" and node.type != "Sign":
        raise node.error(f"the input is {x.dtype}: expected floats")
    return on_device(x, lambda xp: getattr(xp, _OF_ONE[node.type])(x.data))


@operator("Range", static=(0, 1, 2))
def range_(node: Node, start: Array, limit: Array, delta: Array) -> Array:
    given = (start, limit, delta)
    if any(v.size != 1 or v.dtype != start.dtype or v.dtype.kind not in "fiu" for v in given):
        kinds = ", ".join(f"{v.dtype} {v.shape}" for v in given)
        raise node.error(f"start, limit and delta are {kinds}: expected numbers of one type")
    first, end, step = (v.item() for v in given)
    if step == 0 or not all(map(math.isfinite, (first, end, step))):
        raise node.error(f"from {first} to {end} by {step}: expected finite numbers, no step of 0")
    count = _count(end - first, step)
    node.check_size((count,), start.dtype)
    steps = np.arange(count, dtype="float64" if start.dtype.kind == "f" else "int64")
    return (first + steps * step).astype(start.dtype)


def _count(distance: Any, step: Any) -> int:
    """How many steps begin before the distance is covered."""
    exact = isinstance(distance, int)
    return max(0, -(-distance // step) if exact else math.ceil(distance / step))
