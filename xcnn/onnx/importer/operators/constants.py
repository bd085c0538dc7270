"""Identity, Cast, CastLike, Shape, Size, ConstantOfShape and Range."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .... import functional as F
from ....arrays import Array
from ....tensor import Tensor
from ...reader import DTYPES
from ..node import Node, as_ints, operator


@operator("Identity")
def identity(node: Node, x: Tensor) -> Tensor:
    return x


@operator("If", static=(0,))
def pick(node: Node, condition: Array, *results: Any) -> Any:
    """The results of the branch that ran; see ``Branches``."""
    count = len(node.outputs)
    chosen = results[:count] if condition.item() else results[count:]
    return chosen if count > 1 else chosen[0]


@operator("Cast")
def cast(node: Node, x: Tensor) -> Tensor:
    number = node.integer("to")
    if number not in DTYPES:
        raise node.error(f"to={number}: expected the number of one of {', '.join(DTYPES.values())}")
    return as_type(node, x, DTYPES[number])


@operator("CastLike")
def cast_like(node: Node, x: Tensor, like: Tensor) -> Tensor:
    return as_type(node, x, like.dtype)


def as_type(node: Node, x: Tensor, dtype: Any) -> Tensor:
    """Cast ``x`` to ``dtype``; differentiable between float types."""
    node.check_size(x.shape, dtype)
    if x.dtype.kind == "f" and np.dtype(str(dtype)).kind == "f":
        return F.astype(x, str(dtype))
    with x.backend.active():
        return Tensor(x.data.astype(dtype))


@operator("Shape")
def shape(node: Node, x: Tensor) -> Array:
    return np.array(x.shape[node.integer("start", 0) : node.integer("end")], "int64")


@operator("Size")
def size(node: Node, x: Tensor) -> Array:
    return np.array(x.numel(), "int64")


@operator("ConstantOfShape", static=(0,))
def constant_of_shape(node: Node, shape: Array) -> Array:
    value = node.attributes.get("value", np.zeros(1, "float32"))
    if not isinstance(value, np.ndarray) or value.size != 1:
        raise node.error("attribute value: expected an array of one element")
    lengths = as_ints(shape)
    node.check_size(lengths, value.dtype)
    return np.full(lengths, value.reshape(()))


@operator("Range", static=(0, 1, 2))
def range_(node: Node, start: Array, limit: Array, delta: Array) -> Array:
    arrays = (start, limit, delta)
    if any(v.size != 1 or v.dtype != start.dtype or v.dtype.kind not in "fiu" for v in arrays):
        kinds = ", ".join(f"{v.dtype} {v.shape}" for v in arrays)
        raise node.error(f"start, limit and delta are {kinds}: expected scalars of the same type")
    first, end, step = (v.item() for v in arrays)
    if step == 0 or not all(map(math.isfinite, (first, end, step))):
        raise node.error(
            f"start={first}, limit={end}, delta={step}: expected finite numbers, delta not 0"
        )
    is_float = start.dtype.kind == "f"
    count = max(0, math.ceil((end - first) / step) if is_float else -((first - end) // step))
    node.check_size((count,), start.dtype)
    return (first + np.arange(count, dtype="float64" if is_float else "int64") * step).astype(
        start.dtype
    )
