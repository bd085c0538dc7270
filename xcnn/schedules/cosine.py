"""Cosines: down once, or up and down in one cycle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from ..checks import check_between, check_steps, is_int
from ..errors import ArgumentError
from ..optim import Optimizer
from .scheduler import LRScheduler, for_groups


class CosineAnnealingLR(LRScheduler):
    """lr = eta_min + (base - eta_min) · (1 + cos(π · t / T_max)) / 2 after t steps.

    Source: Loshchilov & Hutter 2017, "SGDR", arXiv:1608.03983, without restarts: after ``T_max``
    steps the rate rises again.

    Parameters
    ----------
    optimizer
        As in :class:`LRScheduler`.
    T_max
        Steps until ``eta_min``, usually the number of epochs.
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
        self.eta_min = check_between("eta_min", eta_min, 0)
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        share = (1 + math.cos(math.pi * self.steps / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_lrs]


class OneCycleLR(LRScheduler):
    """Up to ``max_lr`` and down to almost nothing, in one cycle of batches.

    The rate goes from max_lr / div_factor to max_lr in the first ``pct_start`` of the steps, and
    on to max_lr / div_factor / final_div_factor; the momentum goes the other way. A Trainer steps
    after each batch. Source: Smith & Topin 2017, arXiv:1708.07120.

    Parameters
    ----------
    optimizer
        As in :class:`LRScheduler`.
    max_lr
        Highest learning rate; or a list with one for each group.
    total_steps
        Steps of the cycle; or else ``epochs`` and ``steps_per_epoch``.
    epochs, steps_per_epoch
        Whose product is ``total_steps``.
    pct_start
        Share of the steps that go up, from 0 to 1.
    anneal_strategy
        "cos" or "linear".
    cycle_momentum
        Whether the momentum, or the first of the ``betas``, changes too.
    base_momentum, max_momentum
        Its lowest and highest value; or a list with one for each group.
    div_factor, final_div_factor
        As above.
    three_phase
        Go down to the first rate as slowly as up, and then on.

    Raises
    ------
    ArgumentError
        A value out of range; ``cycle_momentum`` with an optimiser that has no momentum; later, a
        step beyond the last.
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
        self.total_steps = _total(total_steps, epochs, steps_per_epoch)
        self.pct_start = check_between("pct_start", pct_start, 0, 1)
        if anneal_strategy not in ("cos", "linear"):
            raise ArgumentError(f'anneal_strategy={anneal_strategy!r}: expected "cos" or "linear"')
        for name, value in (("div_factor", div_factor), ("final_div_factor", final_div_factor)):
            if not isinstance(value, Real) or not float(value) > 0:
                raise ArgumentError(f"{name}={value!r}: expected a number > 0")
        self.anneal_strategy = anneal_strategy
        self.three_phase = three_phase
        self.max_lrs = [
            check_between("max_lr", lr, 0) for lr in for_groups("max_lr", max_lr, optimizer)
        ]
        self.min_lrs = [lr / div_factor / final_div_factor for lr in self.max_lrs]
        self._momenta = (
            for_groups("base_momentum", base_momentum, optimizer),
            for_groups("max_momentum", max_momentum, optimizer),
        )
        self._momentum_name = _momentum_name(optimizer) if cycle_momentum else ""
        for group, lr in zip(optimizer.param_groups, self.max_lrs, strict=True):
            group["initial_lr"] = lr / div_factor
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        rates = self.base_lrs, self.max_lrs, self.min_lrs
        return [self._now(first, top, last) for first, top, last in zip(*rates, strict=True)]

    def set_lr(self) -> None:
        if self.steps > self.total_steps:
            raise ArgumentError(
                f"OneCycleLR: step {self.steps} of {self.total_steps}: the cycle is over; make it "
                "as long as the training, total_steps = epochs * batches"
            )
        super().set_lr()
        if not self._momentum_name:
            return
        for group, low, high in zip(self.optimizer.param_groups, *self._momenta, strict=True):
            value = self._now(high, low, high)
            if self._momentum_name == "betas":
                group["betas"] = (value, *group["betas"][1:])
            else:
                group["momentum"] = value

    def _now(self, first: float, top: float, last: float) -> float:
        """What goes from ``first`` over ``top`` to ``last`` is now."""
        end, start = self.pct_start * self.total_steps - 1, 0.0
        phases = [(end, first, top)]
        if self.three_phase:
            phases.append((2 * end, top, first))
        for stop, low, high in phases:
            if self.steps <= stop:
                return self._between(low, high, start, stop)
            start = stop
        return self._between(phases[-1][2], last, start, self.total_steps - 1)

    def _between(self, low: float, high: float, start: float, stop: float) -> float:
        share = (self.steps - start) / (stop - start) if stop != start else 1.0
        if self.anneal_strategy == "linear":
            return low + (high - low) * share
        return high + (low - high) / 2 * (1 + math.cos(math.pi * share))


def _total(total_steps: Any, epochs: Any, steps_per_epoch: Any) -> int:
    if total_steps is not None:
        return check_steps("total_steps", total_steps)
    if not is_int(epochs) or not is_int(steps_per_epoch):
        raise ArgumentError("OneCycleLR needs total_steps, or epochs and steps_per_epoch")
    return check_steps("epochs", epochs) * check_steps("steps_per_epoch", steps_per_epoch)


def _momentum_name(optimizer: Optimizer) -> str:
    for name in ("betas", "momentum"):
        if name in optimizer.defaults:
            return name
    raise ArgumentError(
        f"{type(optimizer).__name__} has no momentum to cycle: pass cycle_momentum=False"
    )
