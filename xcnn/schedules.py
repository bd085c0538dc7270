"""Learning-rate schedules under PyTorch's names: call ``step`` after each epoch."""

from __future__ import annotations

import math

from .errors import ArgumentError
from .optim import Optimizer


class CosineAnnealingLR:
    """lr = eta_min + (lr₀ - eta_min) · (1 + cos(π · t / T_max)) / 2 after t steps.

    Source: Loshchilov & Hutter 2017, "SGDR", arXiv:1608.03983, without restarts.

    Parameters
    ----------
    optimizer
        Whose ``lr`` is changed; lr₀ is what it is now.
    T_max
        Steps until ``eta_min``, usually the number of epochs.
    eta_min
        Lowest learning rate.

    Attributes
    ----------
    steps : int
        Steps taken; may be set, to go on where a training stopped.

    Raises
    ------
    ArgumentError
        ``T_max`` below 1.

    Examples
    --------
    >>> schedule = CosineAnnealingLR(optimizer, T_max=5)
    >>> trainer.fit(x, y, epochs=5, callbacks=[lambda trainer, epoch: schedule.step()])
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        if T_max < 1:
            raise ArgumentError(f"T_max={T_max!r}: expected a number of steps >= 1")
        self.optimizer = optimizer
        self.T_max = T_max
        self.eta_min = eta_min
        self.base_lr = optimizer.lr
        self.steps = 0

    def step(self) -> None:
        """Go one epoch on."""
        self.steps += 1
        share = (1 + math.cos(math.pi * self.steps / self.T_max)) / 2
        self.optimizer.lr = self.eta_min + (self.base_lr - self.eta_min) * share
