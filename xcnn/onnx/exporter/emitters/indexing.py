"""Parts of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..writer import Value, Writer, emits

_FAR = 2**63 - 1  # beyond the end of any axis


@emits("split")
def split(
    w: Writer, input: Value, split_size_or_sections: int | Sequence[int], dim: int
) -> list[str]:
    given, length = split_size_or_sections, input.shape[dim]
    if isinstance(given, Sequence):
        sizes = list(given)
    else:
        sizes = [min(given, length - start) for start in range(0, length, given)] or [0]
    found = w.node("Split", input, w.ints(sizes), outputs=len(sizes), axis=int(dim))
    return found if isinstance(found, list) else [found]


@emits("getitem")
def getitem(w: Writer, input: Value, index: Any) -> str:
    """Slices first, on the axes as they are; then ints, which take axes away, from the last on;
    then None, which makes some.
    """
    items = _per_axis(index if isinstance(index, tuple) else (index,), input.ndim)
    axes = [item for item in items if item is not None]
    y = _sliced(w, input, {n: i for n, i in enumerate(axes) if isinstance(i, slice)})
    for axis, item in reversed(list(enumerate(axes))):
        if not isinstance(item, slice):
            y = w.node("Gather", y, w.constant(np.asarray(int(item), "int64")), axis=axis)
    left = [item for item in items if item is None or isinstance(item, slice)]
    made = [n for n, item in enumerate(left) if item is None]
    y = w.node("Unsqueeze", y, w.ints(made)) if made else y
    return w.node("Identity", y) if isinstance(y, Value) else y


def _per_axis(items: tuple[Any, ...], ndim: int) -> list[Any]:
    """Without an ellipsis, and with all of each axis that is not mentioned."""
    missing = ndim - sum(item is not None and item is not Ellipsis for item in items)
    place = items.index(Ellipsis) if Ellipsis in items else len(items)
    return [*items[:place], *[slice(None)] * missing, *items[place + 1 :]]


def _sliced(w: Writer, x: Value, slices: dict[int, slice]) -> Any:
    """Ends that are not given stay open: the axis may be the batch."""
    rows = []
    for axis, part in slices.items():
        step = 1 if part.step is None else int(part.step)
        start = (0 if step > 0 else _FAR) if part.start is None else int(part.start)
        stop = (_FAR if step > 0 else -_FAR) if part.stop is None else int(part.stop)
        if (start, stop, step) != (0, _FAR, 1):
            rows.append((start, stop, axis, step))
    if not rows:
        return x
    return w.node("Slice", x, *(w.ints(column) for column in zip(*rows, strict=True)))
