"""Metrics of predicted classes: accuracy, precision, recall, F1, IoU, Dice, confusion matrix."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from ..arrays import Array, sum_dtype
from ..backends import Backend
from ..checks import check_choice, check_ignore_index, check_int, check_number
from ..errors import DTypeError, ShapeError
from .metric import Metric

__all__ = [
    "F1",
    "Accuracy",
    "ClassMetric",
    "ConfusionMatrix",
    "Dice",
    "IoU",
    "Precision",
    "Recall",
    "TopKAccuracy",
]

AVERAGES = ("macro", "micro", "weighted")


class ClassMetric(Metric):
    """Base of the metrics of predicted classes or labels.

    The predicted class is the one with the largest probability, the first of equal ones. Axis 1
    of a binary prediction (N, labels, ...) counts the labels; (N,) is one label.

    Subclasses define ``of_classes`` and ``of_labels``, which do the work of ``measure``.

    Parameters
    ----------
    ignore_index
        Class indices that do not count; None: those that the loss ignores, else -100.
    threshold
        A larger probability predicts a label to be 1.
    """

    targets: ClassVar[tuple[str, ...]] = ("classes", "binary")

    def __init__(self, *, ignore_index: int | None = None, threshold: float = 0.5) -> None:
        super().__init__()
        self.ignore_index = None if ignore_index is None else check_ignore_index(ignore_index)
        self.threshold = check_number("threshold", threshold)

    def measure(self, backend: Backend, prediction: Array, target: Array) -> dict[str, Any]:
        if prediction.dtype.kind != "f" or prediction.ndim == 0:
            raise DTypeError(
                f"metric {self.name!r}: prediction is {prediction.dtype}{prediction.shape}: "
                "expected floating-point scores (N, ...), such as those of Trainer.predict"
            )
        xp = backend.xp
        scores = prediction.astype(sum_dtype(prediction.dtype), copy=False)
        has_classes = scores.ndim == target.ndim + 1 and scores.shape[1] > 1
        if self.target == "classes" or (self.target is None and has_classes):
            labels, invalid = self._class_labels(backend, scores, target)
            return {"invalid": invalid.reshape(1), **self.of_classes(xp, scores, labels)}
        target = self.same_shape(scores, target)
        if scores.ndim == 1:
            scores, target = scores[:, None], target[:, None]
        invalid = xp.isnan(scores + target).sum().reshape(1)
        return {"invalid": invalid, **self.of_labels(xp, scores, target > 0.5)}

    def _class_labels(self, backend: Backend, scores: Array, target: Array) -> tuple[Array, Array]:
        """Class indices (N, ...), -1 for ignored ones, and how many have no valid prediction.

        An index out of range, which is an error on a CPU, counts among the latter.
        """
        xp, shape = backend.xp, scores.shape
        ignore_index = -100 if self.ignore_index is None else self.ignore_index
        if target.shape == shape and target.ndim > 1 and target.dtype.kind == "f":
            scores = scores + target  # NaN where either is
            target, ignore_index = target.argmax(axis=1), -1
        fits = scores.ndim > 1 and target.shape == shape[:1] + shape[2:]
        if not fits or target.dtype.kind not in "iu":
            raise ShapeError(
                f"metric {self.name!r}: prediction has shape {shape}, target {target.shape} "
                f"({target.dtype}): expected probabilities (N, C, ...), and integer class indices "
                "(N, ...) or probabilities in the same shape"
            )
        labels = target.astype("int64", copy=False)
        backend.check_class_indices(labels, shape[1], ignore_index)
        is_counted = labels != ignore_index
        exists = (labels >= 0) & (labels < shape[1])
        invalid = is_counted & (xp.isnan(scores).any(axis=1) | ~exists)
        return xp.where(is_counted & exists, labels, -1), invalid.sum()

    def of_classes(self, xp: Any, scores: Array, labels: Array) -> dict[str, Any]:
        """Measure probabilities (N, C, ...) and class indices (N, ...), -1 for ignored ones."""
        raise NotImplementedError

    def of_labels(self, xp: Any, scores: Array, actual: Array) -> dict[str, Any]:
        """Measure probabilities and booleans (N, labels, ...)."""
        raise NotImplementedError


def count(xp: Any, indices: Array, size: int) -> Array:
    """How often each of 0 to size - 1 occurs; other values are ignored.

    Unlike bincount, sorting needs no atomics and does not wait for a GPU.
    """
    dtype = "int32" if size < 2**31 else "int64"
    ordered = xp.sort(indices.astype(dtype).reshape(-1))
    starts = xp.searchsorted(ordered, xp.arange(size + 1, dtype=dtype))
    return starts[1:] - starts[:-1]


class Accuracy(ClassMetric):
    """The fraction of correct predictions; of labels (N, L), each counts on its own."""

    name = "accuracy"

    def of_classes(self, xp: Any, scores: Array, labels: Array) -> dict[str, Any]:
        return {"total": self.is_right(xp, scores, labels).sum(), "count": (labels >= 0).sum()}

    def of_labels(self, xp: Any, scores: Array, actual: Array) -> dict[str, Any]:
        right = (scores > self.threshold) == actual
        return {"total": right.sum(), "count": right.size}

    def is_right(self, xp: Any, scores: Array, labels: Array) -> Array:
        return scores.argmax(axis=1) == labels


class TopKAccuracy(Accuracy):
    """The fraction of examples whose class has one of the k largest probabilities.

    Of equal probabilities, the first ones count as larger, so that k = 1 is the accuracy.
    """

    name = "top_5_accuracy"
    targets = ("classes",)
    target = "classes"

    def __init__(self, k: int = 5, *, ignore_index: int | None = None) -> None:
        super().__init__(ignore_index=ignore_index)
        self.k = check_int("k", k)
        self.name = f"top_{self.k}_accuracy"

    def is_right(self, xp: Any, scores: Array, labels: Array) -> Array:
        index = xp.where(labels >= 0, labels, 0)[:, None]
        own = xp.take_along_axis(scores, index, 1)
        classes = xp.arange(scores.shape[1]).reshape(-1, *(1,) * (scores.ndim - 2))
        is_before = (scores > own) | ((scores == own) & (classes < index))
        return (is_before.sum(axis=1) < self.k) & (labels >= 0)


class CountMetric(ClassMetric):
    """Base of the metrics that follow from three counts of each class.

    Subclasses define ``fraction``, and ``undefined``, its value where the denominator is 0: 0, as
    scikit-learn's ``zero_division=0``. Classes that occur neither in targets nor in predictions do
    not count in a mean.

    Parameters
    ----------
    average
        "macro": the mean over classes; "weighted": weighted by their numbers of examples; "micro":
        of all classes together; None: an array with one number per class. A single binary label
        has only one number.
    ignore_index, threshold
        See :class:`ClassMetric`.
    """

    undefined: ClassVar[float] = 0.0

    def __init__(
        self,
        average: str | None = "macro",
        *,
        ignore_index: int | None = None,
        threshold: float = 0.5,
    ) -> None:
        super().__init__(ignore_index=ignore_index, threshold=threshold)
        self.average = average if average is None else check_choice("average", average, AVERAGES)
        self.is_scalar = average is not None
        if average not in (None, "macro"):
            self.name = f"{self.name}_{average}"

    def of_classes(self, xp: Any, scores: Array, labels: Array) -> dict[str, Any]:
        predicted = xp.where(labels >= 0, scores.argmax(axis=1), -1)
        right = xp.where(predicted == labels, labels, -1)
        counts = [count(xp, indices, scores.shape[1]) for indices in (right, predicted, labels)]
        return {"classes": xp.stack(counts)}

    def of_labels(self, xp: Any, scores: Array, actual: Array) -> dict[str, Any]:
        axes = (0, *range(2, actual.ndim))
        predicted = scores > self.threshold
        booleans = (predicted & actual, predicted, actual)
        return {"labels": xp.stack([of_one.sum(axis=axes) for of_one in booleans])}

    def result(self, classes: Any = None, labels: Any = None) -> Any:
        counts = labels if classes is None else classes  # (3, C)
        is_absent = (counts == 0).all(axis=0)
        if self.average == "micro":
            counts = counts.sum(axis=1, keepdims=True)
        above, below = self.fraction(*counts)
        scores = np.where(below > 0, above / below, self.undefined)
        if classes is not None and is_absent.all():  # no examples
            scores = np.full_like(scores, np.nan)
        if self.average == "micro":
            return scores[0]
        if self.average == "weighted" and counts[2].any():
            return np.nansum(scores * counts[2]) / counts[2].sum()
        if self.average and classes is not None:
            scores = np.where(is_absent, np.nan, scores)
        return mean_of_numbers(scores) if self.average else scores

    def fraction(self, right: Any, predicted: Any, actual: Any) -> tuple[Any, Any]:
        """Numerator and denominator, from numbers of examples of a class."""
        raise NotImplementedError


def mean_of_numbers(scores: np.ndarray) -> Any:
    """The mean of the numbers that are not NaN; NaN if there are none."""
    return np.divide(np.nansum(scores), (~np.isnan(scores)).sum())


class Precision(CountMetric):
    """The fraction of the predictions of a class that are right."""

    name = "precision"

    def fraction(self, right: Any, predicted: Any, actual: Any) -> tuple[Any, Any]:
        return right, predicted


class Recall(CountMetric):
    """The fraction of the examples of a class that are found."""

    name = "recall"

    def fraction(self, right: Any, predicted: Any, actual: Any) -> tuple[Any, Any]:
        return right, actual


class F1(CountMetric):
    """The harmonic mean of precision and recall."""

    name = "f1"

    def fraction(self, right: Any, predicted: Any, actual: Any) -> tuple[Any, Any]:
        return 2 * right, predicted + actual


class Dice(F1):
    """Dice coefficient 2·|A∩B| / (|A| + |B|) of predicted and actual pixels of a class.

    A class that occurs in neither is NaN, and does not count in the mean.
    """

    name = "dice"
    undefined = np.nan


class IoU(CountMetric):
    """Intersection over union |A∩B| / |A∪B| of predicted and actual pixels of a class.

    A class that occurs in neither is NaN, and does not count in the mean.
    """

    name = "iou"
    undefined = np.nan

    def fraction(self, right: Any, predicted: Any, actual: Any) -> tuple[Any, Any]:
        return right, predicted + actual - right


class ConfusionMatrix(ClassMetric):
    """Numbers of examples, (C, C): actual classes in rows, predicted classes in columns.

    For binary targets [[true 0, false 1], [false 0, true 1]]; for several labels one such matrix
    each, (labels, 2, 2).
    """

    name = "confusion_matrix"
    is_scalar = False

    def of_classes(self, xp: Any, scores: Array, labels: Array) -> dict[str, Any]:
        classes = scores.shape[1]
        pairs = xp.where(labels >= 0, labels * classes + scores.argmax(axis=1), -1)
        return {"matrix": count(xp, pairs, classes**2).reshape(classes, classes)}

    def of_labels(self, xp: Any, scores: Array, actual: Array) -> dict[str, Any]:
        pairs = 2 * actual.astype("int64") + (scores > self.threshold)
        of_each = [count(xp, pairs[:, i], 4).reshape(2, 2) for i in range(pairs.shape[1])]
        return {"matrix": xp.stack(of_each) if len(of_each) > 1 else of_each[0]}

    def result(self, matrix: np.ndarray) -> Any:
        return matrix
