"""Stochastic gradient descent, and its variant LARS."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..arrays import Array
from ..errors import ArgumentError
from .optimizer import Optimizer, as_type


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum as in PyTorch.

    g = grad + weight_decay * p;  v = momentum * v + (1 - dampening) * g, v = g in the first step;
    p = p - lr * v, or p - lr * (g + momentum * v) with ``nesterov``.

    Parameters
    ----------
    params, lr, flags
        As in :class:`Optimizer`.
    momentum, dampening, weight_decay, nesterov
        As in the formula.

    Raises
    ------
    ArgumentError
        A negative value, or ``nesterov`` without momentum or with dampening.
    """

    lr: float = 1e-3
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False

    slots = ("velocity",)

    def check(self, settings: Mapping[str, Any]) -> None:
        super().check(settings)
        if settings["nesterov"] and (not settings["momentum"] or settings["dampening"]):
            raise ArgumentError("nesterov=True needs momentum > 0 and dampening=0")

    def slots_of(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return self.slots if group["momentum"] else ()

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        lr, momentum, dampening, nesterov = self.lr, self.momentum, self.dampening, self.nesterov
        scale = 1 - dampening * (step > 1)

        def update(p: Array, g: Array, *velocity: Array) -> None:
            direction = self.direction(xp, p, g)
            for v in velocity:
                v *= momentum
                v += direction * as_type(scale, p) if dampening else direction
                direction = direction + momentum * v if nesterov else v
            p -= lr * direction

        return update

    def direction(self, xp: Any, p: Array, g: Array) -> Array:
        """The g of the formula, from the gradient ``g``."""
        return self.decayed(p, g)

    def kernel(self) -> str:
        return "" if self.dampening else "sgd_step"


class LARS(SGD):
    """Layer-wise adaptive rate scaling (You, Gitman & Ginsburg 2017, arXiv:1708.03888).

    :class:`SGD` with g = trust_coefficient * ‖p‖ / (‖grad‖ + weight_decay * ‖p‖ + eps) * (grad +
    weight_decay * p), the norms those of each parameter; without the factor where a norm is 0.

    Parameters
    ----------
    params, lr, momentum, dampening, weight_decay, nesterov, flags
        As in :class:`SGD`.
    trust_coefficient
        As in the formula; 0 in a group, such as that of biases, for plain SGD.
    eps
        As in the formula.

    Raises
    ------
    ArgumentError
        As in :class:`SGD`.
    """

    lr: float = 1.0
    momentum: float = 0.9
    trust_coefficient: float = 1e-3
    eps: float = 1e-8

    whole = True

    def direction(self, xp: Any, p: Array, g: Array) -> Array:
        trust, decay, eps = self.trust_coefficient, self.weight_decay, self.eps
        if not trust:
            return self.decayed(p, g)
        size, slope = (xp.sqrt((x * x).sum()) for x in (p, g))
        ratio = trust * size / (slope + decay * size + eps)
        return self.decayed(p, g) * xp.where((size > 0) & (slope > 0), ratio, xp.ones_like(ratio))

    def kernel(self) -> str:
        return ""
