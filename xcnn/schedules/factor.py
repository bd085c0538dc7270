"""Schedules that multiply the base rates by a factor."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ..checks import check_list, check_number, check_steps
from ..errors import ArgumentError
from ..optim import Optimizer
from .scheduler import LRScheduler, for_groups

_Factor = Callable[[float], float]


class LambdaLR(LRScheduler):
    """lr = base · f(t) after t steps, for a user-defined function.

    Parameters
    ----------
    optimizer, last_epoch
        As in :class:`LRScheduler`.
    lr_lambda
        f, from the number of steps to a factor; or a list of one function per group.

    Raises
    ------
    ArgumentError
        Not a function.
    """

    def __init__(
        self, optimizer: Optimizer, lr_lambda: _Factor | Sequence[_Factor], last_epoch: int = -1
    ) -> None:
        self.lr_lambdas = for_groups("lr_lambda", lr_lambda, optimizer)
        if not all(map(callable, self.lr_lambdas)):
            raise ArgumentError(f"lr_lambda={lr_lambda!r}: expected a function, or one per group")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        return [b * f for b, f in zip(self.base_lrs, self.factors(), strict=True)]

    def factors(self) -> list[float]:
        """f of the current number of steps, for each group."""
        return [check_number("lr_lambda(t)", f(self.steps)) for f in self.lr_lambdas]


class MultiplicativeLR(LambdaLR):
    """lr = base · f(1) · f(2) · ... · f(t) after t steps, for a user-defined function.

    Parameters
    ----------
    optimizer, last_epoch
        As in :class:`LRScheduler`.
    lr_lambda
        f, from the number of the step to a factor; or a list of one function per group.

    Raises
    ------
    ArgumentError
        Not a function.
    """

    def get_lr(self) -> list[float]:
        return self.replay()

    def next_lr(self, lrs: list[float]) -> list[float]:
        return [lr * f for lr, f in zip(lrs, self.factors(), strict=True)] if self.steps else lrs


class StepLR(LRScheduler):
    """lr = base · gamma^⌊t / step_size⌋ after t steps.

    Parameters
    ----------
    optimizer, last_epoch
        As in :class:`LRScheduler`.
    step_size
        Steps between multiplications by ``gamma``.
    gamma
        Factor.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    def __init__(
        self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        self.step_size = check_steps("step_size", step_size)
        self.gamma = check_number("gamma", gamma, 0)
        super().__init__(optimizer, last_epoch)

    def factor_at(self, t: float) -> float:
        return self.gamma ** (t // self.step_size)


class MultiStepLR(LRScheduler):
    """lr = base · gamma^(milestones reached) after t steps.

    Parameters
    ----------
    optimizer, last_epoch
        As in :class:`LRScheduler`.
    milestones
        Step numbers; repeated ones count repeatedly.
    gamma
        Factor at each milestone.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        milestones: Iterable[int],
        gamma: float = 0.1,
        last_epoch: int = -1,
    ) -> None:
        numbers = check_list("milestones", milestones, "step numbers")
        self.milestones = [check_steps("milestones", m) for m in numbers]
        self.gamma = check_number("gamma", gamma, 0)
        super().__init__(optimizer, last_epoch)

    def factor_at(self, t: float) -> float:
        return self.gamma ** sum(m <= t for m in self.milestones)


class ExponentialLR(StepLR):
    """lr = base · gamma^t after t steps: :class:`StepLR` with a step size of 1.

    Parameters
    ----------
    optimizer, last_epoch
        As in :class:`LRScheduler`.
    gamma
        Factor of each step.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        super().__init__(optimizer, 1, gamma, last_epoch)


class ConstantLR(LRScheduler):
    """lr = base · factor for the first ``total_iters`` steps, then base.

    Parameters
    ----------
    optimizer, last_epoch
        As in :class:`LRScheduler`.
    factor
        From 0 to 1.
    total_iters
        Number of steps at the reduced rate.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        factor: float = 1.0 / 3,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        self.factor = check_number("factor", factor, 0, 1)
        self.total_iters = check_steps("total_iters", total_iters, 0)
        super().__init__(optimizer, last_epoch)

    def factor_at(self, t: float) -> float:
        return self.factor if t < self.total_iters else 1.0


class LinearLR(LRScheduler):
    """lr = base · (a + (b - a) · min(t, total_iters) / total_iters) after t steps: a warm-up.

    Parameters
    ----------
    optimizer, last_epoch
        As in :class:`LRScheduler`.
    start_factor, end_factor
        a and b, from 0 to 1; a > 0.
    total_iters
        Steps from a to b.

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
        last_epoch: int = -1,
    ) -> None:
        self.start_factor = check_number("start_factor", start_factor, 0, 1)
        if not start_factor:
            raise ArgumentError(
                "start_factor=0: expected a number above 0, or the first steps would have no effect"
            )
        self.end_factor = check_number("end_factor", end_factor, 0, 1)
        self.total_iters = check_steps("total_iters", total_iters)
        super().__init__(optimizer, last_epoch)

    def factor_at(self, t: float) -> float:
        progress = min(t, self.total_iters) / self.total_iters
        return self.start_factor + (self.end_factor - self.start_factor) * progress


class PolynomialLR(LRScheduler):
    """lr = base · (1 - min(t, total_iters) / total_iters)^power after t steps.

    Parameters
    ----------
    optimizer, last_epoch
        As in :class:`LRScheduler`.
    total_iters
        Steps to a rate of zero.
    power
        Exponent; 1 for a straight line.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    def __init__(
        self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1
    ) -> None:
        self.total_iters = check_steps("total_iters", total_iters)
        self.power = check_number("power", power, 0)
        super().__init__(optimizer, last_epoch)

    def factor_at(self, t: float) -> float:
        return (1 - min(t, self.total_iters) / self.total_iters) ** self.power
