"""Concat, Split, Slice, Pad, Gather and GatherND."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .... import functional as F
from ....arrays import Array
from ....backends import Backend
from ....functional import Pad, PadFromInside
from ....geometry import borders
from ....tensor import Function, Tensor
from ..node import Node, as_ints, operator

_PAD_MODES = {"edge": "replicate", "reflect": "reflect", "wrap": "circular"}


class Take(Function):
    """The elements at ``indices``, a NumPy array, along an axis.

    Backward sums the gradients of repeated elements in a fixed order.
    """

    arguments = ("data",)
    any_dtype = ("data",)

    def __init__(self, indices: Array, axis: int) -> None:
        self.indices, self.axis = indices, axis

    def forward(self, backend: Backend, x: Array) -> Array:
        self.save(shape=x.shape)
        xp, indices = backend.xp, backend.asarray(self.indices)
        if self.axis == 0:
            return xp.take(x, indices, axis=0)
        y = xp.take(xp.moveaxis(x, 0, -1), indices, axis=self.axis - 1)
        return xp.moveaxis(y, -1, 0)  # batch-last

    def backward(self, backend: Backend, dy: Array) -> Array:
        (batch, *rest), before = self.saved.shape, (slice(None),) * self.axis
        dy = dy.reshape(*dy.shape[: self.axis], self.indices.size, *rest[self.axis :])
        dx = backend.xp.moveaxis(backend.xp.zeros((*rest, batch), dy.dtype), -1, 0)  # batch-last
        for numbers, indices in _without_repeats(self.indices.reshape(-1)):
            dx[(*before, backend.asarray(indices))] += dy[(*before, backend.asarray(numbers))]
        return dx


def _without_repeats(indices: Array) -> Iterator[tuple[Array, Array]]:
    """Split indices into groups without repeats: pairs (positions in ``indices``, values)."""
    order = np.argsort(indices, kind="stable")
    ordered = indices[order]
    occurrence = np.arange(len(ordered)) - np.searchsorted(ordered, ordered)
    ends = np.cumsum(np.bincount(occurrence))
    for group in np.split(np.argsort(occurrence, kind="stable"), ends[:-1]):
        yield order[group], ordered[group]


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
    return Take(indices, axis)(x)


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
    y = Take(flat.reshape(-1), 0)(F.reshape(x, (math.prod(lengths), *rest)))
    return F.reshape(y, (*outer, *rest))
