"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..backends.base import SKIPPED
from ..checks import check_not_negative
from ..errors import ArgumentError
from ..tensor import Tensor
from .optimizer import Optimizer


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum as PyTorch has it.

    g = grad + weight_decay * p;  v = momentum * v + (1 - dampening) * g, v = g in the first step;
    p = p - lr * v, or p - lr * (g + momentum * v) with ``nesterov``.

    Parameters
    ----------
    params, lr
        As in :class:`Optimizer`.
    momentum, dampening, weight_decay, nesterov
        As in the formula.
    maximize
        Go up the gradient instead of down.

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

    def update(
        self,
        backend: Backend,
        params: list[Array],
        grads: list[Array],
        state: dict[str, list[Array]],
        step: int,
        scaler: Array | None,
    ) -> None:
        group, decay = self.group, self.group["weight_decay"]
        if group["momentum"] and group["dampening"]:
            grads, decay = _dampened(params, grads, decay, group["dampening"], step, scaler), 0.0
        backend.sgd_step(
            params,
            grads,
            state.get("velocity", []),
            lr=group["lr"],
            momentum=group["momentum"],
            nesterov=group["nesterov"],
            weight_decay=decay,
            scaler=scaler,
        )


def _dampened(
    params: list[Array],
    grads: list[Array],
    decay: float,
    dampening: float,
    step: int,
    scaler: Array | None,
) -> list[Array]:
    """What the velocities grow by: all of g in the first step that is not skipped."""
    share: Any = 1 - dampening * (step > 1)
    if scaler is not None:
        share = 1 - dampening * (scaler[SKIPPED] < step - 1).astype(scaler.dtype)
        return [(g + decay * p) * share.astype(p.dtype) for p, g in zip(params, grads, strict=True)]
    return [(g + decay * p) * share for p, g in zip(params, grads, strict=True)]
