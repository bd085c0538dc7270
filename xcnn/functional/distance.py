"""Norms and distances of vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..arrays import Array, sum_dtype
from ..backends import Backend
from ..checks import check_choice, check_dim, check_dims, check_flag, check_number
from ..errors import ArgumentError, ShapeError
from ..tensor import Function, Tensor, operation
from .arithmetic import div, sub
from .embedding import embedding
from .reduction import sum
from .shape import reshape, unsqueeze

__all__ = ["cdist", "cosine_similarity", "normalize", "pairwise_distance", "pdist"]

_MODES = (
    "use_mm_for_euclid_dist_if_necessary",
    "use_mm_for_euclid_dist",
    "donot_use_mm_for_euclid_dist",
)


class VectorNorm(Function):
    """(Σ |x|^p)^(1/p) over ``axes``, which are kept; 0: the number of elements other than 0.

    The gradient is 0 where the norm or the element is 0.
    """

    arguments = ("input",)

    def __init__(self, p: float, axes: tuple[int, ...]) -> None:
        self.p = p
        self.axes = axes

    def forward(self, backend: Backend, x: Array) -> Array:
        xp, p, axes = backend.xp, self.p, self.axes
        size = xp.abs(x.astype(sum_dtype(x.dtype), copy=False))
        over = {"axis": axes, "keepdims": True}
        if math.isinf(p):
            norm = size.max(**over) if p > 0 else size.min(**over)
        elif p == 0:
            norm = (size != 0).sum(**over).astype(size.dtype)
        elif p == 1:
            norm = size.sum(**over)
        elif p == 2:
            norm = xp.sqrt((size * size).sum(**over))
        else:
            # a negative power of 0 is infinite, which makes the norm 0
            powers = xp.power(xp.where((p < 0) & (size == 0), 1, size), p)
            norm = xp.power(powers.sum(**over), 1 / p)
            norm = xp.where((size == 0).any(**over), 0, norm) if p < 0 else norm
        self.save(x=x, norm=norm)
        return norm.astype(x.dtype, copy=False)

    def backward(self, backend: Backend, dy: Array) -> Array:
        xp, x, norm, p = backend.xp, self.saved.x, self.saved.norm, self.p
        size = xp.abs(x.astype(norm.dtype, copy=False))
        if math.isinf(p):
            is_extreme = (size == norm).astype(norm.dtype)
            slope = is_extreme / is_extreme.sum(axis=self.axes, keepdims=True)
        elif p == 0:
            return xp.zeros_like(x)
        else:
            ratio = size / xp.where(norm == 0, 1, norm)
            slope = xp.power(xp.where(ratio == 0, 1, ratio), p - 1) * (norm != 0)
        return xp.sign(x) * slope.astype(x.dtype, copy=False) * dy


def vector_norm(input: Any, p: float, dim: Any, keepdim: bool = True) -> Tensor:
    """The p-norm of the vectors along ``dim``; a single number is a vector of one element."""
    input = Tensor.of(input)
    axes = check_dims("dim", dim, max(input.ndim, 1))
    p = check_number("p", p)
    if math.isinf(p) and not math.prod(input.shape[a] for a in axes if input.ndim):
        raise ShapeError(f"input has shape {input.shape}: no elements have no norm for p={p}")
    norm = VectorNorm(p, axes if input.ndim else ())(input)
    kept = [n for axis, n in enumerate(norm.shape) if axis not in axes]
    return norm if keepdim else reshape(norm, kept)


def _at_least(norm: Tensor, eps: float) -> Tensor:
    """``norm``, but at least ``eps``; the gradient is that of ``norm``, as in PyTorch."""
    xp = norm.backend.xp
    return norm + xp.maximum(norm.data, xp.asarray(eps, norm.dtype)) - norm.data


@operation
def normalize(
    input: Any,
    p: float = 2.0,
    dim: int | Sequence[int] = 1,
    eps: float = 1e-12,
    out: Any = None,
) -> Tensor:
    """Divide the vectors along ``dim`` by their p-norm, or by ``eps`` if that is larger.

    Parameters
    ----------
    p
        The exponent of the norm; also infinite, 0 or negative.
    out
        Refused: the result is a new tensor.

    Raises
    ------
    ArgumentError
        A setting is out of range, or ``out`` is given.
    ShapeError
        No such axis.
    """
    if out is not None:
        raise ArgumentError("normalize: out is not supported: use the result of the call")
    norm = vector_norm(input, p, dim)
    return div(input, norm.clamp(min=check_number("eps", eps, 0)))


def _pair(x1: Any, x2: Any) -> tuple[Tensor, Tensor]:
    return Tensor.of(x1), Tensor.of(x2)


@operation
def cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 · x2 / (max(‖x1‖, eps) · max(‖x2‖, eps)) of the vectors along ``dim``.

    Both broadcast; ``dim`` is one of the axes that they have then, and is removed.

    Raises
    ------
    ArgumentError
        A setting is out of range.
    ShapeError
        No such axis, or the shapes do not broadcast.
    """
    first, second = _pair(x1, x2)
    ndim, eps = max(first.ndim, second.ndim), check_number("eps", eps, 0)
    axis = check_dim("dim", dim, max(ndim, 1)) - max(ndim, 1)  # from the end
    vectors = [reshape(x, (1,) * (max(ndim, 1) - x.ndim) + x.shape) for x in (first, second)]
    length = max(x.shape[axis] for x in vectors)
    units = []
    for x in vectors:
        if x.shape[axis] != length:  # the norm is that of the broadcast vector
            x = x + x.backend.xp.zeros((length,) + (1,) * (-axis - 1), x.dtype)
        units.append(div(x, _at_least(vector_norm(x, 2.0, axis), eps)))
    similarity = sum(units[0] * units[1], axis)
    return similarity if ndim else reshape(similarity, ())


