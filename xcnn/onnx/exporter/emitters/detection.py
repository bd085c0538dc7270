"""Non-maximum suppression."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....extend import onnx_emitter
from ..writer import CannotExportError, Value, Writer

_ALL = 2**31 - 1  # boxes of a class


@onnx_emitter("nms")
def nms(w: Writer, boxes: Value, scores: Value, iou_threshold: float) -> str:
    return _picked(w, boxes, w.node("Unsqueeze", scores, w.ints([0])), iou_threshold)


@onnx_emitter("batched_nms")
def batched_nms(w: Writer, boxes: Value, scores: Value, idxs: Value, iou_threshold: float) -> str:
    """One row of scores for each class that occurs; the picked boxes of all, by their scores."""
    classes = w.node("Unique", idxs, sorted=1)
    is_own = w.node(
        "Equal",
        w.node("Unsqueeze", classes, w.ints([1])),
        w.node("Unsqueeze", idxs, w.ints([0])),
    )
    lowest = np.finfo(np.float32).min
    rows = w.node("Where", is_own, _float(w, scores), w.number(-np.inf, "float32"))
    picked = _picked(w, boxes, rows, iou_threshold, w.constant(np.array([lowest], np.float32)))
    count = w.node("Shape", picked)
    in_order = w.node("TopK", picked, count, outputs=2, axis=0, largest=0)[0]
    best = w.node("TopK", w.node("Gather", scores, in_order, axis=0), count, outputs=2, axis=0)
    return w.node("Gather", in_order, best[1], axis=0)


def _float(w: Writer, value: Value) -> Any:
    return value if value.dtype == "float32" else w.cast(value, "float32")


def _picked(w: Writer, boxes: Value, scores: Any, threshold: float, least: Any = None) -> str:
    """The indices of the boxes picked for each row of scores, (rows, N)."""
    if not 0 <= threshold <= 1:
        raise CannotExportError(f"with iou_threshold={threshold}: ONNX takes 0 to 1")
    # a box whose sides are exchanged overlaps with none here, but ONNX would exchange them again
    first, second = w.node("Split", _float(w, boxes), outputs=2, axis=1, num_outputs=2)
    corners = w.node("Concat", first, w.node("Max", first, second), axis=1)
    limit = np.float32(threshold)
    if float(limit) > threshold:  # IoU is above it in the same cases
        limit = np.nextafter(limit, np.float32(-1))
    found = w.node(
        "NonMaxSuppression",
        w.node("Unsqueeze", corners, w.ints([0])),
        w.node("Unsqueeze", scores, w.ints([0])),
        w.ints([_ALL]),
        w.constant(np.array([limit], np.float32)),
        least,
    )
    return w.node(
        "Squeeze", w.node("Slice", found, w.ints([2]), w.ints([3]), w.ints([1])), w.ints([1])
    )


@onnx_emitter("nms_mask")
def nms_mask(w: Writer, boxes: Value, iou_threshold: float) -> str:
    """Scores that fall from the first box on keep the order; what was selected becomes a mask."""
    count = boxes.shape[1]
    groups = w.node("Shape", boxes, start=0, end=1)
    shape = w.node("Concat", groups, w.ints([1, count]), axis=0)
    scores = w.node("Expand", np.arange(count, 0, -1).astype(np.float32), shape)
    limits = w.ints([count]), np.array([iou_threshold], "float32")
    chosen = w.node("NonMaxSuppression", boxes, scores, *limits)  # (picked, 3)
    ones = w.node("Expand", w.ints([1]), w.node("Shape", chosen, start=0, end=1))
    mask = w.node("ScatterND", w.node("Expand", w.ints([0]), shape), chosen, ones)
    return w.cast(w.node("Squeeze", mask, w.ints([1])), "bool")
