"""Muon."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..arrays import Array
from ..checks import check_choice, check_int
from ..errors import ArgumentError
from .optimizer import Optimizer, are_numbers


class Muon(Optimizer):
    """Momentum, orthogonalised (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/).

    m = momentum * m + (1 - momentum) * grad;  u = m, or (1 - momentum) * grad + momentum * m with
    ``nesterov``;  p = (1 - lr * weight_decay) * p - lr * factor * O(u), where O(u) approximates the
    orthogonal matrix closest to u by Newton-Schulz iterations in the type of p, at least float32
    (PyTorch: bfloat16): x = u / max(‖u‖, eps), then ``ns_steps`` times with (a, b, c) =
    ``ns_coefficients`` and s = x xᵀ, x = (a I + b s + c s²) x.

    Parameters
    ----------
    params
        As in :class:`Optimizer`, matrices (rows, columns) only: the weights of hidden linear
        layers. Train kernels, biases and norms with another optimiser, such as AdamW.
    lr, flags
        As in :class:`Optimizer`.
    weight_decay, momentum, nesterov, ns_coefficients, eps, ns_steps
        As in the formula.
    adjust_lr_fn
        The factor: "original", √max(1, rows / columns), also for None; or "match_rms_adamw",
        0.2 * √max(rows, columns) (Liu et al. 2025, arXiv:2502.16982).

    Raises
    ------
    ArgumentError
        A parameter that is no matrix, or a value out of range.
    """

    lr: float = 1e-3
    weight_decay: float = 0.1
    momentum: float = 0.95
    nesterov: bool = True
    ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315)
    eps: float = 1e-7
    ns_steps: int = 5
    adjust_lr_fn: str | None = None

    slots = ("velocity",)
    whole = decoupled_weight_decay = True

    def check(self, settings: Mapping[str, Any]) -> None:
        super().check(settings)
        check_choice("adjust_lr_fn", settings["adjust_lr_fn"] or "original", [*ADJUSTMENTS])
        check_int("ns_steps", settings["ns_steps"], 0)
        three = settings["ns_coefficients"]
        if not are_numbers(three, 3):
            raise ArgumentError(f"ns_coefficients={three!r}: expected three numbers")
        for param in settings.get("params", ()):
            if len(param.shape) != 2:
                raise ArgumentError(
                    f"Muon: a parameter has shape {param.shape}: expected matrices only; train the "
                    "others with another optimiser, such as AdamW"
                )

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        lr, momentum, nesterov = self.lr, self.momentum, self.nesterov
        factor = ADJUSTMENTS[self.adjust_lr_fn or "original"]

        def update(p: Array, g: Array, v: Array) -> None:
            v *= momentum
            v += (1 - momentum) * g
            step = self._orthogonal(xp, (1 - momentum) * g + momentum * v if nesterov else v)
            self.decayed(p, g)
            p -= lr * factor(*p.shape) * step

        return update

    def _orthogonal(self, xp: Any, u: Array) -> Array:
        a, b, c = self.ns_coefficients
        x = u.T if u.shape[0] > u.shape[1] else u
        x = x / xp.maximum(xp.sqrt((x * x).sum()), self.eps)
        for _ in range(self.ns_steps):
            s = x @ x.T
            x = a * x + (b * s + c * (s @ s)) @ x
        return x.T if u.shape[0] > u.shape[1] else x


#: the factor of the learning rate for a matrix (rows, columns)
ADJUSTMENTS: dict[str, Callable[[int, int], float]] = {
    "original": lambda rows, columns: max(1, rows / max(columns, 1)) ** 0.5,
    "match_rms_adamw": lambda rows, columns: 0.2 * max(rows, columns) ** 0.5,
}
