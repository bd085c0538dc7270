"""Activations. Each writes into memory of its input's order, so that images stay batch-last."""

from __future__ import annotations

from typing import Any

from ..autograd import Function
from ..backends import Backend
from ..errors import ArgumentError
from ..geometry import parts
from ..tensor import Tensor
from ..tracing import operation

Array = Any


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
    return Softmax(_check_dim(input, dim))(input)


@operation
def log_softmax(input: Any, dim: int = 1) -> Tensor:
    """log(softmax(x)) along ``dim``, without underflow.

    Raises
    ------
    ArgumentError
        No such axis, or an axis of length 0.
    """
    input = Tensor.of(input)
    return LogSoftmax(_check_dim(input, dim))(input)


def _check_dim(input: Tensor, dim: int) -> int:
    if not isinstance(dim, int) or not -input.ndim <= dim < input.ndim or input.shape[dim] == 0:
        raise ArgumentError(f"dim={dim!r}: the input has shape {input.shape}")
    return dim % input.ndim
