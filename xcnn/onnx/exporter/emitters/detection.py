"""Detection: suppression of boxes."""

from __future__ import annotations

import numpy as np

from ....extend import onnx_emitter
from ..writer import Value, Writer


@onnx_emitter("nms_mask")
def nms_mask(w: Writer, boxes: Value, iou_threshold: float) -> str:
    """Scores that fall from the first box on keep the order; what was selected becomes a mask."""
    count = boxes.shape[1]
    groups = w.node("Shape", boxes, start=0, end=1)
    shape = w.node("Concat", groups, w.ints([1, count]), axis=0)
    scores = w.node("Expand", np.arange(count, 0, -1, "float32"), shape)
    limits = w.ints([count]), np.array([iou_threshold], "float32")
    chosen = w.node("NonMaxSuppression", boxes, scores, *limits)  # (picked, 3)
    ones = w.node("Expand", w.ints([1]), w.node("Shape", chosen, start=0, end=1))
    mask = w.node("ScatterND", w.node("Expand", w.ints([0]), shape), chosen, ones)
    return w.cast(w.node("Squeeze", mask, w.ints([1])), "bool")
