"""Adam and its variants: AdamW, NAdam, RAdam and Adamax."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..arrays import Array
from .optimizer import Optimizer, as_type


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, arXiv:1412.6980), with L2 weight decay as in PyTorch.

    g = grad + weight_decay * p;  m = b1 * m + (1 - b1) * g;  v = b2 * v + (1 - b2) * g²;
    p = p - lr / (1 - b1^t) * m / (√(v / (1 - b2^t)) + eps) in step t.

    Parameters
    ----------
    params, lr, flags
        As in :class:`Optimizer`.
    betas
        Decay rates of the running means of the gradient and of its square.
    eps
        Added to the denominator.
    weight_decay
        L2 penalty: times the parameter, added to the gradient.
    amsgrad
        Use the largest v so far in place of v (Reddi, Kale & Kumar 2018, arXiv:1904.09237).
    decoupled_weight_decay
        Decay the parameter itself, as :class:`AdamW` does.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    amsgrad: bool = False
    decoupled_weight_decay: bool = False

    slots = ("mean", "square", "largest")

    def slots_of(self, group: Mapping[str, Any]) -> tuple[str, ...]:
        return self.slots if group["amsgrad"] else self.slots[:2]

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        (beta1, beta2), eps, decay = self.betas, self.eps, self.weight_decay
        rate, root = self.lr / (1 - beta1**step), (1 - beta2**step) ** -0.5

        def update(p: Array, g: Array, m: Array, v: Array, *largest: Array) -> None:
            g = self.decayed(p, g) if decay else g
            scratch = _moments(g, m, v, beta1, beta2)
            for top in largest:
                xp.maximum(top, v, out=top)
            xp.sqrt(largest[0] if largest else v, out=scratch)
            scratch *= root
            scratch += eps
            xp.divide(m, scratch, out=scratch)
            scratch *= rate
            p -= scratch

        return update

    def kernel(self) -> str:
        return "" if self.amsgrad else "adam_step"


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, arXiv:1711.05101).

    Before each step p = p - lr * weight_decay * p; the gradient is unchanged.

    Parameters
    ----------
    params, lr, betas, eps, amsgrad, decoupled_weight_decay, flags
        As in :class:`Adam`.
    weight_decay
        As in the formula.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    weight_decay: float = 1e-2
    decoupled_weight_decay: bool = True


class NAdam(Optimizer):
    """Adam with Nesterov momentum (Dozat 2016, "Incorporating Nesterov momentum into Adam").

    With g, m and v as in :class:`Adam`, c_t = b1 * (1 - 0.96^(t * momentum_decay) / 2) and C_t the
    product of c_1 to c_t, in step t
    p = p - lr * ((1 - c_t) / (1 - C_t) * g + c_t+1 / (1 - C_t+1) * m) / (√(v / (1 - b2^t)) + eps).

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, decoupled_weight_decay, flags
        As in :class:`Adam`.
    momentum_decay
        As in the formula.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    decoupled_weight_decay: bool = False

    slots = ("mean", "square", "product")
    whole = True  # the product is one number per parameter

    def initial(self, slot: str) -> float:
        return float(slot == "product")

    def shape(self, slot: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        return () if slot == "product" else shape

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        (beta1, beta2), eps, lr, slow = self.betas, self.eps, self.lr, self.momentum_decay
        root = (1 - beta2**step) ** -0.5
        now, after = (beta1 * (1 - 0.5 * 0.96 ** (t * slow)) for t in (step, step + 1))

        def update(p: Array, g: Array, m: Array, v: Array, product: Array) -> None:
            g = self.decayed(p, g)
            scratch = _moments(g, m, v, beta1, beta2)
            xp.sqrt(v, out=scratch)
            scratch *= root
            scratch += eps
            product *= now
            direction = g * as_type(lr * (1 - now) / (1 - product), p)
            direction += m * as_type(lr * after / (1 - product * after), p)
            direction /= scratch
            p -= direction

        return update


class RAdam(Optimizer):
    """Rectified Adam (Liu et al. 2020, arXiv:1908.03265): Adam without adaption in the first steps.

    With g, m and v as in :class:`Adam`, r = 2 / (1 - b2) - 1 and r_t = r - 2 * t * b2^t / (1 -
    b2^t), in step t p = p - lr / (1 - b1^t) * m while r_t <= 5, and later
    p = p - lr / (1 - b1^t) * m * √((r_t - 4) (r_t - 2) r / ((r - 4) (r - 2) r_t)) * √(1 - b2^t) /
    (√v + eps).

    Parameters
    ----------
    params, lr, betas, eps, weight_decay, decoupled_weight_decay, flags
        As in :class:`Adam`.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    decoupled_weight_decay: bool = False

    slots = ("mean", "square")

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        (beta1, beta2), eps = self.betas, self.eps
        rate = self.lr / (1 - beta1**step)
        longest, power = 2 / (1 - beta2) - 1, beta2**step
        length = longest - 2 * step * power / (1 - power)
        scale = longest / ((longest - 4) * (longest - 2)) if longest > 5 else 0.0
        rectified = abs((length - 4) * (length - 2) / length * scale * (1 - power)) ** 0.5
        # both without a branch: the step may be on the device
        plain, adaptive = rate * (length <= 5), rate * rectified * (length > 5)

        def update(p: Array, g: Array, m: Array, v: Array) -> None:
            scratch = _moments(self.decayed(p, g), m, v, beta1, beta2)
            xp.sqrt(v, out=scratch)
            scratch += eps
            xp.divide(as_type(adaptive, p), scratch, out=scratch)
            scratch += plain
            scratch *= m
            p -= scratch

        return update


class Adamax(Optimizer):
    """Adam with the infinity norm (Kingma & Ba 2015, arXiv:1412.6980, section 7.1).

    With g and m as in :class:`Adam`, u = max(b2 * u, |g| + eps);
    p = p - lr / (1 - b1^t) * m / u in step t.

    Parameters
    ----------
    params, lr, betas, weight_decay, flags
        As in :class:`Adam`.
    eps
        As in the formula.

    Raises
    ------
    ArgumentError
        A value out of range.
    """

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    slots = ("mean", "norm")

    def rule(self, xp: Any, step: int | Array) -> Callable[..., None]:
        (beta1, beta2), eps = self.betas, self.eps
        rate = self.lr / (1 - beta1**step)

        def update(p: Array, g: Array, m: Array, u: Array) -> None:
            g = self.decayed(p, g)
            m *= beta1
            m += (1 - beta1) * g
            u *= beta2
            xp.maximum(u, abs(g) + eps, out=u)
            p -= as_type(rate, p) * m / u

        return update


def _moments(g: Array, m: Array, v: Array, beta1: float, beta2: float) -> Array:
    """Update the running means of g and of g² in place; return an array to write into."""
    m *= beta1
    m += (1 - beta1) * g
    v *= beta2
    scratch = g * g
    scratch *= 1 - beta2
    v += scratch
    return scratch
