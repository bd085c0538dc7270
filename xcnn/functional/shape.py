"""Reshape, permute, concatenate, broadcast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import are_ints, check_choice, check_dim, check_dims, check_size
from ..errors import ArgumentError, ShapeError
from ..layout import to_batch_first, to_batch_last
from ..tensor import Function, Tensor, operation
from .arithmetic import broadcasts, sum_to

__all__ = [
    "broadcast_tensors", "broadcast_to", "cat", "clone", "concat", "concatenate", "contiguous",
    "expand", "expand_as", "flatten", "hstack", "meshgrid", "moveaxis", "movedim", "permute",
    "ravel", "repeat", "reshape", "reshape_as", "squeeze", "stack", "swapaxes", "swapdims", "t",
    "tile", "transpose", "unflatten", "unsqueeze", "view", "view_as", "vstack",
]  # fmt: skip


def lengths(name: str, sizes: Any, minimum: float = -math.inf) -> tuple[int, ...]:
    """Lengths given one by one or as one sequence, as a tuple of ints >= ``minimum``.

    Raises
    ------
    ArgumentError
        Anything else.
    """
    given = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], Sequence) else sizes
    axes = tuple(given)
    if not are_ints(axes, min(len(axes), 64)) or min(axes, default=0) < minimum:
        least = f" >= {minimum}" if minimum > -math.inf else ""
        hint = "; .astype converts to another dtype" * (name == "shape")
        raise ArgumentError(f"{name}={given!r}: expected at most 64 ints{least}{hint}")
    return tuple(map(int, axes))  # NumPy's overflow


def zeros(xp: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Zeros in batch-last memory."""
    if not shape:
        return xp.zeros(shape, dtype)
    return to_batch_first(xp.zeros((*shape[1:], shape[0]), dtype))


class Reshape(Function):
    """See :func:`reshape`."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = shape

    def forward(self, backend: Backend, x: Array) -> Array:
        self.save(shape=x.shape)
        return self.reshaped(backend.xp, x, self.shape)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return self.reshaped(backend.xp, dy, self.saved.shape)

    @staticmethod
    def reshaped(xp: Any, x: Array, shape: Sequence[int]) -> Array:
        """Row-major reshape, without a copy in batch-last memory if the batch axis is kept."""
        is_batch_last = x.ndim > 1 and len(shape) > 1 and x.shape[0] == shape[0]
        if is_batch_last and not x.flags.c_contiguous:
            return to_batch_first(to_batch_last(xp, x).reshape(*shape[1:], shape[0]))
        return x.reshape(shape)


@operation
def reshape(input: Any, *shape: Any) -> Tensor:
    """Reshape in row-major order; one entry may be -1. Same as ``view``.

    A view if the memory order allows it, else a copy. ``astype`` converts to another dtype.

    Raises
    ------
    ArgumentError
        A length is not an int.
    ShapeError
        The number of elements differs.
    """
    input = Tensor.of(input)
    return Reshape(_resolved(lengths("shape", shape), input.data.size, input.shape))(input)


view = reshape


def _resolved(sizes: tuple[int, ...], count: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """``sizes``, one of which may be -1, for ``count`` elements of an array of ``shape``."""
    known = math.prod(n for n in sizes if n != -1)
    found = tuple(count // known if n == -1 and known else n for n in sizes)
    if sizes.count(-1) > 1 or math.prod(found) != count or min(found, default=0) < 0:
        raise ShapeError(f"reshape: {shape}, {count} elements of it, does not fit {sizes}")
    return found


def view_as(input: Any, other: Any) -> Tensor:
    """``input`` in the shape of ``other``; see :func:`reshape`."""
    return reshape(input, Tensor.of(other).shape)


reshape_as = view_as


def ravel(input: Any) -> Tensor:
    """All elements along one axis, in row-major order."""
    return reshape(input, -1)


@operation
def flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Join the axes from ``start_dim`` to ``end_dim`` into one; of a number, one element.

    ``flatten(x, 1)`` keeps the batch axis: (N, C, H, W) becomes (N, C·H·W).

    Raises
    ------
    ArgumentError
        ``start_dim`` or ``end_dim`` is not an int.
    ShapeError
        No such axis, or ``start_dim`` comes after ``end_dim``.
    """
    input = Tensor.of(input)
    start = check_dim("start_dim", start_dim, input.ndim or 1)
    end = check_dim("end_dim", end_dim, input.ndim or 1) + 1
    if start >= end:
        raise ShapeError(f"flatten: start_dim={start_dim} comes after end_dim={end_dim}")
    shape = input.shape
    return Reshape((*shape[:start], math.prod(shape[start:end]), *shape[end:]))(input)


