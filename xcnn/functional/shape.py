"""Reshape, flatten, concatenate, pad."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any

from ..autograd import Function
from ..backends import Backend
from ..errors import ArgumentError, ShapeError
from ..geometry import Padding, Pair, borders, check_padding, check_padding1d
from ..tensor import Tensor
from ..tracing import operation
from .layout import check_data_format, image_size, rows_last

Array = Any
Widths = tuple[Pair, ...]

_PAD_MODES = ("constant", "reflect", "replicate", "circular")


class Reshape(Function):
    """See :func:`reshape`."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, backend: Backend, x: Array) -> Array:
        self.save(shape=x.shape)
        return _reshape(backend.xp, x, self.shape)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return _reshape(backend.xp, dy, self.saved.shape)


def _reshape(xp: Any, x: Array, shape: tuple[int, ...]) -> Array:
    """Row-major reshape. One that keeps the batch axis moves nothing in batch-last memory."""
    if x.ndim > 1 and len(shape) > 1 and x.shape[0] == shape[0]:
        return xp.moveaxis(rows_last(xp, x).reshape(*shape[1:], shape[0]), -1, 0)
    return x.reshape(shape)


class Concat(Function):
    """See :func:`concat`."""

    any_dtype = ("argument 0",)  # and the others have the same one

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, backend: Backend, *arrays: Array) -> Array:
        self.save(sizes=[a.shape[self.dim] for a in arrays])
        xp, axis = backend.xp, (self.dim - 1) % arrays[0].ndim  # in batch-last order
        return xp.moveaxis(xp.concatenate([rows_last(xp, a) for a in arrays], axis=axis), -1, 0)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        parts, start = [], 0
        for size in self.saved.sizes:
            index = (slice(None),) * self.dim + (slice(start, start + size),)
            parts.append(dy[index])
            start += size
        return tuple(parts)


class Pad(Function):
    """See :func:`pad`: a constant around the pixels."""

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
    """See :func:`pad`: copies of the pixels inside, along one axis after the other.

    Backward goes the other way round, and each pixel adds up the gradients of its copies.
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
        """Axis, index of a border in the result, index of what it is a copy of."""
        index = list(_inside(shape, self.widths))
        for axis, (size, sides) in enumerate(zip(shape, self.widths, strict=True)):
            for part in borders(self.mode, size, sides) if max(sides) else ():
                border, source = ((*index[:axis], i, *index[axis + 1 :]) for i in part)
                yield axis, border, source
            index[axis] = slice(None)  # the next axis copies the borders of this one too


def _padded(xp: Any, x: Array, widths: Widths, value: float | None = None) -> Array:
    """A batch-last array with x inside; around it ``value``, or anything."""
    shape = tuple(n + sum(w) for n, w in zip(x.shape, widths, strict=True))
    y = xp.moveaxis(xp.empty((*shape[1:], shape[0]), x.dtype), -1, 0)
    if value is not None:
        y.fill(value)
    y[_inside(x.shape, widths)] = x
    return y


def _inside(shape: tuple[int, ...], widths: Widths) -> tuple[slice, ...]:
    return tuple(slice(w[0], w[0] + n) for n, w in zip(shape, widths, strict=True))


@operation
def reshape(input: Any, *shape: Any) -> Tensor:
    """The same elements in row-major order in another shape; one entry may be -1.

    Raises
    ------
    ShapeError
        The number of elements differs.
    """
    input = Tensor.of(input)
    given = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    known = math.prod(n for n in given if n != -1)
    wanted = tuple(input.size // known if n == -1 and known else n for n in given)
    if given.count(-1) > 1 or math.prod(wanted) != input.size or min(wanted, default=0) < 0:
        raise ShapeError(
            f"reshape: {input.shape} ({input.size} elements) does not fit {given} ({known} "
            f"elements{' each step of -1' if -1 in given else ''})"
        )
    return Reshape(wanted)(input)


@operation
def flatten(input: Any, start_dim: int = 1) -> Tensor:
    """Join the axes from ``start_dim`` on: (N, C, H, W) becomes (N, C·H·W).

    The default keeps the batch axis, as ``nn.Flatten`` does.

    Raises
    ------
    ArgumentError
        No such axis.
    """
    input = Tensor.of(input)
    if not 0 <= start_dim < max(1, input.ndim):
        raise ArgumentError(f"start_dim={start_dim}: the input has axes 0 to {input.ndim - 1}")
    leading = input.shape[:start_dim]
    return reshape(input, (*leading, math.prod(input.shape[start_dim:])))


@operation
def concat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Join tensors along ``dim`` (1: the channels of images).

    Raises
    ------
    ShapeError
        No tensors, no such axis, or the other axes differ.
    """
    inputs = [Tensor.of(t) for t in tensors]
    shapes = [t.shape for t in inputs]
    if not inputs or not -inputs[0].ndim <= dim < inputs[0].ndim:
        raise ShapeError(f"concat: cannot join shapes {shapes} along dim={dim}")
    dim %= inputs[0].ndim
    others = {s[:dim] + s[dim + 1 :] for s in shapes}
    if len(others) > 1 or len({len(s) for s in shapes}) > 1:
        raise ShapeError(f"concat: shapes {shapes} differ in an axis other than dim={dim}")
    return Concat(dim)(*inputs)


