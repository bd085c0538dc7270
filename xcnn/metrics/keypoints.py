"""Metrics of keypoints."""

from __future__ import annotations

from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import check_number
from ..errors import ShapeError
from .metric import Metric

__all__ = ["PCK"]


class PCK(Metric):
    """Percentage of correct keypoints, as a fraction: those near enough to the true ones.

    A keypoint is correct if it is at most ``alpha`` times the longer side of the box around all
    true ones of the example away. Those of visibility 0 do not count. Source: Yang and Ramanan
    2013, "Articulated human detection with flexible mixtures of parts".

    Parameters
    ----------
    alpha
        Largest distance, as a fraction of the box.

    Raises
    ------
    ArgumentError
        ``alpha`` is not above 0.
    """

    name = "pck"
    targets = ("keypoints",)

    def __init__(self, alpha: float = 0.1) -> None:
        super().__init__()
        self.alpha = check_number("alpha", alpha, 0, above=True)

    def measure(self, backend: Backend, prediction: Array, target: Array) -> dict[str, Any]:
        xp, shape = backend.xp, target.shape
        if prediction.ndim != 3 or prediction.shape[:2] != shape[:2] or shape[2] not in (2, 3):
            raise ShapeError(
                f"metric {self.name!r}: prediction has shape {prediction.shape}, target {shape}: "
                "expected (N, K, 2 or 3), x, y and, if it is known, visibility"
            )
        found, true = (a[..., :2].astype("float64") for a in (prediction, target))
        seen = target[..., 2] > 0 if shape[2] == 3 else xp.ones(shape[:2], bool)
        low, high = (xp.where(seen[..., None], true, end) for end in (xp.inf, -xp.inf))
        side = xp.maximum((high.max(axis=1) - low.min(axis=1)).max(axis=1), 1)  # in pixels
        distance = xp.sqrt(xp.square(found - true).sum(axis=2))
        right = (distance <= self.alpha * side[:, None]) & seen
        invalid = (xp.isnan(distance) & seen).sum()
        return {"total": right.sum(), "count": seen.sum(), "invalid": invalid}
