"""The base class of learning-rate schedules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..arrays import plain
from ..checks import check_number, loads_state
from ..errors import ArgumentError, StateDictError
from ..optim import Optimizer


class LRScheduler:
    """Base class: sets an optimiser's learning rates by the number of steps taken.

    Subclasses define :meth:`factor_at`, or :meth:`get_lr` where one factor for all groups is not
    enough. The rates depend only on the number of steps, so only one schedule can act on an
    optimiser at a time; :class:`SequentialLR` chains several.

    Parameters
    ----------
    optimizer
        Its current learning rates become the base rates, unless an earlier schedule has stored
        them as "initial_lr" of each group.

    Attributes
    ----------
    base_lrs : list of float
        Base rate of each group.
    steps : int
        Steps taken; may be set, to resume training.
    per_batch : bool
        Whether a Trainer steps after each batch rather than after each epoch. May be set.

    Raises
    ------
    ArgumentError
        ``optimizer`` is not an Optimizer, or a value is out of range.
    """

    per_batch = False
    #: names of the attributes in :meth:`state_dict`
    _state: tuple[str, ...] = ("steps", "base_lrs")

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = check_optimizer(optimizer)
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.restart()

    def factor_at(self, t: int) -> float:
        """Return the ratio of learning rate to base rate after ``t`` steps."""
        raise NotImplementedError(f"{type(self).__name__} defines neither factor_at nor get_lr")

    def get_lr(self) -> list[float]:
        """Return the learning rate of each group after ``self.steps`` steps."""
        return [base * self.factor_at(self.steps) for base in self.base_lrs]

    def get_last_lr(self) -> list[float]:
        """Return the current learning rate of each group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def step(self) -> None:
        """Advance by one epoch, or by one batch if ``per_batch``."""
        self.steps += 1
        try:
            self.set_lr()
        except ArgumentError:
            self.steps -= 1
            raise

    def restart(self) -> None:
        """Go back to step 0."""
        self.steps = 0
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
