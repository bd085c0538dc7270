"""Losses of counts, margins, similarities and distances."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from ..checks import check_callable, check_flag, check_number
from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor
from .activation import relu, softplus
from .arithmetic import minimum, where
from .distance import pairwise_distance
from .elementwise import exp, floats, log, sqrt
from .loss import (
    binary_cross_entropy_with_logits,
    class_indices,
    class_weights,
    example_weights,
    from_terms,
    matched,
    one_of_classes,
)
from .reduction import mean, sum
from .shape import reshape, unsqueeze

# fmt: off
__all__ = [
    "cosine_embedding_loss", "gaussian_nll_loss", "hinge_embedding_loss", "margin_ranking_loss",
    "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss",
    "poisson_nll_loss", "soft_margin_loss", "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]
# fmt: on

_NOT_NEGATIVE = partial(check_number, low=0)
_POSITIVE = partial(check_number, low=0, above=True)


def _one_or_two(name: str, value: Any) -> float:
    number = check_number(name, value)
    if number not in (1, 2):
        raise ArgumentError(f"{name}={value!r}: expected 1 or 2")
    return number


# -- likelihoods ---------------------------------------------------------------------------


@from_terms(log_input=check_flag, full=check_flag, eps=_NOT_NEGATIVE)
def poisson_nll_loss(
    input: Any,
    target: Any,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """The negative log-likelihood of counts with a Poisson distribution of mean ``input``.

    input - target · log(input + eps); or, for logarithms of means, exp(input) - target · input.

    Parameters
    ----------
    input, target
        Of the same shape.
    log_input
        Whether ``input`` holds logarithms of means.
    full
        Add Stirling's formula for log(target!), target · log(target) - target +
        log(2π · target) / 2, where target > 1.
    reduction
        "mean", "sum" or "none".

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Shapes that do not broadcast, another dtype, a setting out of range.
    """
    input, target = matched(input, target)
    terms = exp(input) - input * target if log_input else input - log(input + eps) * target
    if full:
        is_large = target.data > 1
        t = where(is_large, target, 1.0)
        terms = terms + where(is_large, log(t) * t - t + log(t * (2 * math.pi)) * 0.5, 0.0)
    return terms


@from_terms(full=check_flag, eps=_POSITIVE)
def gaussian_nll_loss(
    input: Any,
    target: Any,
    var: Any,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """The negative log-likelihood of a normal distribution, (log(v) + (x - t)² / v) / 2.

    Source: Nix and Weigend 1994, "Estimating the mean and variance of the target probability
    distribution".

    Parameters
    ----------
    input, target
        The means x and the values t, of shapes that broadcast.
    var
        The variances v: in the shape of input, without its last axis or with one axis of length 1,
        or a number. Those below ``eps`` count as ``eps``, but keep their gradient; the loss of a
        negative one is NaN.
    full
        Add the constant log(2π) / 2.
    reduction
        "mean", "sum" or "none".

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Shapes that do not fit, another dtype, a setting out of range.
    """
    shorter = input.shape[:-1]
    if var.shape not in (input.shape, (), shorter) and (
        var.ndim != input.ndim
        or any(v not in (1, n) for v, n in zip(var.shape, input.shape, strict=True))
    ):
        raise ShapeError(
            f"var has shape {var.shape}, input {input.shape}: expected the same, {shorter} or one "
            "with an axis of length 1"
        )
    if var.ndim and var.shape != input.shape and var.shape == shorter:
        var = unsqueeze(var, -1)
    var, xp = floats(var), var.backend.xp
    used = xp.where(var.data < 0, xp.nan, xp.maximum(var.data, eps)).astype(var.dtype)
    var = var + (used - var.data)  # with the gradient of var
    difference = input - target
    terms = (log(var) + difference * difference / var) * 0.5
    return terms + 0.5 * math.log(2 * math.pi) if full else terms


# -- margins -------------------------------------------------------------------------------


@from_terms(margin=check_number)
def margin_ranking_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """max(0, margin - target · (input1 - input2)): target 1 if input1 should be the larger, or -1.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Shapes that do not broadcast, another dtype, a setting out of range.
    """
    return ((input2 - input1) * target + margin).clamp(min=0)


@from_terms(margin=check_number)
def hinge_embedding_loss(
    input: Any, target: Any, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """input where target is 1, max(0, margin - input) where it is -1: input is a distance.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Shapes that do not broadcast, another dtype, a setting out of range.
    """
    input, target = matched(input, target)
    far = (margin - input).clamp(min=0)
    return where(target.data == 1, 0.0, far) + where(target.data == -1, 0.0, input)


@from_terms()
def soft_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """log(1 + exp(-target · input)), with targets 1 or -1; it does not overflow.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Shapes that do not broadcast, another dtype, a setting out of range.
    """
    input, target = matched(input, target)
    return softplus(input * target * -1.0, 1.0, math.inf)


@from_terms(p=_one_or_two, margin=check_number)
def multi_margin_loss(
    input: Any,
    target: Any,
    p: int = 1,
    margin: float = 1.0,
    weight: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """The multi-class hinge loss: Σ over c ≠ t of weight[t] · max(0, margin - x[t] + x[c])^p / C.

    Source: Crammer and Singer 2001, "On the algorithmic implementation of multiclass kernel-based
    vector machines", here with a sum over the other classes.

    Parameters
    ----------
    input : (N, C) or (C,)
        The scores x.
    target : (N,) or ()
        The classes t, 0 to C - 1.
    p
        1 or 2.
    weight : (C,)
        The weight of each class, a constant; the mean still divides by N.
    reduction
        "mean", "sum" or "none".

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Shapes that do not fit, another dtype, a class or a setting out of range (on a GPU, the loss
        of a class that does not exist is NaN).
    """
    shape = target.shape
    target = reshape(target, ()) if input.ndim == 1 and shape == (1,) else target
    x, target = class_indices(reshape(input, (1,)) if input.ndim == 0 else input, target)
    if x.ndim != 2:
        raise ShapeError(f"multi_margin_loss: input has shape {x.shape}: expected (N, C) or (C,)")
    xp, labels = x.backend.xp, target.data
    is_target = one_of_classes(xp, labels, x)
    chosen = sum(where(is_target, x, 0.0), 1, True)
    terms = where(is_target, 0.0, relu(x - chosen + margin))
    terms = mean(terms * terms if p == 2 else terms, 1)
    return reshape(terms * example_weights(x.backend, labels, x, class_weights(weight, x)), shape)


@from_terms()
def multilabel_margin_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """The sum of max(0, 1 - (x[t] - x[c])) / C over the labels t and the other classes c.

    Parameters
    ----------
    input : (N, C) or (C,)
        The scores x.
    target : same shape as input
        The labels of each example, class indices, up to the first -1.
    reduction
        "mean", "sum" or "none".

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Shapes that differ, another dtype, a class that does not exist (on a GPU, NaN instead).
    """
    rows = (1,) * (2 - input.ndim) + input.shape if input.ndim < 2 else input.shape
    if input.shape != target.shape or input.ndim > 2 or target.dtype.kind not in "iu":
        raise ShapeError(
            f"multilabel_margin_loss: input is {input.dtype}{input.shape}, target "
            f"{target.dtype}{target.shape}: expected (N, C) or (C,) for both, and integer labels"
        )
    xp, x = input.backend.xp, reshape(input, rows)
    labels = target.data.reshape(rows).astype("int64", copy=False)
    is_listed = xp.cumsum(labels < 0, axis=1) == 0
    input.backend.check_class_indices(xp.where(is_listed, labels, 0), rows[1])
    each = (labels[:, :, None] == xp.arange(rows[1])) & is_listed[:, :, None]
    count = each.sum(axis=1).astype(x.dtype)  # of each class in the list
    pairs = count[:, :, None] * (count == 0)[:, None, :]
    terms = sum(relu(unsqueeze(x, 1) - unsqueeze(x, 2) + 1.0) * pairs, (1, 2)) * (
        1 / max(rows[1], 1)
    )
    exists = (~is_listed | each.any(axis=2)).all(axis=1)
    terms = where(exists, terms, math.nan)
    return terms if input.ndim == 2 else reshape(terms, ())


@from_terms()
def multilabel_soft_margin_loss(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean"
) -> Tensor:
    """The mean over the classes of :func:`binary_cross_entropy_with_logits`.

    Parameters
    ----------
    input, target : (..., C)
        Logits, and 1 for each label that an example has, else 0.
    weight
        A constant factor of each class, which broadcasts to input's shape.
    reduction
        "mean", "sum" or "none", of terms (...).

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, GradientError
        As :func:`binary_cross_entropy_with_logits`.
    """
    target = target.astype(input.dtype)
    terms = binary_cross_entropy_with_logits(input, target, weight, reduction="none")
    return mean(terms, -1) if input.ndim else terms


# -- similarities and distances ------------------------------------------------------------


@from_terms(margin=check_number)
def cosine_embedding_loss(
    input1: Any, input2: Any, target: Any, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """1 - cos(input1, input2) where target is 1, max(0, cos(input1, input2) - margin) where -1.

    Parameters
    ----------
    input1, input2 : (N, D) or (D,)
    target : (N,) or ()
        1 for pairs that should be alike, -1 for others.
    reduction
        "mean", "sum" or "none".

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Shapes that do not fit, another dtype, a setting out of range.
    """
    if input1.ndim not in (1, 2) or input2.ndim != input1.ndim or target.ndim != input1.ndim - 1:
        raise ShapeError(
            f"cosine_embedding_loss: the shapes are {input1.shape}, {input2.shape} and "
            f"{target.shape}: expected (N, D), (N, D) and (N,), or (D,), (D,) and ()"
        )
    squares = [sum(x * x, -1) + 1e-12 for x in (input1, input2)]
    cosine = sum(input1 * input2, -1) / sqrt(squares[0] * squares[1])
    alike, unlike = 1 - cosine, (cosine - margin).clamp(min=0)
    return where(target.data == 1, alike, 0.0) + where(target.data == -1, unlike, 0.0)


def _triplet(
    distance: Callable[[Any, Any], Tensor], a: Any, p: Any, n: Any, margin: float, swap: bool
) -> Tensor:
    if not a.ndim == p.ndim == n.ndim:
        raise ShapeError(
            f"anchor has shape {a.shape}, positive {p.shape}, negative {n.shape}: they must have "
            "the same number of axes"
        )
    near, far = Tensor.of(distance(a, p)), Tensor.of(distance(a, n))
    far = minimum(far, distance(p, n)) if swap else far
    return (near - far + margin).clamp(min=0)


@from_terms(margin=_POSITIVE, p=check_number, eps=check_number, swap=check_flag)
def triplet_margin_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), with a p-norm as d.

    Source: Balntas et al. 2016, "Learning local feature descriptors with triplets and shallow
    convolutional neural networks".

    Parameters
    ----------
    anchor, positive, negative : (..., D)
    p, eps
        Of :func:`pairwise_distance`.
    swap
        Use d(positive, negative) where it is smaller than d(anchor, negative).
    reduction
        "mean", "sum" or "none".

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Shapes that do not fit, another dtype, a setting out of range.
    """
    distance = partial(pairwise_distance, p=p, eps=eps)
    return _triplet(distance, anchor, positive, negative, margin, swap)


def _distance(name: str, value: Any) -> Callable[[Any, Any], Tensor]:
    return pairwise_distance if value is None else check_callable(name, value)


@from_terms(distance_function=_distance, margin=_POSITIVE, swap=check_flag)
def triplet_margin_with_distance_loss(
    anchor: Any,
    positive: Any,
    negative: Any,
    *,
    distance_function: Callable[[Any, Any], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """:func:`triplet_margin_loss` with a user-defined distance.

    Parameters
    ----------
    anchor, positive, negative
        What ``distance_function`` takes, with the same number of axes.
    distance_function
        A function of two Tensors, which returns their distances; None: pairwise_distance.
    swap
        Use d(positive, negative) where it is smaller than d(anchor, negative).
    reduction
        "mean", "sum" or "none".

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Shapes that do not fit, another dtype, a setting out of range.
    """
    distance: Any = distance_function
    return _triplet(distance, anchor, positive, negative, margin, swap)
