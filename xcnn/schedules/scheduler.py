"""What all schedules share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import ArgumentError, StateDictError
from ..optim import Optimizer


class LRScheduler:
    """Base: sets the learning rates of an optimiser by the number of steps taken.

    Subclasses define :meth:`get_lr`. The rates depend on that number alone, so one schedule acts
    on an optimiser at a time; :class:`SequentialLR` puts several behind each other.

    Parameters
    ----------
    optimizer
        Whose learning rates are changed. Those it has now, or had when its first schedule was
        made, are the base rates.

    Attributes
    ----------
    base_lrs : list of float
        Of each group.
    steps : int
        Steps taken; may be set, to go on where a training stopped.
    per_batch : bool
        Whether a Trainer steps after each batch rather than after each epoch. May be set.

    Raises
    ------
    ArgumentError
        No optimiser, or a value out of range.
    """

    per_batch = False
    #: what beside ``steps`` and ``base_lrs`` is to be saved
    _saved: tuple[str, ...] = ()

    def __init__(self, optimizer: Optimizer) -> None:
        if not isinstance(optimizer, Optimizer):
            raise ArgumentError(
                f"optimizer is {type(optimizer).__name__}: expected one of xcnn.optim"
            )
        self.optimizer = optimizer
        for group in optimizer.param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        self.restart()

    def get_lr(self) -> list[float]:
        """The learning rate of each group after ``self.steps`` steps."""
        raise NotImplementedError(f"{type(self).__name__} defines no get_lr method")

    def get_last_lr(self) -> list[float]:
        """The learning rate of each group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def step(self) -> None:
        """Go one epoch on, or one batch where the schedule counts these."""
        self.steps += 1
        self.set_lr()

    def restart(self) -> None:
        """Go back to the beginning."""
        self.steps = 0
        self.set_lr()

    def set_lr(self) -> None:
        """Give the optimiser the rates of now.

        Raises
        ------
        ArgumentError
            It has other groups than when the schedule was made.
        """
        groups = self.optimizer.param_groups
        if len(groups) != len(self.base_lrs):
            raise ArgumentError(
                f"{type(self).__name__} was made for {len(self.base_lrs)} groups of parameters, "
                f"the optimiser has {len(groups)}: make the schedule after add_param_group"
            )
        for group, lr in zip(groups, self.get_lr(), strict=True):
            group["lr"] = lr

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from: the name of the class, numbers and lists of them."""
        names = ("steps", "base_lrs", *self._saved)
        state = {name: getattr(self, name) for name in names}
        copies = {k: list(v) if isinstance(v, list) else v for k, v in state.items()}
        return {"schedule": type(self).__name__, **copies}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave, and set the learning rates of then.

        Raises
        ------
        StateDictError
            Of another kind of schedule, or for other groups.
        """
        own = self.state_dict()
        wrong = sorted(set(own) ^ set(state))
        if wrong or own["schedule"] != state["schedule"]:
            raise StateDictError(
                f"this is no state of {type(self).__name__} but of "
                f"{state.get('schedule', 'something else')}: pass what its state_dict() gave"
            )
        if len(state["base_lrs"]) != len(self.base_lrs):
            raise StateDictError(
                f"the state is for {len(state['base_lrs'])} groups of parameters, the optimiser "
                f"has {len(self.base_lrs)}"
            )
        self._load(state)
        self.set_lr()

    def _load(self, state: Mapping[str, Any]) -> None:
        for name in ("steps", "base_lrs", *self._saved):
            value = state[name]
            setattr(self, name, list(value) if isinstance(value, list) else value)


def for_groups(name: str, value: Any, optimizer: Optimizer) -> list[Any]:
    """``value`` for each group, or the values that were given for each.

    Raises
    ------
    ArgumentError
        A list of another length.
    """
    count = len(optimizer.param_groups)
    if not isinstance(value, list | tuple):
        return [value] * count
    if len(value) != count:
        raise ArgumentError(f"{name} has {len(value)} values, the optimiser has {count} groups")
    return list(value)
