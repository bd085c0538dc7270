"""Padding with a constant or with copies of the image's pixels."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Real
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import (
    Padding,
    Pair,
    check_choice,
    check_number,
    check_padding,
    check_padding1d,
    check_size,
)
from ..errors import ArgumentError
from ..geometry import borders
from ..layout import check_data_format, image_size
from ..tensor import Function, Tensor, operation

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


def _widths(input: Tensor, padding: Any, data_format: str) -> Widths:
    """The padding of each axis."""
    check_data_format(data_format)
    is_signal = input.ndim == 3 and data_format == "NCHW"
    if not is_signal:
        image_size(input, data_format)
    checked = check_padding1d(padding) if is_signal else check_padding(padding)
    if isinstance(checked, str):
        raise ArgumentError(f"padding={padding!r}: expected numbers of pixels")
    zero: Any = (0, 0)
    sides = (checked,) if is_signal else checked
    widths = (zero, *sides, zero) if data_format == "NHWC" else (zero, zero, *sides)
    shape = [n + sum(w) for n, w in zip(input.shape, widths, strict=True)]
    check_size("padding", padding, shape)
    return widths


def _as_number(input: Tensor, value: Any) -> float:
    """``value`` as a number of input's dtype."""
    if input.dtype.kind == "f":
        return value if value != value else check_number("value", value)
    is_whole = float(value).is_integer()
    limits = None if input.dtype.kind == "b" else input.backend.xp.iinfo(input.dtype)
    low, high = (0, 1) if limits is None else (limits.min, limits.max)
    if not is_whole or not low <= value <= high:
        raise ArgumentError(
            f"value={value!r}: the input is {input.dtype}, expected a whole number from {low} "
            f"to {high}"
        )
    return int(value)


@operation
def pad(
    input: Any,
    padding: Padding,
    value: float = 0.0,
    data_format: str = "NCHW",
    mode: str = "constant",
) -> Tensor:
    """Pad images or signals with ``value``, or with copies of their pixels.

    Parameters
    ----------
    input : (N, C, H, W), (N, H, W, C) with ``data_format="NHWC"``, or (N, C, L)
    padding
        Pixels: an int; for images (pH, pW) or ((top, bottom), (left, right)), for signals
        (left, right).
    value
        The constant of ``mode="constant"``; a whole number for arrays of ints.
    data_format
        ``"NCHW"`` or ``"NHWC"``, of images.
    mode
        ``"constant"``; ``"reflect"`` mirrors at the outermost pixel, which is not repeated;
        ``"replicate"`` repeats the outermost pixel; ``"circular"`` wraps around to the other end.

    Returns
    -------
    Tensor
        (N, C, top + H + bottom, left + W + right), or with channels last; or (N, C, left + L +
        right).

    Raises
    ------
    ArgumentError
        The padding has none of these forms, or the mode or value is invalid.
    ShapeError
        Neither three nor four axes; or more padding than pixels to copy: reflect allows less than
        the size of the image, circular at most that size.
    """
    input = Tensor.of(input)
    widths = _widths(input, padding, data_format)
    check_choice("mode", mode, _PAD_MODES)
    if not isinstance(value, Real) or (value and mode != "constant"):
        raise ArgumentError(
            f"value={value!r} with mode={mode!r}: expected a number, with mode='constant' only; "
            "pass another mode by keyword, mode='reflect'"
        )
    if mode == "constant":
        return Pad(widths, _as_number(input, value))(input)
    for size, sides in zip(input.shape, widths, strict=True):
        borders(mode, size, sides)  # raises where there are too few pixels
    return PadFromInside(widths, mode)(input)
