"""Shapes, indexing and dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....extend import onnx_emitter
from ..writer import CannotExportError, Value, Writer
from .spatial import pads

_FAR = 2**63 - 1  # beyond the end of any axis
_PAD_MODES = {"constant": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}


@onnx_emitter("reshape")
def reshape(w: Writer, input: Value, shape: tuple[Any, ...]) -> str:
    """If the first length equals the input's, write 0 (copy it): it may be the batch size."""
    lengths = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    numbers = [int(n) for n in lengths]
    if 0 in numbers[1:]:
        raise CannotExportError(f"to an empty shape, {tuple(numbers)}")
    if numbers and input.ndim and numbers[0] == input.shape[0]:
        numbers[0] = 0
    return w.node("Reshape", input, w.ints(numbers))


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
    if min(pad, default=0) < 0 and mode != "constant":
        raise CannotExportError(f"with mode={mode!r} and negative widths")
    sides = [(int(pad[i]), int(pad[i + 1])) for i in range(0, len(pad), 2)]
    widths = (*[(0, 0)] * (input.ndim - len(sides)), *reversed(sides))
    fill = w.like(input, float(value or 0)) if mode == "constant" else None
    return w.node("Pad", input, w.ints(pads(widths)), fill, mode=_PAD_MODES[mode])


@onnx_emitter("dropout", "dropout2d")
def dropout(w: Writer, **arguments: Any) -> str:
    """Reached only in training: inactive dropout returns its input, and is not exported."""
    raise CannotExportError("with training=True: random numbers")


@onnx_emitter("permute")
def permute(w: Writer, input: Value, dims: Sequence[int]) -> str:
    return w.node("Transpose", input, perm=[int(d) % input.ndim for d in dims])


@onnx_emitter("squeeze")
def squeeze(w: Writer, input: Value, dim: int | Sequence[int] | None) -> str:
    """The axes are explicit: by default ONNX would also squeeze a batch of one."""
    dims: Any = range(input.ndim) if dim is None else dim if isinstance(dim, Sequence) else (dim,)
    axes = [d % input.ndim for d in dims if input.shape[d] == 1]
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
    """Slices first, then ints (which remove axes) from the last to the first, then None."""
    items = _without_ellipsis(index if isinstance(index, tuple) else (index,), input.ndim)
    axes = [item for item in items if item is not None]
    y = _sliced(w, input, {n: i for n, i in enumerate(axes) if isinstance(i, slice)})
    for axis, item in reversed(list(enumerate(axes))):
        if not isinstance(item, slice):
            y = w.node("Gather", y, w.constant(np.asarray(int(item), "int64")), axis=axis)
    remaining = [item for item in items if item is None or isinstance(item, slice)]
    added = [n for n, item in enumerate(remaining) if item is None]
    y = w.node("Unsqueeze", y, w.ints(added)) if added else y
    return w.node("Identity", y) if isinstance(y, Value) else y


def _without_ellipsis(items: tuple[Any, ...], ndim: int) -> list[Any]:
    """The items, with a full slice for each axis that is not indexed."""
    missing = ndim - sum(item is not None and item is not Ellipsis for item in items)
    place = items.index(Ellipsis) if Ellipsis in items else len(items)
    return [*items[:place], *[slice(None)] * missing, *items[place + 1 :]]


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
