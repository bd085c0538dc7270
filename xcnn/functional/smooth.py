"""Activations that are smooth: elu, selu, gelu, silu, softplus.

Where an input far below zero multiplies something that has become 0, the input is cut first, at a
place beyond which no dtype tells the difference: 0 times minus infinity would be NaN.
"""

from __future__ import annotations

import math
from typing import Any

from ..backends import Backend
from ..errors import ArgumentError
from ..tensor import Tensor
from ..tracing import operation
from .activation import stable_sigmoid
from .elementwise import Elementwise, number

Array = Any

_FAR = 1000  # exp(-_FAR) is 0 in every dtype
_NORMAL_FAR = 50  # and so is exp(-_NORMAL_FAR² / 2)
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


class ELU(Elementwise):
    """See :func:`elu`; times ``scale``, for :func:`selu`."""

    def __init__(self, alpha: float, scale: float = 1.0) -> None:
        self.alpha = number("alpha", alpha)
        self.scale = scale

    def value(self, backend: Backend, x: Array) -> Array:
        xp = backend.xp
        y = xp.minimum(x, 0, out=xp.empty_like(x))
        xp.expm1(y, out=y)
        y *= self.alpha
        y += xp.maximum(x, 0)
        if self.scale != 1:
            y *= self.scale
        return y

    def slope(self, backend: Backend, x: Array) -> Array:
        xp = backend.xp
        slope = xp.minimum(x, 0, out=xp.empty_like(x))
        xp.exp(slope, out=slope)
        slope *= self.alpha * self.scale
        xp.copyto(slope, self.scale, where=x > 0)
        return slope


class GELU(Elementwise):
    """See :func:`gelu`. The slope is Φ(x) + x · φ(x), φ the density of the normal distribution."""

    def value(self, backend: Backend, x: Array) -> Array:
        y = backend.special.ndtr(x, out=backend.xp.empty_like(x))
        y *= backend.xp.maximum(x, -_NORMAL_FAR)
        return y

    def slope(self, backend: Backend, x: Array) -> Array:
        xp = backend.xp
        near = xp.clip(x, -_NORMAL_FAR, _NORMAL_FAR, out=xp.empty_like(x))
        slope = xp.multiply(near, near, out=xp.empty_like(x))
        slope *= -0.5
        xp.exp(slope, out=slope)
        slope *= near
        slope *= 1 / math.sqrt(2 * math.pi)
        slope += backend.special.ndtr(x, out=near)
        return slope


class TanhGELU(Elementwise):
    """See :func:`gelu`. (1 + tanh(u)) / 2 is sigmoid(2u)."""

    def value(self, backend: Backend, x: Array) -> Array:
        near = backend.xp.clip(x, -_NORMAL_FAR, _NORMAL_FAR, out=backend.xp.empty_like(x))
        near *= _inner_slope(near, 1)
        y = stable_sigmoid(backend.xp, near)
        y *= backend.xp.maximum(x, -_NORMAL_FAR)
        return y

    def slope(self, backend: Backend, x: Array) -> Array:
        near = backend.xp.clip(x, -_NORMAL_FAR, _NORMAL_FAR, out=backend.xp.empty_like(x))
        gate = stable_sigmoid(backend.xp, near * _inner_slope(near, 1))
        return gate + near * _inner_slope(near, 3) * gate * (1 - gate)


def _inner_slope(x: Array, power: int) -> Array:
    """2u / x, with u = √(2/π) · (x + 0.044715 · x³); for ``power`` 3 the derivative of 2u."""
    y = x * x
    y *= 0.044715 * power
    y += 1
    y *= 2 * math.sqrt(2 / math.pi)
    return y


class SiLU(Elementwise):
    """See :func:`silu`. The slope is s + x · s · (1 - s) with s = sigmoid(x)."""

    def value(self, backend: Backend, x: Array) -> Array:
        y = stable_sigmoid(backend.xp, x)
        y *= backend.xp.maximum(x, -_FAR)
        return y

    def slope(self, backend: Backend, x: Array) -> Array:
        gate = stable_sigmoid(backend.xp, x)
        slope = backend.xp.clip(x, -_FAR, _FAR, out=backend.xp.empty_like(x))
        slope *= 1 - gate
        slope += 1
        slope *= gate
        return slope


class Softplus(Elementwise):
    """See :func:`softplus`. The slope is sigmoid(beta · x)."""

    def __init__(self, beta: float, threshold: float) -> None:
        self.beta, self.threshold = number("beta", beta), number("threshold", threshold)
        if self.beta == 0:
            raise ArgumentError(f"beta={beta!r}: expected a number other than 0")

    def value(self, backend: Backend, x: Array) -> Array:
        xp = backend.xp
        z = xp.multiply(x, self.beta, out=xp.empty_like(x))
        y = softplus_of(xp, z)
        y /= self.beta
        xp.copyto(y, x, where=z > self.threshold)
        return y

    def slope(self, backend: Backend, x: Array) -> Array:
        z = backend.xp.multiply(x, self.beta, out=backend.xp.empty_like(x))
        slope = stable_sigmoid(backend.xp, z)
        backend.xp.copyto(slope, 1, where=z > self.threshold)
        return slope


def softplus_of(xp: Any, x: Array) -> Array:
    """log(1 + exp(x)), written so that exp never overflows."""
    y = xp.abs(x, out=xp.empty_like(x))
    xp.negative(y, out=y)
    xp.exp(y, out=y)
    xp.log1p(y, out=y)
    y += xp.maximum(x, 0)
    return y


@operation
def elu(input: Any, alpha: float = 1.0) -> Tensor:
    """X where x > 0, else alpha · (exp(x) - 1). The gradient at 0 is alpha.

    Source: Clevert et al. 2016, arXiv:1511.07289.

    Raises
    ------
    ArgumentError
        alpha is not a number.
    """
    return ELU(alpha)(input)


@operation
def selu(input: Any) -> Tensor:
    """Scale · elu(x, alpha) with scale = 1.0507... and alpha = 1.6732....

    With weights of variance 1 / fan_in, mean 0 and variance 1 stay. Source: Klambauer et al.
    2017, "Self-normalizing neural networks", arXiv:1706.02515.
    """
    return ELU(_SELU_ALPHA, _SELU_SCALE)(input)


@operation
def gelu(input: Any, approximate: str = "none") -> Tensor:
    """X · Φ(x), with Φ(x) = (1 + erf(x / √2)) / 2.

    Source: Hendrycks & Gimpel 2016, arXiv:1606.08415.

    Parameters
    ----------
    input : (N, ...)
    approximate
        "none"; or "tanh" for x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))) / 2.

    Raises
    ------
    ArgumentError
        Another ``approximate``.
    """
    check_approximate(approximate)
    return (TanhGELU() if approximate == "tanh" else GELU())(input)


def check_approximate(approximate: str) -> str:
    """Refuse anything but "none" and "tanh".

    Raises
    ------
    ArgumentError
        Anything else.
    """
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f'approximate={approximate!r}: expected "none" or "tanh"')
    return approximate


@operation
def silu(input: Any) -> Tensor:
    """X · sigmoid(x), elementwise; also called swish.

    Source: Ramachandran et al. 2017, arXiv:1710.05941.
    """
    return SiLU()(input)


@operation
def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta · x)) / beta; x itself where beta · x > threshold.

    Source: Dugas et al. 2001, "Incorporating second-order functional knowledge".

    Raises
    ------
    ArgumentError
        beta or threshold is not a number, or beta is 0.
    """
    return Softplus(beta, threshold)(input)
