"""RMSprop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..arrays import Array
from ..checks import check_number
from .optimizer import Optimizer


class RMSprop(Optimizer):
    """RMSprop: divides each step by the root of a running mean of squared gradients.

    g = grad + weight_decay * p;  s = alpha * s + (1 - alpha) * g²;  step = g / (√s + eps);
    v = momentum * v + step;  p = p - lr * v. With ``centered``, the running variance
    s - m² replaces s, with m = alpha * m + (1 - alpha) * g.

    Sources: Tieleman & Hinton 2012, "Neural networks for machine learning", lecture 6.5; centred:
    Graves 2013, arXiv:1308.0850.

    Parameters
    ----------
    params, lr, flags
        As in :class:`Optimizer`.
    alpha, eps, weight_decay, momentum, centered
        As in the formula.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    lr: float = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    centered: bool = False

    slots = ("square", "mean", "velocity")

    def check(self, settings: Mapping[str, Any]) -> None:
        super().check(settings)
        check_number("alpha", settings["alpha"], 0, 1)

    def slots_of(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        used = {"square": True, "mean": group["centered"], "velocity": group["momentum"]}
        return tuple(slot for slot in self.slots if used[slot])

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        lr, alpha, eps = self.lr, self.alpha, self.eps
        momentum, centered = self.momentum, self.centered

        def update(p: Array, g: Array, s: Array, *state: Array) -> None:
            g = self.decayed(p, g)
            s *= alpha
            scratch = g * g
            scratch *= 1 - alpha
            s += scratch
            if centered:
                m = state[0]
                m *= alpha
                m += (1 - alpha) * g
                xp.subtract(s, m * m, out=scratch)
                xp.maximum(scratch, 0, out=scratch)  # rounding can make it negative
            xp.sqrt(scratch if centered else s, out=scratch)
            scratch += eps
            xp.divide(g, scratch, out=scratch)
            if momentum:
                v = state[-1]
                v *= momentum
                v += scratch
                scratch[...] = v
            scratch *= lr
            p -= scratch

        return update

    def kernel(self) -> str:
        return "rmsprop_step"
