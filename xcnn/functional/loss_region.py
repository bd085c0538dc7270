"""Losses of segmentation: the overlap of regions, and cross-entropy with few positives."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

from ..arrays import Array
from ..checks import check_choice, check_flag, check_number
from ..errors import ShapeError
from ..tensor import Tensor
from .activation import relu, sigmoid, softmax
from .arithmetic import where
from .elementwise import clamp, expm1
from .loss import (
    binary_cross_entropy_with_logits,
    class_indices,
    class_weights,
    cross_entropy,
    example_weights,
    from_terms,
    one_of_classes,
)
from .reduction import sum
from .shape import permute, reshape

__all__ = [
    "dice_loss", "focal_loss", "lovasz_loss", "sigmoid_focal_loss", "softmax_focal_loss",
    "tversky_loss",
]  # fmt: skip

_NOT_NEGATIVE = partial(check_number, low=0)
_SMALLEST = 1e-12  # of 1 - p: the slope of (1 - p)^gamma at 0 may be infinite
_MODE = partial(check_choice, choices=("multiclass", "binary"))


def _regions(
    input: Tensor, target: Tensor, mode: str, ignore_index: int
) -> tuple[Tensor, Tensor, Array]:
    """Logits (N, C, P), the truth of each, and which of P pixels count, (N, 1, P)."""
    xp = input.backend.xp
    if mode == "binary":
        if input.shape != target.shape or input.ndim < 2:
            raise ShapeError(
                f"input has shape {input.shape}, target {target.shape}: expected the same, "
                '(N, C, ...), in mode="binary"'
            )
        truth = target.astype(input.dtype)
        included = xp.ones((1, 1, 1), bool)
    else:
        if input.ndim < 2:
            raise ShapeError(f"input has shape {input.shape}: expected (N, classes, ...)")
        input, target = class_indices(input, target)
        labels = target.data
        input.backend.check_class_indices(labels, input.shape[1], ignore_index)
        is_label = one_of_classes(xp, labels, input)
        included = (labels != ignore_index)[:, None]
        exists = is_label.any(axis=1, keepdims=True) | ~included  # NaN for a class that does not
        truth = Tensor(xp.where(exists, (is_label & included).astype(input.dtype), xp.nan))
    shape = *input.shape[:2], math.prod(input.shape[2:])
    if mode == "multiclass":
        included = included.reshape(shape[0], 1, shape[2])
    return reshape(input, shape), reshape(truth, shape), included


@from_terms(mode=_MODE, alpha=_NOT_NEGATIVE, beta=_NOT_NEGATIVE, smooth=_NOT_NEGATIVE)
def tversky_loss(
    input: Any,
    target: Any,
    mode: str = "multiclass",
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 1.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """1 - (TP + smooth) / (TP + alpha · FP + beta · FN + smooth), per example and class.

    TP, FP and FN are the sums over the pixels of p · t, p · (1 - t) and (1 - p) · t. Source: Salehi
    et al. 2017, "Tversky loss function for image segmentation using 3D fully convolutional deep
    networks", arXiv:1706.05721.

    Parameters
    ----------
    input : (N, C, ...)
        Logits.
    target
        For "multiclass", class indices (N, ...); for "binary", in the shape of input, 1 or 0 for
        each class on its own.
    mode
        Where the probabilities p come from: "multiclass", softmax over the classes; "binary",
        sigmoid.
    alpha, beta
        The costs of false positives and of false negatives; 0.5 and 0.5 give the Dice loss.
    smooth
        Added to numerator and denominator, so that an absent class that is not predicted costs 0.
    ignore_index
        Pixels with this class index do not count.
    reduction
        "mean", "sum" or "none", of terms (N, C).

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Shapes that do not fit, another dtype, a class or a setting out of range (on a GPU, the loss
        of a class that does not exist is NaN).
    """
    logits, truth, included = _regions(input, target, mode, ignore_index)
    p = softmax(logits) if mode == "multiclass" else sigmoid(logits)
    p = where(included, p, 0.0)
    hits = sum(p * truth, 2)
    false_positives, false_negatives = sum(p, 2) - hits, sum(truth, 2) - hits
    whole = hits + false_positives * alpha + false_negatives * beta + smooth
    return 1 - (hits + smooth) / whole


@from_terms(mode=_MODE, smooth=_NOT_NEGATIVE)
def dice_loss(
    input: Any,
    target: Any,
    mode: str = "multiclass",
    smooth: float = 1.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """1 - (2 · Σ p · t + smooth) / (Σ p + Σ t + smooth), per example and class.

    The arguments are those of :func:`tversky_loss`, which with alpha = beta = 0.5 and half of
    ``smooth`` is the same. Source: Milletari et al. 2016, "V-Net", arXiv:1606.04797, here without
    squares.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        As :func:`tversky_loss`.
    """
    settings: Any = {"mode": mode, "ignore_index": ignore_index, "reduction": "none"}
    return tversky_loss(input, target, smooth=smooth / 2, **settings)


@from_terms(mode=_MODE, per_image=check_flag)
def lovasz_loss(
    input: Any,
    target: Any,
    mode: str = "multiclass",
    per_image: bool = False,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """The Lovász extension of the Jaccard loss 1 - IoU: a convex function of each pixel's error.

    For "multiclass", the errors are |t - softmax(input)|, and the loss is the mean over the classes
    that occur; for "binary", they are hinges, max(0, 1 ± input), of each channel on its own.
    Source: Berman et al. 2018, "The Lovász-Softmax loss", arXiv:1705.08790.

    Parameters
    ----------
    input, target, mode, ignore_index
        As in :func:`tversky_loss`.
    per_image
        Compute one loss per image rather than one over all pixels of the batch.
    reduction
        "mean", "sum" or "none", of terms (N,) or (N, C) for "binary"; N is 1 without ``per_image``.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        As :func:`tversky_loss`.
    """
    logits, truth, included = _regions(input, target, mode, ignore_index)
    if mode == "multiclass":
        p = softmax(logits)
        errors = where(included, where(truth.data > 0, 1 - p, p), 0.0)
    else:
        errors = relu(1 - logits * (truth * 2 - 1))
    labels = truth.data
    if not per_image:
        errors = reshape(permute(errors, (1, 0, 2)), (1, errors.shape[1], -1))
        labels = labels.transpose(1, 0, 2).reshape(errors.shape)
    terms = sum(errors * _lovasz_slopes(input.backend.xp, errors.data, labels), 2)
    if mode == "binary":
        return terms
    xp, counts = input.backend.xp, labels.sum(axis=2)
    occurs = (counts != 0).astype(terms.dtype)  # also a sum that is NaN
    return sum(where(counts != 0, terms, 0.0), 1) / xp.maximum(occurs.sum(axis=1), 1)


def _lovasz_slopes(xp: Any, errors: Array, truth: Array) -> Array:
    """The derivatives of the extension with respect to the errors, (N, C, P)."""
    order = xp.argsort(-errors, axis=2)
    is_true = xp.take_along_axis(truth, order, axis=2) > 0
    hits, misses = xp.cumsum(is_true, axis=2), xp.cumsum(~is_true, axis=2)
    total = is_true.sum(axis=2, keepdims=True)
    jaccard = 1 - (total - hits).astype(errors.dtype) / (total + misses).astype(errors.dtype)
    jaccard[..., 1:] = jaccard[..., 1:] - jaccard[..., :-1]
    slopes = xp.take_along_axis(jaccard, xp.argsort(order, axis=2), axis=2)
    return xp.where(xp.isnan(truth), truth, slopes)


@from_terms(alpha=check_number, gamma=_NOT_NEGATIVE)
def focal_loss(
    input: Any, target: Any, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "mean"
) -> Tensor:
    """Binary cross-entropy times (1 - p)^gamma, with p the probability of the right answer.

    Examples that are already classified well count little. Source: Lin et al. 2017, "Focal loss for
    dense object detection", arXiv:1708.02002.

    Parameters
    ----------
    input, target
        Logits, and 1 or 0 (or probabilities of 1), in the same shape.
    alpha
        The weight of target 1, from 0 to 1; that of 0 is 1 - alpha. Negative: no weights.
    gamma
        At least 0, which gives cross-entropy.
    reduction
        "mean", "sum" or "none".

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Shapes that differ, another dtype, a setting out of range.
    """
    target = target.astype(input.dtype)
    terms = binary_cross_entropy_with_logits(input, target, reduction="none")
    wrong = sigmoid(input) * (1 - target) + sigmoid(input * -1.0) * target
    terms = terms * wrong**gamma
    return terms * (target * alpha + (1 - target) * (1 - alpha)) if alpha >= 0 else terms


def sigmoid_focal_loss(
    inputs: Any, targets: Any, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "none"
) -> Tensor:
    """:func:`focal_loss` under torchvision's name, with its default ``reduction``."""
    return focal_loss(inputs, targets, alpha, gamma, reduction)


@from_terms(gamma=_NOT_NEGATIVE)
def softmax_focal_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Any:
    """Cross-entropy of one class of several times (1 - p)^gamma, with p its probability.

    Source: as of :func:`focal_loss`, for more than two classes.

    Parameters
    ----------
    input : (N, C, ...)
        Logits.
    target : (N, ...)
        Class indices.
    weight : (C,)
        The weight of each class, a constant; None: all are 1. The mean divides by their sum, as
        that of :func:`cross_entropy`.
    gamma
        At least 0, which gives cross-entropy.
    ignore_index
        Pixels with this class index do not count.
    reduction
        "mean", "sum" or "none".

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Shapes that do not fit, another dtype, a class or a setting out of range (on a GPU, the loss
        of a class that does not exist is NaN).
    """
    input, target = class_indices(input, target)
    terms = cross_entropy(input, target, ignore_index=ignore_index, reduction="none")
    wrong = clamp(expm1(terms * -1.0) * -1.0, min=_SMALLEST)
    factors = class_weights(weight, input)
    weights = example_weights(input.backend, target.data, input, factors, ignore_index)
    return terms * wrong**gamma * weights, weights
