"""Parts of an array: ``tensor[1, ..., ::-1]`` and split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any

from ..autograd import Function
from ..backends import Backend
from ..errors import ArgumentError, DTypeError, ShapeError
from ..geometry import is_int
from ..tensor import Tensor
from ..tracing import operation
from .axes import check_dim

Array = Any


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
        _check(item)
    return Index(items)(input)


def _check(item: Any) -> None:
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
    sizes = _sizes(split_size_or_sections, input.shape[dim])
    before = (slice(None),) * dim
    return tuple(
        Index((*before, slice(stop - size, stop)))(input)
        for size, stop in zip(sizes, accumulate(sizes), strict=True)
    )


def _sizes(given: Any, length: int) -> list[int]:
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


def _each(tensor: Tensor) -> Iterator[Tensor]:
    return (getitem(tensor, i) for i in range(len(tensor)))


def _install_methods() -> None:
    methods: dict[str, Any] = {"__getitem__": getitem, "__iter__": _each, "split": split}
    for name, method in methods.items():
        setattr(Tensor, name, method)


_install_methods()
