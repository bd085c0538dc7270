"""Callbacks that end a training that stagnates, runs out of time or diverges."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from typing import Any

from ...arrays import Array
from ...backends import Backend
from ...checks import check_choice, check_flag, check_int, check_number, check_text
from ...errors import ArgumentError, DivergenceError, show
from ..epoch import Epoch
from ..totals import Step
from .base import Callback

_SECONDS = {"s": 1, "sec": 1, "min": 60, "h": 3600, "d": 86400}


class Monitor:
    """Compares a number of each epoch with the best so far.

    Parameters
    ----------
    monitor
        Name of a column of the history, such as "val_loss".
    mode
        "min", "max", or None: the usual direction of the metric, "min" for losses and errors.
    min_delta
        The least change that counts.
    """

    def __init__(self, monitor: str, mode: str | None = None, min_delta: float = 0.0) -> None:
        if mode is not None:
            check_choice("mode", mode, ("min", "max"))
        self.monitor = check_text("monitor", monitor)
        self.mode = mode
        self.min_delta = check_number("min_delta", min_delta, 0)
        self.best: float | None = None

    def check(self, trainer: Any) -> None:
        """Refuse an unknown column before the training, unless ``mode`` says that there is one."""
        if self.mode is None:
            trainer.mode_of(self.monitor)

    def improved(self, trainer: Any, epoch: Epoch) -> bool:
        """Whether ``epoch`` is the best so far, which it then becomes."""
        value = epoch.value(self.monitor)
        sign = 1 if (self.mode or trainer.mode_of(self.monitor)) == "max" else -1
        gain = math.inf if self.best is None else sign * (value - self.best)
        if not (math.isfinite(value) and gain > self.min_delta):
            return False
        self.best = float(value)
        return True


class EarlyStopping(Callback):
    """Stops when a number has not improved for ``patience`` epochs.

    Parameters
    ----------
    monitor, mode, min_delta
        As in Keras: the column of the history; "min", "max" or None for the usual direction; the
        least change that counts.
    patience
        Epochs without improvement after which training stops.
    restore_best
        At the end, give the model the weights of the best epoch, even if weights are averaged.

    Attributes
    ----------
    best : float or None
        The best value so far.
    best_epoch : int
        Its epoch, from 1; 0 before the first.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        patience: int = 3,
        min_delta: float = 0.0,
        mode: str | None = None,
        restore_best: bool = False,
    ) -> None:
        self._monitor = Monitor(monitor, mode, min_delta)
        self.patience: int = check_int("patience", patience, 0)
        self.restore_best = check_flag("restore_best", restore_best)
        self._reset()

    def _reset(self) -> None:
        self._monitor.best = None
        self.best_epoch = 0
        self.waited = 0
        self._weights: dict[str, Any] | None = None

    @property
    def best(self) -> float | None:
        return self._monitor.best

    def on_fit_start(self, trainer: Any) -> None:
        self._monitor.check(trainer)
        self._reset()

    def on_epoch_end(self, trainer: Any, epoch: Epoch) -> None:
        if self._monitor.improved(trainer, epoch):
            self.best_epoch, self.waited = epoch.epoch, 0
            if self.restore_best:
                with trainer.evaluation_weights():
                    self._weights = trainer.model.state_dict()
        else:
            self.waited += 1
            if self.waited >= max(1, self.patience):
                trainer.stop()

    def on_fit_end(self, trainer: Any) -> None:
        if self._weights is not None and not trainer.is_interrupted:
            trainer.model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        numbers = {"best": self.best, "best_epoch": self.best_epoch, "waited": self.waited}
        return {**numbers, "weights": self._weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._monitor.best, self._weights = state["best"], state["weights"]
        self.best_epoch, self.waited = state["best_epoch"], state["waited"]


class TimeLimit(Callback):
    """Stops after a time, at the end of a step; a checkpoint stores the position in the epoch.

    Parameters
    ----------
    limit
        Seconds, or text such as "90s", "30min", "2h", "1d". Counted from the start of each fit.
    """

    def __init__(self, limit: float | str) -> None:
        self.seconds: float = parse_time("limit", limit)
        self._end = math.inf

    def on_fit_start(self, trainer: Any) -> None:
        self._end = time.monotonic() + self.seconds

    def on_batch_end(self, trainer: Any, step: Step) -> None:
        if time.monotonic() >= self._end:
            trainer.stop(finished=False)


class TerminateOnNaN(Callback):
    """Ends a training that has diverged, with the weights of the last epoch that was finite.

    An epoch has diverged if its mean loss or a weight is NaN or infinite; in float16, where loss
    scaling skips such steps, only a weight counts. The model, and the schedule, go back to the end
    of the epoch before, and :class:`~xcnn.errors.DivergenceError` is raised. Each fit has this
    callback, unless ``terminate_on_nan=False``.

    Parameters
    ----------
    every
        Also check the loss after every so many batches, which waits for a GPU; None: only at the
        end of an epoch.
    """

    order = -1

    def __init__(self, every: int | None = None) -> None:
        self.every: int | None = None if every is None else check_int("every", every)

    def on_fit_start(self, trainer: Any) -> None:
        self._keep(trainer, trainer.model.state_dict())

    def on_batch_end(self, trainer: Any, step: Step) -> None:
        every = self.every
        if every is None and trainer.ranks.size > 1 and trainer.model.backend.device == "cpu":
            every = 1  # later it is not clear on which rank it began
        if every is None or trainer.batch % every or trainer.precision == "float16":
            return
        # 0 if all labels are ignored
        loss = float(trainer.loss.total(*step[:3])[0]) if step.examples else 0.0
        if not all(map(math.isfinite, losses := trainer.ranks.gathered(loss))):
            where = "" if len(losses) == 1 else f" on rank {_first_not_finite(losses)}"
            loss = losses[_first_not_finite(losses)]
            self._end(trainer, f"the loss is {loss}{where} in batch {trainer.batch} of epoch")

    def on_epoch_end(self, trainer: Any, epoch: Epoch) -> None:
        loss = 0.0 if trainer.precision == "float16" else epoch.train_loss
        weights = trainer.model.state_dict()
        if math.isfinite(loss) and _are_finite(trainer.model.backend, weights):
            self._keep(trainer, weights)
            return
        trainer.history.pop()
        found = "weights are infinite or NaN" if math.isfinite(loss) else f"the loss is {loss}"
        self._end(trainer, f"{found} after epoch")

    def _keep(self, trainer: Any, weights: dict[str, Array]) -> None:
        self._weights = weights
        self._schedule = None if trainer.schedule is None else trainer.schedule.state_dict()

    def _end(self, trainer: Any, found: str) -> None:
        trainer.model.load_state_dict(self._weights)
        if trainer.schedule is not None and self._schedule is not None:
            trainer.schedule.load_state_dict(self._schedule)
        trainer.optimizer.reset()
        epochs = len(trainer.history)
        data = "" if epochs else ", and look for NaN in the data"
        raise DivergenceError(
            f"the training diverged: {found} {epochs + 1}; the model has the weights after "
            f"{epochs} epoch{'s' * (epochs != 1)}, the optimiser starts afresh: use a learning "
            f"rate below {max(group['lr'] for group in trainer.optimizer.param_groups):g}, or clip "
            f"the gradients with clip_norm{data}"
        )


def _first_not_finite(values: list[float]) -> int:
    return [math.isfinite(value) for value in values].index(False)


def _are_finite(backend: Backend, weights: Mapping[str, Array]) -> bool:
    """Whether no weight is infinite or NaN; waits for a GPU once."""
    with backend.active():
        floats = [array for array in weights.values() if array.dtype.kind == "f"]
        finite = [backend.xp.isfinite(array).all() for array in floats]
        return not finite or bool(backend.xp.stack(finite).all())


def parse_time(name: str, value: Any) -> float:
    """Seconds, from a number or text such as "5min".

    Raises
    ------
    ArgumentError
        Neither.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?(s|sec|min|h|d)", value) if type(value) is str else None
    if match:
        return float(match[1]) * _SECONDS[match[2]]
    if isinstance(value, str):
        raise ArgumentError(f'{name}={show(value)}: expected a time such as "90s", "30min" or "2h"')
    return check_number(name, value, 0)
