"""Rates that rise and fall batch by batch: the one-cycle policy and cycles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from ..checks import check_callable, check_choice, check_flag, check_number, check_steps
from ..errors import ArgumentError
from ..optim import Optimizer
from .scheduler import LRScheduler, rates_for_groups

_PerGroup = float | Sequence[float]


class _Cycle(LRScheduler):
    """Base class: moves the rate and the momentum between two bounds, in opposite directions."""

    per_batch = True
    max_lrs: list[float]
    min_lrs: list[float] = []  # at the end, if not the first

    def __init__(
        self, optimizer: Optimizer, first: list[float], cycle: bool, momenta: Any, last_epoch: int
    ) -> None:
        names = [name for name in ("betas", "momentum") if name in optimizer.defaults]
        if check_flag("cycle_momentum", cycle) and not names:
            raise ArgumentError(
                f"{type(optimizer).__name__} has no momentum to cycle: pass cycle_momentum=False"
            )
        self._name = names[0] if cycle else ""
        self._momenta = [rates_for_groups(name, m, optimizer) for name, m in momenta.items()]
        for group, lr in zip(optimizer.param_groups, first, strict=True):
            if last_epoch == -1:
                group["initial_lr"] = lr
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        last = self.min_lrs or self.base_lrs
        return [self.value(*v) for v in zip(self.base_lrs, self.max_lrs, last, strict=True)]

    def value(self, first: float, top: float, last: float) -> float:
        """The current value of a quantity that goes from ``first`` via ``top`` to ``last``."""
        raise NotImplementedError(f"{type(self).__name__} defines no value method")

    def set_lr(self) -> None:
        super().set_lr()
        for group, low, high in zip(self.optimizer.param_groups, *self._momenta, strict=True):
            value = self.value(high, low, high)
            if self._name == "betas":
                group["betas"] = (value, *group["betas"][1:])
            elif self._name:
                group["momentum"] = value


class OneCycleLR(_Cycle):
    """One cycle: raises the rate to ``max_lr``, then lowers it to almost zero.

    The rate goes from max_lr / div_factor to max_lr in the first ``pct_start`` of the steps, then
    to max_lr / div_factor / final_div_factor; the momentum moves in the opposite direction. A
    Trainer steps after each batch. Source: Smith & Topin 2017, arXiv:1708.07120.

    Parameters
    ----------
    optimizer, last_epoch
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

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: _PerGroup,
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: _PerGroup = 0.85,
        max_momentum: _PerGroup = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        if total_steps is None:
            if epochs is None or steps_per_epoch is None:
                raise ArgumentError("OneCycleLR needs total_steps, or epochs and steps_per_epoch")
            check_steps("epochs", epochs)
            total_steps = epochs * check_steps("steps_per_epoch", steps_per_epoch)
        self.total_steps = check_steps("total_steps", total_steps)
        self.pct_start = check_number("pct_start", pct_start, 0, 1)
        check_choice("anneal_strategy", anneal_strategy, ("cos", "linear"))
        check_number("div_factor", div_factor, 0, above=True)
        check_number("final_div_factor", final_div_factor, 0, above=True)
        self.anneal_strategy = anneal_strategy
        self.three_phase = check_flag("three_phase", three_phase)
        self.max_lrs = rates_for_groups("max_lr", max_lr, optimizer)
        self.min_lrs = [lr / div_factor / final_div_factor for lr in self.max_lrs]
        first = [lr / div_factor for lr in self.max_lrs]
        momenta = {"base_momentum": base_momentum, "max_momentum": max_momentum}
        super().__init__(optimizer, first, cycle_momentum, momenta, last_epoch)

    def set_lr(self) -> None:
        if self.steps > self.total_steps:
            raise ArgumentError(
                f"OneCycleLR: step {self.steps} of {self.total_steps}: the cycle is over; set "
                "total_steps = epochs * batches"
            )
        super().set_lr()

    def value(self, first: float, top: float, last: float) -> float:
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


class CyclicLR(_Cycle):
    """Cycles: the rate rises from ``base_lr`` to ``max_lr`` and falls again, on straight lines.

    The momentum moves in the opposite direction. A Trainer steps after each batch. Source: Smith
    2017, "Cyclical learning rates for training neural networks", arXiv:1506.01186.

    Parameters
    ----------
    optimizer, last_epoch
        As in :class:`LRScheduler`.
    base_lr, max_lr
        Lowest and highest learning rate; or lists of one per group.
    step_size_up, step_size_down
        Steps up and down; None for as many down as up.
    mode
        The height of a cycle: "triangular", always max_lr - base_lr; "triangular2", half of the
        one before in each; "exp_range", times gamma^t after t steps.
    gamma
        As in "exp_range".
    scale_fn, scale_mode
        In place of ``mode``: a function of the number of the cycle, from 1 ("cycle"), or of the
        number of steps ("iterations"), that the height is multiplied by.
    cycle_momentum
        Whether to cycle the momentum (or the first of the ``betas``) too.
    base_momentum, max_momentum
        Bounds of the momentum; or lists of one per group.

    Raises
    ------
    ArgumentError
        A value out of range; ``cycle_momentum`` with an optimiser that has no momentum.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        base_lr: _PerGroup,
        max_lr: _PerGroup,
        step_size_up: int = 2000,
        step_size_down: int | None = None,
        mode: str = "triangular",
        gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None,
        scale_mode: str = "cycle",
        cycle_momentum: bool = True,
        base_momentum: _PerGroup = 0.8,
        max_momentum: _PerGroup = 0.9,
        last_epoch: int = -1,
    ) -> None:
        up = check_steps("step_size_up", step_size_up)
        down = up if step_size_down is None else check_steps("step_size_down", step_size_down)
        self.total_size, self.step_ratio = up + down, up / (up + down)
        self.gamma = check_number("gamma", gamma, 0)
        modes: dict[str, tuple[str, Callable[[float], float]]] = {
            "triangular": ("cycle", lambda _: 1.0),
            "triangular2": ("cycle", lambda cycle: 0.5 ** (cycle - 1)),
            "exp_range": ("iterations", lambda t: self.gamma**t),
        }
        if scale_fn is None:
            scale_mode, scale_fn = modes[check_choice("mode", mode, list(modes))]
        self.scale_mode = check_choice("scale_mode", scale_mode, ("cycle", "iterations"))
        self.scale_fn: Callable[[float], float] = check_callable("scale_fn", scale_fn)
        self.max_lrs = rates_for_groups("max_lr", max_lr, optimizer)
        first = rates_for_groups("base_lr", base_lr, optimizer)
        momenta = {"base_momentum": base_momentum, "max_momentum": max_momentum}
        super().__init__(optimizer, first, cycle_momentum, momenta, last_epoch)

    def value(self, first: float, top: float, last: float) -> float:
        position = 1 + self.steps / self.total_size
        cycle = math.floor(position)
        x = position - cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.steps)
        return first + (top - first) * height * check_number("scale_fn(x)", scale)
