"""Activations made of straight pieces: relu6, leaky_relu, prelu, hardsigmoid, hardswish."""

from __future__ import annotations

from typing import Any

from ..autograd import Function
from ..backends import Backend
from ..errors import ShapeError
from ..tensor import Tensor
from ..tracing import operation
from .elementwise import Elementwise, number
from .layout import rows_last

Array = Any


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
