"""A schedule that looks at how the training goes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import SupportsFloat

from ..checks import check_between, check_steps
from ..errors import ArgumentError
from ..optim import Optimizer
from .scheduler import LRScheduler, for_groups


class ReduceLROnPlateau(LRScheduler):
    """Lower the learning rates when a metric has not got better for some epochs.

    ``step(metric)`` after each epoch. A Trainer passes the loss of validation, or of training
    where there is none; with ``mode="max"`` the accuracy.

    Parameters
    ----------
    optimizer
        As in :class:`LRScheduler`.
    mode
        "min": a smaller metric is better; "max": a larger one.
    factor
        What the rates are multiplied by, from 0 to below 1.
    patience
        Epochs without improvement that are allowed.
    threshold, threshold_mode
        By how much a metric must be better than the best: "rel", by this share of it; "abs", by
        this much.
    cooldown
        Epochs after a change that are not counted.
    min_lr
        No rate falls below this; or a list with one for each group.
    eps
        A rate that would change by no more is left as it is.

    Attributes
    ----------
    best : float
        The best metric so far.
    num_bad_epochs : int
        Epochs without improvement since.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    _saved = ("lrs", "best", "num_bad_epochs", "cooldown_counter")

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
        if mode not in ("min", "max"):
            raise ArgumentError(f'mode={mode!r}: expected "min" or "max"')
        if threshold_mode not in ("rel", "abs"):
            raise ArgumentError(f'threshold_mode={threshold_mode!r}: expected "rel" or "abs"')
        self.mode, self.threshold_mode = mode, threshold_mode
        self.factor = check_between("factor", factor, 0, 1)
        if factor == 1:
            raise ArgumentError("factor=1: expected a number below 1: no rate would change")
        self.patience = check_steps("patience", patience, 0)
        self.threshold = check_between("threshold", threshold, 0)
        self.cooldown = check_steps("cooldown", cooldown, 0)
        self.eps = check_between("eps", eps, 0)
        super().__init__(optimizer)
        least = for_groups("min_lr", min_lr, optimizer)
        self.min_lrs = [check_between("min_lr", lr, 0) for lr in least]

    def restart(self) -> None:
        self.steps = self.num_bad_epochs = self.cooldown_counter = 0
        self.best = math.inf if self.mode == "min" else -math.inf
        self.lrs = self.get_last_lr()

    def get_lr(self) -> list[float]:
        return self.lrs

    def step(self, metrics: SupportsFloat) -> None:  # type: ignore[override]
        """Note the metric of an epoch, which waits for a GPU if it is there.

        Parameters
        ----------
        metrics
            A number.
        """
        current = float(metrics)
        self.steps += 1
        self.num_bad_epochs += 1
        if self._is_better(current):
            self.best, self.num_bad_epochs = current, 0
        if self.cooldown_counter:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        self.lrs = self.get_last_lr()  # they may have been changed by hand
        if self.num_bad_epochs > self.patience:
            self.lrs = [self._lower(*pair) for pair in zip(self.lrs, self.min_lrs, strict=True)]
            self.set_lr()
            self.num_bad_epochs, self.cooldown_counter = 0, self.cooldown

    def _is_better(self, metric: float) -> bool:
        sign = 1 if self.mode == "min" else -1
        if self.threshold_mode == "rel":
            return sign * metric < sign * self.best * (1 - sign * self.threshold)
        return sign * metric < sign * self.best - self.threshold

    def _lower(self, lr: float, least: float) -> float:
        lower = max(lr * self.factor, least)
        return lower if lr - lower > self.eps else lr
