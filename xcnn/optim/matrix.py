"""Optimisers that use the matrix form of a parameter: Muon and Adafactor."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..arrays import Array
from ..checks import check_choice, check_int, check_number
from ..errors import ArgumentError
from ..tensor import Tensor
from .optimizer import Optimizer, are_numbers, as_type


class Muon(
    Optimizer,
    lr=1e-3,
    weight_decay=0.1,
    momentum=0.95,
    nesterov=True,
    ns_coefficients=(3.4445, -4.775, 2.0315),
    eps=1e-7,
    ns_steps=5,
    adjust_lr_fn=None,
):
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

    slots = ("velocity",)
    whole = decoupled = True

    def check(self, settings: Mapping[str, Any]) -> None:
        super().check(settings)
        check_choice("adjust_lr_fn", settings["adjust_lr_fn"] or "original", [*ADJUSTMENTS])
        check_int("ns_steps", settings["ns_steps"], 0)
        three = settings["ns_coefficients"]
        if not are_numbers(three, 3):
            raise ArgumentError(f"ns_coefficients={three!r}: expected three numbers")

    def check_parameter(self, param: Tensor) -> None:
        if len(param.shape) != 2:
            raise ArgumentError(
                f"Muon: a parameter has shape {param.shape}: expected matrices only; train the "
                "others with another optimiser, such as AdamW"
            )

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        names = "lr", "momentum", "nesterov"
        lr, momentum, nesterov = (self.group[name] for name in names)
        factor = ADJUSTMENTS[self.group["adjust_lr_fn"] or "original"]

        def update(p: Array, g: Array, v: Array) -> None:
            v *= momentum
            v += (1 - momentum) * g
            step = self._orthogonal(xp, (1 - momentum) * g + momentum * v if nesterov else v)
            self.decayed(p, g)
            p -= lr * factor(*p.shape) * step

        return update

    def _orthogonal(self, xp: Any, u: Array) -> Array:
        a, b, c = self.group["ns_coefficients"]
        x = u.T if u.shape[0] > u.shape[1] else u
        x = x / xp.maximum(xp.sqrt((x * x).sum()), self.group["eps"])
        for _ in range(self.group["ns_steps"]):
            s = x @ x.T
            x = a * x + (b * s + c * (s @ s)) @ x
        return x.T if u.shape[0] > u.shape[1] else x


#: the factor of the learning rate for a matrix (rows, columns)
ADJUSTMENTS: dict[str, Callable[[int, int], float]] = {
    "original": lambda rows, columns: max(1, rows / max(columns, 1)) ** 0.5,
    "match_rms_adamw": lambda rows, columns: 0.2 * max(rows, columns) ** 0.5,
}


class Adafactor(Optimizer, lr=1e-2, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0):
    """Adafactor (Shazeer & Stern 2018, arXiv:1804.04235), as in PyTorch: little state.

    For parameters of two axes or more, the running means r and c of grad² along the last two axes
    stand for the mean v of grad²: v = r c / mean(r). In step t with w = t^beta2_decay,
    r = r + w * (grad² - r), u = grad / √max(v, eps1²) and
    p = (1 - lr * weight_decay) * p - min(lr, 1 / √t) * max(eps2, rms(p)) * u / max(1, rms(u) / d).

    Parameters
    ----------
    params, lr, flags
        As in :class:`Optimizer`.
    beta2_decay
        As in the formula, <= 0.
    eps
        (eps1, eps2); None for eps1 is the rounding error of the type.
    d
        Limit of rms(u), >= 1.
    weight_decay
        As in the formula.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    slots = ("row", "column")
    whole = decoupled = True

    def check(self, settings: Mapping[str, Any]) -> None:
        eps = settings["eps"]
        numbers = [0, *eps[1:]] if isinstance(eps, tuple | list) and None in eps[:1] else eps
        if not are_numbers(numbers, 2) or min(numbers) < 0:
            raise ArgumentError(f"eps={eps!r}: expected two numbers >= 0, or (None, number)")
        super().check({**settings, "eps": 0})
        check_number("beta2_decay", settings["beta2_decay"], high=0)
        check_number("d", settings["d"], 1)

    def shape(self, slot: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) < 2:
            return shape if slot == "row" else (0,)
        return (*shape[:-1], 1) if slot == "row" else (*shape[:-2], 1, shape[-1])

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        lr, (eps1, eps2), d = self.group["lr"], self.group["eps"], self.group["d"]
        weight, rate = step ** self.group["beta2_decay"], step**-0.5
        rate = rate + (lr - rate) * (lr < rate)  # the smaller: it may be on the device

        def update(p: Array, g: Array, row: Array, column: Array) -> None:
            small = float(xp.finfo(p.dtype).eps) if eps1 is None else eps1
            length = xp.maximum(_rms(xp, p), eps2) * as_type(rate, p)
            self.decayed(p, g)
            if p.ndim > 1:
                for mean, axis in ((row, -1), (column, -2)):
                    mean += as_type(weight, p) * ((g * g).mean(axis, keepdims=True) - mean)
                square = row * (column / xp.maximum(row.mean(-2, keepdims=True), small))
            else:
                row += as_type(weight, p) * (g * g - row)
                square = row
            u = g / xp.sqrt(xp.maximum(square, small * small))
            p -= u * (length / xp.maximum(_rms(xp, u) / d, 1))

        return update


def _rms(xp: Any, x: Array) -> Array:
    return xp.sqrt((x * x).mean())