def unflatten(input: Any, dim: int, sizes: Sequence[int]) -> Tensor:
    """Split the axis ``dim`` into axes of the lengths ``sizes``, one of which may be -1.

    Raises
    ------
    ArgumentError
        A length is not an int.
    ShapeError
        No such axis, or the lengths do not multiply to that of the axis.
    """
    input = Tensor.of(input)
    dim = check_dim("dim", dim, input.ndim)
    axes = _resolved(lengths("sizes", (sizes,)), input.shape[dim], input.shape)
    return reshape(input, (*input.shape[:dim], *axes, *input.shape[dim + 1 :]))


class PlainReshape(Reshape):
    """A reshape without regard to batch-last memory: to a matrix, or of axes of length 1."""

    @staticmethod
    def reshaped(xp: Any, x: Array, shape: Sequence[int]) -> Array:
        return x.reshape(shape)


@operation
def squeeze(input: Any, dim: int | Sequence[int] | None = None) -> Tensor:
    """Remove all axes of length 1, or only those in ``dim``. A view.

    Raises
    ------
    ArgumentError
        ``dim`` is neither an int nor a sequence of ints.
    ShapeError
        No such axis, or a repeated one.
    """
    input = Tensor.of(input)
    dims = check_dims("dim", dim, input.ndim or 1)
    shape = tuple(n for i, n in enumerate(input.shape) if n != 1 or i not in dims)
    return PlainReshape(shape)(input)


@operation
def unsqueeze(input: Any, dim: int) -> Tensor:
    """Insert an axis of length 1, which becomes axis ``dim`` of the result. A view.

    Raises
    ------
    ArgumentError
        ``dim`` is not an int.
    ShapeError
        The result has no such axis.
    """
    input = Tensor.of(input)
    dim = check_dim("dim", dim, input.ndim + 1)
    return PlainReshape((*input.shape[:dim], 1, *input.shape[dim:]))(input)


class Permute(Function):
    """See :func:`permute`."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, dims: tuple[int, ...]) -> None:
        self.dims = dims

    def forward(self, backend: Backend, x: Array) -> Array:
        return x.transpose(self.dims)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return dy.transpose(sorted(range(len(self.dims)), key=self.dims.__getitem__))


@operation
def permute(input: Any, dims: Sequence[int]) -> Tensor:
    """Reorder the axes: axis i of the result is axis ``dims[i]`` of ``input``. A view.

    Raises
    ------
    ArgumentError
        ``dims`` are not ints.
    ShapeError
        ``dims`` is not a permutation of the axes.
    """
    input = Tensor.of(input)
    order = check_dims("dims", dims, input.ndim)
    if len(order) != input.ndim or dims is None:
        raise ShapeError(
            f"dims={dims!r}: expected each of the {input.ndim} axes of {input.shape} once"
        )
    return Permute(order)(input)


def movedim(input: Any, source: Any, destination: Any) -> Tensor:
    """Move the axes ``source`` to the places ``destination``; the others keep their order. A view.

    Raises
    ------
    ArgumentError
        Neither ints nor sequences of ints.
    ShapeError
        No such axis, a repeated one, or not as many places as axes.
    """
    input = Tensor.of(input)
    axes = check_dims("source", source, input.ndim)
    places = check_dims("destination", destination, input.ndim)
    if len(axes) != len(places):
        raise ShapeError(
            f"movedim: source={source}, destination={destination}: expected as many of each"
        )
    rest = iter(d for d in range(input.ndim) if d not in axes)
    to = dict(zip(places, axes, strict=True))
    return permute(input, [to[d] if d in to else next(rest) for d in range(input.ndim)])


moveaxis = movedim


def transpose(input: Any, dim0: int, dim1: int) -> Tensor:
    """Swap two axes; same as ``swapaxes`` and ``swapdims``. A view.

    Raises
    ------
    ArgumentError
        ``dim0`` or ``dim1`` is not an int.
    ShapeError
        No such axis.
    """
    input = Tensor.of(input)
    first = check_dim("dim0", dim0, input.ndim or 1)
    second = check_dim("dim1", dim1, input.ndim or 1)
    order = list(range(input.ndim))
    if order:
        order[first], order[second] = second, first
    return permute(input, order)


swapaxes = swapdims = transpose


def t(input: Any) -> Tensor:
    """The transpose of a matrix; a vector or a number as it is. A view.

    Raises
    ------
    ShapeError
        More than two axes.
    """
    input = Tensor.of(input)
    if input.ndim > 2:
        raise ShapeError(f"t: shape {input.shape}: expected at most two axes; use mT or permute")
    return permute(input, range(input.ndim)[::-1])


class Concat(Function):
    """See :func:`concat`."""

    any_dtype = ("argument 0",)  # Function checks that the rest match it

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, backend: Backend, *arrays: Array) -> Array:
        self.save(sizes=[a.shape[self.dim] for a in arrays])
        xp, axis = backend.xp, (self.dim - 1) % arrays[0].ndim  # in batch-last order
        return to_batch_first(xp.concatenate([to_batch_last(xp, a) for a in arrays], axis=axis))

    def backward(self, backend: Backend, dy: Array) -> tuple:
        sizes, before = self.saved.sizes, (slice(None),) * self.dim
        return tuple(
            dy[(*before, slice(stop - size, stop))]
            for size, stop in zip(sizes, accumulate(sizes), strict=True)
        )


def _tensors(name: str, tensors: Any) -> list[Tensor]:
    if not isinstance(tensors, list | tuple):
        raise ArgumentError(f"tensors is {type(tensors).__name__}: expected a list or a tuple")
    if not tensors:
        raise ShapeError(f"{name}: tensors is empty; pass at least one")
    return [Tensor.of(t) for t in tensors]


@operation
def concat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Join tensors along ``dim`` (1: the channels of images); same as ``cat`` and ``concatenate``.

    As in PyTorch, tensors of shape (0,) are left out.

    Raises
    ------
    ArgumentError
        ``tensors`` is not a list or tuple, or ``dim`` is not an int.
    ShapeError
        No tensors, no such axis, or the other axes differ.
    """
    inputs = _tensors("concat", tensors)
    inputs = [t for t in inputs if t.shape != (0,)] or inputs
    shapes = [t.shape for t in inputs]
    dim = check_dim("dim", dim, inputs[0].ndim)
    other_axes = {s[:dim] + s[dim + 1 :] for s in shapes}
    if len(other_axes) > 1 or len({len(s) for s in shapes}) > 1:
        raise ShapeError(f"concat: shapes {shapes} differ in an axis other than dim={dim}")
    return Concat(dim)(*inputs)


