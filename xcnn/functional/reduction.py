"""Sums and means over axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..arrays import Array, sum_dtype
from ..backends import Backend
from ..checks import check_dims, check_flag
from ..tensor import Function, Tensor, operation

__all__ = ["mean", "sum"]

Axes = int | Sequence[int] | None


class Sum(Function):
    """See :func:`sum` and, with ``mean``, :func:`mean`."""

    arguments = ("input",)

    def __init__(self, dim: Axes, keepdim: bool, mean: bool) -> None:
        self.dim = dim
        self.keepdim = check_flag("keepdim", keepdim)
        self.mean = mean

    def forward(self, backend: Backend, x: Array) -> Array:
        axes = check_dims("dim", self.dim, x.ndim)
        y = x.sum(axis=axes, dtype=sum_dtype(x.dtype), keepdims=True)
        self.save(shape=x.shape, with_unit_axes=y.shape)
        if self.mean:
            self.scale = y.size / x.size if x.size else float("nan")
            y = y * self.scale
        y = y.astype(x.dtype, copy=False)
        if self.keepdim:
            return y
        return y.reshape(tuple(n for i, n in enumerate(x.shape) if i not in axes))

    def backward(self, backend: Backend, dy: Array) -> Array:
        dy = dy.reshape(self.saved.with_unit_axes)
        if self.mean:
            dy = (dy.astype(sum_dtype(dy.dtype), copy=False) * self.scale).astype(dy.dtype)
        return backend.xp.broadcast_to(dy, self.saved.shape)


@operation
def sum(input: Any, dim: Axes = None, keepdim: bool = False) -> Tensor:
    """Sum over the axes ``dim`` (default: all).

    Raises
    ------
    ArgumentError
        ``dim`` is neither an int nor a sequence of ints.
    ShapeError
        No such axis, or a repeated one.
    """
    return Sum(dim, keepdim, mean=False)(input)


@operation
def mean(input: Any, dim: Axes = None, keepdim: bool = False) -> Tensor:
    """Mean over the axes ``dim`` (default: all); NaN for an empty array.

    Raises
    ------
    ArgumentError
        ``dim`` is neither an int nor a sequence of ints.
    ShapeError
        No such axis, or a repeated one.
    """
    return Sum(dim, keepdim, mean=True)(input)
