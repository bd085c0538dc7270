"""Cosine annealing, once and with restarts."""

from __future__ import annotations

import math

from ..checks import check_number, check_steps
from ..optim import Optimizer
from .scheduler import LRScheduler


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (base - eta_min) · (1 + cos(π · t / T_max)) / 2 after t steps.

    Source: Loshchilov & Hutter 2017, "SGDR", arXiv:1608.03983, without restarts; after ``T_max``
    steps the rate rises again.

    Parameters
    ----------
    optimizer, last_epoch
        As in :class:`LRScheduler`.
    T_max
        Steps to ``eta_min``, usually the number of epochs.
    eta_min
        Lowest learning rate.

    Raises
    ------
    ArgumentError
        ``T_max`` below 1, or ``eta_min`` below 0.

    Examples
    --------
    >>> schedule = CosineAnnealingLR(optimizer, T_max=5)
    >>> history = xcnn.Trainer(model, optimizer, schedule=schedule).fit(x, y, epochs=5)
    """

    def __init__(
        self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        self.T_max = check_steps("T_max", T_max)
        self.eta_min = check_number("eta_min", eta_min, 0)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        factor = (1 + math.cos(math.pi * self.steps / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * factor for base in self.base_lrs]

    def next_lr(self, lrs: list[float]) -> list[float]:
        if not self.steps:
            return lrs
        bases = [base - self.eta_min for base in self.base_lrs]
        now, before = (1 + math.cos(math.pi * t / self.T_max) for t in (self.steps, self.steps - 1))
        if (self.steps - 1 - self.T_max) % (2 * self.T_max) == 0:  # from the lowest point
            return [lr + base * now / 2 for lr, base in zip(lrs, bases, strict=True)]
        return [self.eta_min + (lr - self.eta_min) * now / before for lr in lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """:class:`CosineAnnealingLR` that restarts after T_0 steps, then T_0 · T_mult, ...

    Source: Loshchilov & Hutter 2017, "SGDR", arXiv:1608.03983. ``step(epoch + batch / batches)``
    sets the rate within an epoch.

    Parameters
    ----------
    optimizer, last_epoch
        As in :class:`LRScheduler`.
    T_0
        Steps of the first cycle.
    T_mult
        Ratio of the lengths of successive cycles.
    eta_min
        Lowest learning rate.

    Raises
    ------
    ArgumentError
        ``T_0`` or ``T_mult`` below 1, or ``eta_min`` below 0.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        T_0: int,
        T_mult: int = 1,
        eta_min: float = 0.0,
        last_epoch: int = -1,
    ) -> None:
        self.T_0 = check_steps("T_0", T_0)
        self.T_mult = check_steps("T_mult", T_mult)
        self.eta_min = check_number("eta_min", eta_min, 0)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        t, length = self.steps, self.T_0
        if self.T_mult == 1:
            t %= length
        while t >= length:
            t, length = t - length, length * self.T_mult
        factor = (1 + math.cos(math.pi * t / length)) / 2
        return [self.eta_min + (base - self.eta_min) * factor for base in self.base_lrs]