@operation
def pad(
    input: Any,
    padding: Padding,
    value: float = 0.0,
    data_format: str = "NCHW",
    mode: str = "constant",
) -> Tensor:
    """Surround images or signals with ``value``, or with copies of their own pixels.

    Parameters
    ----------
    input : (N, C, H, W), (N, H, W, C) with ``data_format="NHWC"``, or (N, C, L)
    padding
        Pixels: an int; for images (pH, pW) or ((top, bottom), (left, right)), for signals
        (left, right).
    value
        What to fill in with ``mode="constant"``; a whole number for arrays of ints.
    data_format
        ``"NCHW"`` or ``"NHWC"``, of images.
    mode
        ``"constant"``; ``"reflect"`` mirrors at the outermost pixel, which is not repeated;
        ``"replicate"`` repeats the outermost pixel; ``"circular"`` goes on at the other end.

    Returns
    -------
    Tensor
        (N, C, top + H + bottom, left + W + right), or with channels last; or (N, C, left + L +
        right).

    Raises
    ------
    ArgumentError
        The padding is not one of these forms, or another mode or value.
    ShapeError
        Neither three nor four axes; more padding than the image has pixels to copy: with reflect
        less than its size, with circular at most that.
    """
    input = Tensor.of(input)
    widths = _widths(input, padding, data_format)
    if mode not in _PAD_MODES:
        raise ArgumentError(f"mode={mode!r}: expected one of {', '.join(_PAD_MODES)}")
    if not isinstance(value, Real) or (value and mode != "constant"):
        raise ArgumentError(
            f"value={value!r} with mode={mode!r}: expected a number, with mode='constant' only; "
            "give another mode by name, mode='reflect'"
        )
    if mode == "constant":
        return Pad(widths, _as_number(input, value))(input)
    for size, sides in zip(input.shape, widths, strict=True):
        borders(mode, size, sides)  # refuses what is too wide
    return PadFromInside(widths, mode)(input)


def _as_number(input: Tensor, value: Any) -> float:
    """``value`` as a number that arrays like ``input`` can hold."""
    if input.dtype.kind == "f":
        return float(value)
    whole = float(value).is_integer()
    limits = None if input.dtype.kind == "b" else input.backend.xp.iinfo(input.dtype)
    least, most = (0, 1) if limits is None else (limits.min, limits.max)
    if not whole or not least <= value <= most:
        raise ArgumentError(
            f"value={value!r}: the input is {input.dtype}, expected a whole number from {least} "
            f"to {most}"
        )
    return int(value)


def _widths(input: Tensor, padding: Any, data_format: str) -> Widths:
    """The padding of each axis."""
    check_data_format(data_format)
    is_signal = input.ndim == 3 and data_format == "NCHW"
    if not is_signal:
        image_size(input, data_format)
    along = check_padding1d(padding) if is_signal else check_padding(padding)
    if isinstance(along, str):
        raise ArgumentError(f"padding={padding!r}: pad needs numbers of pixels")
    none: Any = (0, 0)
    sides = (along,) if is_signal else along
    return (none, *sides, none) if data_format == "NHWC" else (none, none, *sides)


def _install_methods() -> None:
    methods: dict[str, Any] = {
        "reshape": reshape,
        "flatten": lambda t, start_dim=0: flatten(t, start_dim),
    }
    for name, function in methods.items():
        setattr(Tensor, name, function)


_install_methods()
