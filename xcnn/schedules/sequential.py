"""Several schedules behind each other."""

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
    """One schedule after the other, each from its beginning.

    Parameters
    ----------
    optimizer
        As in :class:`LRScheduler`.
    schedulers
        Schedules of this optimiser.
    milestones
        Numbers of steps at which the second one begins, the third one, ...

    Raises
    ------
    ArgumentError
        Schedules of another optimiser or of the wrong number, or one that needs a metric.

    Examples
    --------
    >>> warm_up = LinearLR(optimizer, 0.1, total_iters=3)
    >>> schedule = SequentialLR(optimizer, [warm_up, CosineAnnealingLR(optimizer, 17)], [3])
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int]
    ) -> None:
        self.schedulers = list(schedulers)
        for schedule in self.schedulers:
            if not isinstance(schedule, LRScheduler) or isinstance(schedule, ReduceLROnPlateau):
                raise ArgumentError(
                    f"SequentialLR: {type(schedule).__name__} is no schedule that goes by the "
                    "number of steps alone"
                )
            if schedule.optimizer is not optimizer:
                raise ArgumentError("SequentialLR: all schedules must be of the optimiser given")
        if len(milestones) != len(self.schedulers) - 1:
            raise ArgumentError(
                f"SequentialLR: {len(self.schedulers)} schedules and {len(milestones)} milestones: "
                "expected one milestone less than schedules"
            )
        self.milestones = [check_steps("milestones", m, 0) for m in milestones]
        if self.milestones != sorted(self.milestones):
            raise ArgumentError(f"milestones={self.milestones}: expected growing numbers")
        self.per_batch = self.schedulers[0].per_batch
        if any(schedule.per_batch != self.per_batch for schedule in self.schedulers):
            raise ArgumentError(
                "SequentialLR: some schedules count batches and some epochs; set per_batch of each"
            )
        super().__init__(optimizer)

    @property
    def _current(self) -> LRScheduler:
        return self.schedulers[bisect_right(self.milestones, self.steps)]

    def get_lr(self) -> list[float]:
        return self._current.get_lr()

    def set_lr(self) -> None:
        passed = [m for m in self.milestones if m <= self.steps]
        self._current.steps = self.steps - max(passed, default=0)
        self._current.set_lr()

    def state_dict(self) -> dict[str, Any]:
        inner = [schedule.state_dict() for schedule in self.schedulers]
        return {**super().state_dict(), "schedulers": inner}

    def _load(self, state: Mapping[str, Any]) -> None:
        inner = state["schedulers"]
        if len(inner) != len(self.schedulers):
            raise StateDictError(
                f"the state is of {len(inner)} schedules, not {len(self.schedulers)}"
            )
        for schedule, saved in zip(self.schedulers, inner, strict=True):
            schedule.load_state_dict(saved)
        super()._load(state)
