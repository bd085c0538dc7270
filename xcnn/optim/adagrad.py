"""Adagrad."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..arrays import Array
from ..checks import check_not_negative
from ..tensor import Tensor
from .optimizer import Optimizer, state_dtype


class Adagrad(Optimizer):
    """Adagrad: divides each step by the root of the sum of all squared gradients so far.

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
        Initial value of the sum s.
    maximize
        Maximise the objective instead of minimising it.

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
        value = self.group["initial_accumulator_value"]
        return param.backend.xp.full_like(param.data, value, dtype=state_dtype(param))

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        eps, decay = self.group["eps"], self.group["weight_decay"]
        rate = self.group["lr"] / (1 + (step - 1) * self.group["lr_decay"])

        def update(p: Array, g: Array, s: Array) -> None:
            if decay:
                g = g + decay * p
            scratch = g * g
            s += scratch
            xp.sqrt(s, out=scratch)
            scratch += eps
            xp.divide(g, scratch, out=scratch)
            scratch *= rate
            p -= scratch

        return update

    def kernel(self) -> str:
        return "adagrad_step"
