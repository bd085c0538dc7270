"""Concat, Split, Slice, Pad, Tile, and operators with indices.

Indices are read by the host, which checks them; a GPU waits for those that depend on an input.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .... import functional as F
from ....arrays import Array
from ....functional import Pad, PadFromInside
from ....geometry import borders
from ....tensor import Tensor
from ..node import Node, as_ints, operator

_PAD_MODES = {"edge": "replicate", "reflect": "reflect", "wrap": "circular"}


@operator("Concat")
def concat(node: Node, *inputs: Tensor) -> Tensor:
    axis = node.integer("axis")
    if axis is None:
        raise node.error("attribute axis is missing")
    node.check_size([sum(x.numel() for x in inputs)], inputs[0].dtype)
    return F.concat(inputs, axis)


@operator("Split", static=(1,))
def split(node: Node, x: Tensor, split: Any = None) -> tuple[Tensor, ...]:
    axis, count = node.axis(node.integer("axis", 0), x.ndim), len(node.outputs)
    sizes, length = _ints(node, "split", split, limit=count), x.shape[axis]
    if sizes is None:
        parts = node.integer("num_outputs")
        if parts not in (None, count):
            raise node.error(f"num_outputs={parts}, but the node has {count} outputs")
        if parts is None and length % count:
            raise node.error(
                f"an axis of length {length} does not divide into {count} equal parts: pass split"
            )
        size = -(-length // count)  # with num_outputs the last part may be smaller
        sizes = [size] * (count - 1) + [length - size * (count - 1)]
    if min(sizes) < 0 or sum(sizes) != length:
        raise node.error(f"split={sizes}: expected non-negative lengths that sum to {length}")
    return F.split(x, sizes, axis)


@operator("Slice", static=(1, 2, 3, 4))
def slice_(
    node: Node, x: Tensor, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> Tensor:
    starts, ends = _ints(node, "starts", starts), _ints(node, "ends", ends)
    if starts is None or ends is None:
        raise node.error("starts and ends are missing")
    axes = node.axes(_ints(node, "axes", axes, range(len(starts))), x.ndim)
    steps = as_ints([1] * len(starts) if steps is None else steps)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise node.error(
            f"starts {starts}, ends {ends}, axes {axes}, steps {steps}: expected the same number "
            "of each, and no step of 0"
        )
    index = [slice(None)] * x.ndim
    for axis, start, stop, step in zip(axes, starts, ends, steps, strict=True):
        # with a negative step, NumPy cannot start before the first element
        pixels = range(x.shape[axis])[max(start, -x.shape[axis]) : stop : step]
        stop = pixels.stop if pixels.stop >= 0 else None
        index[axis] = slice(pixels.start, stop, pixels.step) if pixels else slice(0, 0)
    return x[tuple(index)]


def _ints(node: Node, name: str, value: Any, default: Any = None, limit: int | None = None) -> Any:
    """Integers from an input, or from an attribute in old versions."""
    if value is None:
        return node.integers(name, default)
    return as_ints(value) if limit is None else as_ints(value, limit)


@operator("Pad", static=(1, 2, 3))
def pad(node: Node, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    axes = node.axes(range(x.ndim) if axes is None else axes, x.ndim)
    pads, count = _ints(node, "pads", pads), len(axes)
    if pads is None or len(pads) != 2 * count:
        raise node.error(f"pads={pads}: expected two numbers for each of {count} axes")
    sides = [(0, 0)] * x.ndim
    for axis, begin, end in zip(axes, pads[:count], pads[count:], strict=True):
        sides[axis] = begin, end
    if min(pads, default=0) < 0:
        spans = [(max(0, -b), n + min(0, e)) for n, (b, e) in zip(x.shape, sides, strict=True)]
        if any(start > stop for start, stop in spans):
            raise node.error(f"pads={pads} remove more than the input of shape {x.shape} has")
        x = x[tuple(slice(*span) for span in spans)]
    widths = tuple((max(0, begin), max(0, end)) for begin, end in sides)
    node.check_size([n + sum(w) for n, w in zip(x.shape, widths, strict=True)], x.dtype)
    mode = node.text("mode", "constant", ("constant", *_PAD_MODES))
    if max(pads, default=0) <= 0:
        return x
    if mode == "constant":
        fill = node.number("value", 0.0) if value is None else value
        return Pad(widths, np.asarray(fill, str(x.dtype)).item())(x)
    for size, width in zip(x.shape, widths, strict=True):
        borders(_PAD_MODES[mode], size, width)  # raises if the padding is too wide
    return PadFromInside(widths, _PAD_MODES[mode])(x)


@operator("Gather", static=(1,))
def gather(node: Node, x: Tensor, indices: Array) -> Tensor:
    axis = node.axis(node.integer("axis", 0), x.ndim)
    indices = _non_negative(node, indices, x.shape[axis])
    if indices.ndim == 0:
        return x[(*[slice(None)] * axis, int(indices))]
    node.check_size((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)
    if axis == 0:
        return x[indices]
    y = F.movedim(x, 0, -1)[(*[slice(None)] * (axis - 1), indices)]
    return F.movedim(y, -1, 0)  # in batch-last memory


def _non_negative(node: Node, indices: Array, lengths: Any) -> Array:
    """Indices counted from the front, each checked against its axis."""
    if indices.dtype.kind not in "iu" or not ((-lengths <= indices) & (indices < lengths)).all():
        raise node.error(f"indices: expected ints from {-lengths} to {lengths - 1}")
    return np.where(indices < 0, indices + lengths, indices).astype("int64")


@operator("GatherND", static=(1,))
def gather_nd(node: Node, x: Tensor, indices: Array) -> Tensor:
    """Each ``indices[..., :]`` indexes the axes of x that follow ``batch_dims``."""
    batch = node.integer("batch_dims", 0)
    indexed = batch + (indices.shape[-1] if indices.ndim else 0)
    lengths, rest = x.shape[:indexed], x.shape[indexed:]
    fits = 0 <= batch < min(indices.ndim, x.ndim) and batch < indexed <= x.ndim
    if not fits or indices.shape[:batch] != x.shape[:batch]:
        raise node.error(f"batch_dims={batch}, indices {indices.shape} do not fit data {x.shape}")
    indices = _non_negative(node, indices, np.array(lengths[batch:]))
    outer = indices.shape[:-1]
    node.check_size((*outer, *rest), x.dtype)
    index = (*np.indices(outer, sparse=True)[:batch], *np.moveaxis(indices, -1, 0))
    flat = np.ravel_multi_index([np.broadcast_to(i, outer) for i in index], lengths)
    return F.reshape(x, (math.prod(lengths), *rest))[flat]


@operator("GatherElements", static=(1,))
def gather_elements(node: Node, x: Tensor, indices: Array) -> Tensor:
    axis = node.axis(node.integer("axis", 0), x.ndim)
    node.check_size(indices.shape, x.dtype)
    return F.gather(x, axis, _non_negative(node, indices, x.shape[axis]))


@operator("Scatter", "ScatterElements", static=(1,))
def scatter_elements(node: Node, x: Tensor, indices: Array, updates: Tensor) -> Tensor:
    axis = node.axis(node.integer("axis", 0), x.ndim)
    fits = indices.ndim == x.ndim and indices.shape == updates.shape
    if not fits or any(
        n > m for i, (n, m) in enumerate(zip(indices.shape, x.shape, strict=True)) if i != axis
    ):
        shapes = f"indices {indices.shape} and updates {updates.shape}"
        raise node.error(f"{shapes} do not fit data {x.shape}")
    index = list(np.indices(indices.shape, sparse=True))
    index[axis] = _non_negative(node, indices, x.shape[axis])
    flat = (
        np.ravel_multi_index(np.broadcast_arrays(*index), x.shape) if index[axis].size else indices
    )
    y = _scattered(node, F.reshape(x, -1), flat.reshape(-1), F.reshape(updates, -1))
    return F.reshape(y, x.shape)


@operator("ScatterND", static=(1,))
def scatter_nd(node: Node, x: Tensor, indices: Array, updates: Tensor) -> Tensor:
    """Each ``indices[..., :]`` indexes the first axes of x."""
    count = indices.shape[-1] if indices.ndim else 0
    lengths, rest = x.shape[:count], x.shape[count:]
    if not 0 < count <= x.ndim or updates.shape != (*indices.shape[:-1], *rest):
        shapes = f"indices {indices.shape} and updates {updates.shape}"
        raise node.error(f"{shapes} do not fit data {x.shape}")
    indices = _non_negative(node, indices, np.array(lengths)).reshape(-1, count)
    flat = np.ravel_multi_index([*indices.T], lengths) if len(indices) else indices[:, 0]
    rows = F.reshape(updates, (len(flat), *rest))
    y = _scattered(node, F.reshape(x, (math.prod(lengths), *rest)), flat, rows)
    return F.reshape(y, x.shape)


_SCATTER = {"mul": "multiply", "max": "maximum", "min": "minimum"}


def _scattered(node: Node, x: Tensor, flat: Array, rows: Tensor) -> Tensor:
    """``x`` with ``rows`` at ``flat`` of the first axis; mul, max and min run on the host and have
    no gradient.
    """
    node.check_same_dtype(x, rows)
    reduction = node.text("reduction", "none", ("none", "add", *_SCATTER))
    if reduction not in _SCATTER:
        return F.index_put(x, (flat.astype("int64"),), rows, reduction == "add")
    values = x.numpy().copy()
    getattr(np, _SCATTER[reduction]).at(values, flat, rows.numpy())
    return Tensor(x.backend.asarray(values))


@operator("Tile", static=(1,))
def tile(node: Node, x: Tensor, repeats: Array) -> Tensor:
    counts = as_ints(repeats)
    if len(counts) != x.ndim or min(counts, default=0) < 0:
        raise node.error(f"repeats {counts}: expected a number >= 0 for each of {x.ndim} axes")
    node.check_size([n * m for n, m in zip(x.shape, counts, strict=True)], x.dtype)
    return F.tile(x, counts)


@operator("Trilu", static=(1,))
def triangle(node: Node, x: Tensor, k: Array = None) -> Tensor:
    node.check_size(x.shape[-2:], "int64")
    return (F.triu if node.integer("upper", 1) else F.tril)(x, 0 if k is None else int(k.item()))


@operator("OneHot", static=(1,))
def one_hot(node: Node, indices: Tensor, depth: Array, values: Tensor) -> Tensor:
    """An index out of range gives a row of off values."""
    count, axis = int(depth.item()), node.integer("axis", -1)
    node.check_size((*indices.shape, count), "int64")
    position = node.axis(axis, indices.ndim + 1)
    classes = np.arange(count).reshape(-1, *(1,) * (indices.ndim - position))
    index = F.unsqueeze(F.astype(indices, "int64"), position)
    index = F.where(F.lt(index, 0), F.add(index, count), index)
    return F.where(F.eq(index, indices.backend.asarray(classes)), values[1], values[0])


# -- results whose shape depends on values: on the host -----------------------------------------


@operator("NonZero", static=(0,))
def nonzero(node: Node, x: Array) -> Array:
    node.check_size((max(x.ndim, 1), x.size), "int64")
    return np.array(np.nonzero(np.atleast_1d(x)), "int64")[: x.ndim or None]


@operator("Compress", static=(0, 1))
def compress(node: Node, x: Array, condition: Array) -> Array:
    axis = node.integer("axis")
    values, axis = (x.reshape(-1), 0) if axis is None else (x, node.axis(axis, x.ndim))
    return values.compress(condition.reshape(-1)[: values.shape[axis]], axis)


@operator("Unique", static=(0,))
def unique(node: Node, x: Array) -> tuple[Array, ...]:
    axis = node.integer("axis")
    axis = None if axis is None else node.axis(axis, x.ndim)
    y, *rest = np.unique(x, True, True, True, axis=axis, equal_nan=False)
    first, inverse, counts = (v.astype("int64").reshape(-1) for v in rest)
    if not node.integer("sorted", 1):  # in the order of the first occurrences
        order = np.argsort(first)
        y, first, counts = y.take(order, axis or 0), first[order], counts[order]
        inverse = np.argsort(order)[inverse]
    return y, first, inverse, counts
