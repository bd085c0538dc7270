"""Padding with a constant or with copies of the image's pixels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import (
    Pair,
    are_ints,
    check_choice,
    check_number,
    check_size,
    is_int,
)
from ..errors import ArgumentError, ShapeError, show
from ..geometry import borders
from ..tensor import Function, Tensor, operation
from .indexing import getitem

__all__ = ["pad"]

Widths = tuple[Pair, ...]
_PAD_MODES = ("constant", "reflect", "replicate", "circular")


def _padded(xp: Any, x: Array, widths: Widths, value: float | None = None) -> Array:
    """Pad x with ``value`` (None: uninitialised), in batch-last memory."""
    shape = tuple(n + sum(w) for n, w in zip(x.shape, widths, strict=True))
    y = xp.moveaxis(xp.empty((*shape[1:], shape[0]), x.dtype), -1, 0)
    if value is not None:
        y.fill(value)
    y[_inside(x.shape, widths)] = x
    return y


def _inside(shape: tuple[int, ...], widths: Widths) -> tuple[slice, ...]:
    return tuple(slice(w[0], w[0] + n) for n, w in zip(shape, widths, strict=True))


class Pad(Function):
    """See :func:`pad`, with ``mode="constant"``."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, widths: Widths, value: float) -> None:
        self.widths = widths
        self.value = value

    def forward(self, backend: Backend, x: Array) -> Array:
        y = _padded(backend.xp, x, self.widths, self.value)
        self.save(shape=x.shape)
        return y

    def backward(self, backend: Backend, dy: Array) -> Array:
        return dy[_inside(self.saved.shape, self.widths)]


class PadFromInside(Function):
    """See :func:`pad`, in the other modes: copies pixels, one axis at a time.

    Backward visits the axes in reverse and adds the gradients of copies to the source pixels.
    """

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, widths: Widths, mode: str) -> None:
        self.widths = widths
        self.mode = mode

    def forward(self, backend: Backend, x: Array) -> Array:
        y = _padded(backend.xp, x, self.widths)
        for _, border, source in self._copies(x.shape):
            y[border] = y[source]
        self.save(shape=x.shape)
        return y

    def backward(self, backend: Backend, dy: Array) -> Array:
        xp, shape = backend.xp, self.saved.shape
        d = xp.moveaxis(xp.moveaxis(dy, 0, -1).copy(), -1, 0)  # batch-last
        for axis, border, source in reversed(list(self._copies(shape))):
            copies, pixels = d[border], d[source]
            repeated = self.mode == "replicate"
            pixels += copies.sum(axis=axis, keepdims=True) if repeated else copies
        return d[_inside(shape, self.widths)]

    def _copies(self, shape: tuple[int, ...]) -> Iterator[tuple[int, tuple, tuple]]:
        """Yield the axis and the indices in the result of a border and of its source pixels."""
        index = list(_inside(shape, self.widths))
        for axis, (size, sides) in enumerate(zip(shape, self.widths, strict=True)):
            for part in borders(self.mode, size, sides) if max(sides) else ():
                border, source = ((*index[:axis], i, *index[axis + 1 :]) for i in part)
                yield axis, border, source
            index[axis] = slice(None)  # the next axis also copies these borders


def _widths(input: Tensor, pad: Sequence[int], mode: str) -> Widths:
    """The padding of each axis of the input; negative: cropping."""
    count = len(pad) // 2
    if mode != "constant" and (count > 3 or not count < input.ndim < count + 3):
        raise ShapeError(
            f"pad={pad!r} with mode={mode!r}: the input of shape {input.shape} must have "
            f"{count + 1} or {count + 2} axes, of which the last {count} (at most 3) are padded"
        )
    if count > input.ndim:
        raise ShapeError(
            f"pad={pad!r}: {count} axes, but the input of shape {input.shape} has {input.ndim}"
        )
    sides = [(int(pad[i]), int(pad[i + 1])) for i in range(0, 2 * count, 2)]
    widths = (*[(0, 0)] * (input.ndim - count), *reversed(sides))
    for n, (begin, end) in zip(input.shape, widths, strict=True):
        if n + min(0, begin) + min(0, end) < 0:
            raise ShapeError(
                f"pad={pad!r} crops more than the {n} elements of an axis; the input has shape "
                f"{input.shape}"
            )
    check_size("pad", pad, [n + sum(w) for n, w in zip(input.shape, widths, strict=True)])
    return widths


