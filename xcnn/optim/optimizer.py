"""What all optimisers share: groups of parameters, their state, and the step over them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from .. import backends
from ..arrays import Array
from ..backends import SKIPPED, Backend
from ..checks import check_not_negative
from ..errors import ArgumentError, DeviceError, StateDictError
from ..tensor import Tensor


class Optimizer:
    """Base: holds the parameters and, by name, one array per parameter for each kind of state.

    Subclasses name their state in ``slots`` and define :meth:`rule`; those with further settings
    pass them on as ``settings`` and refuse bad values in :meth:`check`.

    Parameters
    ----------
    params
        The Tensors to train, ``model.parameters()``; or groups of them, dicts with "params" and
        the settings in which they differ:
        ``[{"params": body.parameters(), "lr": 1e-4}, {"params": head.parameters()}]``.
    lr
        Learning rate of the groups that name none.
    settings
        Further settings by name, of the groups that do not name them.

    Attributes
    ----------
    lr : float
        Learning rate of the first group; setting it sets that of all. May change between steps.
    param_groups : list of dict
        "params" and the settings of each group; the settings may be changed between steps.
    group : dict
        The group that :meth:`update` is called for; between steps the first one.
    params : list of Tensor
        Of all groups.
    steps : list of int
        Steps taken, of each parameter.

    Raises
    ------
    ArgumentError
        No parameters, one of them twice, an unknown setting, or a value out of range.
    """

    slots: tuple[str, ...] = ()

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Mapping[str, Any]],
        lr: float,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.defaults = {"lr": lr, **(settings or {})}
        self.check(self.defaults)
        self.params: list[Tensor] = []
        self.steps: list[int] = []
        self.state: dict[str, list[Array | None]] = {s: [] for s in self.slots}
        self.param_groups: list[dict[str, Any]] = []
        # a Tensor by itself would be taken for its rows
        is_several = isinstance(params, Iterable) and not isinstance(params, Tensor)
        found: list[Any] = list(params) if is_several else []
        is_grouped = bool(found) and all(isinstance(g, Mapping) for g in found)
        for group in found if is_grouped else [{"params": found}]:
            self.add_param_group(group)
        self.group = self.param_groups[0]

    @property
    def lr(self) -> float:
        return self.group["lr"]

    @lr.setter
    def lr(self, value: float) -> None:
        for group in self.param_groups:
            group["lr"] = value

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Train further parameters, with settings of their own.

        Parameters
        ----------
        group
            A dict with "params" and those settings that differ from the optimiser's.

        Raises
        ------
        ArgumentError
            As for the constructor.
        """
        name = type(self).__name__
        if not isinstance(group, Mapping) or "params" not in group:
            raise ArgumentError(
                f'{name}: a group of parameters is a dict with "params" and settings such as "lr"'
            )
        unknown = sorted(set(group) - set(self.defaults) - {"params"})
        if unknown:
            raise ArgumentError(
                f"{name}: a group has the setting {unknown[0]!r}: expected some of "
                f"{', '.join(self.defaults)}"
            )
        params = self._new_parameters(group["params"])
        full = {"params": params, **self.defaults, **{k: group[k] for k in group if k != "params"}}
        self.check(full)
        self.param_groups.append(full)
        self.params += params
        self.steps += [0] * len(params)
        for kept in self.state.values():
            kept += [None] * len(params)

    def _new_parameters(self, params: Any) -> list[Tensor]:
        """``params`` as a list, if they are Tensors that no group has yet."""
        name = type(self).__name__
        found = tensors(params)
        if not found:
            raise ArgumentError(
                f"{name}: params holds no Tensors: pass model.parameters(), and "
                "make a new call for each optimiser (it is an iterator)"
            )
        if len({id(p) for p in (*self.params, *found)}) < len(self.params) + len(found):
            raise ArgumentError(f"{name}: params holds a parameter twice")
        return found

    def check(self, settings: Mapping[str, Any]) -> None:
        """Refuse settings, of a group or the defaults, that are out of range.

        Raises
        ------
        ArgumentError
            One is.
        """
        check_not_negative(settings, "lr")

    def slots_of(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """Those ``slots`` that a group with these settings needs; by default all."""
        return self.slots

    def fresh(self, slot: str, param: Tensor) -> Array:
        """The array that ``slot`` starts with; by default zeros."""
        return param.backend.xp.zeros_like(param.data)

    def zero_grad(self) -> None:
        """Set all gradients to zero in place."""
        grads = [p.grad for p in self.params if p.grad is not None]
        owners = backends.of_each(grads)
        for backend in dict.fromkeys(owners):
            if backend is not None:
                pairs = zip(grads, owners, strict=True)
                with backend.active():
                    backend.zero([grad for grad, owner in pairs if owner is backend])

    def step(self, scaler: Array | None = None) -> None:
        """Change every parameter that has a gradient; the others stay as they are.

        Parameters
        ----------
        scaler
            Of :class:`xcnn.amp.GradScaler`: nothing changes if it notes an overflow.

        Raises
        ------
        DeviceError
            Parameters are on more than one device.
        """
        one_backend([p for p in self.params if p.grad is not None and p.requires_grad])
        try:
            for group, numbers in self._numbered():
                self.group = group
                self._step_group(numbers, scaler)
        finally:
            self.group = self.param_groups[0]

    def _numbered(self) -> Iterator[tuple[dict[str, Any], range]]:
        """Each group and where in ``params`` its parameters are."""
        start = 0
        for group in self.param_groups:
            stop = start + len(group["params"])
            yield group, range(start, stop)
            start = stop

    def _step_group(self, numbers: range, scaler: Array | None) -> None:
        by_count: dict[int, list[int]] = {}  # one entry, unless some had no gradient before
        for i in numbers:
            if self.params[i].grad is not None and self.params[i].requires_grad:
                self.steps[i] += 1
                by_count.setdefault(self.steps[i], []).append(i)
        for count, chosen in by_count.items():
            backend = self.params[chosen[0]].backend
            with backend.active():
                self.update(
                    backend,
                    [self.params[i].data for i in chosen],
                    self._directions([self.params[i].grad for i in chosen]),
                    {slot: self._state_arrays(slot, chosen) for slot in self.slots_of(self.group)},
                    count,
                    scaler,
                )

    def _directions(self, grads: list[Array]) -> list[Array]:
        """The gradients, turned round where the group has a setting "maximize" that says so."""
        return [-g for g in grads] if self.group.get("maximize") else grads

    def _state_arrays(self, slot: str, chosen: list[int]) -> list[Array]:
        arrays, params = self.state[slot], [self.params[i] for i in chosen]
        for i, param in zip(chosen, params, strict=True):
            if arrays[i] is None:
                arrays[i] = self.fresh(slot, param)
        moved = moved_to(params, [arrays[i] for i in chosen])
        for i, array in zip(chosen, moved, strict=True):
            arrays[i] = array
        return moved

    def update(
        self,
        backend: Backend,
        params: list[Array],
        grads: list[Array],
        state: dict[str, list[Array]],
        step: int,
        scaler: Array | None,
    ) -> None:
        """Change ``params`` and ``state`` in place; by default by :meth:`rule`.

        Called once per group, and again for those of its parameters that have taken fewer steps.
        ``self.lr`` is the learning rate of the group, ``self.group`` has all its settings, and
        ``step`` counts the steps of these parameters from 1.
        """
        lists = [params, grads, *(state.get(slot, []) for slot in self.slots)]

        def rule() -> Callable[..., None]:  # a kernel does without
            skipped: Any = 0 if scaler is None else scaler[SKIPPED].astype("float64")
            return self.rule(backend.xp, step - skipped)

        settings = {**self.group, **self.kernel_settings(), "step": step}
        backend.optimizer_step(self.kernel(), rule, lists, settings, scaler)

    def rule(self, xp: Any, step: Any) -> Callable[..., None]:
        """The formula: a function (p, g, *state) that changes arrays in place, but not g.

        Parameters
        ----------
        xp
            The array namespace.
        step
            Number of the step, from 1, without those that loss scaling skipped: an int, or an array
            of the device.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no rule method")

    def kernel(self) -> str:
        """Name of the fused kernel that computes :meth:`rule` on a GPU; "" if there is none."""
        return ""

    def kernel_settings(self) -> dict[str, Any]:
        """What the kernel needs besides ``self.group``."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from: ``steps``, a copy of each state array, and ``param_groups``
        with the numbers of their parameters in place of these.
        """
        arrays = {
            f"{slot}.{i}": array.copy()
            for slot, kept in self.state.items()
            for i, array in enumerate(kept)
            if array is not None
        }
        groups = [{**group, "params": list(numbers)} for group, numbers in self._numbered()]
        return {"steps": list(self.steps), "param_groups": groups, "arrays": arrays}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave, settings included.

        Nothing is changed unless everything fits.

        Raises
        ------
        StateDictError
            Another kind of optimiser or other parameters.
        """
        absent = {"steps", "param_groups", "arrays"} - set(state)
        if absent:
            raise StateDictError(
                f"this is no state of an optimiser: {', '.join(sorted(absent))} missing; pass what "
                "optimizer.state_dict() gave"
            )
        problems = self._misfits(state)
        if problems:
            raise StateDictError(
                f"the state does not fit {type(self).__name__}:\n  " + "\n  ".join(problems)
            )
        self.steps = [int(n) for n in state["steps"]]
        for group, saved in zip(self.param_groups, state["param_groups"], strict=True):
            group.update({k: v for k, v in saved.items() if k != "params"})
        for slot, kept in self.state.items():
            for i, param in enumerate(self.params):
                array = state["arrays"].get(f"{slot}.{i}")
                kept[i] = (
                    None if array is None else param.backend.asarray(array, param.dtype).copy()
                )

    def _misfits(self, state: Mapping[str, Any]) -> list[str]:
        sizes = [len(group["params"]) for group in self.param_groups]
        saved_sizes = [len(group["params"]) for group in state["param_groups"]]
        if sizes != saved_sizes:
            return [f"param_groups: of {saved_sizes} parameters, not {sizes}"]
        problems = []
        known = {}
        for (group, numbers), saved in zip(self._numbered(), state["param_groups"], strict=True):
            problems += [f"missing: {key} of a group" for key in self.defaults if key not in saved]
            slots = self.slots_of({**group, **saved})
            known.update({f"{slot}.{i}": self.params[i] for slot in slots for i in numbers})
        problems += [
            f"unexpected: {key}" if key not in known else f"shape: {key} is {tuple(a.shape)}"
            for key, a in state["arrays"].items()
            if key not in known or tuple(a.shape) != known[key].shape
        ]
        if len(state["steps"]) != len(self.params):
            problems.append(f"steps: of {len(state['steps'])} parameters, not {len(self.params)}")
        return problems


def tensors(params: Any) -> list[Tensor]:
    """One Tensor or several as a list, empty if anything else is among them."""
    if isinstance(params, Tensor):
        return [params]
    found = list(params) if isinstance(params, Iterable) else []
    return found if all(isinstance(p, Tensor) for p in found) else []


def one_backend(params: list[Tensor]) -> Backend | None:
    """The backend of all ``params``, None if there are none.

    Raises
    ------
    DeviceError
        They are on more than one device.
    """
    owners = dict.fromkeys(backends.of_each([p.data for p in params]))
    if len(owners) > 1:
        devices = sorted(backend.device for backend in owners if backend is not None)
        raise DeviceError(f"parameters are on {devices}: use one optimiser per device")
    return next(iter(owners), None)


def moved_to(params: Sequence[Tensor], arrays: Sequence[Array]) -> list[Array]:
    """Each array on the device and in the dtype of its parameter: the model may have moved."""
    owners = backends.of_each(arrays)
    targets = backends.of_each([p.data for p in params])
    return [
        array
        if owner is target and array.dtype == param.dtype
        else target.asarray(owner.to_host(array), param.dtype)  # type: ignore[union-attr]
        for param, array, owner, target in zip(params, arrays, owners, targets, strict=True)
    ]
