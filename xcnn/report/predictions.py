"""What a network predicts for the test data: confusions, mistakes, numbers of each class."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import metrics
from ..arrays import Array
from ..data import DataLoader, Subset
from ..errors import ArgumentError
from .run import Run

#: classes of a confusion matrix; of more classes, the most frequent confusions are listed
MAX_MATRIX = 30
#: such confusions
MAX_CONFUSIONS = 40
#: examples kept for each cell, and numbers in all of their pictures
PER_CELL, MAX_NUMBERS = 12, 1_500_000
#: examples in each list of mistakes and so on
LISTED = 12
#: probabilities shown for an example
_TOP = 3


@dataclass(frozen=True)
class Predictions:
    """Predicted classes of examples, and their actual ones.

    Attributes
    ----------
    indices : int (N,): positions of the examples in the data
    labels : int (N,)
    probabilities : float (N, C)
    classes : names
    total : number of examples in the data
    invalid : number of examples left out because a probability is NaN or a label no class
    """

    indices: Array
    labels: Array
    probabilities: Array
    classes: list[str]
    total: int
    invalid: int = 0

    @property
    def predicted(self) -> Array:
        """The most probable classes, (N,)."""
        return self.probabilities.argmax(axis=1)


def is_counted(run: Run) -> bool:
    """Whether the run is for one class for each example, as far as it says."""
    return run.task is None or run.task.counts_confusions


def predict(run: Run, limit: int) -> Predictions | str:
    """Predict at most ``limit`` examples of the test data, evenly spaced; or why it cannot be."""
    trainer, test = run.trainer, run.test
    if trainer is None:
        return "There is no network, so there are no predictions."
    if test is None:
        return "There are no test data, so there are no predictions."
    kind = trainer.loss.target
    if kind not in ("classes", "binary"):
        return f"{type(trainer.loss).__name__} has no classes: there are no predictions to count."
    total = len(test.dataset)
    if total == 0:
        return "The test data have no examples."
    indices = np.arange(total)
    if total > limit:
        indices = np.linspace(0, total - 1, limit).round().astype(np.int64)
    part = DataLoader(Subset(test.dataset, indices), 256, transform=test.transform, prefetch=0)
    scores, targets = [], []
    for batch in part:
        if not isinstance(batch, tuple) or len(batch) < 2:
            return "The test data have no labels."
        scores.append(trainer.predict(batch[0]))
        if not isinstance(scores[-1], np.ndarray):
            return "The network returns several outputs: there is no class to count."
        targets.append(np.asarray(batch[1]))
    probabilities, labels = np.concatenate(scores), np.concatenate(targets)
    is_one_label = kind == "binary" and probabilities.size == len(indices)
    if is_one_label:
        second = probabilities.reshape(-1)
        probabilities, labels = np.stack([1 - second, second], axis=1), labels.reshape(-1) > 0.5
    elif labels.shape == probabilities.shape:
        labels = labels.argmax(axis=1)
    if probabilities.ndim == 2 and labels.ndim > 1:
        return (
            f"The labels have shape {labels.shape}, expected {labels.shape[:1]}, one class per "
            "example: there are no predictions to count."
        )
    is_whole = probabilities.ndim == 2 and labels.shape == probabilities.shape[:1]
    if not is_whole or (kind == "binary" and not is_one_label):
        return (
            f"The network predicts {probabilities.shape[1:]} numbers per example: confusions and "
            "mistakes are shown for one class per example."
        )
    count = probabilities.shape[1]
    names = list(map(str, range(count) if run.classes is None else run.classes))
    if len(names) != count:
        raise ArgumentError(
            f"classes: {len(names)} names, but the network tells {count} classes apart: pass one "
            "name for each"
        )
    labels = labels.astype(np.int64)
    known = np.isfinite(probabilities).all(axis=1) & (labels >= 0) & (labels < count)
    if not known.any():
        return "All predicted probabilities are NaN: the training has diverged."
    return Predictions(
        indices[known], labels[known], probabilities[known], names, total, int((~known).sum())
    )


def confusion(found: Predictions, numbers: int = 1) -> dict[str, Any]:
    """The confusion matrix, or the most frequent confusions if there are many classes.

    Parameters
    ----------
    found
        The predictions.
    numbers
        In each picture, which decides how many examples are kept for each cell.

    Returns
    -------
    dict
        "matrix": (C, C) counts, actual classes in rows, or None; "cells": for each cell that is not
        0, or for the most frequent confusions, "actual", "predicted", "count" and the "examples"
        kept, the most confident first.
    """
    matrix = matrix_of(found)
    is_small = len(matrix) <= MAX_MATRIX
    wanted = matrix if is_small else matrix - np.diag(np.diag(matrix))
    actual, predicted = np.nonzero(wanted)
    order = np.argsort(-wanted[actual, predicted], kind="stable")
    order = order[: None if is_small else MAX_CONFUSIONS]
    each = int(np.clip(MAX_NUMBERS // (numbers * max(1, len(order))), 2, PER_CELL))
    cells = []
    for row, column in zip(actual[order].tolist(), predicted[order].tolist(), strict=True):
        inside = np.flatnonzero((found.labels == row) & (found.predicted == column))
        kept = inside[np.argsort(-found.probabilities[inside, column], kind="stable")][:each]
        cell = {"actual": row, "predicted": column, "count": len(inside), "examples": kept.tolist()}
        cells.append(cell)
    return {"matrix": matrix.tolist() if is_small else None, "cells": cells, "kept": each}


def matrix_of(found: Predictions) -> Array:
    """Counts (C, C): actual classes in rows, predicted classes in columns."""
    return _measure(found, metrics.ConfusionMatrix()).astype(np.int64)


def per_class(found: Predictions) -> list[dict[str, Any]]:
    """Support, precision, recall and F1 of each class."""
    kinds = {"precision": metrics.Precision, "recall": metrics.Recall, "f1": metrics.F1}
    scores = {name: _measure(found, kind(average=None)) for name, kind in kinds.items()}
    support = np.bincount(found.labels, minlength=len(found.classes))
    predicted = np.bincount(found.predicted, minlength=len(found.classes))
    return [
        {
            "class": number,
            "support": int(support[number]),
            "predicted": int(predicted[number]),
            **{name: float(values[number]) for name, values in scores.items()},
        }
        for number in range(len(found.classes))
    ]


def _measure(found: Predictions, metric: metrics.Metric) -> Any:
    metric.target = "classes"
    metric.update(found.probabilities, found.labels)
    return metric.compute()


def lists(found: Predictions) -> dict[str, list[int]]:
    """Positions in the predictions of the examples to look at.

    Returns
    -------
    dict
        "mistakes": wrong, with the least probability of the actual class; "confident": right, the
        most confident ones of as many classes as possible; "uncertain": the largest entropy.
    """
    every = np.arange(len(found.labels))
    own = found.probabilities[every, found.labels]
    right = found.predicted == found.labels
    wrong = every[~right]
    log = np.log(np.maximum(found.probabilities, 1e-30))
    entropy = -(found.probabilities * log).sum(axis=1)
    confident = every[right][np.argsort(-own[right], kind="stable")]
    turn = np.zeros(len(confident), np.int64)  # among the examples of its class
    for label in range(len(found.classes)):
        of_class = found.labels[confident] == label
        turn[of_class] = np.arange(of_class.sum())
    return {
        "mistakes": wrong[np.argsort(own[wrong], kind="stable")][:LISTED].tolist(),
        "confident": confident[np.argsort(turn, kind="stable")][:LISTED].tolist(),
        "uncertain": np.argsort(-entropy, kind="stable")[:LISTED].tolist(),
    }


def shown(found: Predictions, positions: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Labels and the largest probabilities of examples, by position."""
    result = {}
    for at in dict.fromkeys(positions):
        row = found.probabilities[at]
        top = np.argsort(-row, kind="stable")[:_TOP].tolist()
        result[at] = {
            "index": int(found.indices[at]),
            "actual": int(found.labels[at]),
            "own": round(float(row[found.labels[at]]), 5),
            "top": [[c, round(float(row[c]), 5)] for c in top],
        }
    return result
