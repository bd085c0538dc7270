"""Adam, with either kind of weight decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import check_not_negative
from ..errors import ArgumentError
from ..tensor import Tensor
from .optimizer import Optimizer


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980), with L2 weight decay as PyTorch has it.

    Parameters
    ----------
    params, lr
        As in :class:`Optimizer`.
    betas
        Decay of the running means of gradient and squared gradient.
    eps
        Added to the root of the latter.
    weight_decay
        Added to the gradient, times the parameter.
    maximize
        Go up the gradient instead of down.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    slots = ("mean", "square")
    #: whether the decay leaves the gradient alone
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
        if (
            not isinstance(betas, tuple | list)
            or len(betas) != 2
            or not all(isinstance(b, Real) and 0 <= float(b) < 1 for b in betas)
        ):
            raise ArgumentError(f"betas={betas!r}: expected two numbers from 0 to below 1")
        check_not_negative(settings, "eps", "weight_decay")

    def update(
        self,
        backend: Backend,
        params: list[Array],
        grads: list[Array],
        state: dict[str, list[Array]],
        step: int,
        scaler: Array | None,
    ) -> None:
        group = self.group
        backend.adam_step(
            params,
            grads,
            state["mean"],
            state["square"],
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            eps=group["eps"],
            weight_decay=group["weight_decay"],
            step=step,
            decoupled=self.decoupled,
            scaler=scaler,
        )


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101).

    Before each step p = p - lr * weight_decay * p; the gradient stays as it is.

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
