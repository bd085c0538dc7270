"""Metrics of the order of the scores: AUROC and average precision, exact."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array
from ..checks import check_choice
from .classification import ClassMetric, mean_of_numbers
from .metric import StoringMetric

__all__ = ["AUROC", "AveragePrecision"]


class RankingMetric(StoringMetric, ClassMetric):
    """Base of the metrics of how well scores separate examples of a class from the rest.

    The scores of an epoch are stored, on their device. Pixels count as examples. A class without
    examples, or for AUROC one with nothing but examples, is NaN and does not count in the mean.

    Parameters
    ----------
    average
        "macro": the mean over classes (one versus rest) or labels; None: an array with one number
        for each.
    ignore_index
        See :class:`ClassMetric`.
    """

    def __init__(self, average: str | None = "macro", *, ignore_index: int | None = None) -> None:
        super().__init__(ignore_index=ignore_index)
        self.average = average if average is None else check_choice("average", average, ("macro",))
        self.is_scalar = average is not None

    def of_classes(self, xp: Any, scores: Array, labels: Array) -> dict[str, Any]:
        return {"scores": _rows(xp, scores), "classes": labels.reshape(-1)}

    def of_labels(self, xp: Any, scores: Array, actual: Array) -> dict[str, Any]:
        return {"scores": _rows(xp, scores), "labels": _rows(xp, actual)}

    def result(self, scores: np.ndarray, classes: Any = None, labels: Any = None) -> Any:
        is_counted = slice(None)
        if classes is not None:
            is_counted = classes >= 0
            labels = classes[:, None] == np.arange(scores.shape[1])
        scores, labels = scores[is_counted], labels[is_counted]
        each = np.array([self.score(s, of) for s, of in zip(scores.T, labels.T, strict=True)])
        return each if self.average is None else mean_of_numbers(each)

    def score(self, scores: np.ndarray, labels: np.ndarray) -> Any:
        """The metric of one class, from scores and booleans (M,)."""
        raise NotImplementedError


def _rows(xp: Any, a: Array) -> Array:
    """A copy of (N, C, ...) as (examples, C)."""
    return xp.moveaxis(a, 1, -1).reshape(-1, a.shape[1]).copy()


def _by_score(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Examples in all and those of the class, with at least each distinct score, largest first."""
    order = np.argsort(-scores)
    scores, labels = scores[order], labels[order]
    is_last = np.append(scores[1:] != scores[:-1], True)  # of equal scores
    return np.flatnonzero(is_last) + 1, np.cumsum(labels)[is_last]


class AUROC(RankingMetric):
    """Area under the receiver operating characteristic.

    The probability that an example of the class scores higher than another one; equal scores count
    half. Source: Fawcett 2006, "An introduction to ROC analysis".
    """

    name = "auroc"

    def score(self, scores: np.ndarray, labels: np.ndarray) -> Any:
        count, right = _by_score(scores, labels) if len(scores) else (np.zeros(1),) * 2
        wrong = np.append(0, count - right)
        area = np.diff(wrong) @ (np.append(0, right[:-1]) + right) / 2
        return np.divide(area, np.float64(wrong[-1]) * right[-1])


class AveragePrecision(RankingMetric):
    """Average precision: the sum of precision times the step of recall, over distinct scores.

    The mean over classes or labels is the mean average precision (mAP) of classification.
    """

    name = "average_precision"

    def score(self, scores: np.ndarray, labels: np.ndarray) -> Any:
        count, right = _by_score(scores, labels) if len(scores) else (np.ones(1), np.zeros(1))
        return np.divide(np.diff(right, prepend=0) @ (right / count), np.float64(right[-1]))
