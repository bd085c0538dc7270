"""Sums over the batches of an epoch, kept on the device until they are read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any, NamedTuple

from .. import backends
from ..arrays import Array
from ..communicator import Communicator
from ..layout import to_batch_last
from ..nn import CrossEntropyLoss, Loss
from ..tensor import Tensor, no_grad

_CHUNK = 1024
WITH_ACCURACY = ("classes", "binary")


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
        self._sums: list[dict[str, Any]] = []  # of at most _CHUNK batches each, for float32's sake
        self._batches = 0

    def add(self, step: Step) -> None:
        """Add a batch, without waiting for a GPU; one without examples counts for nothing."""
        if step.examples == 0:  # its mean loss is NaN
            return
        if self._batches % _CHUNK == 0:
            self._sums.append({})
        on_device = hasattr(self._sums[-1].get("divisor", step.loss), "shape")
        if on_device and _is_mean_of_classes(self._loss, step):
            self._add_classes(step)
        else:
            self._add_terms(step)
        self._batches += 1
        if self._metrics:
            with no_grad():
                prediction = self._loss.prediction(step.output)
            for metric in self._metrics.values():
                metric.update(step.output if metric.takes_output else prediction, step.target)

    def _add_classes(self, step: Step) -> None:
        """Add the mean loss of class indices, and the correct answers, in one call."""
        backend, sums = step.loss.backend, self._sums[-1]
        if not sums:
            zeros = backend.xp.zeros
            sums |= {"loss": zeros((), step.loss.dtype), "divisor": zeros((), "int64")}
            sums["right"] = zeros((), "int64")
        logits = to_batch_last(backend.xp, step.output.data)
        labels = backend.xp.moveaxis(step.target, 0, -1).reshape(-1)
        sums["answers"] = sums["divisor"]
        totals = sums["loss"], sums["divisor"], sums["right"]
        arrays = logits.reshape(len(logits), labels.size), labels, step.loss.data
        backend.add_class_totals(totals, *arrays, getattr(self._loss, "ignore_index", -100))

    def _add_terms(self, step: Step) -> None:
        terms = dict(zip(("loss", "divisor"), self._loss.total(*step[:3]), strict=True))
        if self._loss.target in WITH_ACCURACY:
            terms.update(correct(self._loss, step.output.data, step.target, terms["divisor"]))
        sums = self._sums[-1]
        self._sums[-1] = {n: sums[n] + term if sums else term for n, term in terms.items()}

    def _sum(self, name: str) -> float:
        terms = [float(sums.get(name, 0)) for sums in self._sums]
        # the exactly rounded sum, the same for all orders
        return math.fsum(terms) if all(map(math.isfinite, terms)) else sum(terms)

    def loss(self) -> float:
        """The mean loss; reading it waits for a GPU."""
        divisor = self._sum("divisor")
        return self._sum("loss") / divisor if divisor else math.nan

    def accuracy(self) -> float | None:
        """The fraction of correct answers; None if the loss has no classes."""
        if self._loss.target not in WITH_ACCURACY:
            return None
        answers = self._sum("answers")
        return self._sum("right") / answers if answers else math.nan

    def values(self, prefix: str) -> dict[str, float]:
        """The metrics, under their names with ``prefix``."""
        return {f"{prefix}{name}": float(m.compute()) for name, m in self._metrics.items()}

    def state_dict(self) -> dict[str, Any]:
        """The sums, to go on in the middle of an epoch."""
        metrics = {name: metric.state_dict() for name, metric in self._metrics.items()}
        sums = [
            {k: backends.copy(v) if backends.find(v) else v for k, v in sums.items()}
            for sums in self._sums
        ]
        return {"batches": self._batches, "sums": sums, "metrics": metrics}

    def load_state_dict(self, state: Mapping[str, Any], place: Any) -> None:
        """Restore the result of :meth:`state_dict`; ``place`` puts an array on the device."""
        self._batches = state["batches"]
        self._sums = [
            {k: place(v) if hasattr(v, "shape") else v for k, v in sums.items()}
            for sums in state["sums"]
        ]
        for name, metric in self._metrics.items():
            metric.load_state_dict(state["metrics"][name])

    def states(self, communicator: Communicator) -> list[dict[str, Any]]:
        """:meth:`state_dict` of each process, with NumPy arrays; a collective call."""
        state = self.state_dict()
        state["sums"] = [
            {k: Tensor.of(v).numpy() if hasattr(v, "shape") else v for k, v in sums.items()}
            for sums in state["sums"]
        ]
        return communicator.gather(state)

    def load_states(self, states: Sequence[Mapping[str, Any]]) -> None:
        """Go on from the batches of all processes, whose :meth:`states` are given."""
        self._batches = max(state["batches"] for state in states)
        self._sums = [
            {k: float(v) for k, v in sums.items()} for state in states for sums in state["sums"]
        ]
        self._sums.append({})  # for the next batches: float32 must not be added to large sums
        for name, metric in self._metrics.items():
            metric.load_state_dict(metric.merge([state["metrics"][name] for state in states]))

    def merged(self, communicator: Communicator) -> Totals:
        """The sums over the batches of all processes; a collective call.

        Loss and accuracy are rounded once, whatever the order of the processes, and the metrics
        in float64.
        """
        totals = Totals(self._loss, deepcopy(self._metrics))
        totals.load_states(self.states(communicator))
        return totals


def _is_mean_of_classes(loss: Any, step: Step) -> bool:
    """Whether the loss is the mean over the class indices that are not ignored, without weights."""
    return (
        type(loss) is CrossEntropyLoss
        and getattr(loss, "weight", None) is None
        and loss.reduction == "mean"
        and step.target.dtype.kind in "iu"
        and step.output.ndim == step.target.ndim + 1
    )


def correct(loss: Loss, output: Array, target: Array, divisor: Any) -> dict[str, Any]:
    """Count the correct answers of a batch, and all that are not ignored.

    Without class weights, ``divisor``, what the mean loss divides by, is the latter where it is an
    array.
    """
    if loss.target == "binary":
        right = (output > loss.threshold) == (target > 0.5)
        return {"right": right.sum(), "answers": right.size}
    if target.ndim == output.ndim:  # probabilities
        right = output.argmax(axis=1) == target.argmax(axis=1)
        return {"right": right.sum(), "answers": right.size}
    labels = target.astype("int64", copy=False)  # uint8 cannot hold -100
    counted = labels != getattr(loss, "ignore_index", -100)  # which may be a class of the output
    right = (output.argmax(axis=1) == labels) & counted
    is_count = hasattr(divisor, "shape") and getattr(loss, "weight", None) is None
    return {"right": right.sum(), "answers": divisor if is_count else counted.sum()}
