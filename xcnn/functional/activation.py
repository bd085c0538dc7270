"""Activation functions."""

from __future__ import annotations

import math
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import check_approximate, number
from ..errors import ArgumentError, ShapeError
from ..layout import rows_last
from ..tensor import Function, Tensor, operation
from ..tiling import parts
from .elementwise import Elementwise


class ReLU(Function):
    """See :func:`relu`."""

    arguments = ("input",)

    def forward(self, backend: Backend, x: Array) -> Array:
        xp, y = backend.xp, backend.xp.empty_like(x)

        def compute(part: tuple) -> None:
            xp.maximum(x[part], 0, out=y[part])

        backend.each(compute, _parts(backend, x))
        self.save(y=y)
        return y

    def backward(self, backend: Backend, dy: Array) -> Array:
        xp, y = backend.xp, self.saved.y
        dx = xp.empty_like(y)

        def compute(part: tuple) -> None:
            xp.multiply(dy[part], y[part] > 0, out=dx[part])

        backend.each(compute, _parts(backend, y))
        return dx


class Sigmoid(Function):
    """See :func:`sigmoid`."""

    arguments = ("input",)

    def forward(self, backend: Backend, x: Array) -> Array:
        y = stable_sigmoid(backend.xp, x)
        self.save(y=y)
        return y

    def backward(self, backend: Backend, dy: Array) -> Array:
        y = self.saved.y
        dx = backend.xp.subtract(1, y, out=backend.xp.empty_like(y))
        dx *= y
        dx *= dy
        return dx


class Tanh(Function):
    """See :func:`tanh`."""

    arguments = ("input",)

    def forward(self, backend: Backend, x: Array) -> Array:
        y = backend.xp.tanh(x, out=backend.xp.empty_like(x))
        self.save(y=y)
        return y

    def backward(self, backend: Backend, dy: Array) -> Array:
        y = self.saved.y
        dx = backend.xp.multiply(y, y, out=backend.xp.empty_like(y))
        backend.xp.subtract(1, dx, out=dx)
        dx *= dy
        return dx


class Softmax(Function):
    """See :func:`softmax`. dx = y * (dy - sum(y * dy))."""

    arguments = ("input",)

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, backend: Backend, x: Array) -> Array:
        y = backend.xp.subtract(x, _max(x, self.dim), out=backend.xp.empty_like(x))
        backend.xp.exp(y, out=y)
        y /= y.sum(axis=self.dim, keepdims=True)
        self.save(y=y)
        return y

    def backward(self, backend: Backend, dy: Array) -> Array:
        y = self.saved.y
        dx = backend.xp.multiply(y, dy, out=backend.xp.empty_like(y))
        dx -= y * dx.sum(axis=self.dim, keepdims=True)
        return dx


class LogSoftmax(Function):
    """See :func:`log_softmax`. dx = dy - softmax(x) * sum(dy)."""

    arguments = ("input",)

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, backend: Backend, x: Array) -> Array:
        y = log_softmax_of(backend.xp, x, self.dim)
        self.save(y=y)
        return y

    def backward(self, backend: Backend, dy: Array) -> Array:
        dx = backend.xp.exp(self.saved.y, out=backend.xp.empty_like(self.saved.y))
        dx *= dy.sum(axis=self.dim, keepdims=True)
        return backend.xp.subtract(dy, dx, out=dx)


def _parts(backend: Backend, x: Array) -> list[tuple]:
    """Index tuples of parts of the channels of x (N, C, ...)."""
    if x.ndim < 2:
        return [(...,)]
    return [(slice(None), part) for part in parts(x.shape[1], backend.shares(8 * x.size))]


def stable_sigmoid(xp: Any, x: Array) -> Array:
    """1 / (1 + exp(-x)), written so that exp never overflows."""
    e = xp.abs(x, out=xp.empty_like(x))
    xp.negative(e, out=e)
    xp.exp(e, out=e)  # exp(-|x|), in (0, 1]
    y = xp.empty_like(x)
    y.fill(1)
    xp.copyto(y, e, where=x < 0)
    e += 1
    y /= e
    return y


