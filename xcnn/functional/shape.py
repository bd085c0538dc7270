"""Reshape, permute, index, split, concatenate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import are_ints, check_dim, check_dims, is_int
from ..errors import ArgumentError, DTypeError, OutOfRangeError, ShapeError
from ..layout import to_batch_last
from ..tensor import Function, Tensor, operation

__all__ = ["concat", "flatten", "permute", "reshape", "split", "squeeze", "unsqueeze"]


class Reshape(Function):
    """See :func:`reshape`."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, backend: Backend, x: Array) -> Array:
        self.save(shape=x.shape)
        return self.reshaped(backend.xp, x, self.shape)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return self.reshaped(backend.xp, dy, self.saved.shape)

    @staticmethod
    def reshaped(xp: Any, x: Array, shape: tuple[int, ...]) -> Array:
        """Row-major reshape, without a copy in batch-last memory if the batch axis is kept."""
        if x.ndim > 1 and len(shape) > 1 and x.shape[0] == shape[0]:
            return xp.moveaxis(to_batch_last(xp, x).reshape(*shape[1:], shape[0]), -1, 0)
        return x.reshape(shape)


@operation
def reshape(input: Any, *shape: Any) -> Tensor:
    """Reshape in row-major order; one entry may be -1.

    Raises
    ------
    ArgumentError
        A length is not an int.
    ShapeError
        The number of elements differs.
    """
    input = Tensor.of(input)
    shape = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
    if not are_ints(shape, min(len(shape), 64)):
        raise ArgumentError(f"reshape: shape={shape!r}: expected at most 64 ints")
    shape = tuple(map(int, shape))  # NumPy's overflow
    known = math.prod(n for n in shape if n != -1)
    sizes = tuple(input.data.size // known if n == -1 and known else n for n in shape)
    if shape.count(-1) > 1 or math.prod(sizes) != input.data.size or min(sizes, default=0) < 0:
        raise ShapeError(
            f"reshape: {input.shape}, with {input.data.size} elements, does not fit {shape}"
        )
    return Reshape(sizes)(input)


@operation
def flatten(input: Any, start_dim: int = 1) -> Tensor:
    """Flatten the axes from ``start_dim`` on: (N, C, H, W) becomes (N, C·H·W).

    The default keeps the batch axis, as ``nn.Flatten`` does.

    Raises
    ------
    ArgumentError
        No such axis.
    """
    input = Tensor.of(input)
    if not is_int(start_dim) or not 0 <= start_dim < max(1, input.ndim):
        raise ArgumentError(f"start_dim={start_dim!r}: the input has axes 0 to {input.ndim - 1}")
    leading = input.shape[:start_dim]
    return reshape(input, (*leading, math.prod(input.shape[start_dim:])))


class UnitAxes(Reshape):
    """See :func:`squeeze` and :func:`unsqueeze`: adds or removes axes of length 1, as a view."""

    @staticmethod
    def reshaped(xp: Any, x: Array, shape: tuple[int, ...]) -> Array:
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
    dims = check_dims("dim", dim, input.ndim)
    shape = tuple(n for i, n in enumerate(input.shape) if n != 1 or i not in dims)
    return UnitAxes(shape)(input)


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
    return UnitAxes((*input.shape[:dim], 1, *input.shape[dim:]))(input)


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


def _sections(dim: int, sizes: list[int]) -> list[tuple[slice, ...]]:
    """Indices of consecutive parts of these sizes along ``dim``."""
    stops = zip(sizes, accumulate(sizes), strict=True)
    return [(*(slice(None),) * dim, slice(stop - size, stop)) for size, stop in stops]


class Concat(Function):
    """See :func:`concat`."""

    any_dtype = ("argument 0",)  # Function checks that the rest match it

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, backend: Backend, *arrays: Array) -> Array:
        self.save(sizes=[a.shape[self.dim] for a in arrays])
        xp, axis = backend.xp, (self.dim - 1) % arrays[0].ndim  # in batch-last order
        return xp.moveaxis(xp.concatenate([to_batch_last(xp, a) for a in arrays], axis=axis), -1, 0)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        return tuple(dy[index] for index in _sections(self.dim, self.saved.sizes))


