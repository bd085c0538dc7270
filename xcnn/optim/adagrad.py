"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import check_not_negative
from ..tensor import Tensor
from .optimizer import Optimizer


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients so far.

    g = grad + weight_decay * p;  s = s + g²;
    p = p - lr / (1 + (t - 1) * lr_decay) * g / (√s + eps) in step t.

    Source: Duchi, Hazan & Singer 2011, JMLR 12.

    Parameters
    ----------
    params, lr
        As in :class:`Optimizer`.
    lr_decay, weight_decay, eps
        As in the formula.
    initial_accumulator_value
        What the sum s starts with.
    maximize
        Go up the gradient instead of down.

    Raises
    ------
    ArgumentError
        A negative value.
    """

    slots = ("sum",)

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Mapping[str, Any]],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        settings = {
            "lr_decay": lr_decay,
            "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value,
            "eps": eps,
            "maximize": maximize,
        }
        super().__init__(params, lr, settings)

    def check(self, settings: Mapping[str, Any]) -> None:
        super().check(settings)
        names = ("lr_decay", "weight_decay", "initial_accumulator_value", "eps")
        check_not_negative(settings, *names)

    def fresh(self, slot: str, param: Tensor) -> Array:
        first = self.group["initial_accumulator_value"]
        return param.backend.xp.full_like(param.data, first)

    def update(
        self,
        backend: Backend,
        params: list[Array],
        grads: list[Array],
        state: dict[str, list[Array]],
        step: int,
        scaler: Array | None,
    ) -> None:
        backend.adagrad_step(
            params,
            grads,
            state["sum"],
            **{name: self.group[name] for name in ("lr", "lr_decay", "eps", "weight_decay")},
            step=step,
            scaler=scaler,
        )
