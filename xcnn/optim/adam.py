"""Adam and AdamW."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..arrays import Array
from ..checks import as_float, check_not_negative
from ..errors import ArgumentError
from ..tensor import Tensor
from .optimizer import Optimizer


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980), with L2 weight decay as in PyTorch.

    g = grad + weight_decay * p;  m = b1 * m + (1 - b1) * g;  v = b2 * v + (1 - b2) * g²;
    p = p - lr / (1 - b1^t) * m / (√(v / (1 - b2^t)) + eps) in step t.

    Parameters
    ----------
    params, lr
        As in :class:`Optimizer`.
    betas
        Decay rates of the running means of the gradient and of its square.
    eps
        Added to the denominator.
    weight_decay
        L2 penalty: times the parameter, added to the gradient.
    maximize
        Maximise the objective instead of minimising it.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    slots = ("mean", "square")
    #: whether the decay is applied to the parameter rather than added to the gradient
    decoupled = False

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Mapping[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        settings = {"betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, lr, settings)

    def check(self, settings: Mapping[str, Any]) -> None:
        super().check(settings)
        betas = settings["betas"]
        is_pair = isinstance(betas, tuple | list) and len(betas) == 2
        if not is_pair or not all(0 <= as_float(b) < 1 for b in betas):
            raise ArgumentError(f"betas={betas!r}: expected two numbers in [0, 1)")
        check_not_negative(settings, "eps", "weight_decay")

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        (beta1, beta2), eps, lr = self.group["betas"], self.group["eps"], self.group["lr"]
        decay = self.group["weight_decay"]
        rate = lr / (1 - beta1**step)
        root = (1 - beta2**step) ** -0.5

        def update(p: Array, g: Array, m: Array, v: Array) -> None:
            if decay and self.decoupled:
                p *= 1 - lr * decay
            elif decay:
                g = g + decay * p
            m *= beta1
            m += (1 - beta1) * g
            v *= beta2
            scratch = g * g
            scratch *= 1 - beta2
            v += scratch
            xp.sqrt(v, out=scratch)
            scratch *= root
            scratch += eps
            xp.divide(m, scratch, out=scratch)
            scratch *= rate
            p -= scratch

        return update

    def kernel(self) -> str:
        return "adam_step"

    def kernel_settings(self) -> dict[str, Any]:
        beta1, beta2 = self.group["betas"]
        return {"beta1": beta1, "beta2": beta2, "decoupled": self.decoupled}


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101).

    Before each step p = p - lr * weight_decay * p; the gradient is unchanged.

    Parameters
    ----------
    params, lr, betas, eps, maximize
        As in :class:`Adam`.
    weight_decay
        As in the formula.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[Mapping[str, Any]],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, maximize=maximize)