def _crop(input: Tensor, widths: Widths) -> Tensor:
    """The input without what negative widths remove. A view."""
    sizes = zip(input.shape, widths, strict=True)
    return getitem(input, tuple(slice(max(0, -b), n - max(0, -e)) for n, (b, e) in sizes))


def _as_number(input: Tensor, value: Any) -> float:
    """``value`` as a number of input's dtype."""
    if input.dtype.kind == "f":
        return value if value != value else check_number("value", value)
    is_whole = float(value).is_integer()
    limits = None if input.dtype.kind == "b" else input.backend.xp.iinfo(input.dtype)
    low, high = (0, 1) if limits is None else (limits.min, limits.max)
    if not is_whole or not low <= value <= high:
        raise ArgumentError(
            f"value={show(value)}: the input is {input.dtype}, expected a whole number from {low} "
            f"to {high}"
        )
    return int(value)


def _respelled(pad: Any) -> str:
    """The end of an error message about one padding for both axes of images, or one per axis."""
    if is_int(pad):
        return f"; for images pad={(pad,) * 4}"
    if isinstance(pad, list | tuple) and pad and all(are_ints(sides, 2) for sides in pad):
        return f"; write pad={tuple(n for sides in reversed(pad) for n in sides)}"
    return ""


@operation
def pad(
    input: Any,
    pad: Sequence[int],
    mode: str = "constant",
    value: float | None = None,
) -> Tensor:
    """Pad with ``value``, or with copies of the elements inside; negative widths crop.

    Parameters
    ----------
    input
        Any number of axes and any dtype.
    pad
        (left, right, top, bottom, front, back, ...): two ints for each axis, the last axis first.
        The other axes keep their lengths.
    mode
        ``"constant"``; ``"reflect"`` mirrors at the outermost element, which is not repeated;
        ``"replicate"`` repeats the outermost element; ``"circular"`` wraps around to the other end.
        All but ``"constant"`` pad the last one, two or three axes of an input with one or two more
        axes (channels, and usually a batch).
    value
        The constant of ``mode="constant"``, 0 by default; a whole number for arrays of ints.

    Returns
    -------
    Tensor
        Of the input's dtype. The length of each axis grows by its two widths.

    Raises
    ------
    ArgumentError
        The padding is not a list of pairs, or the mode or value is invalid.
    ShapeError
        More axes than the input has; or more padding than elements to copy: reflect allows less
        than the length of the axis, circular at most that length.
    """
    input = Tensor.of(input)
    if not isinstance(pad, list | tuple) or len(pad) % 2 or not are_ints(pad, len(pad)):
        raise ArgumentError(
            f"pad={show(pad)}: expected two ints for each axis from the last one on, (left, right, "
            f"top, bottom, front, back, ...){_respelled(pad)}"
        )
    if isinstance(mode, Real):
        raise ArgumentError(f"mode={mode}: expected a name; pass value={mode} by name")
    check_choice("mode", mode, _PAD_MODES)
    widths = _widths(input, pad, mode)
    if value is not None and (not isinstance(value, Real) or (value and mode != "constant")):
        raise ArgumentError(
            f"value={show(value)} with mode={mode!r}: expected a number, with mode='constant' only"
        )
    added = tuple((max(0, begin), max(0, end)) for begin, end in widths)
    if mode in ("constant", "circular"):  # the others copy pixels that are then cropped
        input = _crop(input, widths)
    if mode == "constant":
        number = _as_number(input, value or 0)
        return Pad(added, number)(input) if any(map(any, added)) else input
    for size, sides in zip(input.shape, added, strict=True):
        borders(mode, size, sides)  # raises where there are too few pixels
    padded = PadFromInside(added, mode)(input)
    return padded if mode == "circular" else _crop(padded, widths)
