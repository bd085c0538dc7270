"""Schedules that multiply the base rates by a factor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..checks import check_between, check_steps
from ..errors import ArgumentError
from ..optim import Optimizer
from .scheduler import LRScheduler, for_groups


class FactorLR(LRScheduler):
    """Base of those below: lr = base · factor(t) after t steps."""

    def factor(self, t: int) -> float:
        """What the base rates are multiplied by after ``t`` steps."""
        raise NotImplementedError(f"{type(self).__name__} defines no factor method")

    def get_lr(self) -> list[float]:
        return [base * self.factor(self.steps) for base in self.base_lrs]


class LambdaLR(LRScheduler):
    """lr = base · f(t) after t steps, for a function of one's own.

    Parameters
    ----------
    optimizer
        As in :class:`LRScheduler`.
    lr_lambda
        f, from a number of steps to a factor; or a list with one for each group.

    Raises
    ------
    ArgumentError
        No function.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | Sequence[Callable[[int], float]],
    ) -> None:
        self.lr_lambdas = for_groups("lr_lambda", lr_lambda, optimizer)
        if not all(callable(f) for f in self.lr_lambdas):
            raise ArgumentError(f"lr_lambda={lr_lambda!r}: expected a function, or one per group")
        super().__init__(optimizer)

    def get_lr(self) -> list[float]:
        pairs = zip(self.base_lrs, self.lr_lambdas, strict=True)
        return [base * f(self.steps) for base, f in pairs]


class StepLR(FactorLR):
    """lr = base · gamma^⌊t / step_size⌋ after t steps.

    Parameters
    ----------
    optimizer
        As in :class:`LRScheduler`.
    step_size
        Steps until the rate falls, each time.
    gamma
        What it is multiplied by.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        self.step_size = check_steps("step_size", step_size)
        self.gamma = check_between("gamma", gamma, 0)
        super().__init__(optimizer)

    def factor(self, t: int) -> float:
        return self.gamma ** (t // self.step_size)


class MultiStepLR(FactorLR):
    """lr = base · gamma^(milestones reached) after t steps.

    Parameters
    ----------
    optimizer
        As in :class:`LRScheduler`.
    milestones
        Numbers of steps; one that is named twice counts twice.
    gamma
        What the rate is multiplied by at each.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    def __init__(self, optimizer: Optimizer, milestones: Sequence[int], gamma: float = 0.1) -> None:
        if not isinstance(milestones, list | tuple):
            raise ArgumentError(f"milestones={milestones!r}: expected a list of numbers of steps")
        self.milestones = [check_steps("milestones", m) for m in milestones]
        self.gamma = check_between("gamma", gamma, 0)
        super().__init__(optimizer)

    def factor(self, t: int) -> float:
        return self.gamma ** sum(m <= t for m in self.milestones)


class ExponentialLR(FactorLR):
    """lr = base · gamma^t after t steps.

    Parameters
    ----------
    optimizer
        As in :class:`LRScheduler`.
    gamma
        What the rate is multiplied by in each step.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    def __init__(self, optimizer: Optimizer, gamma: float) -> None:
        self.gamma = check_between("gamma", gamma, 0)
        super().__init__(optimizer)

    def factor(self, t: int) -> float:
        return self.gamma**t


class ConstantLR(FactorLR):
    """lr = base · factor in the first ``total_iters`` steps, then base.

    Parameters
    ----------
    optimizer
        As in :class:`LRScheduler`.
    factor
        From 0 to 1.
    total_iters
        How many steps.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    def __init__(self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5) -> None:
        self.first = check_between("factor", factor, 0, 1)
        self.total_iters = check_steps("total_iters", total_iters, 0)
        super().__init__(optimizer)

    def factor(self, t: int) -> float:
        return self.first if t < self.total_iters else 1.0


class LinearLR(FactorLR):
    """lr = base · (a + (b - a) · min(t, total_iters) / total_iters) after t steps: a warm-up.

    Parameters
    ----------
    optimizer
        As in :class:`LRScheduler`.
    start_factor, end_factor
        a and b, from 0 to 1; a > 0.
    total_iters
        Steps from one to the other.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
    ) -> None:
        self.start_factor = check_between("start_factor", start_factor, 0, 1)
        if not start_factor:
            raise ArgumentError(
                "start_factor=0: expected a number above 0: nothing would be learnt"
            )
        self.end_factor = check_between("end_factor", end_factor, 0, 1)
        self.total_iters = check_steps("total_iters", total_iters)
        super().__init__(optimizer)

    def factor(self, t: int) -> float:
        share = min(t, self.total_iters) / self.total_iters
        return self.start_factor + (self.end_factor - self.start_factor) * share
