"""Reshape, flatten, concatenate, pad."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..autograd import Function
from ..backends import Backend
from ..errors import ArgumentError, ShapeError
from ..geometry import Padding, check_padding
from ..tensor import Tensor
from .layout import image_size, rows_last

Array = Any


class Reshape(Function):
    """See :func:`reshape`."""

    arguments = ("input",)

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
    """See :func:`pad`."""

    arguments = ("input",)

    def __init__(self, widths: tuple, value: float) -> None:
        self.widths = widths
        self.value = value

    def forward(self, backend: Backend, x: Array) -> Array:
        xp = backend.xp
        shape = tuple(n + sum(w) for n, w in zip(x.shape, self.widths, strict=True))
        y = xp.moveaxis(xp.empty((*shape[1:], shape[0]), x.dtype), -1, 0)  # batch-last
        y.fill(self.value)
        y[self._inside(x.shape)] = x
        self.save(shape=x.shape)
        return y

    def backward(self, backend: Backend, dy: Array) -> Array:
        return dy[self._inside(self.saved.shape)]

    def _inside(self, shape: tuple[int, ...]) -> tuple:
        return tuple(slice(w[0], w[0] + n) for n, w in zip(shape, self.widths, strict=True))


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


def pad(input: Any, padding: Padding, value: float = 0.0, data_format: str = "NCHW") -> Tensor:
    """Surround images with ``value``.

    Parameters
    ----------
    input : (N, C, H, W), or (N, H, W, C) with ``data_format="NHWC"``
    padding
        Pixels: an int, (pH, pW) or ((top, bottom), (left, right)).
    value
        What to fill in.

    Returns
    -------
    Tensor
        (N, C, top + H + bottom, left + W + right), or with channels last.

    Raises
    ------
    ArgumentError, ShapeError
        The padding is not one of these forms; not four axes.
    """
    input = Tensor.of(input)
    image_size(input, data_format)
    sides = check_padding(padding)
    if isinstance(sides, str):
        raise ArgumentError(f"padding={padding!r}: pad needs numbers of pixels")
    none = ((0, 0),)
    widths = none + sides + none if data_format == "NHWC" else none + none + sides
    return Pad(widths, value)(input)


def _install_methods() -> None:
    methods: dict[str, Any] = {
        "reshape": reshape,
        "flatten": lambda t, start_dim=0: flatten(t, start_dim),
    }
    for name, function in methods.items():
        setattr(Tensor, name, function)


_install_methods()
