"""Parts of tensors: indexing, split, gather and scatter, flip, roll, diagonals, triangles.

Where an index repeats, its gradients are summed in a fixed order on every device
(:meth:`~xcnn.backends.base.Backend.sum_rows`). A mask is converted to the positions where it is
true: a GPU makes the host wait for their number. Indices out of range are errors on the CPU; on a
GPU, which would have to wait for the check, they wrap around.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import wraps
from itertools import accumulate, pairwise
from typing import Any, TypeVar, cast

from ..arrays import Array, sum_dtype
from ..backends import Backend
from ..checks import (
    are_ints,
    check_choice,
    check_dim,
    check_dims,
    check_flag,
    check_int,
    check_number,
    check_size,
    is_int,
)
from ..errors import (
    ArgumentError,
    DeviceError,
    DTypeError,
    GradientError,
    OutOfRangeError,
    ShapeError,
)
from ..tensor import Function, Tensor, is_grad_enabled, operation
from .arithmetic import broadcasts, mul, operands, sum_to, where
from .reduction import sum
from .shape import (
    broadcast_tensors,
    common_shape,
    concat,
    expand,
    flatten,
    lengths,
    movedim,
    permute,
    reshape,
    transpose,
    unsqueeze,
    zeros,
)

__all__ = [
    "argwhere", "chunk", "diag", "diag_embed", "diagonal", "flip", "fliplr", "flipud", "gather",
    "index_add", "index_copy", "index_fill", "index_put", "index_select", "masked_fill",
    "masked_select", "narrow", "nonzero", "repeat_interleave", "roll", "rot90", "scatter",
    "scatter_add", "select", "split", "take", "take_along_dim", "tensor_split", "trace", "tril",
    "triu", "unbind",
]  # fmt: skip

_ALL = slice(None)
_F = TypeVar("_F", bound=Callable[..., Any])


# -- the Functions -------------------------------------------------------------------------------


class Index(Function):
    """See :func:`getitem`: a view; backward writes dy into zeros."""

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


class TakeRows(Function):
    """x[arrays]: one array of int64 for each of the first axes; backward sums where they repeat."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, arrays: tuple[Array, ...]) -> None:
        self.arrays = arrays

    def forward(self, backend: Backend, x: Array) -> Array:
        self.save(shape=x.shape)
        return x[(*self.arrays, Ellipsis)]

    def backward(self, backend: Backend, dy: Array) -> Array:
        return _summed(backend, dy, self.arrays, self.saved.shape)


class PutRows(Function):
    """A copy of x with y[arrays] = values, or with the values added, also where indices repeat."""

    arguments = ("input", "values")
    any_dtype = ("input",)

    def __init__(self, arrays: tuple[Array, ...], accumulate: bool) -> None:
        self.arrays, self.accumulate = arrays, accumulate

    def forward(self, backend: Backend, x: Array, values: Array) -> Array:
        self.save(shape=values.shape)
        y = backend.xp.empty_like(x)
        if self.accumulate:
            added = _summed(backend, values, self.arrays, x.shape)
            return backend.xp.add(x, added.astype(x.dtype, copy=False), out=y)
        y[...] = x
        y[(*self.arrays, Ellipsis)] = values
        return y

    def backward(self, backend: Backend, dy: Array) -> tuple:
        dx, index = dy, (*self.arrays, Ellipsis)
        if self.needs_grad[0] and not self.accumulate:
            dx = backend.xp.empty_like(dy)
            dx[...] = dy
            dx[index] = 0
        return dx, sum_to(dy[index], self.saved.shape) if self.needs_grad[1] else None


def _summed(backend: Backend, rows: Array, arrays: Any, shape: tuple[int, ...]) -> Array:
    """An array of ``shape``: zeros, with ``rows`` added at the ``arrays`` of its first axes."""
    count = len(arrays)
    places: Any = 0
    for array, length in zip(arrays, shape, strict=False):
        places = places * length + array % length
    rows = backend.xp.broadcast_to(rows, (*places.shape, *shape[count:]))
    rows = rows.reshape(places.size, math.prod(shape[count:]))
    if rows.dtype.kind == "f":
        rows = rows.astype(sum_dtype(rows.dtype), copy=False)
    sums = backend.sum_rows(rows, places.reshape(-1), math.prod(shape[:count]))
    return sums.reshape(shape)


def _indexing(function: _F) -> _F:
    """Mark an operation that makes arrays on the device of its first argument, a Tensor by then."""

    @wraps(function)
    def call(input: Any, *arguments: Any, **settings: Any) -> Any:
        input = Tensor.of(input)
        with input.backend.active():
            return function(input, *arguments, **settings)

    return cast(_F, operation(call))


# -- tensor[index] -------------------------------------------------------------------------------


