"""Largest and smallest elements with their positions, sorting, unique values."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any, NamedTuple

from ..arrays import Array
from ..checks import check_dim, check_flag, check_int
from ..errors import ArgumentError
from ..tensor import Tensor, operation
from .arithmetic import maximum, minimum
from .indexing import Index, Take, open_grid
from .reduction import Amax, Amin, check_not_empty, named
from .shape import reshape, squeeze, unsqueeze

__all__ = ["argmax", "argmin", "argsort", "max", "median", "min", "sort", "topk", "unique"]


class ValuesIndices(NamedTuple):
    """Elements and their positions (int64) along an axis."""

    values: Tensor
    indices: Tensor


class Pick(Take):
    """See :func:`~xcnn.functional.indexing.getitem`, where no index repeats."""

    backward = Index.backward


def _pick(input: Any, dim: Any, positions: Callable, keepdim: bool = True) -> ValuesIndices:
    """The elements at ``positions(xp, x, dim)``, along one axis; a number counts as one axis."""
    input = Tensor.of(input)
    dim, keepdim = check_dim("dim", dim, input.ndim or 1), check_flag("keepdim", keepdim)
    x = input if input.ndim else unsqueeze(input, 0)
    index = x.backend.run(lambda b, a: open_grid(b.xp, positions(b.xp, a, dim), dim), x.data)
    found = ValuesIndices(Pick(index)(x), Tensor(index[dim]))
    return found if keepdim and input.ndim else ValuesIndices(*(squeeze(t, dim) for t in found))


def _order(xp: Any, x: Array, dim: int, descending: bool = False, stable: bool = True) -> Array:
    """Positions in sorted order; NaN is the largest."""
    kind = "stable" if stable else None
    if not descending:
        return xp.argsort(x, axis=dim, kind=kind)
    backwards = xp.argsort(xp.flip(x, dim), axis=dim, kind=kind)
    return x.shape[dim] - 1 - xp.flip(backwards, dim)


def _at(x: Array, dim: int, index: Any) -> Array:
    return x[(slice(None),) * dim + (index,)]


@operation
def sort(
    input: Any, dim: int = -1, descending: bool = False, stable: bool = False
) -> ValuesIndices:
    """Sort along ``dim``; NaN counts as the largest.

    Parameters
    ----------
    dim
        One axis.
    descending
        Largest first.
    stable
        Keep the order of equal elements, which is slower on a CPU.

    Returns
    -------
    ValuesIndices
        (values, indices): ``input`` in order, and where each element was.

    Raises
    ------
    ShapeError
        No such axis.
    """
    flags = check_flag("descending", descending), check_flag("stable", stable)
    return _pick(input, dim, lambda xp, x, dim: _order(xp, x, dim, *flags))


@operation
def argsort(input: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The ``indices`` of :func:`sort`."""
    return sort(Tensor.of(input).detach(), dim, descending, stable).indices


@operation
def topk(
    input: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True
) -> ValuesIndices:
    """The ``k`` largest (or smallest) elements along ``dim``, in order, and their positions.

    Parameters
    ----------
    k
        0 to the length of the axis.
    largest
        False: the smallest.
    sorted
        Has no effect: the result is always in order.

    Raises
    ------
    ArgumentError
        ``k`` is not in that range.
    """
    check_flag("sorted", sorted)
    largest, k = check_flag("largest", largest), check_int("k", k, 0)

    def positions(xp: Any, x: Array, dim: int) -> Array:
        length = x.shape[dim]
        if k > length:
            raise ArgumentError(f"k={k}: expected at most {length}, the length of the axis")
        if k == 0:
            return _at(_order(xp, x, dim), dim, slice(0))
        start = length - k if largest else 0
        parts = xp.argpartition(x, start if largest else k - 1, axis=dim)
        chosen = _at(parts, dim, slice(start, start + k))
        order = _order(xp, xp.take_along_axis(x, chosen, dim), dim, largest)
        return xp.take_along_axis(chosen, order, dim)

    return _pick(input, dim, positions)


