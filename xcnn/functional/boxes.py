"""Boxes of objects in images: areas, overlaps, conversions and non-maximum suppression.

Boxes are (..., 4) with x1, y1, x2, y2 in pixels; x1 < x2 and y1 < y2. Names are torchvision's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..arrays import Array
from ..checks import check_choice, check_number, pair
from ..errors import DTypeError, ShapeError
from ..tensor import Tensor, operation
from .activation import relu
from .arithmetic import logical_and, maximum, minimum
from .elementwise import astype, atan, clamp, square
from .indexing import nonzero
from .loss import wide
from .shape import squeeze, stack
from .sorting import argsort

__all__ = [
    "batched_nms", "box_area", "box_convert", "box_iou", "clip_boxes_to_image", "complete_box_iou",
    "distance_box_iou", "generalized_box_iou", "nms", "remove_small_boxes",
]  # fmt: skip

_FORMATS = ("xyxy", "xywh", "cxcywh")
_BLOCK = 256  # boxes that are compared with all others at a time
_PAIRS = 2**22  # but at most so many pairs

#: the four coordinates of boxes, each in the same shape
Sides = Sequence[Tensor]


def _boxes(boxes: Any, name: str = "boxes") -> Tensor:
    boxes = Tensor.of(boxes)
    if boxes.ndim < 1 or boxes.shape[-1] != 4:
        raise ShapeError(f"{name} has shape {boxes.shape}: expected (..., 4), as x1, y1, x2, y2")
    return boxes


def _floating(boxes: Any, name: str = "boxes") -> Tensor:
    """Boxes in float32 or float64: differences of integers of 8 bits could overflow."""
    boxes = _boxes(boxes, name)
    return wide(boxes) if boxes.dtype.kind == "f" else astype(boxes, "float32")


def sides(boxes: Any, name: str = "boxes") -> Sides:
    """The coordinates x1, y1, x2 and y2 of boxes (..., 4), in floating point."""
    boxes = _floating(boxes, name)
    return [boxes[..., i] for i in range(4)]


def _pairs(boxes1: Any, boxes2: Any) -> tuple[Sides, Sides]:
    """The coordinates of boxes (..., N, 4) and (..., M, 4), which broadcast to (..., N, M)."""
    first, second = sides(boxes1, "boxes1"), sides(boxes2, "boxes2")
    for name, of in (("boxes1", first), ("boxes2", second)):
        if of[0].ndim < 1:
            raise ShapeError(f"{name} has shape (4,): expected (..., N, 4); use {name}[None]")
    return [a[..., :, None] for a in first], [b[..., None, :] for b in second]


def _area(a: Sides) -> Tensor:
    return (a[2] - a[0]) * (a[3] - a[1])


def _areas(a: Sides, b: Sides) -> tuple[Tensor, Tensor]:
    """The areas of the intersection and of the union."""
    width = relu(minimum(a[2], b[2]) - maximum(a[0], b[0]))
    height = relu(minimum(a[3], b[3]) - maximum(a[1], b[1]))
    common = width * height
    return common, _area(a) + _area(b) - common


def overlap(a: Sides, b: Sides, eps: float = 0) -> Tensor:
    """See :func:`box_iou`; ``eps`` is added to the union."""
    common, union = _areas(a, b)
    return common / (union + eps if eps else union)


def _hull(a: Sides, b: Sides) -> Sides:
    """The smallest boxes that contain both."""
    return [f(p, q) for f, p, q in zip((minimum,) * 2 + (maximum,) * 2, a, b, strict=True)]


def generalized(a: Sides, b: Sides, eps: float = 0) -> Tensor:
    """See :func:`generalized_box_iou`; ``eps`` is added to both divisors."""
    common, union = _areas(a, b)
    whole = _area(_hull(a, b))
    divisors = (union + eps, whole + eps) if eps else (union, whole)
    return common / divisors[0] - (whole - union) / divisors[1]


def distance(a: Sides, b: Sides, eps: float, iou: Tensor) -> Tensor:
    """See :func:`distance_box_iou`."""
    hull = _hull(a, b)
    across = square(hull[2] - hull[0]) + square(hull[3] - hull[1]) + eps
    x, y = ((a[i] + a[i + 2]) / 2 - (b[i] + b[i + 2]) / 2 for i in (0, 1))
    return iou - (square(x) + square(y)) / across


def complete(a: Sides, b: Sides, eps: float, iou: Tensor) -> Tensor:
    """See :func:`complete_box_iou`."""
    angles = [atan((s[2] - s[0]) / (s[3] - s[1])) for s in (a, b)]
    v = square(angles[0] - angles[1]) * (4 / math.pi**2)
    alpha = (v / (1 - iou + v + eps)).detach()
    return distance(a, b, eps, iou) - alpha * v


def box_area(boxes: Any) -> Tensor:
    """The areas of boxes (..., 4), as (...).

    Raises
    ------
    ShapeError
        The last axis does not have 4 numbers.
    """
    return _area([_boxes(boxes)[..., i] for i in range(4)])


def box_iou(boxes1: Any, boxes2: Any) -> Tensor:
    """Intersection over union of each pair of boxes; of two boxes without area, NaN.

    Parameters
    ----------
    boxes1 : (..., N, 4)
    boxes2 : (..., M, 4)

    Returns
    -------
    Tensor
        (..., N, M), from 0 to 1.

    Raises
    ------
    ShapeError
        Shapes that do not fit.
    """
    return overlap(*_pairs(boxes1, boxes2))


def generalized_box_iou(boxes1: Any, boxes2: Any) -> Tensor:
    """IoU less the share of the smallest box around both that neither covers: from -1 to 1.

    The arguments are those of :func:`box_iou`. Source: Rezatofighi et al. 2019, "Generalized
    intersection over union", arXiv:1902.09630.

    Raises
    ------
    ShapeError
        Shapes that do not fit.
    """
    return generalized(*_pairs(boxes1, boxes2))


def distance_box_iou(boxes1: Any, boxes2: Any, eps: float = 1e-7) -> Tensor:
    """IoU less (the distance of the centres / the diagonal of the smallest box around both)².

    Source: Zheng et al. 2020, "Distance-IoU loss", arXiv:1911.08287.

    Parameters
    ----------
    boxes1, boxes2
        As for :func:`box_iou`.
    eps
        Added to the square of the diagonal.

    Raises
    ------
    ShapeError, ArgumentError
        Shapes that do not fit, ``eps`` below 0.
    """
    pairs = _pairs(boxes1, boxes2)
    return distance(*pairs, check_number("eps", eps, 0), overlap(*pairs))


def complete_box_iou(boxes1: Any, boxes2: Any, eps: float = 1e-7) -> Tensor:
    """:func:`distance_box_iou` less a term for different aspect ratios; same arguments and source.

    Raises
    ------
    ShapeError, ArgumentError
        Shapes that do not fit, ``eps`` below 0.
    """
    pairs = _pairs(boxes1, boxes2)
    return complete(*pairs, check_number("eps", eps, 0), overlap(*pairs))


def box_convert(boxes: Any, in_fmt: str, out_fmt: str) -> Tensor:
    """Convert boxes (..., 4) between three formats.

    Parameters
    ----------
    in_fmt, out_fmt
        "xyxy": two corners, x1, y1, x2, y2; "xywh": the corner x1, y1, width and height;
        "cxcywh": the centre, width and height.

    Raises
    ------
    ShapeError, ArgumentError
        Shapes that do not fit, another format.
    """
    boxes = _boxes(boxes)
    check_choice("in_fmt", in_fmt, _FORMATS)
    if in_fmt == check_choice("out_fmt", out_fmt, _FORMATS):
        return boxes.clone()
    x, y, z, w = (boxes[..., i] for i in range(4))
    if in_fmt == "xywh":
        z, w = x + z, y + w
    elif in_fmt == "cxcywh":
        x, y, z, w = x - z / 2, y - w / 2, x + z / 2, y + w / 2
    if out_fmt == "xywh":
        z, w = z - x, w - y
    elif out_fmt == "cxcywh":
        x, y, z, w = (x + z) / 2, (y + w) / 2, z - x, w - y
    return stack((x, y, z, w), -1)


def clip_boxes_to_image(boxes: Any, size: Sequence[int]) -> Tensor:
    """Move the sides of boxes (..., 4) that are outside of an image of ``size`` to its edges.

    Parameters
    ----------
    size
        (height, width), in pixels.

    Raises
    ------
    ShapeError, ArgumentError
        Shapes that do not fit, another size.
    """
    height, width = pair(size, "size")
    limits = (width, height, width, height)
    boxes = _boxes(boxes)
    return stack([clamp(boxes[..., i], 0, limit) for i, limit in enumerate(limits)], -1)


def remove_small_boxes(boxes: Any, min_size: float) -> Tensor:
    """The indices (int64) of the boxes (N, 4) with both sides at least ``min_size`` long.

    Raises
    ------
    ShapeError, ArgumentError
        Shapes that do not fit, ``min_size`` is not a number.
    """
    x1, y1, x2, y2 = sides(boxes)
    least = check_number("min_size", min_size)
    return squeeze(nonzero(logical_and(x2 - x1 >= least, y2 - y1 >= least)), 1)


@operation
def nms(boxes: Any, scores: Any, iou_threshold: float) -> Tensor:
    """Non-maximum suppression: pick boxes from the best score on that overlap with no picked one.

    Waits for the device; has no gradient. Memory grows with N, not with N².

    Parameters
    ----------
    boxes : (N, 4)
    scores : (N,)
        Of equal ones, the first counts as better; NaN as the best.
    iou_threshold
        Boxes overlap if their IoU is above it.

    Returns
    -------
    Tensor
        The indices of the picked boxes, int64, the best first.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        Shapes that do not fit, scores or a threshold that are not numbers.
    """
    return _suppress(boxes, scores, None, iou_threshold)


@operation
def batched_nms(boxes: Any, scores: Any, idxs: Any, iou_threshold: float) -> Tensor:
    """:func:`nms` in which boxes of different classes never suppress each other.

    Parameters
    ----------
    boxes, scores, iou_threshold
        As for :func:`nms`.
    idxs : (N,)
        The class of each box, or the image that it is in: ints.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        As for :func:`nms`; ``idxs`` that are not ints.
    """
    return _suppress(boxes, scores, Tensor.of(idxs), iou_threshold)


def _suppress(boxes: Any, scores: Any, classes: Tensor | None, iou_threshold: Any) -> Tensor:
    boxes, scores = _floating(boxes).detach(), Tensor.of(scores).detach()
    given = [scores.shape] if classes is None else [scores.shape, classes.shape]
    if boxes.ndim != 2 or any(shape != boxes.shape[:1] for shape in given):
        names = "scores" if classes is None else "scores and idxs"
        raise ShapeError(
            f"boxes has shape {boxes.shape}, {names} {', '.join(map(str, given))}: expected "
            "(N, 4) and (N,)"
        )
    if classes is not None and classes.dtype.kind not in "iu":
        raise DTypeError(f"idxs is {classes.dtype}: expected ints, such as the classes")
    threshold = check_number("iou_threshold", iou_threshold)
    backend = boxes.backend
    with backend.active(), backend.quiet_overflow():
        order = argsort(scores, descending=True, stable=True).data
        own = None if classes is None else classes.to(backend).data[order]
        return Tensor(order[_picked(backend.xp, boxes.data[order].T, own, threshold)])


def _picked(xp: Any, boxes: Array, classes: Array | None, threshold: float) -> Array:
    """Which boxes (4, N), from the best on, to keep: bool (N,).

    A block of boxes is compared with each other, and those of them that are kept with the rest.
    """
    limit = xp.asarray(threshold, boxes.dtype)  # the IoU is above it where it is above threshold
    is_above = limit > xp.asarray(threshold, "float64")
    limit = xp.where(is_above, xp.nextafter(limit, xp.asarray(-xp.inf, boxes.dtype)), limit)

    def overlapping(these: Array, others: Array) -> Array:
        iou = overlap([Tensor(s[these, None]) for s in boxes], [Tensor(s[others]) for s in boxes])
        found = iou.data > limit
        return found if classes is None else found & (classes[these, None] == classes[others])

    count = boxes.shape[1]
    step = min(_BLOCK, max(32, _PAIRS // max(count, 1)))
    rest, kept = xp.arange(count), xp.zeros(count, bool)
    while rest.size:
        block, rest = rest[:step], rest[step:]
        block = block[_unsuppressed(xp, xp.triu(overlapping(block, block), 1))]
        kept[block] = True
        rest = rest[~overlapping(block, rest).any(axis=0)]
    return kept


def _unsuppressed(xp: Any, overlaps: Array) -> Array:
    """Which boxes no kept one before them overlaps, from ``overlaps`` (before, after): bool (N,).

    Each round settles at least the next box that is open; a few settle all.
    """
    kept, before = ~overlaps.any(axis=0), None
    while before is None or bool((kept != before).any()):
        before, kept = kept, ~(overlaps & kept[:, None]).any(axis=0)
    return kept
