"""Norms and distances of vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..checks import check_choice, check_dim, check_flag, check_number
from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor, operation
from .arithmetic import div, sub
from .embedding import embedding
from .reduction import norm, sum
from .shape import reshape, unsqueeze

__all__ = ["cdist", "cosine_similarity", "normalize", "pairwise_distance", "pdist"]

_MODES = (
    "use_mm_for_euclid_dist_if_necessary",
    "use_mm_for_euclid_dist",
    "donot_use_mm_for_euclid_dist",
)


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
    length = norm(input, p, dim, keepdim=True)
    return div(input, length.clamp(min=check_number("eps", eps, 0)))


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
        units.append(div(x, _at_least(norm(x, 2.0, axis, keepdim=True), eps)))
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
    return norm(difference, p, -1, check_flag("keepdim", keepdim))


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
    return norm(difference, check_number("p", p, 0), -1)


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
    return norm(difference, check_number("p", p, 0), -1)
