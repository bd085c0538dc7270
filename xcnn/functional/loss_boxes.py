"""Losses of boxes: one less their IoU, in three forms that also attract boxes without overlap."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..checks import check_number
from ..tensor import Tensor
from .boxes import complete, distance, generalized, overlap, sides
from .loss import checked, matched, narrow, reduced

__all__ = ["complete_box_iou_loss", "distance_box_iou_loss", "generalized_box_iou_loss"]

_EPS = partial(check_number, low=0)


def _loss(kind: Any, boxes1: Any, boxes2: Any, reduction: str, eps: float) -> Tensor:
    boxes1, boxes2 = matched(boxes1, boxes2)
    a, b = sides(boxes1, "boxes1"), sides(boxes2, "boxes2")
    of_overlap = () if kind is generalized else (overlap(a, b, eps),)
    terms = 1 - kind(a, b, eps, *of_overlap)
    is_empty_mean = reduction == "mean" and not terms.numel()
    return narrow(reduced(terms, "sum" if is_empty_mean else reduction), a[0].dtype)


@checked(eps=_EPS)
def generalized_box_iou_loss(
    boxes1: Any, boxes2: Any, reduction: str = "none", eps: float = 1e-7
) -> Tensor:
    """1 - the generalized IoU of each box and its target.

    Source: Rezatofighi et al. 2019, "Generalized intersection over union", arXiv:1902.09630.

    Parameters
    ----------
    boxes1, boxes2 : (..., 4)
        x1, y1, x2, y2 in pixels.
    reduction
        "none", "mean" (0 if there are no boxes) or "sum", of terms (...).
    eps
        Added to areas that are divisors.

    Raises
    ------
    ShapeError, ArgumentError
        Shapes that do not fit, a setting out of range.
    """
    return _loss(generalized, boxes1, boxes2, reduction, eps)


@checked(eps=_EPS)
def distance_box_iou_loss(
    boxes1: Any, boxes2: Any, reduction: str = "none", eps: float = 1e-7
) -> Tensor:
    """1 - IoU + (the distance of the centres / the diagonal of the smallest box around both)².

    The arguments are those of :func:`generalized_box_iou_loss`. Source: Zheng et al. 2020,
    "Distance-IoU loss", arXiv:1911.08287.

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`generalized_box_iou_loss`.
    """
    return _loss(distance, boxes1, boxes2, reduction, eps)


@checked(eps=_EPS)
def complete_box_iou_loss(
    boxes1: Any, boxes2: Any, reduction: str = "none", eps: float = 1e-7
) -> Tensor:
    """:func:`distance_box_iou_loss` and a term for different aspect ratios; same source.

    The arguments are those of :func:`generalized_box_iou_loss`.

    Raises
    ------
    ShapeError, ArgumentError
        As :func:`generalized_box_iou_loss`.
    """
    return _loss(complete, boxes1, boxes2, reduction, eps)