@_indexing
def getitem(input: Any, index: Any) -> Tensor:
    """``tensor[index]`` with ints, slices, None, Ellipsis, arrays, lists or Tensors of ints, masks.

    With ints, slices (also with negative steps), None and Ellipsis only, a view. Otherwise these
    are applied first; the axes of the arrays, broadcast to one shape, then take the place of those
    they index if these are adjacent, else they come first. So it is in PyTorch; NumPy treats an
    int next to arrays as one of them.

    Parameters
    ----------
    index
        A mask, of bool, indexes as many axes as it has, as its ``nonzero()`` does: on a GPU the
        host waits for it, and for an int in a device array without axes.

    Raises
    ------
    ArgumentError
        A step of 0.
    DTypeError
        Anything else in the index; uint8, which is a mask in PyTorch but numbers in NumPy.
    OutOfRangeError, also a ShapeError and an IndexError
        More indices than axes, a mask of another shape, or an index out of range (of an array: on
        the CPU only).
    """
    basic, arrays = _parsed(input, index)
    is_whole = arrays and all(item == _ALL for item in basic)
    view = input if is_whole else Index(basic)(input)
    return _take(view, arrays) if arrays else view


@_indexing
def setitem(input: Any, index: Any, value: Any) -> None:
    """``tensor[index] = value``: write into the data; see :func:`getitem` for ``index``.

    For a tensor outside the graph, and for a parameter under ``no_grad``. Like any change of data,
    it must not happen between a forward pass that reads it and its backward pass.

    Parameters
    ----------
    value
        A number, or an array or a Tensor that broadcasts; converted to the tensor's dtype.

    Raises
    ------
    GradientError
        The tape cannot record it: the tensor or the value requires a gradient, or the tensor is the
        result of a recorded operation.
    ArgumentError
        Elements share memory, as after ``expand``.
    DTypeError, OutOfRangeError
        See :func:`getitem`.
    ShapeError
        The value does not broadcast.
    """
    needs_grad = input.requires_grad or (isinstance(value, Tensor) and value.requires_grad)
    if input.creator or (needs_grad and is_grad_enabled()):
        raise GradientError(
            "tensor[index] = value cannot be recorded for gradients: use masked_fill, where, "
            "index_put or scatter, which return a new tensor; a parameter can be changed under "
            "xcnn.no_grad()"
        )
    if any(step == 0 and n > 1 for step, n in zip(input.data.strides, input.shape, strict=True)):
        raise ArgumentError(
            f"tensor[index] = value: elements of this tensor of shape {input.shape} share memory, "
            "as after expand: call .clone() first"
        )
    values = operands(input, value)[1].data.astype(input.dtype, copy=False)
    if not values.ndim and _is_mask(index) and index.shape == input.shape:
        mask = _indices("tensor[index] = value", index, input, masks=True)
        return input.backend.xp.copyto(input.data, values, where=mask)  # no positions needed
    basic, arrays = _parsed(input, index)
    view = Index(basic)(input.detach()).data
    indexed = common_shape("indexing", *[a.shape for a in arrays.values()])
    order, back = _orders(arrays, view.ndim, len(indexed))
    rows = view.transpose(order)
    shape = (*indexed, *rows.shape[len(arrays) :])
    try:
        values = input.backend.xp.broadcast_to(values, [shape[axis] for axis in back])
    except ValueError as error:
        raise ShapeError(f"tensor[index] = value: {values.shape} for {shape}") from error
    rows[(*arrays.values(), Ellipsis)] = values.transpose(_inverse(back))
    return None


def _parsed(input: Tensor, index: Any) -> tuple[tuple[Any, ...], dict[int, Array]]:
    """The ints, slices and None of an index, and the arrays by the axes of what those pick."""
    xp, shape = input.backend.xp, input.shape
    items = [_index_item(input, i) for i in (index if isinstance(index, tuple) else (index,))]
    if not any(hasattr(item, "dtype") for item in items):
        return tuple(items), {}
    spans = [0 if i is None or i is Ellipsis else i.ndim if _is_mask(i) else 1 for i in items]
    ellipses = [n for n, item in enumerate(items) if item is Ellipsis]
    missing = input.ndim - math.fsum(spans)
    if missing < 0 or len(ellipses) > 1:
        raise OutOfRangeError(f"shape {shape} takes one Ellipsis and {input.ndim} indices at most")
    place = ellipses[0] if ellipses else len(items)
    items[place : place + 1] = [_ALL] * int(missing)
    basic: list[Any] = []
    arrays: dict[int, Array] = {}
    source = axis = 0
    for item in items:
        if not hasattr(item, "dtype"):
            basic.append(item)
            source, axis = source + (item is not None), axis + (not is_int(item))
            continue
        parts = (item,)
        if _is_mask(item):
            if item.shape != shape[source : source + item.ndim]:
                text = f"a mask of shape {item.shape} does not fit {shape} from axis {source} on"
                raise OutOfRangeError(f"indexing: {text}")
            parts = xp.nonzero(item)
        else:
            input.backend.check_indices("indexing", item, shape[source], negative=True)
        arrays.update(enumerate(parts, axis))
        basic += [_ALL] * len(parts)
        source, axis = source + len(parts), axis + len(parts)
    return tuple(basic), arrays