cat = concatenate = concat


def stack(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis, which becomes axis ``dim`` of the result.

    Raises
    ------
    ArgumentError
        ``tensors`` is not a list or tuple, or ``dim`` is not an int.
    ShapeError
        No tensors, their shapes differ, or the result has no such axis.
    """
    inputs = _tensors("stack", tensors)
    if len(shapes := {t.shape for t in inputs}) > 1:
        raise ShapeError(f"stack: shapes {sorted(shapes)} differ; broadcast them first")
    dim = check_dim("dim", dim, inputs[0].ndim + 1)
    return concat([unsqueeze(t, dim) for t in inputs], dim)


def hstack(tensors: Sequence[Any]) -> Tensor:
    """Join along axis 1, vectors and numbers along axis 0."""
    inputs = [t if t.ndim else unsqueeze(t, 0) for t in _tensors("hstack", tensors)]
    return concat(inputs, min(1, inputs[0].ndim - 1))


def vstack(tensors: Sequence[Any]) -> Tensor:
    """Join along axis 0; vectors and numbers are rows."""
    return concat([t if t.ndim > 1 else reshape(t, 1, -1) for t in _tensors("vstack", tensors)], 0)


class Expand(Function):
    """See :func:`expand`: a view; backward sums over the broadcast axes."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, backend: Backend, x: Array) -> Array:
        self.save(shape=x.shape)
        return backend.xp.broadcast_to(x, self.shape)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return sum_to(dy, self.saved.shape)


@operation
def expand(input: Any, *size: Any) -> Tensor:
    """Repeat axes of length 1, and add axes in front, to reach the shape ``size``.

    A view, in which elements share memory: do not write into its data. -1 keeps a length.

    Raises
    ------
    ArgumentError
        A length is not an int.
    ShapeError
        ``input`` does not broadcast to ``size``.
    """
    input = Tensor.of(input)
    shape = lengths("size", size)
    own = (*(-1,) * (len(shape) - input.ndim), *input.shape)
    wanted = tuple(m if n == -1 else n for n, m in zip(shape, own, strict=False))
    if min(wanted, default=0) < 0 or not broadcasts(input.shape, wanted):
        raise ShapeError(f"expand: shape {input.shape} does not broadcast to {shape}")
    check_size("size", shape, [n or 1 for n in wanted])  # NumPy has limits for empty ones too
    return Expand(wanted)(input)


def expand_as(input: Any, other: Any) -> Tensor:
    """``input`` broadcast to the shape of ``other``; see :func:`expand`."""
    return expand(input, Tensor.of(other).shape)


def broadcast_to(input: Any, size: Sequence[int]) -> Tensor:
    """``input`` broadcast to the shape ``size``; see :func:`expand`."""
    return expand(input, size)


def common_shape(name: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape to which all ``shapes`` broadcast.

    Raises
    ------
    ShapeError
        There is none.
    """
    ndim = max(map(len, shapes), default=0)
    aligned = zip(*((1,) * (ndim - len(s)) + s for s in shapes), strict=True)
    shape = tuple(next((n for n in axis if n != 1), 1) for axis in aligned)
    if not all(broadcasts(s, shape) for s in shapes):
        raise ShapeError(f"{name}: shapes {', '.join(map(str, shapes))} do not broadcast")
    return shape


def broadcast_tensors(*tensors: Any) -> tuple[Tensor, ...]:
    """Each tensor broadcast to the shape common to all; see :func:`expand`."""
    inputs = [Tensor.of(t) for t in tensors]
    shape = common_shape("broadcast_tensors", *[t.shape for t in inputs])
    return tuple(expand(t, shape) for t in inputs)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """The coordinates of a grid: each vector along its own axis, broadcast along the others.

    Parameters
    ----------
    tensors
        Vectors or numbers, one by one or in one list.
    indexing
        ``"ij"``: the i-th vector along axis i. ``"xy"``: the first two swapped, as in plots.

    Raises
    ------
    ArgumentError
        Another ``indexing``.
    ShapeError
        More than one axis, or no tensors.
    """
    check_choice("indexing", indexing, ("ij", "xy"))
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], list | tuple) else tensors
    vectors = [reshape(t, -1) if t.ndim == 0 else t for t in _tensors("meshgrid", given)]
    if wrong := [v.shape for v in vectors if v.ndim > 1]:
        raise ShapeError(f"meshgrid: a tensor has shape {wrong[0]}: expected one axis at most")
    columns = [reshape(v, (-1, *(1,) * (len(vectors) - 1 - i))) for i, v in enumerate(vectors)]
    grids = broadcast_tensors(*columns)
    if indexing == "ij" or len(grids) < 2:
        return grids
    return tuple(movedim(grid, 0, 1) for grid in grids)


def repeat(input: Any, *repeats: Any) -> Tensor:
    """Copies of ``input`` side by side, ``repeats[i]`` along axis i; further axes come in front.

    Raises
    ------
    ArgumentError
        Not ints >= 0.
    ShapeError
        Fewer numbers than axes.
    """
    input = Tensor.of(input)
    counts = lengths("repeats", repeats, 0)
    if len(counts) < input.ndim:
        raise ShapeError(f"repeat: repeats={counts}: expected one for each axis of {input.shape}")
    shape = (*(1,) * (len(counts) - input.ndim), *input.shape)
    pairs = [n for pair in zip(counts, shape, strict=True) for n in pair]
    x = reshape(input, [1 if i % 2 == 0 else n for i, n in enumerate(pairs)])
    return reshape(expand(x, pairs), [n * m for n, m in zip(counts, shape, strict=True)])


def tile(input: Any, dims: Sequence[int]) -> Tensor:
    """:func:`repeat`, but fewer ``dims`` than axes apply to the last axes."""
    input, counts = Tensor.of(input), lengths("dims", (dims,), 0)
    return repeat(input, (*(1,) * (input.ndim - len(counts)), *counts))


class Copy(Function):
    """See :func:`clone` and, with ``order``, :func:`contiguous`."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, order: str) -> None:
        self.order = order

    def forward(self, backend: Backend, x: Array) -> Array:
        if self.order == "C":
            return backend.xp.ascontiguousarray(x)
        y = backend.xp.empty_like(x)
        y[...] = x
        return y

    def backward(self, backend: Backend, dy: Array) -> Array:
        return dy


@operation
def clone(input: Any) -> Tensor:
    """A copy in new memory, in the same memory order. Gradients pass through it."""
    return Copy("K")(input)


@operation
def contiguous(input: Any) -> Tensor:
    """``input`` with its data in row-major (C) order: itself if it is, else a copy.

    xcnn's own operations prefer batch-last memory and need no such call; it is for code that reads
    ``data`` as a block of memory.
    """
    input = Tensor.of(input)
    return input if input.data.flags.c_contiguous else Copy("C")(input)
