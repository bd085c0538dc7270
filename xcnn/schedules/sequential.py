"""A chain of schedules."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from ..checks import check_steps
from ..errors import ArgumentError, StateDictError
from ..optim import Optimizer
from .plateau import ReduceLROnPlateau
from .scheduler import LRScheduler


class SequentialLR(LRScheduler):
    """Runs schedules one after another, each from its step 0.

    Parameters
    ----------
    optimizer
        As in :class:`LRScheduler`.
    schedulers
        Schedules of this optimiser.
    milestones
        Steps at which the second, third, ... schedule starts.

    Raises
    ------
    ArgumentError
        A schedule of another optimiser, one that needs a metric, or a wrong number of milestones.

    Examples
    --------
    >>> warm_up = LinearLR(optimizer, 0.1, total_iters=3)
    >>> schedule = SequentialLR(optimizer, [warm_up, CosineAnnealingLR(optimizer, 17)], [3])
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]
    ) -> None:
        for name, value in (("schedulers", schedulers), ("milestones", milestones)):
            if not isinstance(value, list | tuple):
                raise ArgumentError(f"{name} is {type(value).__name__}: expected a list")
        self.schedulers = list(schedulers)
        for schedule in self.schedulers:
            if not isinstance(schedule, LRScheduler) or isinstance(schedule, ReduceLROnPlateau):
                raise ArgumentError(
                    f"SequentialLR: {type(schedule).__name__} is not a schedule that depends only "
                    "on the number of steps"
                )
            if schedule.optimizer is not optimizer:
                raise ArgumentError("SequentialLR: every schedule must be for the same optimiser")
        if len(milestones) != len(self.schedulers) - 1:
            raise ArgumentError(
                f"SequentialLR: {len(self.schedulers)} schedules and {len(milestones)} milestones: "
                "expected one milestone fewer than schedules"
            )
        self.milestones = [check_steps("milestones", m, 0) for m in milestones]
        if self.milestones != sorted(self.milestones):
            raise ArgumentError(f"milestones={self.milestones}: expected increasing numbers")
        self.per_batch = self.schedulers[0].per_batch
        if any(schedule.per_batch != self.per_batch for schedule in self.schedulers):
            raise ArgumentError(
                "SequentialLR: some schedules count batches and some epochs; set per_batch of each"
            )
        super().__init__(optimizer)

    def _current(self) -> LRScheduler:
        """Return the active schedule, with its steps counted from its start."""
        i = bisect_right(self.milestones, self.steps)
        self.schedulers[i].steps = self.steps - (self.milestones[i - 1] if i else 0)
        return self.schedulers[i]

    def get_lr(self) -> list[float]:
        return self._current().get_lr()

    def set_lr(self) -> None:
        self._current().set_lr()

    def state_dict(self) -> dict[str, Any]:
        states = [schedule.state_dict() for schedule in self.schedulers]
        return {**super().state_dict(), "schedulers": states}

    def _check(self, state: Mapping[str, Any]) -> None:
        super()._check(state)
        if len(state["schedulers"]) != len(self.schedulers):
            raise StateDictError(
                f"the state has {len(state['schedulers'])} schedules, expected "
                f"{len(self.schedulers)}"
            )
        for schedule, inner in zip(self.schedulers, state["schedulers"], strict=True):
            schedule._check(inner)

    def _load(self, state: Mapping[str, Any]) -> None:
        super()._load(state)
        for schedule, inner in zip(self.schedulers, state["schedulers"], strict=True):
            schedule._load(inner)
