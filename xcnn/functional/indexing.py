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
from itertools import accumulate
from typing import Any, TypeVar, cast

from ..arrays import Array, sum_dtype
from ..backends import Backend
from ..checks import check_choice, check_dim, check_dims, check_flag, check_int, check_size, is_int
from ..errors import (
    ArgumentError,
    DeviceError,
    DTypeError,
    GradientError,
    OutOfRangeError,
    ShapeError,
)
from ..tensor import Function, Tensor, is_grad_enabled, operation
from .arithmetic import broadcasts, operands, sum_to, where
from .shape import (
    broadcast_tensors,
    common_shape,
    concat,
    expand,
    flatten,
    lengths,
    movedim,
    reshape,
    transpose,
    unsqueeze,
    zeros,
)

__all__ = [
    "argwhere", "chunk", "diag", "diagonal", "flip", "fliplr", "flipud", "gather", "index_put",
    "index_select", "masked_fill", "masked_select", "narrow", "nonzero", "repeat_interleave",
    "roll", "rot90", "scatter", "scatter_add", "select", "split", "tril", "triu", "unbind",
]  # fmt: skip

_ALL = slice(None)
_F = TypeVar("_F", bound=Callable[..., Any])


# -- the Functions -------------------------------------------------------------------------------


class Index(Function):
    """x[index] of ints, slices, None and Ellipsis: a view; backward writes dy into zeros."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, index: tuple[Any, ...]) -> None:
        self.index = (*index, ...) if ... not in index else index  # an array, never a scalar

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


class Take(Index):
    """x[index] of arrays of int64 and whole slices; backward sums where indices repeat."""

    def __init__(self, index: tuple[Any, ...]) -> None:
        self.index = index

    def backward(self, backend: Backend, dy: Array) -> Array:
        return _summed(backend, dy, self.index, self.saved.shape)


class Put(Function):
    """A copy of x with y[index] = values, or with the values added, also where indices repeat."""

    arguments = ("input", "values")
    any_dtype = ("input",)

    def __init__(self, index: tuple[Any, ...], accumulate: bool = False) -> None:
        self.index, self.accumulate = index, accumulate

    def forward(self, backend: Backend, x: Array, values: Array) -> Array:
        self.save(shape=values.shape)
        y = backend.xp.empty_like(x)
        if self.accumulate:
            added = _summed(backend, values, self.index, x.shape)
            return backend.xp.add(x, added.astype(x.dtype, copy=False), out=y)
        y[...] = x
        y[self.index] = values
        return y

    def backward(self, backend: Backend, dy: Array) -> tuple:
        dx = dy
        if self.needs_grad[0] and not self.accumulate:
            dx = backend.xp.empty_like(dy)
            dx[...] = dy
            dx[self.index] = 0
        return dx, sum_to(dy[self.index], self.saved.shape) if self.needs_grad[1] else None


def _layout(index: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[list[int], range, tuple]:
    """For ``index`` as in :class:`Take`: the axes with arrays, their axes in the part, its shape.

    The arrays, broadcast to one shape, take the place of those axes if they are adjacent, else they
    come first.
    """
    axes = [axis for axis, item in enumerate(index) if hasattr(item, "dtype")]
    indexed = common_shape("indexing", *[index[axis].shape for axis in axes])
    others = [n for axis, n in enumerate(shape) if axis not in axes]
    first = axes[0] if axes and axes[-1] - axes[0] < len(axes) else 0
    places = range(first, first + len(indexed))
    return axes, places, (*others[:first], *indexed, *others[first:])


def _summed(backend: Backend, part: Array, index: tuple, shape: tuple[int, ...]) -> Array:
    """An array of ``shape``: zeros, with ``part`` added at ``index``."""
    xp, (axes, places, full) = backend.xp, _layout(index, shape)
    numbers: Any = 0
    for axis in axes:
        numbers = numbers * shape[axis] + index[axis] % shape[axis]
    rows = xp.moveaxis(xp.broadcast_to(part, full), tuple(places), tuple(range(len(places))))
    others = rows.shape[len(places) :]
    rows = rows.reshape(numbers.size, math.prod(others))
    if rows.dtype.kind == "f":
        rows = rows.astype(sum_dtype(rows.dtype), copy=False)
    sizes = [shape[axis] for axis in axes]
    sums = backend.sum_rows(rows, numbers.reshape(-1), math.prod(sizes))
    return xp.moveaxis(sums.reshape(*sizes, *others), tuple(range(len(axes))), tuple(axes))


def _indexing(function: _F) -> _F:
    """Mark an operation that makes arrays on the device of its first argument, made a Tensor."""

    @wraps(function)
    def call(input: Any, *arguments: Any, **settings: Any) -> Any:
        input = Tensor.of(input)
        with input.backend.active():
            return function(input, *arguments, **settings)

    return cast(_F, operation(call))


# -- tensor[index] -------------------------------------------------------------------------------


@operation
def getitem(input: Any, index: Any) -> Tensor:
    """``tensor[index]`` with ints, slices, None, Ellipsis, arrays, lists or Tensors of ints, masks.

    With ints, slices (also with negative steps), None and Ellipsis only, a view. Otherwise these
    are applied first; the axes of the arrays, broadcast to one shape, then take the place of those
    they index if these are adjacent, else they come first. This is PyTorch's rule; NumPy treats
    an int next to arrays as an array.

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
    input = Tensor.of(input)
    if type(index) is int:  # the usual case in a loop
        return Index((index,))(input)
    with input.backend.active():
        basic, arrays = _parsed(input, index)
    is_whole = arrays and all(item == _ALL for item in basic)
    view = input if is_whole else Index(basic)(input)
    return Take(arrays)(view) if arrays else view


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
            "tensor[index] = value is not recorded for gradients: use masked_fill, where, "
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
        input.backend.xp.copyto(input.data, values, where=mask)  # no positions needed
        return
    basic, arrays = _parsed(input, index)
    view = Index(basic)(input.detach()).data
    shape = _layout(arrays, view.shape)[-1]
    if not broadcasts(values.shape, shape):
        raise ShapeError(
            f"tensor[index] = value: value has shape {values.shape}: expected one that broadcasts "
            f"to that of the indexed part, {shape}"
        )
    view[(*arrays, ...)] = values


