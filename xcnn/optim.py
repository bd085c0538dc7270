"""Optimisers. Each step is one call of a backend primitive over all parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

from . import backends
from .backends import Backend
from .errors import ArgumentError, DeviceError, StateDictError
from .tensor import Tensor

Array = Any


class Optimizer:
    """Base: holds the parameters and, by name, one array per parameter for each kind of state.

    Subclasses name their state in ``slots`` and define :meth:`update`.

    Parameters
    ----------
    params
        The Tensors to train, ``model.parameters()``.
    lr
        Learning rate; the attribute may be changed between steps.

    Attributes
    ----------
    steps : list of int
        Steps taken, of each parameter.

    Raises
    ------
    ArgumentError
        No parameters, or a value out of range.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, params: Iterable[Tensor], lr: float) -> None:
        self.params = list(params) if isinstance(params, Iterable) else []
        if not self.params or not all(isinstance(p, Tensor) for p in self.params):
            raise ArgumentError(
                f"{type(self).__name__}: params holds no Tensors: pass model.parameters(), and "
                "make a new call for each optimiser (it is an iterator)"
            )
        if len({id(p) for p in self.params}) < len(self.params):
            raise ArgumentError(f"{type(self).__name__}: params holds a parameter twice")
        self.lr = _not_negative("lr", lr)
        self.steps = [0] * len(self.params)
        self.state: dict[str, list[Array | None]] = {
            s: [None] * len(self.params) for s in self.slots
        }

    def zero_grad(self) -> None:
        """Set all gradients to zero in place."""
        used = [p for p in self.params if p.grad is not None]
        for backend in dict.fromkeys(p.backend for p in used):
            with backend.active():
                backend.zero([p.grad for p in used if p.backend is backend])

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
        used = [i for i, p in enumerate(self.params) if p.grad is not None and p.requires_grad]
        devices = {self.params[i].device for i in used}
        if len(devices) > 1:
            raise DeviceError(f"parameters are on {sorted(devices)}: one optimiser per device")
        by_count: dict[int, list[int]] = {}  # one group, unless some had no gradient before
        for i in used:
            self.steps[i] += 1
            by_count.setdefault(self.steps[i], []).append(i)
        for count, group in by_count.items():
            backend = self.params[group[0]].backend
            with backend.active():
                self.update(
                    backend,
                    [self.params[i].data for i in group],
                    [self.params[i].grad for i in group],
                    {name: self._state_arrays(name, group) for name in self.slots},
                    count,
                    scaler,
                )

    def _state_arrays(self, name: str, group: list[int]) -> list[Array]:
        arrays = self.state[name]
        for i in group:
            array, param = arrays[i], self.params[i]
            if array is None:
                arrays[i] = param.backend.xp.zeros_like(param.data)
            elif backends.of(array) is not param.backend or array.dtype != param.dtype:
                # the model was moved
                arrays[i] = param.backend.asarray(backends.of(array).to_host(array), param.dtype)
        return [arrays[i] for i in group]

    def update(
        self,
        backend: Backend,
        params: list[Array],
        grads: list[Array],
        state: dict[str, list[Array]],
        step: int,
        scaler: Array | None,
    ) -> None:
        """Change ``params`` and ``state`` in place; ``step`` is the number of theirs, from 1."""
        raise NotImplementedError(f"{type(self).__name__} defines no update method")

    def state_dict(self) -> dict[str, Any]:
        """Everything to go on from: ``steps``, ``lr`` and a copy of each state array."""
        arrays = {
            f"{name}.{i}": array.copy()
            for name, kept in self.state.items()
            for i, array in enumerate(kept)
            if array is not None
        }
        return {"steps": list(self.steps), "lr": self.lr, "arrays": arrays}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave. Nothing is changed unless everything fits.

        Raises
        ------
        StateDictError
            Another kind of optimiser or other parameters.
        """
        absent = {"steps", "lr", "arrays"} - set(state)
        if absent:
            raise StateDictError(
                f"this is no state of an optimiser: {', '.join(sorted(absent))} missing; pass what "
                "optimizer.state_dict() gave"
            )
        known = {f"{name}.{i}": p for name in self.slots for i, p in enumerate(self.params)}
        problems = [
            f"unexpected: {key}" if key not in known else f"shape: {key} is {tuple(a.shape)}"
            for key, a in state["arrays"].items()
            if key not in known or tuple(a.shape) != known[key].shape
        ]
        if len(state["steps"]) != len(self.params):
            problems.append(f"steps: of {len(state['steps'])} parameters, not {len(self.params)}")
        if problems:
            raise StateDictError(
                f"the state does not fit {type(self).__name__}:\n  " + "\n  ".join(problems)
            )
        self.steps, self.lr = [int(n) for n in state["steps"]], float(state["lr"])
        for name, kept in self.state.items():
            for i, param in enumerate(self.params):
                array = state["arrays"].get(f"{name}.{i}")
                kept[i] = (
                    None if array is None else param.backend.asarray(array, param.dtype).copy()
                )


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum as PyTorch has it.

    g = grad + weight_decay * p;  v = momentum * v + g;
    p = p - lr * v, or p - lr * (g + momentum * v) with ``nesterov``.

    Raises
    ------
    ArgumentError
        A negative value, or ``nesterov`` without momentum.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        momentum: float = 0.0,
        *,
        nesterov: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.momentum = _not_negative("momentum", momentum)
        self.weight_decay = _not_negative("weight_decay", weight_decay)
        self.nesterov = nesterov
        if nesterov and not momentum:
            raise ArgumentError("nesterov=True needs momentum > 0")
        self.slots = ("velocity",) if momentum else ()
        super().__init__(params, lr)

    def update(
        self,
        backend: Backend,
        params: list[Array],
        grads: list[Array],
        state: dict[str, list[Array]],
        step: int,
        scaler: Array | None,
    ) -> None:
        backend.sgd_step(
            params,
            grads,
            state.get("velocity", []),
            lr=self.lr,
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            scaler=scaler,
        )


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980), with L2 weight decay as PyTorch has it.

    Parameters
    ----------
    params, lr
        As in :class:`Optimizer`.
    betas
        Decay of the running means of gradient and squared gradient.
    eps
        Added to the root of the latter.
    weight_decay
        Added to the gradient, times the parameter.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    slots = ("mean", "square")

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if (
            not isinstance(betas, tuple | list)
            or len(betas) != 2
            or not all(isinstance(b, Real) and 0 <= b < 1 for b in betas)
        ):
            raise ArgumentError(f"betas={betas!r}: expected two numbers from 0 to below 1")
        self.betas = betas
        self.eps = _not_negative("eps", eps)
        self.weight_decay = _not_negative("weight_decay", weight_decay)
        super().__init__(params, lr)

    def update(
        self,
        backend: Backend,
        params: list[Array],
        grads: list[Array],
        state: dict[str, list[Array]],
        step: int,
        scaler: Array | None,
    ) -> None:
        backend.adam_step(
            params,
            grads,
            state["mean"],
            state["square"],
            lr=self.lr,
            beta1=self.betas[0],
            beta2=self.betas[1],
            eps=self.eps,
            weight_decay=self.weight_decay,
            step=step,
            scaler=scaler,
        )


def _not_negative(name: str, value: float) -> float:
    if not isinstance(value, Real) or not value >= 0:  # also refuses NaN
        raise ArgumentError(f"{name}={value!r}: expected a number >= 0")
    return value


BY_NAME: dict[str, type[Optimizer]] = {"sgd": SGD, "adam": Adam}
