"""Split and slicing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....extend import onnx_emitter
from ..writer import Value, Writer

_FAR = 2**63 - 1  # beyond the end of any axis


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
    """Slices first; then ints, which remove axes, from the last one; then None, which adds axes."""
    items = _without_ellipsis(index if isinstance(index, tuple) else (index,), input.ndim)
    axes = [item for item in items if item is not None]
    y = _sliced(w, input, {n: i for n, i in enumerate(axes) if isinstance(i, slice)})
    for axis, item in reversed(list(enumerate(axes))):
        if not isinstance(item, slice):
            y = w.node("Gather", y, w.constant(np.asarray(int(item), "int64")), axis=axis)
    left = [item for item in items if item is None or isinstance(item, slice)]
    added = [n for n, item in enumerate(left) if item is None]
    y = w.node("Unsqueeze", y, w.ints(added)) if added else y
    return w.node("Identity", y) if isinstance(y, Value) else y


def _without_ellipsis(items: tuple[Any, ...], ndim: int) -> list[Any]:
    """With a full slice for each axis that is not indexed."""
    missing = ndim - sum(item is not None and item is not Ellipsis for item in items)
    place = items.index(Ellipsis) if Ellipsis in items else len(items)
    return [*items[:place], *[slice(None)] * missing, *items[place + 1 :]]


def _sliced(w: Writer, x: Value, slices: dict[int, slice]) -> Any:
    """An open end stays open, as the axis may be the batch."""
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