def log_softmax_of(xp: Any, x: Array, axis: int) -> Array:
    """X - max - log(sum(exp(x - max))): exact where softmax underflows."""
    y = xp.subtract(x, _max(x, axis), out=xp.empty_like(x))
    y -= xp.log(xp.exp(y).sum(axis=axis, keepdims=True))
    return y


def _max(x: Array, axis: int) -> Array:
    return x.max(axis=axis, keepdims=True)


@operation
def relu(input: Any) -> Tensor:
    """max(x, 0), elementwise; NaN propagates. The gradient at 0 is 0."""
    return ReLU()(input)


@operation
def sigmoid(input: Any) -> Tensor:
    """1 / (1 + exp(-x)), elementwise."""
    return Sigmoid()(input)


@operation
def tanh(input: Any) -> Tensor:
    """tanh(x), elementwise."""
    return Tanh()(input)


@operation
def softmax(input: Any, dim: int = 1) -> Tensor:
    """exp(x) / sum(exp(x)) along ``dim`` (default: classes of (N, C, ...)).

    Raises
    ------
    ArgumentError
        No such axis, or an axis of length 0.
    """
    input = Tensor.of(input)
    return Softmax(_check_softmax_dim(input, dim))(input)


@operation
def log_softmax(input: Any, dim: int = 1) -> Tensor:
    """log(softmax(x)) along ``dim``, without underflow.

    Raises
    ------
    ArgumentError
        No such axis, or an axis of length 0.
    """
    input = Tensor.of(input)
    return LogSoftmax(_check_softmax_dim(input, dim))(input)


def _check_softmax_dim(input: Tensor, dim: int) -> int:
    if not isinstance(dim, int) or not -input.ndim <= dim < input.ndim or input.shape[dim] == 0:
        raise ArgumentError(f"dim={dim!r}: the input has shape {input.shape}")
    return dim % input.ndim


class ReLU6(Elementwise):
    """See :func:`relu6`."""

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.clip(x, 0, 6, out=backend.xp.empty_like(x))

    def slope(self, backend: Backend, x: Array) -> Array:
        return (x > 0) & (x < 6)


class LeakyReLU(Elementwise):
    """See :func:`leaky_relu`."""

    def __init__(self, negative_slope: float) -> None:
        self.negative_slope = number("negative_slope", negative_slope)

    def value(self, backend: Backend, x: Array) -> Array:
        y = backend.xp.multiply(x, self.negative_slope, out=backend.xp.empty_like(x))
        backend.xp.copyto(y, x, where=x > 0)
        return y

    def slope(self, backend: Backend, x: Array) -> Array:
        slope = backend.xp.full_like(x, self.negative_slope)
        backend.xp.copyto(slope, 1, where=x > 0)
        return slope