def _is_mask(item: Any) -> bool:
    return getattr(item, "dtype", None) == "bool"


def _index_item(input: Tensor, item: Any) -> Any:
    if item is None or item is Ellipsis:
        return item
    if is_int(item):
        return int(item)
    if isinstance(item, slice):
        if not all(p is None or is_int(p) for p in (item.start, item.stop, item.step)):
            raise DTypeError(f"indexing a tensor: {item}: expected slices of ints")
        if item.step == 0:
            raise ArgumentError("indexing a tensor: the step of a slice is 0")
        return item
    if not isinstance(item, list | tuple) and not hasattr(item, "dtype"):
        text = "expected ints, slices, None, Ellipsis, or arrays or lists of ints or of bools"
        raise DTypeError(f"a tensor cannot be indexed with {type(item).__name__}: {text}")
    array = _indices("indexing", item, input, masks=True)
    return array if array.ndim else int(input.backend.to_host(array))


def _indices(name: str, value: Any, input: Tensor, masks: bool = False) -> Array:
    """``value`` as an array of int64 on input's device; with ``masks``, one of bool as it is."""
    tensor, backend = Tensor.of(value), input.backend
    array = tensor.data
    if isinstance(value, list | tuple) and not array.size:
        array = array.astype("int64")
    is_unclear = array.dtype == "uint8" or (_is_mask(array) and not array.ndim)
    if array.dtype.kind not in ("iub" if masks else "iu") or (masks and is_unclear):
        raise DTypeError(
            f"{name}: an index is {array.dtype} of shape {array.shape}: expected ints, such as "
            "int64" + ", or bool for a mask of one axis or more" * masks
        )
    if tensor.backend is not backend:
        if tensor.device != "cpu":
            text = f"the index is on {tensor.device}, the input on {input.device}"
            raise DeviceError(f"{name}: {text}; move one of them with .to(device)")
        array = backend.asarray(array)
    return array if _is_mask(array) else array.astype("int64", copy=False)


def _take(input: Tensor, arrays: dict[int, Array]) -> Tensor:
    """``input`` indexed along the axes of ``arrays``, which are in order and in range."""
    indexed = common_shape("indexing", *[a.shape for a in arrays.values()])
    order, back = _orders(arrays, input.ndim, len(indexed))
    return _permuted(TakeRows(tuple(arrays.values()))(_permuted(input, order)), back)


def _orders(arrays: dict[int, Array], ndim: int, indexed: int) -> tuple[list[int], list[int]]:
    """The axes of the input, those that are indexed first; how to put the result's axes back."""
    axes = list(arrays)
    others = [axis for axis in range(ndim) if axis not in arrays]
    is_adjacent = axes and axes[-1] - axes[0] == len(axes) - 1
    first = indexed + (axes[0] if is_adjacent else 0)
    back = [*range(indexed, first), *range(indexed), *range(first, indexed + len(others))]
    return axes + others, back


def _permuted(x: Tensor, dims: list[int]) -> Tensor:
    return x if dims == sorted(dims) else permute(x, dims)


def _inverse(dims: list[int]) -> list[int]:
    return sorted(range(len(dims)), key=dims.__getitem__)


# -- parts ---------------------------------------------------------------------------------------


def _axis(input: Any, dim: Any) -> tuple[Tensor, int]:
    input = Tensor.of(input)
    return input, check_dim("dim", dim, input.ndim)


def _part(input: Tensor, dim: int, item: Any) -> Tensor:
    return getitem(input, (*(_ALL,) * dim, item))


def select(input: Any, dim: int, index: int) -> Tensor:
    """The part at ``index`` of an axis, without that axis: ``input[:, :, index]``. A view."""
    return _part(*_axis(input, dim), index)


