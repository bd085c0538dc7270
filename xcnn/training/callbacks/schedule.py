"""Callbacks about the steps of the optimiser: learning rates and gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ... import backends
from ...checks import check_int
from ...errors import ArgumentError
from ..epoch import Epoch
from .base import Callback


class GradientAccumulation(Callback):
    """Changes the number of batches per step of the optimiser at given epochs.

    Parameters
    ----------
    batches
        A number for all epochs, as ``Trainer(accumulate=N)``; or {epoch: number}, each from that
        epoch on, counted from 1.

    Examples
    --------
    >>> rising = GradientAccumulation({1: 1, 6: 4})  # from epoch 6 on, four batches per step
    >>> history = trainer.fit(x, y, epochs=10, callbacks=[rising])
    """

    def __init__(self, batches: int | Mapping[int, int]) -> None:
        table = batches if isinstance(batches, Mapping) else {1: batches}
        if not table:
            raise ArgumentError("batches={}: expected {epoch: number}, such as {1: 1, 6: 4}")
        self.batches: dict[int, int] = {
            check_int("epoch", epoch): check_int("batches", number)
            for epoch, number in table.items()
        }

    def on_epoch_start(self, trainer: Any) -> None:
        earlier = [epoch for epoch in self.batches if epoch <= trainer.epoch]
        if earlier:
            trainer.accumulate = self.batches[max(earlier)]


class LearningRateLog(Callback):
    """Adds the learning rate of the epoch's last step to the history, as "lr".

    With several parameter groups, the columns are "lr", "lr_1", "lr_2", ...
    """

    order = -1

    def __init__(self) -> None:
        self._rates: dict[str, float] = {}

    def on_batch_start(self, trainer: Any) -> None:
        self._rates = learning_rates(trainer)

    def on_epoch_end(self, trainer: Any, epoch: Epoch) -> None:
        epoch.metrics.update(self._rates)

    def state_dict(self) -> dict[str, Any]:
        return {"rates": self._rates}  # a training may be resumed after the last step of an epoch

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._rates = dict(state.get("rates", {}))


class GradientNorm(Callback):
    """Adds the mean norm of the gradients over the epoch's steps to the history, as "grad_norm".

    The norm of a step is the 2-norm of the gradients of all parameters as one vector, as the
    optimiser gets them, but before clipping. Steps of a float16 training that are skipped because
    gradients overflowed do not count. The norms are added on the device: no step waits for a GPU.
    """

    order = -1

    def __init__(self) -> None:
        self.on_epoch_start(None)

    def on_epoch_start(self, trainer: Any) -> None:
        self._sum: Any = 0.0  # float64 on the device, as is the number of steps
        self._steps: Any = 0.0

    def on_step_end(self, trainer: Any) -> None:
        norm = trainer.gradient_norm if trainer.clip_norm is not None else None
        if norm is None:
            grads = [p.grad.data for p in trainer.optimizer.params if p.grad is not None]
            norm = backends.of(grads[0]).norm([g for g in grads if g.size])
        counted = 1.0
        if trainer.precision == "float16":
            xp = backends.of(norm).xp
            counted = xp.isfinite(norm)
            norm = xp.where(counted, norm, 0)
        self._sum = norm.astype("float64") + self._sum
        self._steps = counted + self._steps

    def on_epoch_end(self, trainer: Any, epoch: Epoch) -> None:
        steps = float(self._steps)
        epoch.metrics["grad_norm"] = float(self._sum) / steps if steps else math.nan

    def state_dict(self) -> dict[str, Any]:
        return {"sum": float(self._sum), "steps": float(self._steps)}  # a checkpoint waits anyway

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._sum, self._steps = state["sum"], state["steps"]


def learning_rates(trainer: Any) -> dict[str, float]:
    """The learning rates of the parameter groups, as "lr", "lr_1", "lr_2", ..."""
    groups = enumerate(trainer.optimizer.param_groups)
    return {f"lr_{number}" if number else "lr": float(group["lr"]) for number, group in groups}
