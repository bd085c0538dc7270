"""Steps of a length that the gradient does not set, only their signs: Lion and Rprop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..arrays import Array
from ..errors import ArgumentError
from .optimizer import Optimizer, are_numbers


class Lion(Optimizer):
    """Lion (Chen et al. 2023, arXiv:2302.06675).

    p = p - lr * (sign(b1 * m + (1 - b1) * grad) + weight_decay * p);
    m = b2 * m + (1 - b2) * grad. Its rate should be 3 to 10 times smaller than that of AdamW, and
    its weight decay as many times larger.

    Parameters
    ----------
    params, lr, flags
        As in :class:`Optimizer`.
    betas, weight_decay
        As in the formula.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0

    slots = ("mean",)
    decoupled_weight_decay = True

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        lr, (beta1, beta2) = self.lr, self.betas

        def update(p: Array, g: Array, m: Array) -> None:
            g = self.decayed(p, g)
            p -= lr * xp.sign(beta1 * m + (1 - beta1) * g)
            m *= beta2
            m += (1 - beta2) * g

        return update


class Rprop(Optimizer):
    """Resilient backpropagation (Riedmiller & Braun 1993), for gradients of all data at once.

    Each element has a step size, lr at first: it is multiplied by etas[1] where the gradient has
    kept its sign and by etas[0] where it has changed it, within ``step_sizes``. Where it has
    changed, the element rests and the next step counts as its first; elsewhere
    p = p - size * sign(grad).

    Parameters
    ----------
    params, lr, flags
        As in :class:`Optimizer`.
    etas
        (decrease, increase), 0 < decrease < 1 < increase.
    step_sizes
        (smallest, largest) step size.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    lr: float = 1e-2
    etas: tuple[float, float] = (0.5, 1.2)
    step_sizes: tuple[float, float] = (1e-6, 50.0)

    slots = ("previous", "size")

    def check(self, settings: Mapping[str, Any]) -> None:
        super().check(settings)
        etas, sizes = settings["etas"], settings["step_sizes"]
        if not are_numbers(etas, 2) or not 0 < etas[0] < 1 < etas[1]:
            raise ArgumentError(f"etas={etas!r}: expected two numbers, 0 < first < 1 < second")
        if not are_numbers(sizes, 2) or not 0 <= sizes[0] <= sizes[1]:
            raise ArgumentError(f"step_sizes={sizes!r}: expected two numbers, 0 <= first <= second")

    def initial(self, slot: str) -> float:
        return self.lr if slot == "size" else 0.0

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        (decrease, increase), limits = self.etas, self.step_sizes

        def update(p: Array, g: Array, previous: Array, size: Array) -> None:
            kept = xp.sign(g * previous)
            size *= xp.where(kept > 0, p.dtype.type(increase), p.dtype.type(1))
            size *= xp.where(kept < 0, p.dtype.type(decrease), p.dtype.type(1))
            xp.clip(size, *limits, out=size)
            previous[...] = g * (kept >= 0)
            p -= xp.sign(previous) * size

        return update
