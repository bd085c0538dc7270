"""The base class of optimisers: parameter groups, state and steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from inspect import Parameter, Signature, get_annotations
from typing import TYPE_CHECKING, Any, ClassVar, dataclass_transform

from .. import backends
from ..arrays import Array, plain, sum_dtype
from ..backends import OVERFLOW, SKIPPED, Backend
from ..checks import as_float, check_callable, check_flag, check_number, check_text, loads_state
from ..errors import ArgumentError, DeviceError, StateDictError
from ..tensor import Tensor, enable_grad, zero_grads

Params = Iterable[Tensor] | Iterable[tuple[str, Tensor]] | Iterable[Mapping[str, Any]]

_UNSUPPORTED = {
    "capturable": "steps are not captured in graphs",
    "differentiable": "no gradient goes through a step",
}
_MODES = {"foreach", "fused", *_UNSUPPORTED}  # the first two choose between the same numbers


class _Setting:
    """A setting as an attribute: that of the group being updated; set, it is that of all groups."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, optimizer: Any, owner: Any = None) -> Any:
        return self if optimizer is None else optimizer.group.get(self.name)

    def __set__(self, optimizer: Any, value: Any) -> None:
        for group in optimizer.param_groups:
            group[self.name] = value


@dataclass_transform()
class _Settings:
    """Turns annotated attributes of subclasses into settings, as type checkers see them too."""

    _arguments: ClassVar[dict[str, Parameter]] = {}
    _signature: ClassVar[Signature]
    __signature__: ClassVar[Signature | None]

    def __init_subclass__(cls, kw_only: bool = False) -> None:
        super().__init_subclass__()
        kind = Parameter.KEYWORD_ONLY if kw_only else Parameter.POSITIONAL_OR_KEYWORD
        own = {
            name: Parameter(name, kind, default=vars(cls).get(name, Parameter.empty))
            for name, annotation in get_annotations(cls).items()
            if "ClassVar" not in str(annotation)
        }
        cls._arguments = {**cls._arguments, **own}
        for name in own.keys() - {"params"}:
            setattr(cls, name, _Setting(name))
        arguments = sorted(cls._arguments.values(), key=lambda argument: argument.kind)
        cls._signature = Signature(arguments)
        is_own = "__init__" in vars(cls) and "params" not in own
        cls.__signature__ = None if is_own else cls._signature


class _Modes(_Settings, kw_only=True):
    """What all optimisers take by name."""

    maximize: bool = False
    foreach: bool | None = None
    fused: bool | None = None
    capturable: bool = False
    differentiable: bool = False


if TYPE_CHECKING:

    class _Params:
        """An argument of any kind of ``Params``, then a list as an attribute."""

        def __get__(self, optimizer: Any, owner: Any = None) -> list[Tensor]: ...
        def __set__(self, optimizer: Any, params: Params) -> None: ...


