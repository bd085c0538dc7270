"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..arrays import Array
from ..checks import check_not_negative
from ..errors import ArgumentError
from ..tensor import Tensor
from .optimizer import Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum as in PyTorch.

    g = grad + weight_decay * p;  v = momentum * v + (1 - dampening) * g, v = g in the first step;
    p = p - lr * v, or p - lr * (g + momentum * v) with ``nesterov``.

    Parameters
    ----------
    params, lr
        As in :class:`Optimizer`.
    momentum, dampening, weight_decay, nesterov
        As in the formula.
    maximize
        Maximise the objective instead of minimising it.

    Raises
    ------
    ArgumentError
        A negative value, or ``nesterov`` without momentum or with dampening.
    """

    slots = ("velocity",)

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Mapping[str, Any]],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        settings = {
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
        }
        super().__init__(params, lr, settings)

    def check(self, settings: Mapping[str, Any]) -> None:
        super().check(settings)
        check_not_negative(settings, "momentum", "dampening", "weight_decay")
        if settings["nesterov"] and (not settings["momentum"] or settings["dampening"]):
            raise ArgumentError("nesterov=True needs momentum > 0 and dampening=0")

    def slots_of(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return self.slots if group["momentum"] else ()

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        names = "lr", "momentum", "dampening", "weight_decay", "nesterov"
        lr, momentum, dampening, decay, nesterov = (self.group[name] for name in names)
        scale = 1 - dampening * (step > 1)

        def update(p: Array, g: Array, *velocity: Array) -> None:
            direction = g + decay * p if decay else g
            for v in velocity:
                v *= momentum
                v += direction * _as_type(scale, p) if dampening else direction
                direction = direction + momentum * v if nesterov else v
            p -= lr * direction

        return update

    def kernel(self) -> str:
        return "" if self.group["dampening"] else "sgd_step"


def _as_type(number: Any, like: Array) -> Any:
    """Cast a device scalar to the dtype of ``like``; a Python number is unchanged."""
    return number.astype(like.dtype) if hasattr(number, "dtype") else number
