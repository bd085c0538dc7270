"""Stochastic gradient descent, and its variants LARS and ASGD."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..arrays import Array
from ..errors import ArgumentError
from .optimizer import Optimizer, as_type


class SGD(Optimizer, lr=1e-3, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
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

    slots = ("velocity",)

    def check(self, settings: Mapping[str, Any]) -> None:
        super().check(settings)
        if settings["nesterov"] and (not settings["momentum"] or settings["dampening"]):
            raise ArgumentError("nesterov=True needs momentum > 0 and dampening=0")

    def slots_of(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return self.slots if group["momentum"] else ()

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        names = "lr", "momentum", "dampening", "nesterov"
        lr, momentum, dampening, nesterov = (self.group[name] for name in names)
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
        return "" if self.group["dampening"] else "sgd_step"


class LARS(
    SGD,
    lr=1.0,
    momentum=0.9,
    dampening=0.0,
    weight_decay=0.0,
    nesterov=False,
    trust_coefficient=1e-3,
    eps=1e-8,
):
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

    whole = True

    def direction(self, xp: Any, p: Array, g: Array) -> Array:
        names = "trust_coefficient", "weight_decay", "eps"
        trust, decay, eps = (self.group[name] for name in names)
        if not trust:
            return self.decayed(p, g)
        size, slope = (xp.sqrt((x * x).sum()) for x in (p, g))
        ratio = trust * size / (slope + decay * size + eps)
        return self.decayed(p, g) * xp.where((size > 0) & (slope > 0), ratio, xp.ones_like(ratio))

    def kernel(self) -> str:
        return ""


class ASGD(Optimizer, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0.0):
    """Averaged SGD (Polyak & Juditsky 1992, SIAM J. Control Optim. 30).

    g = grad + weight_decay * p;  p = (1 - lambd * eta) * p - eta * g, with eta = lr in the first
    step and lr / (1 + lambd * lr * t)^alpha after step t. ``state["average"]`` has the mean of p
    from step t0 + 2 on, one array per parameter.

    Parameters
    ----------
    params, lr, flags
        As in :class:`Optimizer`.
    lambd, alpha, t0, weight_decay
        As in the formula.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    slots = ("average", "eta")
    whole = True  # eta is one number per parameter

    def initial(self, slot: str) -> float:
        return self.group["lr"] if slot == "eta" else 0.0

    def shape(self, slot: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return () if slot == "eta" else shape

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        lr, lambd, alpha, t0 = (self.group[name] for name in ("lr", "lambd", "alpha", "t0"))
        late = step - 1 - t0
        weight = 1 / (1 + (late - 1) * (late > 1))  # 1 / max(1, late): it may be on the device
        next_eta = lr / (1 + lambd * lr * step) ** alpha

        def update(p: Array, g: Array, average: Array, eta: Array) -> None:
            g = self.decayed(p, g)
            p *= 1 - lambd * eta
            p -= eta * g
            average += as_type(weight, p) * (p - average)
            eta[...] = next_eta

        return update