@operation
def concat(tensors: Sequence[Any], dim: int = 0) -> Tensor:
    """Join tensors along ``dim`` (1: the channels of images).

    Raises
    ------
    ArgumentError
        ``tensors`` is not a list or tuple, or ``dim`` is not an int.
    ShapeError
        No tensors, no such axis, or the other axes differ.
    """
    if not isinstance(tensors, list | tuple):
        raise ArgumentError(f"tensors is {type(tensors).__name__}: expected a list or a tuple")
    inputs = [Tensor.of(t) for t in tensors]
    shapes = [t.shape for t in inputs]
    if not inputs:
        raise ShapeError("concat: tensors is empty; pass at least one")
    dim = check_dim("dim", dim, inputs[0].ndim)
    other_axes = {s[:dim] + s[dim + 1 :] for s in shapes}
    if len(other_axes) > 1 or len({len(s) for s in shapes}) > 1:
        raise ShapeError(f"concat: shapes {shapes} differ in an axis other than dim={dim}")
    return Concat(dim)(*inputs)


def zeros(xp: Any, shape: tuple[int, ...], dtype: Any) -> Array:
    """Zeros in batch-last memory."""
    if not shape:
        return xp.zeros(shape, dtype)
    return xp.moveaxis(xp.zeros((*shape[1:], shape[0]), dtype), -1, 0)


class Index(Function):
    """See :func:`getitem`: a view; backward scatters dy into zeros."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, index: tuple[Any, ...]) -> None:
        # an ellipsis makes a single element an array, not a scalar
        self.index = index if Ellipsis in index else (*index, Ellipsis)

    def forward(self, backend: Backend, x: Array) -> Array:
        self.save(shape=x.shape)
        try:
            return x[self.index]
        except (IndexError, OverflowError) as error:
            raise OutOfRangeError(f"indexing a tensor of shape {x.shape}: {error}") from error

    def backward(self, backend: Backend, dy: Array) -> Array:
        dx = zeros(backend.xp, self.saved.shape, dy.dtype)
        dx[self.index] = dy
        return dx


@operation
def getitem(input: Any, index: Any) -> Tensor:
    """``tensor[index]`` as in NumPy, with ints, slices, None and Ellipsis. A view.

    Slices may have negative steps.

    Raises
    ------
    ArgumentError
        A step of 0.
    DTypeError
        Anything else in the index: arrays, masks, lists.
    ShapeError, also an IndexError
        More indices than axes, or an index out of range.
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
    """Split along ``dim`` into parts of one size (the last may be smaller) or of listed sizes.

    The parts are views.

    Parameters
    ----------
    input
        One axis or more.
    split_size_or_sections
        The size, or a list of sizes that add up to the length of the axis.

    Returns
    -------
    tuple of Tensor

    Raises
    ------
    ArgumentError
        Not a positive int, or sizes that do not add up to the length of the axis.
    ShapeError
        No such axis.
    """
    input = Tensor.of(input)
    dim = check_dim("dim", dim, input.ndim)
    sizes = _section_sizes(split_size_or_sections, input.shape[dim])
    return tuple(Index(index)(input) for index in _sections(dim, sizes))


def _section_sizes(sections: Any, length: int) -> list[int]:
    if is_int(sections) and (sections > 0 or sections == length == 0):
        size = int(sections)
        return [min(size, length - i) for i in range(0, length, size)] if length else [0]
    is_list = isinstance(sections, Sequence) and all(is_int(n) and n >= 0 for n in sections)
    if not is_list or sum(sections) != length:
        raise ArgumentError(
            f"split_size_or_sections={sections!r}: expected a positive int, or ints that add up to "
            f"{length}, the length of the axis"
        )
    return [int(n) for n in sections]