class Optimizer(_Modes):
    """Base class: parameters, and one array per parameter for each kind of state.

    Subclasses name their state in ``slots`` and define :meth:`rule`. Their annotated attributes,
    ``momentum: float = 0.0``, are settings: arguments of the constructor after "params", and in
    :meth:`rule` the values of the group being updated. Flags, and numbers whose default is not
    negative, are checked; :meth:`check` checks the others.

    Parameters
    ----------
    params
        The Tensors to train, ``model.parameters()``, or their names too,
        ``model.named_parameters()``; or parameter groups, dicts with "params" and
        settings that override the defaults:
        ``[{"params": body.parameters(), "lr": 1e-4}, {"params": head.parameters()}]``.
    lr
        Default learning rate; a Tensor of one element is read once.
    maximize
        Maximise the objective instead of minimising it.
    foreach, fused
        As in PyTorch; they have no effect: a step is always one call per group.
    capturable, differentiable
        False; PyTorch's True is refused.

    Attributes
    ----------
    lr : float
        Learning rate of the first group; setting it sets all groups.
    param_groups : list of dict
        "params" and settings of each group; the settings may change between steps.
    group : dict
        The group being updated; the first group between steps.
    defaults : dict
        The default settings.
    params : list of Tensor
        The parameters of all groups.
    steps : list of int
        Number of steps taken, per parameter; those that loss scaling skipped are subtracted by
        :meth:`state_dict`.

    Raises
    ------
    ArgumentError
        No parameters, a duplicate parameter, an unknown setting, or a value out of range.
    """

    params: _Params
    lr: float = 1e-3

    slots: ClassVar[tuple[str, ...]] = ()
    #: whether :meth:`rule` needs whole parameters, not pieces of them in any order
    whole: ClassVar[bool] = False
    #: whether weight decay shrinks the parameters rather than change their gradients
    decoupled_weight_decay = False

    def __init__(self, params: Params, *arguments: Any, **settings: Any) -> None:
        bound = self._signature.bind(params, *arguments, **settings)
        bound.apply_defaults()
        self.defaults = _plain(bound.arguments)
        self.check(self.defaults)
        self.params = []
        self.reset()
        self.param_groups: list[dict[str, Any]] = []
        items: Any = [] if isinstance(params, Tensor) else _listed(params)
        is_grouped = bool(items) and all(isinstance(item, Mapping) for item in items)
        given = params if hasattr(params, "parameters") else items  # a Module, for the error
        for group in items if is_grouped else [{"params": given}]:
            self.add_param_group(group)
        self.group = self.param_groups[0]

    def add_param_group(self, group: Mapping[str, Any]) -> None:
        """Add a parameter group.

        Parameters
        ----------
        group
            A dict with "params" and settings that override the defaults.

        Raises
        ------
        ArgumentError
            As in the constructor.
        """
        name = type(self).__name__
        if not isinstance(group, Mapping) or "params" not in group:
            content = list(group) if isinstance(group, Mapping) else type(group).__name__
            raise ArgumentError(
                f"{name}: a parameter group must be a dict with 'params' and settings such "
                f"as 'lr', got {content}"
            )
        plain_group = _plain(group)
        unknown = sorted(set(plain_group) - set(self.defaults) - {"param_names", "initial_lr"})
        if unknown:
            raise ArgumentError(
                f"{name}: unknown setting {unknown[0]!r} in a parameter group: expected some of "
                f"{', '.join(self.defaults)}"
            )
        params, names = _named(group["params"], f"{name}: params")
        if len({id(p) for p in (*self.params, *params)}) < len(self.params) + len(params):
            raise ArgumentError(f"{name}: params contains a parameter twice")
        new = {**self.defaults, **plain_group, **names, "params": params}
        self.check(new)
        self.param_groups.append(new)
        self.params += params
        self.steps += [0] * len(params)
        self._skipped += [None] * len(params)
        for arrays in self.state.values():
            arrays += [None] * len(params)

    def check(self, settings: Mapping[str, Any]) -> None:
        """Check the settings of a group with its "params", or the defaults.

        Raises
        ------
        ArgumentError
            A setting is out of range.
        """
        for name in self.defaults:
            default = self._arguments[name].default
            if isinstance(default, bool):
                check_flag(name, settings[name])
            elif isinstance(default, float) and default >= 0:
                check_number(name, settings[name], 0)
        betas = settings.get("betas", (0, 0))
        if not are_numbers(betas, 2) or not all(0 <= b < 1 for b in betas):
            raise ArgumentError(f"betas={betas!r}: expected two numbers in [0, 1)")

    def slots_of(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        """The ``slots`` that a group with these settings needs; by default all."""
        return self.slots

    def initial(self, slot: str) -> float:
        """The initial value of ``slot``; by default 0."""
        return 0.0

    def shape(self, slot: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of ``slot`` for a parameter of ``shape``; by default the same."""
        return shape

    def reset(self) -> None:
        """Forget all steps and their state, as if the optimiser were new; the settings stay."""
        count = len(self.params)
        self.steps: list[int] = [0] * count
        self._skipped: list[Array | None] = [None] * count  # steps lost to overflow, on the device
        self.state: dict[str, list[Array | None]] = {slot: [None] * count for slot in self.slots}

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Set all gradients to None or, with ``set_to_none=False``, to zero in place.

        A parameter without a gradient is left alone by :meth:`step`: no decay, no momentum.
        """
        zero_grads(self.params, set_to_none)

    def step(self, closure: Callable[[], Any] | None = None, *, scaler: Array | None = None) -> Any:
        """Update every parameter that has a gradient.

        Parameters
        ----------
        closure
            A function that computes the gradients and returns the loss; called first.
        scaler
            State of a :class:`xcnn.amp.GradScaler`; after an overflow, nothing changes.

        Returns
        -------
        loss
            The result of ``closure``; None without one.

        Raises
        ------
        ArgumentError
            ``closure`` is not a function.
        DeviceError
            Parameters are on more than one device.
        """
        loss = None
        if closure is not None:
            with enable_grad():
                loss = check_callable("closure", closure)()
        trained = {i for i, p in enumerate(self.params) if p.requires_grad and p.grad is not None}
        backend: Any = one_backend([self.params[i] for i in trained])
        if scaler is None:
            self._subtract_skipped()
        try:
            for group, indices in self._indexed_groups():
                self.group = group
                if not isinstance(group["lr"], int | float):  # float32 would be used in float32
                    group["lr"] = plain(group["lr"])
                self._step_group(backend, [i for i in indices if i in trained], scaler)
        finally:
            self.group = self.param_groups[0]
        return loss

    def _indexed_groups(self) -> Iterator[tuple[dict[str, Any], range]]:
        """Yield each group and the indices of its parameters in ``params``."""
        start = 0
        for group in self.param_groups:
            stop = start + len(group["params"])
            yield group, range(start, stop)
            start = stop

    def _step_group(self, backend: Backend, trained: list[int], scaler: Array | None) -> None:
        # one entry, unless some parameters missed steps
        by_count: dict[tuple[int, int], list[int]] = {}
        for i in trained:
            by_count.setdefault((self.steps[i] + 1, id(self._skipped[i])), []).append(i)
        for (count, _), indices in by_count.items():
            params = [self.params[i] for i in indices]
            with backend.active():
                arrays, grads = [p.data for p in params], [p.grad.data for p in params]
                if self.maximize:
                    grads = [-g for g in grads]
                slots = self.slots_of(self.group)
                state = {slot: self._state(backend, slot, indices, arrays) for slot in slots}
                own = None if scaler is None else self._own_scaler(scaler, indices)
                self.update(backend, arrays, grads, state, count, own)
            for i in indices:
                self.steps[i] = count

    def _own_scaler(self, scaler: Array, indices: list[int]) -> Array:
        """A copy of ``scaler`` that counts the skipped steps of these parameters.

        The scaler counts all, also before a parameter's first gradient and of other optimisers.
        """
        own, skipped = scaler.copy(), self._skipped[indices[0]]
        own[SKIPPED] = 0 if skipped is None else skipped
        after = own[SKIPPED] + own[OVERFLOW]
        for i in indices:  # parameters that share this array have skipped the same steps
            self._skipped[i] = after
        return own

    def _subtract_skipped(self) -> None:
        """Subtract the skipped steps from ``steps``; waits for the device if there may be any."""
        for i, skipped in enumerate(self._skipped):
            if skipped is not None:
                self.steps[i] -= int(skipped)
        self._skipped = [None] * len(self.params)

    def _state(
        self, backend: Backend, slot: str, indices: list[int], params: list[Array]
    ) -> list[Array]:
        """The arrays of ``slot``: new ones in the first step, moved if the model was moved."""
        arrays: list[Any] = self.state[slot]
        for i, p in zip(indices, params, strict=True):
            if arrays[i] is None:
                like = {"dtype": state_dtype(p), "shape": self.shape(slot, p.shape)}
                arrays[i] = backend.xp.full_like(p, self.initial(slot), **like)
        owners = backends.of_each([arrays[i] for i in indices])
        for i, p, owner in zip(indices, params, owners, strict=True):
            if owner is not backend or arrays[i].dtype != p.dtype:
                arrays[i] = move_to(p, arrays[i])
        return [arrays[i] for i in indices]

    def update(
        self,
        backend: Backend,
        params: list[Array],
        grads: list[Array],
        state: dict[str, list[Array]],
        step: int,
        scaler: Array | None,
    ) -> None:
        """Update ``params`` and ``state`` in place, by default with :meth:`rule`.

        Called for each group, once per distinct step count of its parameters; ``scaler`` counts the
        steps that these skipped.
        ``self.lr`` is the learning rate of the group, ``self.group`` has all its settings, and
        ``step`` counts the steps of these parameters from 1.
        """
        lists = [params, grads, *(state.get(slot, []) for slot in self.slots)]

        def rule() -> Callable[..., None]:  # only called without a kernel
            skipped: int | Array = 0 if scaler is None else scaler[SKIPPED].astype("float64")
            return self.rule(backend.xp, step - skipped)

        beta1, beta2 = self.group.get("betas", (0, 0))
        own = {"beta1": beta1, "beta2": beta2, "decoupled": self.decoupled_weight_decay}
        settings = {**self.group, **own, "step": step}
        backend.optimizer_step(self.kernel(), rule, lists, settings, scaler, self.whole)

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        """Return the update: a function (p, g, *state) that changes p and state in place.

        Parameters
        ----------
        xp
            The array namespace.
        step
            Number of the step, from 1, not counting those that loss scaling skipped: an int, or an
            array on the device.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no rule method")

    def decayed(self, p: Array, g: Array) -> Array:
        """Apply "weight_decay": return g + weight_decay * p, or if decoupled, shrink ``p`` in place
        by the factor 1 - lr * weight_decay and return ``g``.
        """
        decay = self.group["weight_decay"]
        if not decay:
            return g
        if self.decoupled_weight_decay:
            p *= 1 - self.group["lr"] * decay
            return g
        return g + decay * p

    def kernel(self) -> str:
        """Return the name of the fused GPU kernel for :meth:`rule`; "" if there is none."""
        return ""

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to resume: ``steps``, a copy of each state array, and ``param_groups``
        with indices in place of parameters.
        """
        arrays = {
            f"{slot}.{i}": backends.copy(array)
            for slot, slot_arrays in self.state.items()
            for i, array in enumerate(slot_arrays)
            if array is not None
        }
        self._subtract_skipped()
        groups = [{**_plain(group), "params": [*own]} for group, own in self._indexed_groups()]
        return {"steps": list(self.steps), "param_groups": groups, "arrays": arrays}

    @loads_state
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from the result of :meth:`state_dict`, settings included.

        If anything does not fit, nothing is changed.

        Raises
        ------
        StateDictError
            The state of another kind of optimiser or of other parameters.
        ArgumentError
            A setting is out of range.
        """
        problems = self._mismatches(state)
        if problems:
            raise StateDictError(
                f"the state does not fit {type(self).__name__}:\n  " + "\n  ".join(problems)
            )
        self.steps = [int(n) for n in state["steps"]]
        self._skipped = [None] * len(self.params)
        for group, saved in zip(self.param_groups, state["param_groups"], strict=True):
            group.update(_plain(saved))
        for slot, arrays in self.state.items():
            for i, param in enumerate(self.params):
                array = state["arrays"].get(f"{slot}.{i}")
                if array is not None:
                    array = backends.copy(param.backend.asarray(array, state_dtype(param)))
                arrays[i] = array

    def _default(self, setting: str) -> Any:
        return self._arguments[setting].default

    def _mismatches(self, state: Mapping[str, Any]) -> list[str]:
        sizes = [len(group["params"]) for group in self.param_groups]
        saved_sizes = [len(group["params"]) for group in state["param_groups"]]
        if sizes != saved_sizes:
            return [f"param_groups: {saved_sizes} parameters, expected {sizes}"]
        problems: list[str] = []
        known: dict[str, tuple[int, ...]] = {}
        pairs = zip(self._indexed_groups(), state["param_groups"], strict=True)
        for (group, indices), saved in pairs:
            # a flag may be newer than the file
            known_flags = {k for k, v in group.items() if type(v) is bool and v == self._default(k)}
            missing = self.defaults.keys() - saved.keys() - known_flags
            problems += [f"missing: {key} of a group" for key in sorted(missing)]
            new = {**group, **_plain(saved)}
            self.check(new)
            for slot in self.slots_of(new):
                known |= {f"{slot}.{i}": self.shape(slot, self.params[i].shape) for i in indices}
        for key, array in state["arrays"].items():
            if key not in known:
                problems.append(f"unexpected: {key}")
            elif tuple(array.shape) != known[key]:
                problems.append(f"shape: {key} is {tuple(array.shape)}")
        if len(state["steps"]) != len(self.params):
            problems.append(f"steps: {len(state['steps'])} parameters, expected {len(self.params)}")
        return problems


def _plain(group: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a group, as Python's numbers, without "params" and PyTorch's modes."""
    for name in _MODES & group.keys():
        if check_flag(name, group[name] or False) and name in _UNSUPPORTED:
            reason = _UNSUPPORTED[name]
            raise ArgumentError(f"{name}=True is not supported, {reason}: leave it out")
    return {name: plain(v) for name, v in group.items() if name not in {"params", *_MODES}}


def are_numbers(value: Any, count: int) -> bool:
    """Whether ``value`` is a list or tuple of ``count`` numbers."""
    is_list = isinstance(value, tuple | list) and len(value) == count
    return is_list and not any(math.isnan(as_float(number)) for number in value)


def as_type(number: Any, like: Array) -> Any:
    """Cast a device scalar to the dtype of ``like``; a Python number is unchanged."""
    return number.astype(like.dtype) if hasattr(number, "dtype") else number


def _listed(params: Any) -> list[Any]:
    """A Tensor or the items of an iterable as a list; [] for anything else, and for an array."""
    if isinstance(params, Tensor):
        return [params]
    is_iterable = isinstance(params, Iterable) and not hasattr(params, "dtype")
    return list(params) if is_iterable else []


def _named(params: Any, argument: str) -> tuple[list[Tensor], dict[str, list[str]]]:
    """The parameters, and {"param_names": [...]} if they came as pairs (name, parameter)."""
    items = _listed(params)
    if not items or not all(isinstance(item, tuple) and len(item) == 2 for item in items):
        return tensors(items or params, argument, "optimiser"), {}
    keys, params = zip(*items, strict=True)
    names = {"param_names": [check_text("name", key) for key in keys]}
    return tensors(params, argument, "optimiser"), names


def tensors(params: Any, argument: str, user: str) -> list[Tensor]:
    """One Tensor or an iterable of Tensors as a list.

    Raises
    ------
    ArgumentError
        There are none, or other items.
    """
    items = _listed(params)
    if items and all(isinstance(item, Tensor) for item in items):
        return items
    if hasattr(params, "parameters"):
        raise ArgumentError(f"{argument} is a {type(params).__name__}: pass model.parameters()")
    raise ArgumentError(
        f"{argument} contains no Tensors: pass model.parameters(), with a new call for each {user} "
        "(it is an iterator)"
    )


def one_backend(params: list[Tensor]) -> Backend | None:
    """Return the backend of all ``params``; None if there are no parameters.

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


def state_dtype(param: Tensor | Array) -> Any:
    """The dtype of state arrays for ``param``: its own, but at least float32."""
    return sum_dtype(param.dtype) if param.dtype.kind == "f" else param.dtype


def move_to(param: Array, array: Array) -> Array:
    """``array`` on the device of ``param`` and in its :func:`state_dtype`: models move too."""
    owner, target = backends.of(array), backends.of(param)
    return target.asarray(array if owner is target else owner.to_host(array), state_dtype(param))
