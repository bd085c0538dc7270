"""A schedule driven by a metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, SupportsFloat

from ..checks import check_choice, check_number, check_steps
from ..errors import ArgumentError
from ..optim import Optimizer
from .scheduler import LRScheduler, rates_for_groups


class ReduceLROnPlateau(LRScheduler):
    """Reduces the learning rates when a metric has stopped improving.

    Call ``step(metric)`` after each epoch. A Trainer passes the validation loss, or the training
    loss without validation data; with ``mode="max"`` the accuracy.

    Parameters
    ----------
    optimizer
        As in :class:`LRScheduler`.
    mode
        "min": a smaller metric is better; "max": a larger one.
    factor
        The rates are multiplied by this, from 0 to below 1.
    patience
        Number of epochs without improvement to tolerate.
    threshold, threshold_mode
        Minimum improvement on the best metric: "rel", as a fraction of it; "abs", as a difference.
    cooldown
        Epochs after a reduction that do not count as bad.
    min_lr
        Lower bound of the rates; or a list of one per group.
    eps
        Smaller reductions are not applied.

    Attributes
    ----------
    best : float
        The best metric so far.
    num_bad_epochs : int
        Consecutive epochs without improvement.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    _state = (*LRScheduler._state, "lrs", "best", "num_bad_epochs", "cooldown_counter")

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | Sequence[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        self.mode = check_choice("mode", mode, ("min", "max"))
        self.threshold_mode = check_choice("threshold_mode", threshold_mode, ("rel", "abs"))
        self.factor = check_number("factor", factor, 0, 1)
        if factor == 1:
            raise ArgumentError("factor=1: expected a number below 1, or no rate would change")
        self.patience = check_steps("patience", patience, 0)
        self.threshold = check_number("threshold", threshold, 0)
        self.cooldown = check_steps("cooldown", cooldown, 0)
        self.eps = check_number("eps", eps, 0)
        super().__init__(optimizer)
        self.min_lrs = rates_for_groups("min_lr", min_lr, optimizer)

    def restart(self, steps: int = 0) -> None:
        self.steps, self.num_bad_epochs, self.cooldown_counter = steps, 0, 0
        self.best = math.inf if self.mode == "min" else -math.inf
        self.lrs = self.get_last_lr()

    def get_lr(self) -> list[float]:
        return self.lrs

    def state_dict(self) -> dict[str, Any]:
        self.lrs = self.get_last_lr()  # the user may have changed them
        return super().state_dict()

    def step(  # type: ignore[override]
        self, metrics: SupportsFloat, epoch: float | None = None
    ) -> None:
        """Record the metric of an epoch, and reduce the rates if it has stopped improving.

        Parameters
        ----------
        metrics
            A number; a value on a GPU is copied to the host.
        epoch
            Number of the step; by default the next one.
        """
        self.check_groups()
        current = float(metrics)
        self.steps = self.steps + 1 if epoch is None else check_number("epoch", epoch, 0)
        self.num_bad_epochs += 1
        if self._is_better(current):
            self.best, self.num_bad_epochs = current, 0
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        self.lrs = self.get_last_lr()  # the user may have changed them
        if self.num_bad_epochs > self.patience:
            self.lrs = [self._lower(*pair) for pair in zip(self.lrs, self.min_lrs, strict=True)]
            self.set_lr()
            self.num_bad_epochs, self.cooldown_counter = 0, self.cooldown

    def _is_better(self, metric: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "rel":
            return sign * metric < sign * self.best * (1 - sign * self.threshold)
        return sign * metric < sign * self.best - self.threshold

    def _lower(self, lr: float, bound: float) -> float:
        lower = max(lr * self.factor, bound)
        return lower if lr - lower > self.eps else lr
