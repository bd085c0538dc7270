"""Cosine annealing and the one-cycle policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from numbers import Real

from ..checks import check_choice, check_flag, check_number, check_steps
from ..errors import ArgumentError
from ..optim import Optimizer
from .scheduler import LRScheduler, rates_for_groups


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (base - eta_min) · (1 + cos(π · t / T_max)) / 2 after t steps.

    Source: Loshchilov & Hutter 2017, "SGDR", arXiv:1608.03983, without restarts; after ``T_max``
    steps the rate rises again.

    Parameters
    ----------
    optimizer
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
    >>> xcnn.Trainer(model, optimizer, schedule=schedule).fit(x, y, epochs=5)
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        self.T_max = check_steps("T_max", T_max)
        self.eta_min = check_number("eta_min", eta_min, 0)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        factor = (1 + math.cos(math.pi * self.steps / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * factor for base in self.base_lrs]


class OneCycleLR(LRScheduler):
    """One cycle: raises the rate to ``max_lr``, then lowers it to almost zero.

    The rate goes from max_lr / div_factor to max_lr in the first ``pct_start`` of the steps, then
    to max_lr / div_factor / final_div_factor; the momentum moves in the opposite direction. A
    Trainer steps after each batch. Source: Smith & Topin 2017, arXiv:1708.07120.

    Parameters
    ----------
    optimizer
        As in :class:`LRScheduler`.
    max_lr
        Highest learning rate; or a list of one per group.
    total_steps
        Steps of the cycle; alternatively pass ``epochs`` and ``steps_per_epoch``.
    epochs, steps_per_epoch
        Their product is ``total_steps``.
    pct_start
        Fraction of the steps in which the rate rises, from 0 to 1.
    anneal_strategy
        "cos" or "linear".
    cycle_momentum
        Whether to cycle the momentum (or the first of the ``betas``) too.
    base_momentum, max_momentum
        Bounds of the momentum; or lists of one per group.
    div_factor, final_div_factor
        Ratios of the rates, as above.
    three_phase
        Mirror the rise: fall to the initial rate in as many steps, then to the final rate.

    Raises
    ------
    ArgumentError
        A value out of range; ``cycle_momentum`` with an optimiser that has no momentum. By
        :meth:`step`: the cycle is over.
    """

    per_batch = True

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | Sequence[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | Sequence[float] = 0.85,
        max_momentum: float | Sequence[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ArgumentError("OneCycleLR needs total_steps, or epochs and steps_per_epoch")
            check_steps("epochs", epochs)
            total_steps = epochs * check_steps("steps_per_epoch", steps_per_epoch)
        self.total_steps = check_steps("total_steps", total_steps)
        self.pct_start = check_number("pct_start", pct_start, 0, 1)
        check_choice("anneal_strategy", anneal_strategy, ("cos", "linear"))
        for name, value in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
            if not isinstance(value, Real) or not float(value) > 0:
                raise ArgumentError(f"{name}={value!r}: expected a number > 0")
        self.anneal_strategy = anneal_strategy
        self.three_phase = check_flag("three_phase", three_phase)
        self.max_lrs = rates_for_groups("max_lr", max_lr, optimizer)
        self.min_lrs = [lr / div_factor / final_div_factor for lr in self.max_lrs]
        self._momenta = (
            rates_for_groups("base_momentum", base_momentum, optimizer),
            rates_for_groups("max_momentum", max_momentum, optimizer),
        )
        momentum_names = [name for name in ("betas", "momentum") if name in optimizer.defaults]
        if check_flag("cycle_momentum", cycle_momentum) and not momentum_names:
            raise ArgumentError(
                f"{type(optimizer).__name__} has no momentum to cycle: pass cycle_momentum=False"
            )
        self._momentum_name = momentum_names[0] if cycle_momentum else ""
        for group, lr in zip(optimizer.param_groups, self.max_lrs, strict=True):
            group["initial_lr"] = lr / div_factor
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        rates = zip(self.base_lrs, self.max_lrs, self.min_lrs, strict=True)
        return [self._interpolate(*values) for values in rates]

    def set_lr(self) -> None:
        if self.steps > self.total_steps:
            raise ArgumentError(
                f"OneCycleLR: step {self.steps} of {self.total_steps}: the cycle is over; set "
                "total_steps = epochs * batches"
            )
        super().set_lr()
        for group, low, high in zip(self.optimizer.param_groups, *self._momenta, strict=True):
            value = self._interpolate(high, low, high)
            if self._momentum_name == "betas":
                group["betas"] = (value, *group["betas"][1:])
            elif self._momentum_name:
                group["momentum"] = value

    def _interpolate(self, first: float, top: float, last: float) -> float:
        """The current value of a quantity that goes from ``first`` via ``top`` to ``last``."""
        peak = self.pct_start * self.total_steps - 1
        points = [(0.0, first), (peak, top), (self.total_steps - 1, last)]
        if self.three_phase:
            points.insert(2, (2 * peak, first))
        for (start, low), (stop, high) in pairwise(points):  # noqa: B007
            if self.steps <= stop:
                break
        progress = (self.steps - start) / (stop - start) if stop != start else 1.0
        if self.anneal_strategy == "linear":
            return low + (high - low) * progress
        return high + (low - high) / 2 * (1 + math.cos(math.pi * progress))
