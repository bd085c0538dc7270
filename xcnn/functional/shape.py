"""Reshape, permute, index, split, concatenate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import check_dim, is_int
from ..errors import ArgumentError, DTypeError, ShapeError
from ..layout import rows_last
from ..tensor import Function, Tensor, operation


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


class UnitAxes(Function):
    """See :func:`squeeze` and :func:`unsqueeze`: a shape that differs in axes of length 1 only."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, backend: Backend, x: Array) -> Array:
        self.save(shape=x.shape)
        return x.reshape(self.shape)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return dy.reshape(self.saved.shape)


@operation
def permute(input: Any, dims: Sequence[int]) -> Tensor:
    """The axes in another order: axis i of the result is axis ``dims[i]`` of ``input``. A view.

    Raises
    ------
    ArgumentError
        ``dims`` are not ints.
    ShapeError
        They do not name every axis once.
    """
    input = Tensor.of(input)
    given = [check_dim("dims", d, input.ndim) for d in dims]
    if sorted(given) != list(range(input.ndim)):
        raise ShapeError(
            f"dims={tuple(dims)}: expected each of the {input.ndim} axes of {input.shape} once"
        )
    return Permute(tuple(given))(input)


@operation
def squeeze(input: Any, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without the axes of length 1; only those in ``dim``, if it is given. A view.

    Axes in ``dim`` that are longer stay.

    Raises
    ------
    ArgumentError
        ``dim`` is not an int or several.
    ShapeError
        No such axis, or one comes twice.
    """
    input = Tensor.of(input)
    dims: Any = range(input.ndim) if dim is None else dim if isinstance(dim, Sequence) else (dim,)
    given = [check_dim("dim", d, input.ndim) for d in dims]
    if len(set(given)) < len(given):
        raise ShapeError(f"dim={dim}: an axis comes twice")
    shape = tuple(n for i, n in enumerate(input.shape) if n != 1 or i not in given)
    return UnitAxes(shape)(input)


@operation
def unsqueeze(input: Any, dim: int) -> Tensor:
    """With one more axis, of length 1, that is number ``dim`` of the result. A view.

    Raises
    ------
    ArgumentError
        ``dim`` is not an int.
    ShapeError
        The result has no such axis.
    """
    input = Tensor.of(input)
    dim = check_dim("dim", dim, input.ndim + 1)
    return UnitAxes((*input.shape[:dim], 1, *input.shape[dim:]))(input)


class OutOfRangeError(ShapeError, IndexError):
    """An index beyond the axes, or beyond the length of one."""


class Index(Function):
    """See :func:`getitem`: a view; backward puts dy where it came from, among zeros."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, index: tuple[Any, ...]) -> None:
        # with an ellipsis a single element is an array too
        self.index = index if Ellipsis in index else (*index, Ellipsis)

    def forward(self, backend: Backend, x: Array) -> Array:
        self.save(shape=x.shape)
        try:
            return x[self.index]
        except IndexError as error:
            raise OutOfRangeError(f"indexing a tensor of shape {x.shape}: {error}") from error

    def backward(self, backend: Backend, dy: Array) -> Array:
        dx = zeros(backend.xp, self.saved.shape, dy.dtype)
        dx[self.index] = dy
        return dx


def zeros(xp: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Zeros in batch-last memory."""
    if not shape:
        return xp.zeros(shape, dtype)
    return xp.moveaxis(xp.zeros((*shape[1:], shape[0]), dtype), -1, 0)


@operation
def getitem(input: Any, index: Any) -> Tensor:
    """``tensor[index]`` as in NumPy, of ints, slices, None and Ellipsis. A view.

    The steps of slices may be negative.

    Raises
    ------
    ArgumentError
        A step of 0.
    DTypeError
        Anything else in the index: arrays, masks, lists.
    ShapeError, which is an IndexError here
        More indices than axes, or an int beyond the length of its axis.
    """
    items = index if isinstance(index, tuple) else (index,)
    for item in items:
        _check_index(item)
    return Index(items)(input)


def _check_index(item: Any) -> None:
    if item is None or item is Ellipsis or is_int(item):
        return
    parts = (item.start, item.stop, item.step) if isinstance(item, slice) else (item,)
    if not isinstance(item, slice) or not all(p is None or is_int(p) for p in parts):
        raise DTypeError(
            f"a tensor cannot be indexed with {type(item).__name__}: expected ints, slices of "
            "ints, None or Ellipsis; arrays and masks index tensor.data, which has no gradients"
        )
    if item.step == 0:
        raise ArgumentError("indexing a tensor: the step of a slice is 0")


@operation
def split(input: Any, split_size_or_sections: int | Sequence[int], dim: int = 0) -> tuple:
    """Cut along ``dim``: parts of that size, the last one maybe smaller, or of these sizes. Views.

    Parameters
    ----------
    input
        Any number of axes, but none.
    split_size_or_sections
        An int, or a list of ints that add up to the length of the axis.

    Returns
    -------
    tuple of Tensor

    Raises
    ------
    ArgumentError
        These are not the sizes of parts.
    ShapeError
        No such axis.
    """
    input = Tensor.of(input)
    dim = check_dim("dim", dim, input.ndim)
    sizes = _section_sizes(split_size_or_sections, input.shape[dim])
    before = (slice(None),) * dim
    return tuple(
        Index((*before, slice(stop - size, stop)))(input)
        for size, stop in zip(sizes, accumulate(sizes), strict=True)
    )


def _section_sizes(given: Any, length: int) -> list[int]:
    if is_int(given) and (given > 0 or given == length == 0):
        size = int(given)
        return [min(size, length - i) for i in range(0, length, size)] if length else [0]
    is_list = isinstance(given, Sequence) and all(is_int(n) and n >= 0 for n in given)
    if not is_list or sum(given) != length:
        raise ArgumentError(
            f"split_size_or_sections={given!r}: expected a positive int, or ints that add up to "
            f"{length}, the length of the axis"
        )
    return [int(n) for n in given]
