"""Shapes: reshape, concatenate, pad, and dropout, which does nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....checks import check_padding, check_padding1d
from ..writer import CannotExportError, Value, Writer, emits
from .spatial import pads

_PAD_MODES = {
    "constant": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}


@emits("reshape")
def reshape(w: Writer, input: Value, shape: tuple[Any, ...]) -> str:
    """A first length that is the input's is copied from it: it may be the batch's."""
    wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    numbers = [int(n) for n in wanted]
    if 0 in numbers[1:]:
        raise CannotExportError(f"to a shape without elements, {tuple(numbers)}")
    if numbers and input.ndim and numbers[0] == input.shape[0]:
        numbers[0] = 0
    return w.node("Reshape", input, w.ints(numbers))


@emits("flatten")
def flatten(w: Writer, input: Value, start_dim: int) -> str:
    if start_dim == 1:
        return w.node("Flatten", input, axis=1)
    if start_dim == 0:
        return w.node("Reshape", input, w.ints([-1]))
    leading = [0, *input.shape[1:start_dim]]
    return w.node("Reshape", input, w.ints([*leading, -1]))


@emits("concat")
def concat(w: Writer, tensors: Sequence[Value], dim: int) -> str:
    return w.node("Concat", *tensors, axis=int(dim))


@emits("pad")
def pad(w: Writer, input: Value, padding: Any, value: float, data_format: str, mode: str) -> str:
    is_signal = input.ndim == 3
    sides: Any = (check_padding1d(padding),) if is_signal else check_padding(padding)
    none = (0, 0)
    widths = (none, *sides, none) if data_format == "NHWC" else (none, none, *sides)
    filled = w.like(input, float(value)) if mode == "constant" else None
    return w.node("Pad", input, w.ints(pads(widths)), filled, mode=_PAD_MODES[mode])


@emits("dropout", "dropout2d")
def dropout(w: Writer, input: Value, p: float, training: bool, key: int | None) -> str:
    """Without training the input itself comes back, and there is no call."""
    raise CannotExportError("with training=True: random numbers")


@emits("permute")
def permute(w: Writer, input: Value, dims: Sequence[int]) -> str:
    return w.node("Transpose", input, perm=[int(d) % input.ndim for d in dims])


@emits("squeeze")
def squeeze(w: Writer, input: Value, dim: int | Sequence[int] | None) -> str:
    """Axes by number, and not all that happen to be of length 1: the batch may be."""
    given: Any = range(input.ndim) if dim is None else dim if isinstance(dim, Sequence) else (dim,)
    axes = [d % input.ndim for d in given if input.shape[d] == 1]
    return w.node("Squeeze", input, w.ints(axes)) if axes else w.node("Identity", input)


@emits("unsqueeze")
def unsqueeze(w: Writer, input: Value, dim: int) -> str:
    return w.node("Unsqueeze", input, w.ints([dim]))
