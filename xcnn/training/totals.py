"""Sums over the batches of an epoch, kept on the device until they are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..arrays import Array
from ..nn import Loss
from ..tensor import Tensor, no_grad


class Step(NamedTuple):
    """One batch of training or evaluation, on the device.

    Attributes
    ----------
    loss : Tensor
        Of one element.
    output
        What the model returned, Tensors.
    target
        What the loss was called with, arrays.
    examples : int
        Number of examples in the batch.
    """

    loss: Tensor
    output: Any
    target: Any
    examples: int


class Totals:
    """Loss, accuracy and metrics of the batches so far."""

    def __init__(self, loss: Loss, metrics: Mapping[str, Any]) -> None:
        self._loss = loss
        self._metrics = metrics
        for metric in metrics.values():
            metric.reset()
        self._sums: dict[str, Any] = {"loss": 0, "divisor": 0, "right": None, "answers": 0}

    def add(self, step: Step) -> None:
        """Add a batch, without waiting for a GPU."""
        total, divisor = self._loss.total(step.loss, step.output, step.target)
        self._sums["loss"] = self._sums["loss"] + total
        self._sums["divisor"] = self._sums["divisor"] + divisor
        if self._loss.target in ("classes", "binary"):
            right, answers = correct(self._loss, step.output.data, step.target)
            self._sums["right"] = (self._sums["right"] or 0) + right
            self._sums["answers"] = self._sums["answers"] + answers
        if self._metrics:
            with no_grad():
                prediction = self._loss.prediction(step.output)
            for metric in self._metrics.values():
                metric.update(prediction, step.target)

    def loss(self) -> float:
        """The mean loss; reading it waits for a GPU."""
        divisor = float(self._sums["divisor"])
        return float(self._sums["loss"]) / divisor if divisor else math.nan

    def accuracy(self) -> float | None:
        """The fraction of correct answers; None if the loss has no classes."""
        if self._sums["right"] is None:
            return None if self._loss.target not in ("classes", "binary") else math.nan
        answers = int(self._sums["answers"])
        return int(self._sums["right"]) / answers if answers else math.nan

    def values(self, prefix: str) -> dict[str, float]:
        """The metrics, under their names with ``prefix``."""
        return {f"{prefix}{name}": float(m.compute()) for name, m in self._metrics.items()}

    def state_dict(self) -> dict[str, Any]:
        """The sums, to go on in the middle of an epoch."""
        metrics = {name: metric.state_dict() for name, metric in self._metrics.items()}
        return {"sums": dict(self._sums), "metrics": metrics}

    def load_state_dict(self, state: Mapping[str, Any], place: Any) -> None:
        """Restore the result of :meth:`state_dict`; ``place`` puts an array on the device."""
        self._sums = {
            k: place(v) if hasattr(v, "shape") else v for k, v in state["sums"].items()
        }
        for name, metric in self._metrics.items():
            metric.load_state_dict(state["metrics"][name])


def correct(loss: Loss, output: Array, target: Array) -> tuple[Array, Any]:
    """Number of correct answers of a batch, and of all that are not ignored."""
    if loss.target == "binary":
        right = (output > loss.threshold) == (target > 0.5)
        return right.sum(), right.size
    if target.ndim == output.ndim:  # probabilities
        right = output.argmax(axis=1) == target.argmax(axis=1)
        return right.sum(), right.size
    right = output.argmax(axis=1) == target
    return right.sum(), (target != getattr(loss, "ignore_index", -100)).sum()
