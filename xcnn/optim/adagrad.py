"""Adagrad and Adadelta."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..arrays import Array
from ..checks import check_number
from .optimizer import Optimizer


class Adagrad(Optimizer):
    """Adagrad: divides each step by the root of the sum of all squared gradients so far.

    g = grad + weight_decay * p;  s = s + g²;
    p = p - lr / (1 + (t - 1) * lr_decay) * g / (√s + eps) in step t.

    Source: Duchi, Hazan & Singer 2011, JMLR 12.

    Parameters
    ----------
    params, lr, flags
        As in :class:`Optimizer`.
    lr_decay, weight_decay, eps
        As in the formula.
    initial_accumulator_value
        Initial value of the sum s.

    Raises
    ------
    ArgumentError
        A negative value.
    """

    lr: float = 1e-2
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10

    slots = ("sum",)

    def initial(self, slot: str) -> float:
        return self.initial_accumulator_value

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        eps, rate = self.eps, self.lr / (1 + (step - 1) * self.lr_decay)

        def update(p: Array, g: Array, s: Array) -> None:
            g = self.decayed(p, g)
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


class Adadelta(Optimizer):
    """Adadelta (Zeiler 2012, arXiv:1212.5701): steps in the units of the parameter.

    g = grad + weight_decay * p;  s = rho * s + (1 - rho) * g²;
    d = √(u + eps) / √(s + eps) * g;  u = rho * u + (1 - rho) * d²;  p = p - lr * d.

    Parameters
    ----------
    params, lr, flags
        As in :class:`Optimizer`.
    rho, eps, weight_decay
        As in the formula.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    lr: float = 1.0
    rho: float = 0.9
    eps: float = 1e-6
    weight_decay: float = 0.0

    slots = ("square", "change")

    def check(self, settings: Mapping[str, Any]) -> None:
        super().check(settings)
        check_number("rho", settings["rho"], 0, 1)

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        lr, rho, eps = self.lr, self.rho, self.eps

        def update(p: Array, g: Array, s: Array, u: Array) -> None:
            g = self.decayed(p, g)
            s *= rho
            s += (1 - rho) * (g * g)
            change = xp.sqrt(u + eps)
            change /= xp.sqrt(s + eps)
            change *= g
            u *= rho
            u += (1 - rho) * (change * change)
            p -= lr * change

        return update