class PReLU(Function):
    """See :func:`prelu`."""

    arguments = ("input", "weight")

    def forward(self, backend: Backend, x: Array, weight: Array) -> Array:
        self.save(x=x, weight=weight)
        y = backend.xp.multiply(x, _per_channel(weight, x), out=backend.xp.empty_like(x))
        backend.xp.copyto(y, x, where=x > 0)
        return y

    def backward(self, backend: Backend, dy: Array) -> tuple:
        x, weight = self.saved.x, self.saved.weight
        dx = backend.xp.multiply(dy, _per_channel(weight, x), out=backend.xp.empty_like(x))
        backend.xp.copyto(dx, dy, where=x > 0)
        return dx, self._dweight(backend, dy, x, len(weight)) if self.needs_grad[1] else None

    @staticmethod
    def _dweight(backend: Backend, dy: Array, x: Array, slopes: int) -> Array:
        """The sum of dy · x where x is negative, of each channel or of all."""
        terms = backend.xp.minimum(x, 0, out=backend.xp.empty_like(x))
        terms *= dy
        if slopes == 1:
            return terms.sum().reshape(1)
        return rows_last(backend.xp, terms).reshape(slopes, x.size // slopes).sum(axis=1)


def _per_channel(weight: Array, x: Array) -> Array:
    """``weight``, (1,) or (C,), in a shape that broadcasts to x (N, C, ...)."""
    return weight.reshape(()) if len(weight) == 1 else weight.reshape(-1, *(1,) * (x.ndim - 2))


class Hardsigmoid(Elementwise):
    """See :func:`hardsigmoid`."""

    def value(self, backend: Backend, x: Array) -> Array:
        return _ramp(backend.xp, x)

    def slope(self, backend: Backend, x: Array) -> Array:
        slope = backend.xp.full_like(x, 1 / 6)
        slope *= (x > -3) & (x < 3)
        return slope


class Hardswish(Elementwise):
    """See :func:`hardswish`."""

    def value(self, backend: Backend, x: Array) -> Array:
        y = _ramp(backend.xp, x)
        y *= backend.xp.maximum(x, -3)  # 0 times minus infinity would be NaN
        return y

    def slope(self, backend: Backend, x: Array) -> Array:
        slope = backend.xp.divide(x, 3, out=backend.xp.empty_like(x))
        slope += 0.5
        backend.xp.copyto(slope, 0, where=x <= -3)
        backend.xp.copyto(slope, 1, where=x >= 3)
        return slope


def _ramp(xp: Any, x: Array) -> Array:
    """X / 6 + 1 / 2, cut to 0 ... 1."""
    y = xp.divide(x, 6, out=xp.empty_like(x))
    y += 0.5
    return xp.clip(y, 0, 1, out=y)


@operation
def relu6(input: Any) -> Tensor:
    """min(max(x, 0), 6), elementwise. The gradient at 0 and at 6 is 0.

    Source: Howard et al. 2017, "MobileNets", arXiv:1704.04861.
    """
    return ReLU6()(input)


@operation
def leaky_relu(input: Any, negative_slope: float = 0.01) -> Tensor:
    """X where x > 0, else negative_slope · x. The gradient at 0 is negative_slope.

    Source: Maas et al. 2013, "Rectifier nonlinearities improve neural network acoustic models".

    Raises
    ------
    ArgumentError
        negative_slope is not a number.
    """
    return LeakyReLU(negative_slope)(input)


@operation
def prelu(input: Any, weight: Any) -> Tensor:
    """X where x > 0, else weight · x: :func:`leaky_relu` with slopes that are trained.

    The gradient at 0 is weight. Source: He et al. 2015, arXiv:1502.01852.

    Parameters
    ----------
    input : (N, C, ...)
    weight : (1,) or (C,)
        One slope for all channels, or one for each.

    Raises
    ------
    ShapeError
        weight has another shape.
    """
    input, weight = Tensor.of(input), Tensor.of(weight)
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.shape not in ((1,), (channels,)):
        raise ShapeError(
            f"weight has shape {weight.shape}, input {input.shape}: expected one slope, (1,), or "
            f"one for each channel, ({channels},)"
        )
    return PReLU()(input, weight)


@operation
def hardsigmoid(input: Any) -> Tensor:
    """min(max(x / 6 + 1 / 2, 0), 1), elementwise. The gradient at -3 and at 3 is 0."""
    return Hardsigmoid()(input)


@operation
def hardswish(input: Any) -> Tensor:
    """X · hardsigmoid(x), elementwise. The gradient is 0 at -3 and 1 at 3.

    Source: Howard et al. 2019, "Searching for MobileNetV3", arXiv:1905.02244.
    """
    return Hardswish()(input)


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


class Threshold(Elementwise):
    """See :func:`threshold`."""

    def __init__(self, threshold: float, value: float) -> None:
        self.threshold = number("threshold", threshold)
        self.instead = number("value", value)

    def value(self, backend: Backend, x: Array) -> Array:
        y = backend.xp.empty_like(x)
        backend.xp.copyto(y, x)
        backend.xp.copyto(y, self.instead, where=x <= self.threshold)
        return y

    def slope(self, backend: Backend, x: Array) -> Array:
        return x > self.threshold


@operation
def threshold(input: Any, threshold: float, value: float) -> Tensor:
    """``input`` where it is above the threshold, else ``value``, elementwise.

    The gradient at the threshold is 0.

    Raises
    ------
    ArgumentError
        threshold or value is not a number.
    """
    return Threshold(threshold, value)(input)
