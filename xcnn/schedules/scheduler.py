"""The base class of learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ..arrays import plain
from ..checks import check_int, check_number, loads_state
from ..errors import ArgumentError, StateDictError
from ..optim import Optimizer


class LRScheduler:
    """Base class: sets an optimiser's learning rates by the number of steps taken.

    Subclasses define :meth:`factor_at`, or :meth:`get_lr` where one factor for all groups is not
    enough. The rates depend only on the number of steps, so only one schedule can act on an
    optimiser at a time; :class:`SequentialLR` runs several one after another and
    :class:`ChainedScheduler` together.

    Parameters
    ----------
    optimizer
        Its current learning rates become the base rates, unless an earlier schedule has stored
        them as "initial_lr" of each group.
    last_epoch
        To resume without a state: the steps taken less one; the groups must have "initial_lr".

    Attributes
    ----------
    base_lrs : list of float
        Base rate of each group.
    steps : int
        Steps taken; may be set, to resume training. A float after ``step(epoch)`` with a fraction.
    last_epoch : int
        PyTorch's name for ``steps``, rounded down.
    per_batch : bool
        Whether a Trainer steps after each batch rather than after each epoch. May be set.

    Raises
    ------
    ArgumentError
        ``optimizer`` is not an Optimizer, or a value is out of range.
    """

    per_batch = False
    steps: float = 0
    #: steps, base rates and rates where :meth:`replay` was last
    _replayed: tuple[int, list[float], list[float]] = (-1, [], [])
    #: names of the attributes in :meth:`state_dict`
    _state: tuple[str, ...] = ("steps", "base_lrs")

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = check_optimizer(optimizer)
        taken = check_int("last_epoch", last_epoch, -1) + 1
        for group in optimizer.param_groups:
            if taken and "initial_lr" not in group:
                raise ArgumentError(
                    f"last_epoch={last_epoch}: a parameter group has no 'initial_lr': load the "
                    "optimiser's state first, or load the schedule's with load_state_dict"
                )
            group.setdefault("initial_lr", plain(group["lr"]))
        self.base_lrs = [plain(group["initial_lr"]) for group in optimizer.param_groups]
        self.restart(taken)

    @property
    def last_epoch(self) -> int:
        return math.floor(self.steps)

    @last_epoch.setter
    def last_epoch(self, value: int) -> None:
        self.steps = value

    def factor_at(self, t: float) -> float:
        """Return the ratio of learning rate to base rate after ``t`` steps."""
        raise NotImplementedError(f"{type(self).__name__} defines neither factor_at nor get_lr")

    def get_lr(self) -> list[float]:
        """Return the learning rate of each group after ``self.steps`` steps."""
        return [base * self.factor_at(self.steps) for base in self.base_lrs]

    def next_lr(self, lrs: list[float]) -> list[float]:
        """Return the rates after this step as one of several schedules, from those before it.

        By default :meth:`get_lr`, or with :meth:`factor_at` the ratio of the last two factors.
        """
        if type(self).get_lr is not LRScheduler.get_lr:
            return self.get_lr()
        before = self.factor_at(self.steps - 1) if self.steps else 1.0
        return [lr * self.factor_at(self.steps) / before if before else lr for lr in lrs]

    def replay(self) -> list[float]:
        """:meth:`get_lr` by :meth:`next_lr` from step to step, for a schedule without a formula."""
        now, bases = self.steps, self.base_lrs
        at, known, lrs = self._replayed
        if at > now or known != bases:
            at, lrs = -1, bases
        for self.steps in range(at + 1, math.floor(now) + 1):
            lrs = self.next_lr(lrs)
        self.steps, self._replayed = now, (math.floor(now), list(bases), lrs)
        return lrs

    def get_last_lr(self) -> list[float]:
        """Return the current learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def step(self, epoch: float | None = None) -> None:
        """Advance by one epoch, or by one batch if ``per_batch``.

        Parameters
        ----------
        epoch
            Go to this number of steps instead, which may have a fraction.

        Raises
        ------
        ArgumentError
            ``epoch`` is negative, or :meth:`set_lr` fails.
        """
        before = self.steps
        number = before + 1 if epoch is None else check_number("epoch", epoch, 0)
        self.steps = int(number) if number == int(number) else number
        try:
            self.set_lr()
        except ArgumentError:
            self.steps = before
            raise

    def restart(self, steps: int = 0) -> None:
        """Go back to step 0, or to step ``steps``."""
        self.steps = steps
        self.set_lr()

    def set_lr(self) -> None:
        """Write the current rates into the optimiser.

        Raises
        ------
        ArgumentError
            The optimiser has gained parameter groups since the schedule was created.
        """
        self.check_groups()
        for group, lr in zip(self.optimizer.param_groups, self.get_lr(), strict=True):
            group["lr"] = lr

    def check_groups(self) -> None:
        """Check that the optimiser has the parameter groups that the schedule was created for."""
        groups = self.optimizer.param_groups
        if len(groups) != len(self.base_lrs):
            raise ArgumentError(
                f"{type(self).__name__} was created for {len(self.base_lrs)} parameter groups, the "
                f"optimiser has {len(groups)}: create the schedule after add_param_group"
            )

    def state_dict(self) -> dict[str, Any]:
        """Return the state to resume from: class name, numbers and lists of numbers."""
        state = {name: plain(getattr(self, name)) for name in self._state}
        return {"schedule": type(self).__name__, **state}

    @loads_state
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the result of :meth:`state_dict` and set its learning rates.

        Raises
        ------
        StateDictError
            The state is of another kind of schedule, or for another number of groups.
        """
        self._check(state)
        self._load(state)
        self.set_lr()

    def _check(self, state: Mapping[str, Any]) -> None:
        name, own_name = state.get("schedule", "something else"), type(self).__name__
        if name != own_name or set(state) != set(self.state_dict()):
            raise StateDictError(
                f"expected the state of {own_name}, got that of {name}: pass the result of its "
                "state_dict()"
            )
        if len(state["base_lrs"]) != len(self.base_lrs):
            raise StateDictError(
                f"the state is for {len(state['base_lrs'])} parameter groups, the optimiser has "
                f"{len(self.base_lrs)}"
            )

    def _load(self, state: Mapping[str, Any]) -> None:
        vars(self).update({name: plain(state[name]) for name in self._state})


def check_optimizer(optimizer: Any) -> Optimizer:
    """Require an Optimizer.

    Raises
    ------
    ArgumentError
        Anything else.
    """
    if not isinstance(optimizer, Optimizer):
        raise ArgumentError(f"optimizer is {type(optimizer).__name__}: expected an Optimizer")
    return optimizer


def for_groups(name: str, value: Any, optimizer: Optimizer) -> list[Any]:
    """Return one value per parameter group, from such a list or one value for all.

    Raises
    ------
    ArgumentError
        A list of another length.
    """
    count = len(check_optimizer(optimizer).param_groups)
    values = list(value) if isinstance(value, list | tuple) else [value] * count
    if len(values) != count:
        raise ArgumentError(f"{name} has {len(values)} values, the optimiser has {count} groups")
    return values


def rates_for_groups(name: str, value: Any, optimizer: Optimizer) -> list[float]:
    """:func:`for_groups` for learning rates, numbers >= 0."""
    return [check_number(name, lr, 0) for lr in for_groups(name, value, optimizer)]
