"""Parts of arrays: taken out, put together, surrounded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .... import functional as F
from ....arrays import Array
from ....backends import Backend
from ....functional.pad import Pad, PadFromInside
from ....functional.shape import zeros
from ....geometry import borders
from ....tensor import Function, Tensor
from ..node import Node, as_ints, operator

_PAD_MODES = {"edge": "replicate", "reflect": "reflect", "wrap": "circular"}


class Take(Function):
    """The elements at ``indices``, a NumPy array, along an axis.

    Backward adds up the gradients of an element that is taken several times in a fixed order.
    """

    arguments = ("data",)
    any_dtype = ("data",)

    def __init__(self, indices: Any, axis: int) -> None:
        self.indices = indices
        self.axis = axis

    def forward(self, backend: Backend, x: Array) -> Array:
        self.save(shape=x.shape)
        xp, indices = backend.xp, backend.asarray(self.indices)
        if self.axis == 0:
            return xp.take(x, indices, axis=0)
        y = xp.take(xp.moveaxis(x, 0, -1), indices, axis=self.axis - 1)
        return xp.moveaxis(y, -1, 0)  # batch-last

    def backward(self, backend: Backend, dy: Array) -> Array:
        shape, before = self.saved.shape, (slice(None),) * self.axis
        dy = dy.reshape(*shape[: self.axis], self.indices.size, *shape[self.axis + 1 :])
        dx = zeros(backend.xp, shape, dy.dtype)
        for numbers, places in _without_repeats(self.indices.reshape(-1)):
            index = (*before, backend.asarray(places))
            dx[index] += dy[(*before, backend.asarray(numbers))]
        return dx


def _without_repeats(indices: Any) -> Iterator[tuple[Any, Any]]:
    """Groups of (their numbers, indices): in the first each index once, in the second again ..."""
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
    node.check_size([sum(x.size for x in inputs)], inputs[0].dtype)
    return F.concat(inputs, axis)


@operator("Split", static=(1,))
def split(node: Node, x: Tensor, split: Any = None) -> tuple[Tensor, ...]:
    axis = node.axis(node.integer("axis", 0), x.ndim)
    given = node.integers("split") if split is None else as_ints(split, len(node.outputs))
    sizes = _equal_sizes(node, x.shape[axis]) if given is None else given
    if min(sizes) < 0 or sum(sizes) != x.shape[axis]:
        raise node.error(f"parts of {sizes}: expected lengths that add up to {x.shape[axis]}")
    return F.split(x, sizes, axis)


def _equal_sizes(node: Node, length: int) -> list[int]:
    """As many as the node has outputs; the last one may be smaller if ``num_outputs`` is given."""
    count = len(node.outputs)
    wanted = node.integer("num_outputs")
    if wanted not in (None, count):
        raise node.error(f"num_outputs={wanted}, but the node has {count} outputs")
    if wanted is None and length % count:
        raise node.error(f"{count} equal parts of an axis of {length}; give their lengths")
    size = -(-length // count)
    return [size] * (count - 1) + [length - size * (count - 1)]


@operator("Slice", static=(1, 2, 3, 4))
def slice_(
    node: Node, x: Tensor, starts: Any = None, ends: Any = None, axes: Any = None, steps: Any = None
) -> Tensor:
    first, last = _ints(node, "starts", starts), _ints(node, "ends", ends)
    if first is None or last is None:
        raise node.error("starts and ends are missing")
    along = node.axes(_ints(node, "axes", axes, range(len(first))), x.ndim)
    step = as_ints([1] * len(first) if steps is None else steps)
    if not len(first) == len(last) == len(along) == len(step) or 0 in step:
        raise node.error(
            f"starts {first}, ends {last}, axes {along}, steps {step}: expected as many of each, "
            "and no step of 0"
        )
    index = [slice(None)] * x.ndim
    for axis, start, stop, by in zip(along, first, last, step, strict=True):
        length = x.shape[axis]
        start = max(start, -length)  # the first place, where NumPy has none for a negative step
        index[axis] = _within(range(length)[start:stop:by])
    return x[tuple(index)]


def _ints(node: Node, name: str, value: Any, default: Any = None) -> Any:
    """An input, or, in old versions, an attribute."""
    return node.integers(name, default) if value is None else as_ints(value)


def _within(places: range) -> slice:
    """The slice that picks these places of an axis."""
    if not places:
        return slice(0, 0)
    return slice(places.start, places.stop if places.stop >= 0 else None, places.step)


@operator("Pad", static=(1, 2, 3))
def pad(node: Node, x: Tensor, pads: Any = None, value: Any = None, axes: Any = None) -> Tensor:
    along = node.axes(range(x.ndim) if axes is None else axes, x.ndim)
    given = _ints(node, "pads", pads)
    if given is None or len(given) != 2 * len(along):
        raise node.error(f"pads {given}: expected two numbers for each of {len(along)} axes")
    sides = dict(
        zip(along, zip(given[: len(along)], given[len(along) :], strict=True), strict=True)
    )
    if min(given, default=0) < 0:
        x = _cropped(node, x, sides)
    widths = tuple(_widths(sides.get(axis, (0, 0))) for axis in range(x.ndim))
    node.check_size([n + sum(w) for n, w in zip(x.shape, widths, strict=True)], x.dtype)
    return _padded(node, x, widths, value) if max(given, default=0) > 0 else x


def _widths(sides: tuple[int, int]) -> tuple[int, int]:
    return max(0, sides[0]), max(0, sides[1])


def _cropped(node: Node, x: Tensor, sides: dict[int, tuple[int, int]]) -> Tensor:
    """Without what negative widths take away."""
    index = [slice(None)] * x.ndim
    for axis, (before, after) in sides.items():
        start, stop = max(0, -before), x.shape[axis] + min(0, after)
        if start > stop:
            raise node.error(f"pads take away {before} and {after} of an axis of {x.shape[axis]}")
        index[axis] = slice(start, stop)
    return x[tuple(index)]


def _padded(node: Node, x: Tensor, widths: tuple[tuple[int, int], ...], value: Any) -> Tensor:
    mode = node.text("mode", "constant")
    if mode == "constant":
        fill = node.number("value", 0.0) if value is None else value
        return Pad(widths, np.asarray(fill, str(x.dtype)).item())(x)
    if mode not in _PAD_MODES:
        raise node.error(f"mode={mode!r}: expected constant, {', '.join(_PAD_MODES)}")
    for size, width in zip(x.shape, widths, strict=True):
        borders(_PAD_MODES[mode], size, width)  # refuses what is too wide
    return PadFromInside(widths, _PAD_MODES[mode])(x)


@operator("Gather", static=(1,))
def gather(node: Node, x: Tensor, indices: Any) -> Tensor:
    axis = node.axis(node.integer("axis", 0), x.ndim)
    length = x.shape[axis]
    if indices.dtype.kind not in "iu" or not ((-length <= indices) & (indices < length)).all():
        raise node.error(f"indices: expected ints from {-length} to {length - 1}")
    places = np.where(indices < 0, indices + length, indices).astype("int64")
    if places.ndim == 0:
        return x[(*[slice(None)] * axis, int(places))]
    node.check_size((*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]), x.dtype)
    return Take(places, axis)(x)


@operator("GatherND", static=(1,))
def gather_nd(node: Node, x: Tensor, indices: Any) -> Tensor:
    """The parts of x at ``indices[..., :]``, which name its first axes after ``batch_dims``."""
    batch = node.integer("batch_dims", 0)
    named = batch + (indices.shape[-1] if indices.ndim else 0)
    lengths, rest = x.shape[:named], x.shape[named:]
    if not 0 <= batch < min(indices.ndim, x.ndim) or not batch < named <= x.ndim:
        raise node.error(f"batch_dims={batch}, indices {indices.shape} do not fit data {x.shape}")
    if indices.dtype.kind not in "iu" or indices.shape[:batch] != x.shape[:batch]:
        raise node.error(f"indices {indices.dtype} {indices.shape} do not fit data {x.shape}")
    wanted = np.array(lengths[batch:])
    if not ((-wanted <= indices) & (indices < wanted)).all():
        raise node.error(f"indices: expected ints within {tuple(lengths[batch:])}")
    outer = indices.shape[:-1]
    node.check_size((*outer, *rest), x.dtype)
    own = np.indices(outer, sparse=True)[:batch]
    inner = np.moveaxis(np.where(indices < 0, indices + wanted, indices), -1, 0)
    places = np.ravel_multi_index([np.broadcast_to(i, outer) for i in (*own, *inner)], lengths)
    flat = Take(places.reshape(-1), 0)(F.reshape(x, (math.prod(lengths), *rest)))
    return F.reshape(flat, (*outer, *rest))