def unbind(input: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """The parts at each index of an axis, without that axis. Views."""
    input, dim = _axis(input, dim)
    return tuple(_part(input, dim, i) for i in range(input.shape[dim]))


def narrow(input: Any, dim: int, start: Any, length: int) -> Tensor:
    """``length`` elements of an axis from ``start`` on, which may count from the end. A view.

    Raises
    ------
    OutOfRangeError
        The axis is shorter.
    """
    input, dim = _axis(input, dim)
    begin = check_int("start", Tensor.of(start).item(), -(2**63))
    end, size = begin + check_int("length", length, 0), input.shape[dim]
    if begin < 0:
        begin, end = begin + size, end + size
    if not 0 <= begin <= end <= size:
        raise OutOfRangeError(f"narrow: start={start}, length={length}: the axis has length {size}")
    return _part(input, dim, slice(begin, end))


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
    input, dim = _axis(input, dim)
    sizes = _section_sizes(split_size_or_sections, input.shape[dim])
    stops = zip(sizes, accumulate(sizes), strict=True)
    return tuple(_part(input, dim, slice(stop - size, stop)) for size, stop in stops)


def _section_sizes(sections: Any, length: int) -> list[int]:
    if is_int(sections) and (sections > 0 or sections == length == 0):
        size = int(sections)
        return [min(size, length - i) for i in range(0, length, size)] if length else [0]
    is_list = isinstance(sections, Sequence) and all(is_int(n) and n >= 0 for n in sections)
    if not is_list or math.fsum(sections) != length:
        raise ArgumentError(
            f"split_size_or_sections={sections!r}: expected a positive int, or ints that add up to "
            f"{length}, the length of the axis"
        )
    return [int(n) for n in sections]


def chunk(input: Any, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """Split into ``chunks`` parts of one size; the last may be smaller, or some be missing. Views.

    Raises
    ------
    ArgumentError
        ``chunks`` is not an int >= 1.
    """
    (input, dim), count = _axis(input, dim), check_int("chunks", chunks)
    check_size("chunks", chunks, (count,), visited=True)
    length = input.shape[dim]
    return split(input, -(-length // count) if length else [0] * count, dim)


def tensor_split(input: Any, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """Split into a number of parts whose sizes differ by 1 at most, or before given indices. Views.

    Parameters
    ----------
    indices_or_sections
        An int >= 1, or ints as in slices; an array of them is read by the host.

    Raises
    ------
    ArgumentError
        Neither.
    """
    (input, dim), given = _axis(input, dim), indices_or_sections
    length = input.shape[dim]
    given = Tensor.of(given).numpy().tolist() if hasattr(given, "dtype") else given
    if is_int(given) and given > 0:
        check_size("indices_or_sections", given, (given,), visited=True)
        size, larger = divmod(length, given)
        given = [i * size + min(i, larger) for i in range(1, given)]
    if not isinstance(given, list | tuple) or not are_ints(given, len(given)):
        raise ArgumentError(f"indices_or_sections={given!r}: expected an int >= 1, or ints")
    return tuple(_part(input, dim, slice(*ends)) for ends in pairwise([0, *given, length]))


def flip(input: Any, dims: int | Sequence[int]) -> Tensor:
    """Reverse the order along ``dims``. A view, where PyTorch copies."""
    input = Tensor.of(input)
    axes = check_dims("dims", dims, input.ndim)
    return getitem(
        input, tuple(slice(None, None, -1 if i in axes else 1) for i in range(input.ndim))
    )


def fliplr(input: Any) -> Tensor:
    """Reverse the order along axis 1: left and right of a matrix. A view."""
    return flip(input, 1)


def flipud(input: Any) -> Tensor:
    """Reverse the order along axis 0: up and down of a matrix. A view."""
    return flip(input, 0)


def roll(input: Any, shifts: int | Sequence[int], dims: Any = None) -> Tensor:
    """Move each element ``shifts`` places along ``dims``; those beyond the end enter at the start.

    Without ``dims``, along the flattened input.

    Raises
    ------
    ArgumentError
        Not as many shifts as axes, or not ints.
    ShapeError
        No such axis.
    """
    input = Tensor.of(input)
    if dims is None or (isinstance(dims, list | tuple) and not dims):
        return reshape(roll(reshape(input, -1), shifts, 0), input.shape)
    steps, axes = lengths("shifts", (shifts,)), lengths("dims", (dims,))
    if len(steps) != len(axes):
        raise ArgumentError(f"roll: shifts={shifts}, dims={dims}: expected as many of each")
    for step, axis in zip(steps, axes, strict=True):
        dim = check_dim("dims", axis, input.ndim)
        if cut := -step % (input.shape[dim] or 1):
            parts = _part(input, dim, slice(cut, None)), _part(input, dim, slice(cut))
            input = concat(parts, dim)
    return input


def rot90(input: Any, k: int = 1, dims: Sequence[int] = (0, 1)) -> Tensor:
    """Rotate by 90 degrees ``k`` times, from the first axis of ``dims`` towards the second. A view.

    Raises
    ------
    ArgumentError
        Not ints, or not two axes.
    """
    input, turns = Tensor.of(input), check_int("k", k, -(2**63)) % 4
    axes = check_dims("dims", dims, input.ndim)
    if len(axes) != 2:
        raise ArgumentError(f"rot90: dims={dims}: expected two axes")
    if turns % 2 == 0:
        return flip(input, axes) if turns else input
    return transpose(flip(input, axes[1 if turns == 1 else 0]), *axes)


@_indexing
def repeat_interleave(
    input: Any, repeats: Any, dim: int | None = None, output_size: int | None = None
) -> Tensor:
    """Repeat each element of an axis, or of the flattened input, next to itself.

    Parameters
    ----------
    repeats
        How often: an int, or one for each element; an array of them is read by the host.
    output_size
        The sum of ``repeats``, if it is to be checked.

    Raises
    ------
    ArgumentError
        Not ints >= 0.
    ShapeError
        Another number of repeats than elements, or another sum.
    """
    if dim is None:
        input, dim = reshape(input, -1), 0
    dim = check_dim("dim", dim, input.ndim)
    counts, length = Tensor.of(repeats).numpy().reshape(-1), input.shape[dim]
    if counts.dtype.kind not in "iu" or counts.min(initial=0) < 0:
        raise ArgumentError(f"repeat_interleave: repeats={repeats!r}: expected ints >= 0")
    if output_size is not None:
        check_int("output_size", output_size, 0)
    total = int(counts.sum()) * (length if counts.size == 1 else 1)
    if counts.size not in (1, length) or output_size not in (None, total):
        text = f"{counts.size} repeats of sum {total} for an axis of length {length}"
        raise ShapeError(f"repeat_interleave: {text}, output_size={output_size}")
    if counts.size == 1:
        shape = (*input.shape[: dim + 1], int(counts[0]), *input.shape[dim + 1 :])
        return flatten(expand(unsqueeze(input, dim + 1), shape), dim, dim + 1)
    check_size("repeats", repeats, (total,))
    numbers = (counts >= 0).cumsum() - 1  # of the elements
    return _take(input, {dim: input.backend.asarray(numbers.repeat(counts.astype("int64")))})


# -- gather and scatter --------------------------------------------------------------------------


def _vector(x: Tensor) -> Tensor:
    return x if x.ndim else unsqueeze(x, 0)


def _grid(
    name: str, input: Tensor, dim: int, index: Any, negative: bool = False
) -> tuple[Tensor, tuple[int, ...], tuple[Array, ...]]:
    """``input`` with one axis at least, the shape of ``index``, and the arrays that index."""
    x = _vector(input)
    dim, array = check_dim("dim", dim, x.ndim), _indices(name, index, input)
    shape, array = array.shape, array if array.ndim else array.reshape(1)
    if not array.size:
        return x, shape, (array,) * x.ndim
    larger = [a for a, (n, m) in enumerate(zip(array.shape, x.shape, strict=False)) if n > m]
    if array.ndim != x.ndim or {*larger} - {dim}:
        text = f"expected the axes of the input, {input.shape}, none longer but dim={dim}"
        raise ShapeError(f"{name}: index has shape {shape}: {text}")
    input.backend.check_indices(name, array, x.shape[dim], negative)
    return x, shape, _open_grid(input.backend.xp, array, dim)


def _open_grid(xp: Any, array: Array, dim: int) -> tuple[Array, ...]:
    """``array`` for axis ``dim``, and for each other axis its numbers along that axis."""
    axes = range(array.ndim)
    return tuple(
        array if axis == dim else xp.arange(n).reshape([-1 if a == axis else 1 for a in axes])
        for axis, n in enumerate(array.shape)
    )


@_indexing
def gather(input: Any, dim: int, index: Any) -> Tensor:
    """The elements at ``index`` along ``dim``, the other axes running with those of ``index``.

    For three axes and ``dim=1``: y[i, j, k] = input[i, index[i, j, k], k].

    Parameters
    ----------
    index
        Ints >= 0, with the axes of ``input``; its other axes may be shorter.

    Raises
    ------
    DTypeError
        Not ints.
    OutOfRangeError
        An index is out of range (checked on the CPU only).
    ShapeError
        Other axes than the input's, or a longer one.
    """
    x, shape, arrays = _grid("gather", input, dim, index)
    y = TakeRows(arrays)(x)
    return y if y.shape == shape else reshape(y, shape)


@_indexing
def scatter(
    input: Any, dim: int, index: Any, src: Any = None, *, value: Any = None, reduce: Any = None
) -> Tensor:
    """A copy of ``input`` with ``src`` at ``index`` along ``dim``: the reverse of :func:`gather`.

    For three axes and ``dim=1``: y[i, index[i, j, k], k] = src[i, j, k]. Where indices repeat, any
    of their elements may be taken.

    Parameters
    ----------
    index
        Ints >= 0; see :func:`gather`.
    src, value
        One of them: a number or an array that is as long as ``index`` along each axis, or longer.
    reduce
        ``"add"``: add to the input instead, also where indices repeat.

    Raises
    ------
    ArgumentError
        Another ``reduce``, or not one of ``src`` and ``value``.
    DTypeError, OutOfRangeError, ShapeError
        See :func:`gather`.
    """
    if (src is None) == (value is None):
        raise ArgumentError("scatter: expected either src or value")
    if reduce is not None:
        check_choice("reduce", reduce, ("add",))
    return _scattered("scatter", input, dim, index, value if src is None else src, reduce == "add")


@_indexing
def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Tensor:
    """A copy of ``input`` with ``src`` added at ``index`` along ``dim``; see :func:`scatter`."""
    return _scattered("scatter_add", input, dim, index, src, True)


def _like(name: str, input: Tensor, value: Any) -> Tensor:
    """A Tensor, or a number in the dtype of ``input``."""
    if not isinstance(value, int | float):
        return Tensor.of(value)
    with input.backend.active():
        try:
            whole = value if input.dtype.kind == "f" or isinstance(value, int) else int(value)
            if whole == value or whole != whole:
                return Tensor(input.backend.xp.full((), whole, input.dtype))
        except (OverflowError, ValueError):  # infinity, NaN, or a large int
            pass
    raise DTypeError(f"{name}: the value {value} does not fit the input, {input.dtype}")


def _scattered(
    name: str, input: Tensor, dim: int, index: Any, src: Any, accumulate: bool
) -> Tensor:
    x, shape, arrays = _grid(name, input, dim, index)
    source = _like(name, x, src)
    if source.ndim:
        if source.ndim != len(shape) or any(
            n > m for n, m in zip(shape, source.shape, strict=True)
        ):
            raise ShapeError(
                f"{name}: src has shape {source.shape}, index {shape}: it is too small"
            )
        source = getitem(source, tuple(map(slice, shape)))
    y = PutRows(arrays, accumulate)(x, source)
    return y if input.ndim else reshape(y, ())


@_indexing
def index_select(input: Any, dim: int, index: Any) -> Tensor:
    """The parts of an axis at ``index``, a vector of ints >= 0, in that order.

    Raises
    ------
    DTypeError
        Not ints.
    OutOfRangeError
        An index is out of range (checked on the CPU only).
    ShapeError
        No such axis, or ``index`` has more than one.
    """
    x, dim, array = _along("index_select", input, dim, index)
    y = _take(x, {dim: array})
    return y if input.ndim else reshape(y, ())


def _along(name: str, input: Tensor, dim: int, index: Any) -> tuple[Tensor, int, Array]:
    x = _vector(input)
    dim, array = check_dim("dim", dim, x.ndim), _indices(name, index, input)
    if array.ndim > 1:
        raise ShapeError(f"{name}: index has shape {array.shape}: expected one axis")
    input.backend.check_indices(name, array, x.shape[dim])
    return x, dim, array.reshape(-1)


def _put_along(
    name: str, input: Tensor, dim: int, index: Any, source: Any, accumulate: bool = False
) -> Tensor:
    x, dim, array = _along(name, input, dim, index)
    source = _like(name, x, source)
    expected = (*x.shape[:dim], array.size, *x.shape[dim + 1 :])
    if source.ndim:
        if source.shape != expected:
            raise ShapeError(f"{name}: source has shape {source.shape}: expected {expected}")
        source = movedim(source, dim, 0)
    y = movedim(PutRows((array,), accumulate)(movedim(x, dim, 0), source), 0, dim)
    return y if input.ndim else reshape(y, ())


@_indexing
def index_add(input: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Tensor:
    """A copy of ``input`` with ``alpha * source`` added at ``index`` along ``dim``.

    Where an index repeats, all its parts are added. See :func:`index_select` for ``index``.

    Raises
    ------
    DTypeError, OutOfRangeError
        See :func:`index_select`.
    ShapeError
        ``source`` has not the shape of the indexed part.
    """
    if not isinstance(alpha, int):
        check_number("alpha", alpha)
    source = source if alpha == 1 else mul(source, alpha)
    return _put_along("index_add", input, dim, index, source, True)


@_indexing
def index_copy(input: Any, dim: int, index: Any, source: Any) -> Tensor:
    """A copy of ``input`` with ``source`` at ``index`` along ``dim``; see :func:`index_add`."""
    return _put_along("index_copy", input, dim, index, source)


@_indexing
def index_fill(input: Any, dim: int, index: Any, value: Any) -> Tensor:
    """A copy of ``input`` with a number at ``index`` along ``dim``; see :func:`index_add`."""
    x, dim, array = _along("index_fill", input, dim, index)
    mask = input.backend.xp.zeros((x.shape[dim], *(1,) * (x.ndim - 1 - dim)), bool)
    mask[array] = True  # the gradient of a repeated element reaches the value once
    y = masked_fill(x, mask, value)
    return y if input.ndim else reshape(y, ())


@_indexing
def index_put(input: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Tensor:
    """A copy of ``input`` with ``input[indices] = values``.

    Parameters
    ----------
    indices
        A tuple of arrays of ints or masks, for the first axes; see :func:`getitem`.
    values
        A number, or an array that broadcasts to ``input[indices]``.
    accumulate
        Add the values instead, also where indices repeat; otherwise any of those may be taken.

    Raises
    ------
    ArgumentError
        ``indices`` is not a tuple or a list of arrays.
    DTypeError, OutOfRangeError
        See :func:`getitem`.
    ShapeError
        The values do not broadcast.
    """
    basic, arrays = (
        _parsed(input, tuple(indices)) if isinstance(indices, list | tuple) else ((), {})
    )
    if not arrays or any(item != _ALL for item in basic) or [*arrays] != [*range(len(arrays))]:
        raise ArgumentError("index_put: indices: expected a tuple of arrays of ints, or masks")
    shape = common_shape("index_put", *[a.shape for a in arrays.values()])
    shape, values = (*shape, *input.shape[len(arrays) :]), _like("index_put", input, values)
    if not broadcasts(values.shape, shape):
        raise ShapeError(f"index_put: values have shape {values.shape}, the indexed part {shape}")
    put = PutRows(tuple(arrays.values()), check_flag("accumulate", accumulate))
    return put(input, values)


@_indexing
def take(input: Any, index: Any) -> Tensor:
    """The elements at ``index`` of the flattened input, in the shape of ``index``.

    Raises
    ------
    DTypeError
        Not ints.
    OutOfRangeError
        An index is out of range; a negative one counts from the end (checked on the CPU only).
    """
    array = _indices("take", index, input)
    input.backend.check_indices("take", array, input.data.size, negative=True)
    return TakeRows((array,))(reshape(input, -1))


@_indexing
def take_along_dim(input: Any, indices: Any, dim: int | None = None) -> Tensor:
    """:func:`gather` with ``input`` and ``indices`` broadcast to each other but along ``dim``.

    Without ``dim``, of the flattened input and indices. Indices may count from the end. Takes the
    result of an ``argsort``.
    """
    array = _indices("take_along_dim", indices, input)
    if dim is None:
        input, array, dim = reshape(input, -1), array.reshape(-1), 0
    dim = check_dim("dim", dim, input.ndim)
    if array.ndim != input.ndim:
        raise ShapeError(f"take_along_dim: indices {array.shape}: expected {input.ndim} axes")
    own, given = ((*s[:dim], 1, *s[dim + 1 :]) for s in (input.shape, array.shape))
    shape = [*common_shape("take_along_dim", own, given)]
    sizes = [[*shape[:dim], n, *shape[dim + 1 :]] for n in (input.shape[dim], array.shape[dim])]
    array = input.backend.xp.broadcast_to(array, sizes[1])
    x, _, arrays = _grid("take_along_dim", expand(input, sizes[0]), dim, array, negative=True)
    return TakeRows(arrays)(x)


# -- masks ---------------------------------------------------------------------------------------


def masked_fill(input: Any, mask: Any, value: Any) -> Tensor:
    """``value``, a number, where ``mask`` is true, else ``input``; the two broadcast.

    Raises
    ------
    DTypeError
        ``mask`` is not bool.
    ShapeError
        They do not broadcast, or ``value`` has axes.
    """
    if shape := getattr(value, "shape", ()):
        raise ShapeError(f"masked_fill: value has shape {shape}: expected a number")
    return where(mask, _like("masked_fill", Tensor.of(input), value), input)


@_indexing
def masked_select(input: Any, mask: Any) -> Tensor:
    """The elements where ``mask`` is true, along one axis; the two broadcast.

    On a GPU the host waits for their number.

    Raises
    ------
    DTypeError
        ``mask`` is not bool.
    ShapeError
        They do not broadcast.
    """
    if not _is_mask(mask):
        raise DTypeError("masked_select: mask: expected bool, for example x > 0")
    input, mask = map(_vector, broadcast_tensors(input, mask))
    return getitem(input, mask)


@_indexing
def nonzero(input: Any, *, as_tuple: bool = False) -> Any:
    """The positions of the elements that are not 0: (count, axes) of int64, in row-major order.

    On a GPU the host waits for their number.

    Parameters
    ----------
    as_tuple
        Return one vector for each axis instead: ``input[nonzero(input, as_tuple=True)]`` are the
        elements.
    """
    xp = input.backend.xp
    parts = xp.nonzero(_vector(input).data)
    if check_flag("as_tuple", as_tuple):
        return tuple(Tensor(part) for part in parts)
    return Tensor(xp.stack(parts, axis=1)[:, : input.ndim])


def argwhere(input: Any) -> Tensor:
    """The positions of the elements that are not 0; see :func:`nonzero`."""
    return nonzero(input)


# -- diagonals and triangles ---------------------------------------------------------------------


class Diagonal(Function):
    """See :func:`diagonal`: of the last two axes, a view."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, offset: int) -> None:
        self.offset = check_int("offset", offset, -(2**63))

    def forward(self, backend: Backend, x: Array) -> Array:
        self.save(shape=x.shape)
        rows, columns = x.shape[-2:]
        return x.diagonal(max(-rows, min(self.offset, columns)), -2, -1)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return _with_diagonal(backend.xp, dy, self.offset, *self.saved.shape[-2:])


class DiagEmbed(Diagonal):
    """See :func:`diag_embed`: the adjoint of :class:`Diagonal`."""

    def forward(self, backend: Backend, x: Array) -> Array:
        size = x.shape[-1] + abs(self.offset)
        check_size("offset", self.offset, (*x.shape[:-1], size, size))
        return _with_diagonal(backend.xp, x, self.offset, size, size)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return dy.diagonal(self.offset, -2, -1)


def _with_diagonal(xp: Any, x: Array, offset: int, rows: int, columns: int) -> Array:
    """Matrices of zeros with the last axis of x on a diagonal."""
    y = xp.zeros((*x.shape[:-1], rows * columns), x.dtype)
    start, step = (offset if offset >= 0 else -offset * columns), columns + 1
    y[..., start : start + x.shape[-1] * step : step] = x
    return y.reshape(*x.shape[:-1], rows, columns)


@operation
def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of two axes as the last axis. A view.

    Parameters
    ----------
    offset
        How far above the main diagonal; below, if negative.

    Raises
    ------
    ArgumentError
        Not ints.
    ShapeError
        No such axis, or the same one twice.
    """
    input = Tensor.of(input)
    axes = check_dims("dim1, dim2", (dim1, dim2), input.ndim)
    others = [axis for axis in range(input.ndim) if axis not in axes]
    return Diagonal(offset)(permute(input, [*others, *axes]))


@operation
def diag_embed(input: Any, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Square matrices of zeros with the last axis on a diagonal; see :func:`diagonal`."""
    input = Tensor.of(input)
    if not input.ndim:
        raise ShapeError("diag_embed: the input is a number: expected one axis or more")
    axes = check_dims("dim1, dim2", (dim1, dim2), input.ndim + 1)
    return movedim(DiagEmbed(offset)(input), (-2, -1), axes)


def diag(input: Any, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, as a view, or a matrix with a vector on its diagonal.

    Raises
    ------
    ShapeError
        Neither a matrix nor a vector.
    """
    input = Tensor.of(input)
    if input.ndim not in (1, 2):
        raise ShapeError(f"diag: the input has shape {input.shape}: expected one axis or two")
    return diag_embed(input, diagonal) if input.ndim == 1 else _diagonal(input, diagonal)


_diagonal = diagonal  # an argument of diag has its name


def trace(input: Any) -> Tensor:
    """The sum of the main diagonal of a matrix."""
    return sum(_diagonal(_matrix("trace", input, 2)))


def _matrix(name: str, input: Any, most: float = math.inf) -> Tensor:
    input = Tensor.of(input)
    if not 2 <= input.ndim <= most:
        raise ShapeError(f"{name}: the input has shape {input.shape}: expected a matrix")
    return input


def _triangle(name: str, part: str, keeps: Callable[[Array, int], Array]) -> Any:
    def triangle(input: Any, diagonal: int = 0) -> Tensor:
        input, offset = _matrix(name, input), check_int("diagonal", diagonal, -(2**63))
        xp, (rows, columns) = input.backend.xp, input.shape[-2:]
        keep = keeps(xp.arange(columns) - xp.arange(rows)[:, None], offset)
        return where(keep, input, xp.zeros((), input.dtype))

    triangle.__name__ = triangle.__qualname__ = name
    triangle.__doc__ = f"""The {part} triangle of matrices, (..., M, N), with 0 elsewhere.

    Parameters
    ----------
    diagonal
        The last diagonal of the triangle: how far above the main one; below, if negative.

    Raises
    ------
    ShapeError
        Fewer than two axes.
    """
    return _indexing(triangle)


tril = _triangle("tril", "lower", lambda above, offset: above <= offset)
triu = _triangle("triu", "upper", lambda above, offset: above >= offset)
