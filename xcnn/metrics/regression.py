"""Metrics of values, and the mean of a loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..arrays import Array, sum_dtype
from ..backends import Backend
from ..nn import Loss
from ..tensor import Tensor, no_grad
from .metric import Metric, check_loss

__all__ = ["R2", "LossTerm", "MeanAbsoluteError", "MeanLoss", "MeanSquaredError"]


def as_values(metric: Metric, prediction: Array, target: Array) -> tuple[Array, Array]:
    """Prediction and target in equal shapes; integers as float64, half types as float32."""
    target = metric.same_shape(prediction, target)
    return _as_floats(prediction), _as_floats(target)


def _as_floats(a: Array) -> Array:
    dtype = sum_dtype(a.dtype) if a.dtype.kind == "f" else "float64"
    return a.astype(dtype, copy=False)


class MeanMetric(Metric):
    """Base of the means of one term per element or image; subclasses define ``terms``."""

    def measure(self, backend: Backend, prediction: Array, target: Array) -> dict[str, Any]:
        terms = self.terms(backend.xp, *as_values(self, prediction, target))
        return {"total": terms.sum(dtype="float64"), "count": terms.size}

    def terms(self, xp: Any, prediction: Array, target: Array) -> Array:
        raise NotImplementedError


class MeanAbsoluteError(MeanMetric):
    """The mean of |prediction - target| over all elements."""

    name = "mae"
    higher_is_better = False

    def terms(self, xp: Any, prediction: Array, target: Array) -> Array:
        return xp.abs(prediction - target)


class MeanSquaredError(MeanMetric):
    """The mean of (prediction - target)² over all elements."""

    name = "mse"
    higher_is_better = False

    def terms(self, xp: Any, prediction: Array, target: Array) -> Array:
        return xp.square(prediction - target)


class R2(Metric):
    """Coefficient of determination: 1 - Σ(prediction - target)² / Σ(target - mean target)².

    The mean over the outputs (axis 1; pixels count as examples). NaN for fewer than two examples;
    where all targets of an output are equal, 1 if they are predicted exactly, else 0, as in
    scikit-learn.
    """

    name = "r2"

    def measure(self, backend: Backend, prediction: Array, target: Array) -> dict[str, Any]:
        xp, shape = backend.xp, (len(target), *target.shape[1:2], -1)
        x, y = (a.reshape(shape) for a in as_values(self, prediction, target))
        exact, first = y.astype("float64"), "shift" not in self._state
        # sums of differences from the first target: a large mean would hide a small variance
        shift = exact[0, ..., :1].copy() if first else self._state["shift"]
        exact -= Tensor.of(shift).to(backend).data
        axes = (0, -1)
        return {
            "count": len(y) * y.shape[-1],
            "errors": xp.square(x - y).sum(axis=axes, dtype="float64"),
            "sums": exact.sum(axis=axes),
            "squares": xp.square(exact).sum(axis=axes),
            **({"shift": shift} if first else {}),
        }

    def merge(self, states: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        own = [dict(state) for state in states if state]
        for state in own[1:]:  # sums of differences from the first target of the first state
            moved = (state.pop("shift") - own[0]["shift"])[..., 0]
            n, sums = state["count"], state["sums"]
            state["squares"] = state["squares"] + moved * (2 * sums + n * moved)
            state["sums"] = sums + n * moved
        return super().merge(own)

    def result(self, count: Any, errors: Any, sums: Any, squares: Any, shift: Any) -> Any:
        spread = np.maximum(squares - sums * sums / count, 0)
        scores = np.where(spread == 0, (errors == 0) * 1.0, 1 - errors / spread)
        scores = np.where(np.isnan(errors), np.nan, scores)
        return scores.mean() if count > 1 else np.nan


class MeanLoss(Metric):
    """The mean of a loss over all examples, by :meth:`xcnn.nn.Loss.total`.

    It takes the model's output, not the predictions.

    Parameters
    ----------
    loss
        A loss module, such as ``nn.L1Loss()``.
    name
        The name of the metric.

    Raises
    ------
    DTypeError
        ``loss`` is not a loss module.
    """

    name = "loss"
    higher_is_better = False
    targets = ("classes", "binary", "values", "labels")
    takes_output = True

    def __init__(self, loss: Loss, name: str = "loss") -> None:
        super().__init__()
        self.loss = check_loss(loss)
        self.name = name

    def measure(self, backend: Backend, prediction: Array, target: Array) -> dict[str, Any]:
        with no_grad():
            total, divisor = self.loss.total(self.loss(prediction, target), prediction, target)
        return {"total": total.astype("float64"), "count": divisor}


class LossTerm(Metric):
    """The mean of one of the terms of a loss, see :attr:`xcnn.nn.Loss.term_names`.

    It takes the model's output, not the predictions.

    Parameters
    ----------
    loss
        A loss module that has this term.
    name
        The name of the term.

    Raises
    ------
    DTypeError
        ``loss`` is not a loss module.
    """

    higher_is_better = False
    takes_output = True

    def __init__(self, loss: Loss, name: str) -> None:
        super().__init__()
        self.loss, self.name = check_loss(loss), name
        self.targets = (loss.target,)  # type: ignore[misc]

    def update(self, prediction: Any, target: Any) -> None:
        with no_grad():
            term = self.loss.terms(prediction, target)[self.name]
        count = self.loss.divisor(prediction, target)
        self._add(term.backend, "total", term.data.astype("float64") * count)
        self._add(term.backend, "count", count)
