"""Shapes and indexing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ....extend import onnx_emitter
from ..writer import CannotExportError, Value, Writer
from .spatial import pads

_FAR = 2**63 - 1  # beyond the end of any axis
_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@onnx_emitter("reshape")
def reshape(w: Writer, input: Value, shape: tuple[Any, ...]) -> str:
    """The first length, or the first but 1, may be the batch size: 0 copies it, -1 infers it."""
    lengths = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    numbers = [int(n) for n in lengths]
    if 0 in numbers[1:]:
        raise CannotExportError(f"to an empty shape, {tuple(numbers)}")
    if numbers and input.ndim and numbers[0] == input.shape[0]:
        numbers[0] = 0
    elif -1 not in numbers and max(numbers, default=1) > 1:
        numbers[next(i for i, n in enumerate(numbers) if n > 1)] = -1
    return w.node("Reshape", input, w.ints(numbers))


@onnx_emitter("expand")
def expand(w: Writer, input: Value, size: tuple[Any, ...]) -> str:
    lengths = size[0] if len(size) == 1 and isinstance(size[0], Sequence) else size
    own = (*(-1,) * (len(lengths) - input.ndim), *input.shape)
    return expanded(w, input, [m if n == -1 else int(n) for n, m in zip(lengths, own, strict=True)])


def expanded(w: Writer, x: Value, shape: Sequence[int]) -> str:
    """``x`` broadcast to ``shape``; lengths that it has stay variable, as does the batch size."""
    own = (*(1,) * (len(shape) - x.ndim), *x.shape)
    lengths = [1 if n == m else int(n) for n, m in zip(shape, own, strict=True)]
    if w.batch is not None and lengths[:1] == [w.batch[1]]:
        size = w.node("Shape", w.batch[0], start=0, end=1)
        return w.node("Expand", x, w.node("Concat", size, w.ints(lengths[1:]), axis=0))
    return w.node("Expand", x, w.ints(lengths))


@onnx_emitter("flatten")
def flatten(w: Writer, input: Value, start_dim: int, end_dim: int) -> str:
    start, last = start_dim % (input.ndim or 1), end_dim % (input.ndim or 1)
    if start == 1 and last == input.ndim - 1:
        return w.node("Flatten", input, axis=1)
    leading = [0, *input.shape[1:start]] if start else []
    return w.node("Reshape", input, w.ints([*leading, -1, *input.shape[last + 1 :]]))


@onnx_emitter("concat")
def concat(w: Writer, tensors: Sequence[Value], dim: int) -> str:
    return w.node("Concat", *tensors, axis=int(dim))


@onnx_emitter("pad")
def pad(w: Writer, input: Value, pad: Any, mode: str, value: float | None) -> str:
    """Negative widths are a Slice before the Pad, or after one that copies pixels inside."""
    sides = [(int(pad[i]), int(pad[i + 1])) for i in range(0, len(pad), 2)]
    widths = (*[(0, 0)] * (input.ndim - len(sides)), *reversed(sides))
    cut = {
        axis: slice(max(0, -begin), min(0, end) or None)
        for axis, (begin, end) in enumerate(widths)
        if min(begin, end) < 0
    }
    added = tuple((max(0, begin), max(0, end)) for begin, end in widths)
    is_first = mode in ("constant", "circular")
    x = _sliced(w, input, cut) if is_first else input
    if any(map(any, added)):
        fill = w.like(input, value or 0) if mode == "constant" else None
        x = w.node("Pad", x, w.ints(pads(added)), fill, mode=_PAD_MODES[mode])
    x = x if is_first else _sliced(w, x, cut)
    return w.node("Identity", x) if isinstance(x, Value) else x


@onnx_emitter("permute")
def permute(w: Writer, input: Value, dims: Sequence[int]) -> str:
    return w.node("Transpose", input, perm=[int(d) % input.ndim for d in dims] or None)


@onnx_emitter("squeeze")
def squeeze(w: Writer, input: Value, dim: int | Sequence[int] | None) -> str:
    """The axes are explicit: by default ONNX would also squeeze a batch of one."""
    dims: Any = range(input.ndim) if dim is None else dim if isinstance(dim, Sequence) else (dim,)
    axes = [d % input.ndim for d in dims if input.ndim and input.shape[d] == 1]
    return w.node("Squeeze", input, w.ints(axes)) if axes else w.node("Identity", input)


@onnx_emitter("unsqueeze")
def unsqueeze(w: Writer, input: Value, dim: int) -> str:
    return w.node("Unsqueeze", input, w.ints([dim]))


@onnx_emitter("split")
def split(
    w: Writer, input: Value, split_size_or_sections: int | Sequence[int], dim: int
) -> list[str]:
    sizes, length = split_size_or_sections, input.shape[dim]
    if not isinstance(sizes, Sequence):
        sizes = [min(sizes, length - start) for start in range(0, length, sizes)] or [0]
    names = w.node("Split", input, w.ints(sizes), outputs=len(sizes), axis=int(dim))
    return names if isinstance(names, list) else [names]


@onnx_emitter("getitem")
def getitem(w: Writer, input: Value, index: Any) -> str:
    """Slices first, then ints (which remove axes) from the last to the first, then None, then the
    arrays.
    """
    items, arrays = _parsed(w, index if isinstance(index, tuple) else (index,), input.ndim)
    axes = [item for item in items if item is not None]
    y = _sliced(w, input, {n: i for n, i in enumerate(axes) if isinstance(i, slice)})
    for axis, item in reversed(list(enumerate(axes))):
        if not isinstance(item, slice):
            y = w.node("Gather", y, w.number(item, "int64"), axis=axis)
    remaining = [item for item in items if item is None or isinstance(item, slice)]
    added = [n for n, item in enumerate(remaining) if item is None]
    y = w.node("Unsqueeze", y, w.ints(added)) if added else y
    if arrays:
        return _taken(w, y, len(remaining), arrays)
    return w.node("Identity", y) if isinstance(y, Value) else y


def _parsed(w: Writer, index: tuple[Any, ...], ndim: int) -> tuple[list[Any], dict[int, Value]]:
    """The slices, ints and None, with a full slice for each axis that they leave out, and the
    arrays by the axes of what these pick.
    """
    items = [i if i is Ellipsis or isinstance(i, slice) else _item(i) for i in index]
    spans = [
        _mask_axes(i) if isinstance(i, Value) else int(i is not None and i is not Ellipsis)
        for i in items
    ]
    place = next((n for n, item in enumerate(items) if item is Ellipsis), len(items))
    items[place : place + 1] = [slice(None)] * (ndim - sum(spans))
    basic: list[Any] = []
    arrays: dict[int, Value] = {}
    for item in items:
        if not isinstance(item, Value):
            basic.append(item)
            continue
        for part in _positions(w, item):
            arrays[sum(i is None or isinstance(i, slice) for i in basic)] = part
            basic.append(slice(None))
    return basic, arrays


def _item(item: Any) -> Any:
    """An int, None, or an array as a Value."""
    if item is None or isinstance(item, Value):
        return item
    array = np.asarray(item)
    return Value(None, array.shape, array.dtype, array) if array.ndim else int(array)


def _mask_axes(item: Value) -> int:
    return item.ndim if item.dtype.kind == "b" else 1


def _positions(w: Writer, item: Value) -> list[Value]:
    """An array of ints; of a mask, the positions along each of its axes."""
    if item.dtype.kind != "b":
        return [item if item.name is None else replace(item, name=w.name(_int64(w, item)))]
    if item.name is None:
        return [_item(positions) for positions in np.nonzero(item.array)]
    found = w.node("NonZero", item)
    parts = w.node("Split", found, outputs=item.ndim, axis=0, num_outputs=item.ndim)
    names = [w.node("Squeeze", part, w.ints([0])) for part in np.atleast_1d(parts).tolist()]
    return [Value(name, (-1,), np.dtype("int64")) for name in names]


def _int64(w: Writer, index: Value) -> Any:
    return index if index.dtype == "int64" else w.cast(index, "int64")


def _taken(w: Writer, x: Any, ndim: int, arrays: dict[int, Value]) -> str:
    """``x`` indexed by arrays; their axes come first, or are where adjacent indexed axes were."""
    axes = list(arrays)
    if len(axes) == 1:
        return w.node("Gather", x, _index(w, arrays[axes[0]]), axis=axes[0])
    indices, indexed = _joined(w, list(arrays.values()))
    others = [axis for axis in range(ndim) if axis not in arrays]
    y = w.node("GatherND", _permuted(w, x, axes + others), indices)
    before = axes[0] if axes[-1] - axes[0] == len(axes) - 1 else 0
    order = [*range(indexed, indexed + before), *range(indexed)]
    return _permuted(w, y, [*order, *range(indexed + before, indexed + len(others))])


def _permuted(w: Writer, x: Any, dims: list[int]) -> Any:
    return x if dims == sorted(dims) else w.node("Transpose", x, perm=dims)


def _index(w: Writer, value: Value) -> Any:
    return value.array.astype("int64") if value.name is None else value


def _joined(w: Writer, arrays: list[Value]) -> tuple[Any, int]:
    """Indices broadcast to one shape, along a new last axis, and how many axes that shape has."""
    shape = np.broadcast_shapes(*[a.shape for a in arrays if a.shape != (-1,)] or [(1,)])
    if all(a.name is None for a in arrays):
        same = np.broadcast_arrays(*[_index(w, a) for a in arrays])
        return np.stack(same, -1), len(shape)
    if any(a.shape == (-1,) for a in arrays):  # of a mask: all are as long
        columns: list[Any] = [_index(w, a) for a in arrays]
    else:
        columns = [
            expanded(w, replace(a, array=_index(w, a)) if a.name is None else a, shape)
            for a in arrays
        ]
    columns = [w.node("Unsqueeze", column, w.ints([-1])) for column in columns]
    return w.node("Concat", *columns, axis=-1), len(shape)


def _sliced(w: Writer, x: Value, slices: dict[int, slice]) -> Any:
    """A Slice node; open ends stay open, because the axis may be the batch."""
    settings = []
    for axis, part in slices.items():
        step = 1 if part.step is None else int(part.step)
        start = (0 if step > 0 else _FAR) if part.start is None else int(part.start)
        stop = (_FAR if step > 0 else -_FAR) if part.stop is None else int(part.stop)
        if (start, stop, step) != (0, _FAR, 1):
            settings.append((start, stop, axis, step))
    if not settings:
        return x
    return w.node("Slice", x, *(w.ints(values) for values in zip(*settings, strict=True)))


# -- gather and scatter -------------------------------------------------------------------------


@onnx_emitter("gather")
def gather(w: Writer, input: Value, dim: int, index: Value) -> str:
    return w.node("GatherElements", input, _int64(w, index), axis=int(dim))


@onnx_emitter("index_select")
def index_select(w: Writer, input: Value, dim: int, index: Value) -> str:
    one = index if index.ndim else w.node("Reshape", index, w.ints([1]))
    return w.node("Gather", input, one, axis=int(dim))


@onnx_emitter("embedding")
def embedding(w: Writer, input: Value, weight: Value, **_: Any) -> str:
    return w.node("Gather", weight, input, axis=0)


@onnx_emitter("scatter", "scatter_add")
def scatter(
    w: Writer,
    input: Value,
    dim: int,
    index: Value,
    src: Any,
    value: Any = None,
    reduce: str | None = "add",
) -> str:
    """``src`` may be longer than the index."""
    source = src if value is None else value
    if isinstance(source, Value) and source.ndim:
        cut = {axis: slice(n) for axis, n in enumerate(index.shape) if source.shape[axis] > n}
        source = _sliced(w, source, cut)
    else:
        one = source if isinstance(source, Value) else _item([source])
        source = expanded(w, replace(one, array=one.array.astype(str(input.dtype))), index.shape)
    indices = _int64(w, index)
    return w.node("ScatterElements", input, indices, source, axis=int(dim), reduction=reduce)


@onnx_emitter("index_put")
def index_put(w: Writer, input: Value, indices: Any, values: Any, accumulate: bool) -> str:
    _, arrays = _parsed(w, tuple(indices), input.ndim)
    parts = list(arrays.values())
    if any(part.shape == (-1,) for part in parts):
        raise CannotExportError("with a mask that is not a constant; use where or masked_fill")
    places, _ = _joined(w, parts)
    shape = np.broadcast_shapes(*(part.shape for part in parts)) + input.shape[len(parts) :]
    source = values if isinstance(values, Value) else _item([values])
    if source.name is None:
        source = replace(source, array=source.array.astype(str(input.dtype)))
    updates = expanded(w, source, shape)
    return w.node("ScatterND", input, places, updates, reduction="add" if accumulate else None)


@onnx_emitter("_store")
def store(w: Writer, tensor: Value, name: str, value: Any) -> str:
    """The new value of a tensor that is changed in place."""
    x = value if isinstance(value, Value) else w.like(tensor, value)
    x = w.cast(x, tensor.dtype) if getattr(value, "dtype", tensor.dtype) != tensor.dtype else x
    if getattr(value, "shape", ()) != tensor.shape:
        return w.node("Expand", x, w.node("Shape", tensor))
    return w.node("Identity", x)


@onnx_emitter("setitem")
def setitem(w: Writer, input: Value, index: Any, value: Any) -> str:
    """Of a mask in the shape of the input."""
    if not isinstance(index, Value) or index.dtype.kind != "b" or index.shape != input.shape:
        raise CannotExportError("except by a mask of the same shape; use where or index_put")
    source = value if isinstance(value, Value) else w.like(input, value)
    return w.node("Where", index, source, input)


@onnx_emitter("nonzero")
def nonzero(w: Writer, input: Value, as_tuple: bool) -> str | list[str]:
    if as_tuple:
        mask = input if input.dtype.kind == "b" else replace(input, name=w.cast(input, "bool"))
        return [w.name(part) for part in _positions(w, replace(mask, dtype=np.dtype(bool)))]
    return w.node("Transpose", w.node("NonZero", input), perm=[1, 0])


def _register_triangle(function: str, upper: int) -> None:
    @onnx_emitter(function)
    def emit(w: Writer, input: Value, diagonal: int) -> str:
        return w.node("Trilu", input, w.number(diagonal, "int64"), upper=upper)


_register_triangle("tril", 0)
_register_triangle("triu", 1)
