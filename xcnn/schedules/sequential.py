"""Several schedules of one optimiser, one after another or together."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any

from ..checks import check_list, check_steps
from ..errors import ArgumentError, StateDictError
from ..optim import Optimizer
from .plateau import ReduceLROnPlateau
from .scheduler import LRScheduler


class _Several(LRScheduler):
    """Base class: schedules of one optimiser, each a function of the number of its steps."""

    def __init__(
        self, optimizer: Optimizer | None, schedulers: Sequence[LRScheduler], last_epoch: int = -1
    ) -> None:
        name = type(self).__name__
        self.schedulers = check_list("schedulers", schedulers, "schedules")
        if not self.schedulers:
            raise ArgumentError(f"{name}: schedulers is empty: expected a list of them")
        for schedule in self.schedulers:
            if not isinstance(schedule, LRScheduler) or isinstance(schedule, ReduceLROnPlateau):
                raise ArgumentError(
                    f"{name}: {type(schedule).__name__} is not a schedule that depends only on the "
                    "number of steps"
                )
        own = self.schedulers[0].optimizer if optimizer is None else optimizer
        if any(schedule.optimizer is not own for schedule in self.schedulers):
            raise ArgumentError(f"{name}: every schedule must be for the same optimiser")
        self.per_batch = self.schedulers[0].per_batch
        if any(schedule.per_batch != self.per_batch for schedule in self.schedulers):
            raise ArgumentError(
                f"{name}: some schedules count batches and some epochs; set per_batch of each"
            )
        super().__init__(own, last_epoch)

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


class SequentialLR(_Several):
    """Runs schedules one after another, each from its step 0.

    Parameters
    ----------
    optimizer, last_epoch
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
    >>> from xcnn.schedules import CosineAnnealingLR, LinearLR
    >>> warm_up = LinearLR(optimizer, 0.1, total_iters=3)
    >>> schedule = SequentialLR(optimizer, [warm_up, CosineAnnealingLR(optimizer, 17)], [3])
    """

    def __init__(
        self,
        optimizer: Optimizer,
        schedulers: Sequence[LRScheduler],
        milestones: Sequence[int],
        last_epoch: int = -1,
    ) -> None:
        schedulers = check_list("schedulers", schedulers, "schedules")
        numbers = check_list("milestones", milestones, "step numbers")
        if len(numbers) != len(schedulers) - 1:
            raise ArgumentError(
                f"SequentialLR: {len(schedulers)} schedules and {len(numbers)} milestones: "
                "expected one milestone fewer than schedules"
            )
        self.milestones = [check_steps("milestones", m, 0) for m in numbers]
        if self.milestones != sorted(self.milestones):
            raise ArgumentError(f"milestones={self.milestones}: expected increasing numbers")
        super().__init__(optimizer, schedulers, last_epoch)

    def _current(self) -> LRScheduler:
        """Return the active schedule, with its steps counted from its start."""
        i = bisect_right(self.milestones, self.steps)
        self.schedulers[i].steps = self.steps - (self.milestones[i - 1] if i else 0)
        return self.schedulers[i]

    def get_lr(self) -> list[float]:
        return self._current().get_lr()

    def next_lr(self, lrs: list[float]) -> list[float]:
        current = self._current()
        return current.next_lr(lrs) if current.steps else current.get_lr()

    def set_lr(self) -> None:
        self._current().set_lr()


class ChainedScheduler(_Several):
    """Steps several schedules together: each changes the rates that the one before has set.

    Schedules that are a factor multiply: LinearLR and StepLR give a warm-up of a staircase. One
    that sets the rate itself, such as :class:`LambdaLR` or :class:`OneCycleLR`, replaces what those
    before it have done.

    Parameters
    ----------
    schedulers
        Schedules of one optimiser.
    optimizer
        That optimiser; by default the one of the first schedule.

    Raises
    ------
    ArgumentError
        No schedules, schedules of several optimisers, or one that needs a metric.
    """

    def __init__(
        self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None
    ) -> None:
        super().__init__(optimizer, schedulers)

    def get_lr(self) -> list[float]:
        return self.replay()

    def next_lr(self, lrs: list[float]) -> list[float]:
        for schedule in self.schedulers:
            schedule.steps = self.steps
            lrs = schedule.next_lr(lrs)
        return lrs

    def set_lr(self) -> None:
        for schedule in self.schedulers:
            schedule.steps = self.steps
            schedule.set_lr()  # the momentum too
        super().set_lr()
