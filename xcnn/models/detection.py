"""What the losses of detection networks have in common: targets, predictions, suppression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .. import functional as F
from .. import nn
from ..arrays import Array
from ..checks import pair
from ..errors import DTypeError, ShapeError
from ..tensor import Tensor, operation

#: predictions with a lower score are none
LEAST = 0.001
_PAIRS = 2**22  # pairs of boxes compared at a time


class BoxLoss(nn.Loss):
    """Base class of the losses of detection networks.

    Parameters
    ----------
    input_size
        (height, width) of the pictures, in pixels.

    Attributes
    ----------
    target : str
        "boxes": a dict of "boxes" (N, M, 4), x1, y1, x2, y2 in pixels, and "labels" (N, M), ints
        from 0; -1 where a picture has fewer than M objects. Boxes without area do not count.
    """

    target = "boxes"

    def __init__(self, input_size: int | tuple[int, int]) -> None:
        super().__init__()
        self.input_size = pair(input_size, "input_size")

    def prediction(self, output: Any) -> dict[str, Tensor]:
        """The objects that were found.

        Returns
        -------
        dict
            "boxes" (N, K, 4), x1, y1, x2, y2 in pixels; "scores" (N, K), probabilities in
            descending order; "labels" (N, K), -1 where there are fewer than K with more than 0.001.
        """
        raise NotImplementedError


def best_of_overlapping(found: Mapping[str, Any], iou_threshold: float) -> dict[str, Tensor]:
    """A prediction without boxes that overlap a more probable one, whatever their classes.

    Parameters
    ----------
    found
        As :meth:`BoxLoss.prediction` returns.
    iou_threshold
        Boxes with a larger intersection over union are of one object.
    """
    boxes, scores, labels = (Tensor.of(found[name]) for name in ("boxes", "scores", "labels"))
    count, xp = scores.shape[1], boxes.backend.xp
    with boxes.backend.active():
        places = xp.arange(count, 0, -1, dtype="float32")
    keep = nms_mask(boxes, iou_threshold)
    # kept ones first, all in their order, even if scores are equal
    index = F.topk(F.where(keep, Tensor(places + count), Tensor(places)), count, 1)[1]
    scores = F.gather(F.where(keep, scores, 0.0), 1, index)
    return objects(taken(boxes, index), scores, F.gather(labels, 1, index))


def objects(boxes: Tensor, scores: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """A prediction; boxes and labels where the score is too low for an object are 0 and -1."""
    exists = F.gt(scores, LEAST)
    boxes = F.where(F.unsqueeze(exists, 2), boxes, 0.0)
    return {"boxes": boxes, "scores": scores, "labels": F.where(exists, labels, -1)}


def taken(boxes: Tensor, index: Tensor) -> Tensor:
    """Those of the boxes (N, A, 4) at an index (N, K)."""
    return F.gather(boxes, 1, F.expand(F.unsqueeze(index, 2), (-1, -1, 4)))


def boxes_and_labels(target: Any, like: Tensor, classes: int) -> tuple[Array, Array]:
    """The arrays of a target, with room for at least one object.

    Crowds and boxes without area, or with a NaN, are not objects: their label becomes -1.

    Raises
    ------
    DTypeError, ShapeError, ArgumentError
        Not such a target, or not one of pictures of the batch; a class out of range (on a CPU).
    """
    if not isinstance(target, Mapping) or not {"boxes", "labels"} <= target.keys():
        raise DTypeError(
            f"the target is {type(target).__name__}: expected a dict of 'boxes' and 'labels'"
        )
    boxes, labels = (Tensor.of(target[name]) for name in ("boxes", "labels"))
    if boxes.shape != (*labels.shape, 4) or labels.ndim != 2 or len(labels) != len(like):
        raise ShapeError(
            f"the target has boxes {boxes.shape} and labels {labels.shape}: expected (N, M, 4) and "
            f"(N, M) for a batch of N={len(like)} pictures"
        )
    if labels.dtype.kind not in "iu":
        raise DTypeError(f"the labels are {labels.dtype}: expected integers")
    labels = F.astype(labels, "int64")
    if "crowd" in target:
        labels = F.where(Tensor.of(target["crowd"]), -1, labels)
    if not labels.shape[1]:
        boxes, labels = F.pad(boxes, (0, 0, 0, 1)), F.pad(labels, (0, 1), value=-1)
    labels.backend.check_class_indices(labels.data, classes, -1)
    xp, found = labels.backend.xp, boxes.data.astype(like.dtype)
    exists = (found[..., 2:] > found[..., :2]).all(axis=2) & (labels.data >= 0)
    return xp.where(exists[..., None], found, 0), xp.where(exists, labels.data, -1)


@operation
def nms_mask(boxes: Any, iou_threshold: float) -> Tensor:
    """Which boxes non-maximum suppression keeps, in groups of boxes from the best score on.

    Unlike :func:`xcnn.functional.nms` it never waits for a GPU, and the shape of the result does
    not depend on the boxes.

    Parameters
    ----------
    boxes
        (G, K, 4); in each group, the first has the best score.
    iou_threshold
        A box is left out if its intersection over union with one that is kept, of the same group
        and before it, is larger.

    Returns
    -------
    Tensor
        (G, K) of bool.
    """
    boxes = Tensor.of(boxes).detach()
    groups, count, _ = boxes.shape
    xp = boxes.backend.xp
    with boxes.backend.active(), boxes.backend.quiet_overflow():
        keep = xp.ones((groups, count), bool)
        step = max(_PAIRS // max(count * count, 1), 1)
        for start in range(0, groups, step):
            part, kept = boxes.data[start : start + step], keep[start : start + step]
            overlaps = F.box_iou(part, part).data > iou_threshold  # (G, K, K)
            for i in range(count - 1):
                kept[:, i + 1 :] &= ~(overlaps[:, i, i + 1 :] & kept[:, i, None])
    return Tensor(keep)