@operation
def pairwise_distance(
    x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last axis; x1 and x2 broadcast.

    Raises
    ------
    ArgumentError
        A setting is out of range.
    ShapeError
        The shapes do not broadcast.
    """
    difference = sub(*_pair(x1, x2)) + check_number("eps", eps)
    return vector_norm(difference, p, -1, check_flag("keepdim", keepdim))


@operation
def cdist(x1: Any, x2: Any, p: float = 2.0, compute_mode: str = _MODES[0]) -> Tensor:
    """The distance of each vector of x1 from each of x2, in the p-norm.

    It is computed from the differences, (..., P, R, M) numbers.

    Parameters
    ----------
    x1 : (..., P, M)
    x2 : (..., R, M)
    p
        At least 0; also infinite.
    compute_mode
        One of PyTorch's; differences are exact, so that all of them give the same.

    Returns
    -------
    Tensor (..., P, R)

    Raises
    ------
    ShapeError
        Fewer than two axes, or shapes that do not fit.
    ArgumentError
        p is negative, or compute_mode none of PyTorch's.
    """
    first, second = _pair(x1, x2)
    check_choice("compute_mode", compute_mode, _MODES)
    if min(first.ndim, second.ndim) < 2 or first.shape[-1] != second.shape[-1]:
        raise ShapeError(
            f"x1 has shape {first.shape}, x2 {second.shape}: expected (..., P, M) and (..., R, M)"
        )
    difference = sub(unsqueeze(first, -2), unsqueeze(second, -3))
    return vector_norm(difference, check_number("p", p, 0), -1, keepdim=False)


@operation
def pdist(input: Any, p: float = 2.0) -> Tensor:
    """The distances of all pairs of rows of ``input``, in the p-norm.

    Parameters
    ----------
    input : (N, M)
    p
        At least 0; also infinite.

    Returns
    -------
    Tensor (N · (N - 1) / 2,)
        Of the rows 0 and 1, 0 and 2, ..., N - 2 and N - 1.

    Raises
    ------
    ShapeError
        Not two axes.
    ArgumentError
        p is negative.
    """
    input = Tensor.of(input)
    if input.ndim != 2:
        raise ShapeError(f"pdist: input has shape {input.shape}: expected (N, M)")
    rows = range(len(input))
    pairs = [(i, j) for i in rows for j in rows[i + 1 :]]
    with input.backend.active():
        index = input.backend.asarray(pairs, "int64").reshape(-1, 2)
    difference = embedding(index[:, 0], input) - embedding(index[:, 1], input)
    return vector_norm(difference, check_number("p", p, 0), -1, keepdim=False)