def _middle(xp: Any, x: Array, dim: int) -> Array:
    """Position of the lower median, or of the first NaN."""
    check_not_empty("median", x.shape, (dim,))
    length = x.shape[dim]
    numbers = (x == x).sum(axis=dim, keepdims=True, dtype="int64")
    rank = xp.where(numbers < length, numbers, (length - 1) // 2)
    return xp.take_along_axis(_order(xp, x, dim), rank, dim)


class Median(Amax):
    """See :func:`median`, of all elements."""

    no_value = False
    to_nan = True

    def value(self, xp: Any, x: Array, axes: tuple[int, ...]) -> Array:
        flat = x.reshape(-1) if x.size else xp.full(1, xp.nan, x.dtype)
        y = xp.take_along_axis(flat, _middle(xp, flat, 0), 0)
        return y.reshape((1,) * x.ndim)


@operation
def median(input: Any, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median; NaN where an element is.

    Parameters
    ----------
    dim
        One axis; None: over all.
    keepdim
        Keep the axis, with length 1.

    Returns
    -------
    Tensor or ValuesIndices
        The median of all elements, equal ones sharing the gradient; with ``dim``, (values,
        indices). Of an even number of elements, the lower of the two in the middle.

    Raises
    ------
    ShapeError
        No such axis, or it has no elements.
    """
    return Median(None, keepdim)(input) if dim is None else _pick(input, dim, _middle, keepdim)


def _extreme(name: str, kind: type[Amax], pairwise: Callable, what: str) -> tuple[Any, Any]:
    """``max`` or ``min``, and its positions: ``argmax`` or ``argmin``."""

    def positions(xp: Any, x: Array, dim: int) -> Array:
        check_not_empty(name, x.shape, (dim,))
        return getattr(xp, f"arg{name}")(x, axis=dim, keepdims=True).astype("int64", copy=False)

    def extreme(input: Any, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
        """The {what} element: of all, along one axis, or of two arrays. NaN propagates.

        Parameters
        ----------
        dim
            None: of all; equal elements share the gradient. An int: along that axis; the gradient
            goes to the first of equal elements. An array or a Tensor: ``other``.
        keepdim
            Keep the axes, with length 1.
        other
            The {what} of each pair of elements, as by ``{pairwise}``.

        Returns
        -------
        Tensor or ValuesIndices
            With an int ``dim``, (values, indices).

        Raises
        ------
        ShapeError
            No such axis, or no elements.
        """
        if other is not None or hasattr(dim, "shape"):
            return pairwise(input, dim if other is None else other)
        if dim is None:
            return kind(None, keepdim, to_nan=True)(input)
        return _pick(input, dim, positions, keepdim)

    def arg(input: Any, dim: int | None = None, keepdim: bool = False) -> Tensor:
        """Position of the {what} element (int64), the first of equal ones. Has no gradient.

        Parameters
        ----------
        dim
            One axis; None: over all, as if they were one, in row-major order.
        keepdim
            Keep the axes, with length 1.

        Raises
        ------
        ShapeError
            No such axis, or it has no elements.
        """
        input = Tensor.of(input).detach()
        if dim is not None:
            return _pick(input, dim, positions, keepdim).indices
        index = _pick(reshape(input, (input.numel(),)), 0, positions).indices
        return reshape(index, (1,) * input.ndim if check_flag("keepdim", keepdim) else ())

    words = {"what": what, "pairwise": pairwise.__name__}
    return named(extreme, name, **words), named(arg, f"arg{name}", **words)


max, argmax = _extreme("max", Amax, maximum, "largest")
min, argmin = _extreme("min", Amin, minimum, "smallest")


@operation
def unique(
    input: Any,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The different elements, in ascending order. Waits for the device; has no gradient.

    Parameters
    ----------
    sorted
        Has no effect: the result is always sorted.
    return_inverse
        Also return where each element of ``input`` is in the result (int64).
    return_counts
        Also return how often each occurs (int64).
    dim
        Compare the slices at each position of this axis; None: the elements.

    Returns
    -------
    Tensor, or tuple of Tensor
    """
    input = Tensor.of(input)
    check_flag("sorted", sorted)
    axis = None if dim is None else check_dim("dim", dim, builtins.max(input.ndim, 1))
    flags = {"return_inverse": return_inverse, "return_counts": return_counts}
    settings: dict[str, Any] = {name: check_flag(name, value) for name, value in flags.items()}
    found = input.backend.run(
        lambda backend, x: backend.xp.unique(
            x if axis is None else x.reshape(x.shape or 1), axis=axis, equal_nan=False, **settings
        ),
        input.data,
    )
    return tuple(map(Tensor, found)) if True in settings.values() else Tensor(found)