def _parsed(input: Tensor, index: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """The ints, slices and None of an index, and the index of arrays for what those pick."""
    shape = input.shape
    items = [_index_item(input, i) for i in (index if isinstance(index, tuple) else (index,))]
    if not any(hasattr(item, "dtype") for item in items):
        return tuple(items), ()
    spans = [0 if i is None or i is Ellipsis else i.ndim if _is_mask(i) else 1 for i in items]
    ellipses = [n for n, item in enumerate(items) if item is Ellipsis]
    missing = input.ndim - math.fsum(spans)
    if missing < 0 or len(ellipses) > 1:
        raise OutOfRangeError(f"shape {shape} takes one Ellipsis and {input.ndim} indices at most")
    place = ellipses[0] if ellipses else len(items)
    items[place : place + 1] = [_ALL] * int(missing)
    basic: list[Any] = []
    picked: list[Any] = []
    source = 0  # axis of the input
    for item in items:
        if not hasattr(item, "dtype"):
            basic.append(item)
            picked += () if is_int(item) else (_ALL,)
            source += item is not None
            continue
        parts = (item,)
        if not _is_mask(item):
            input.backend.check_indices("indexing", item, shape[source], negative=True)
        elif item.shape == shape[source : source + item.ndim]:
            parts = input.backend.xp.nonzero(item)
        else:
            text = f"a mask of shape {item.shape} does not fit {shape} from axis {source} on"
            raise OutOfRangeError(f"indexing: {text}")
        basic += [_ALL] * len(parts)
        picked += parts
        source += len(parts)
    common_shape("indexing", *[p.shape for p in picked if hasattr(p, "dtype")])
    return tuple(basic), tuple(picked)


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
    if isinstance(item, range):
        item = list(item)
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

    ``start`` is an int, or an array of one, which the host reads.

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
        text = f"expected a part of the axis, which has length {size}"
        raise OutOfRangeError(f"narrow: start={start}, length={length}: {text}")
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
    total = int(counts.sum()) * (length if counts.size == 1 else 1)
    expected = total if output_size is None else check_int("output_size", output_size, 0)
    if counts.size not in (1, length) or expected != total:
        text = f"{counts.size} repeats of sum {total} for an axis of length {length}"
        raise ShapeError(f"repeat_interleave: {text}, output_size={output_size}")
    if counts.size == 1:
        shape = (*input.shape[: dim + 1], int(counts[0]), *input.shape[dim + 1 :])
        return flatten(expand(unsqueeze(input, dim + 1), shape), dim, dim + 1)
    check_size("repeats", repeats, (total,))
    numbers = (counts >= 0).cumsum() - 1  # of the elements
    return index_select(input, dim, numbers.repeat(counts.astype("int64")))


# -- gather and scatter --------------------------------------------------------------------------


def _vector(x: Tensor) -> Tensor:
    return x if x.ndim else unsqueeze(x, 0)


def _restored(y: Tensor, shape: tuple[int, ...]) -> Tensor:
    return y if y.shape == shape else reshape(y, shape)


def _grid(
    name: str, input: Tensor, dim: int, index: Any
) -> tuple[Tensor, tuple[int, ...], tuple[Array, ...]]:
    """``input`` with one axis at least, the shape of ``index``, and the arrays that index."""
    x = _vector(input)
    dim, array = check_dim("dim", dim, x.ndim), _indices(name, index, input)
    shape, array = array.shape, array if array.ndim else array.reshape(1)
    if not array.size:
        return x, shape, (array,) * x.ndim
    larger = {a for a, (n, m) in enumerate(zip(array.shape, x.shape, strict=False)) if n > m}
    if array.ndim != x.ndim or larger - {dim}:
        text = f"expected the axes of the input, {input.shape}, none longer but dim={dim}"
        raise ShapeError(f"{name}: index has shape {shape}: {text}")
    input.backend.check_indices(name, array, x.shape[dim])
    return x, shape, open_grid(input.backend.xp, array, dim)


def open_grid(xp: Any, array: Array, dim: int) -> tuple[Array, ...]:
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
    return _restored(Take(arrays)(x), shape)


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
    x, shape, arrays = _grid("scatter", input, dim, index)
    source = _value(x, value if src is None else src)
    if source.ndim:
        lengths = zip(shape, source.shape, strict=False)
        if source.ndim != len(shape) or any(n > m for n, m in lengths):
            text = (
                f"src has shape {source.shape}, too small: expected at least that of index, {shape}"
            )
            raise ShapeError(f"scatter: {text}")
        source = getitem(source, tuple(map(slice, shape)))
    return _restored(Put(arrays, accumulate=reduce == "add")(x, source), input.shape)


def scatter_add(input: Any, dim: int, index: Any, src: Any) -> Tensor:
    """A copy of ``input`` with ``src`` added at ``index`` along ``dim``; see :func:`scatter`."""
    return scatter(input, dim, index, src, reduce="add")


def _value(input: Tensor, value: Any) -> Tensor:
    """A Tensor; a number in the dtype of ``input``, but a float next to ints stays a float."""
    if not isinstance(value, int | float):
        return Tensor.of(value)
    is_mask = isinstance(value, int) and input.dtype == "bool"
    return operands(input, bool(value) if is_mask else value)[1]


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
    x = _vector(input)
    dim, array = check_dim("dim", dim, x.ndim), _indices("index_select", index, input)
    if array.ndim > 1:
        raise ShapeError(f"index_select: index has shape {array.shape}: expected one axis")
    input.backend.check_indices("index_select", array, x.shape[dim])
    return Take((*(_ALL,) * dim, array.reshape(-1)))(x) if input.ndim else input


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
    is_list = isinstance(indices, list | tuple)
    basic, arrays = _parsed(input, tuple(indices)) if is_list else ((), ())
    if not arrays or any(item != _ALL for item in basic):
        raise ArgumentError("index_put: indices: expected a tuple of arrays of ints, or masks")
    shape, values = _layout(arrays, input.shape)[-1], _value(input, values)
    if not broadcasts(values.shape, shape):
        raise ShapeError(f"index_put: values have shape {values.shape}, the indexed part {shape}")
    return Put(arrays, check_flag("accumulate", accumulate))(input, values)


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
    input = Tensor.of(input)
    y = where(mask, _value(input, value), input)
    if y.dtype != input.dtype:
        raise DTypeError(f"masked_fill: input is {input.dtype}, and value would make it {y.dtype}")
    return y


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


def _on_diagonal(rows: int, columns: int, offset: int) -> tuple[Any, ...]:
    """The index of a diagonal in the flattened matrices, (..., rows·columns)."""
    offset = max(-rows, min(offset, columns))
    length = min(rows + min(offset, 0), columns - max(offset, 0))
    start, step = max(offset, -offset * columns), columns + 1
    return ..., slice(start, start + length * step, step)


@operation
def diagonal(input: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of two axes as the last axis.

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
    x = movedim(input, axes, (-2, -1))
    *others, rows, columns = x.shape
    index = _on_diagonal(rows, columns, check_int("offset", offset, -(2**63)))
    return getitem(reshape(x, (*others, rows * columns)), index)


_diagonal = diagonal  # an argument of diag has its name


@_indexing
def diag(input: Any, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or a square matrix of zeros with a vector on its diagonal.

    Raises
    ------
    ShapeError
        Neither a matrix nor a vector.
    """
    if input.ndim not in (1, 2):
        raise ShapeError(f"diag: the input has shape {input.shape}: expected one axis or two")
    if input.ndim == 2:
        return _diagonal(input, diagonal)
    size = len(input) + abs(check_int("diagonal", diagonal, -(2**63)))
    check_size("diagonal", diagonal, (size, size))
    blank = input.backend.xp.zeros(size * size, input.dtype)
    return reshape(Put(_on_diagonal(size, size, diagonal))(blank, input), (size, size))


def _triangle(name: str, part: str, keeps: Callable[[Array, int], Array]) -> Any:
    def triangle(input: Any, diagonal: int = 0) -> Tensor:
        if input.ndim < 2:
            raise ShapeError(f"{name}: the input has shape {input.shape}: expected a matrix")
        offset = check_int("diagonal", diagonal, -(2**63))
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
