"""Activation functions.

To add one, write a subclass of :class:`Elementwise` and a public function, or a row in the form of
:func:`unary`, and list it in ``__all__``.

``inplace`` is PyTorch's argument: the result is the same with it and without it. It saves no
memory: the input is never overwritten.
"""

from __future__ import annotations

import math
from typing import Any

from ..arrays import Array, finite, sum_dtype
from ..backends import Backend
from ..checks import check_choice, check_dim, check_flag, check_number
from ..errors import ArgumentError, ShapeError
from ..layout import to_batch_last
from ..tensor import Function, Tensor, operation
from ..tiling import split_range
from .arithmetic import add, div, gt, le, mul, where
from .dropout import Key, check_key, uniform
from .elementwise import Clamp, Elementwise, abs, astype, neg, unary
from .indexing import split
from .shape import reshape

# fmt: off
__all__ = [
    "celu", "elu", "gelu", "glu", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish",
    "hardtanh", "leaky_relu", "log_softmax", "logsigmoid", "mish", "prelu", "relu", "relu6",
    "rrelu", "selu", "sigmoid", "silu", "softmax", "softmin", "softplus", "softshrink", "softsign",
    "tanh", "tanhshrink", "threshold",
]
# fmt: on

_FAR = 1000  # exp(-_FAR) is 0 in every dtype
_FINITE = 1e30
_NORMAL_FAR = 50  # exp(-_NORMAL_FAR² / 2) is 0 too
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805

# -- numerically stable formulas -----------------------------------------------------------


def stable_sigmoid(xp: Any, x: Array) -> Array:
    """1 / (1 + exp(-x)) without overflow, in the memory order of x."""
    e = xp.abs(x, out=xp.empty_like(x))
    xp.negative(e, out=e)
    xp.exp(e, out=e)  # exp(-|x|), in (0, 1]
    y = xp.empty_like(x)
    y.fill(1)
    xp.copyto(y, e, where=x < 0)
    e += 1
    y /= e
    return y


def stable_softplus(xp: Any, x: Array) -> Array:
    """log(1 + exp(x)) without overflow, in the memory order of x."""
    y = xp.abs(x, out=xp.empty_like(x))
    xp.negative(y, out=y)
    xp.exp(y, out=y)
    xp.log1p(y, out=y)
    y += xp.maximum(x, 0)
    return y


def stable_log_softmax(xp: Any, x: Array, axis: int) -> Array:
    """x - max - log(sum(exp(x - max))): accurate where softmax underflows."""
    y = xp.subtract(x, x.max(axis=axis, keepdims=True), out=xp.empty_like(x))
    y -= xp.log(xp.exp(y).sum(axis=axis, dtype=sum_dtype(x.dtype), keepdims=True))
    return y


# -- ReLU variants -------------------------------------------------------------------------


class ReLU(Function):
    """See :func:`relu`."""

    arguments = ("input",)

    def forward(self, backend: Backend, x: Array) -> Array:
        xp, y = backend.xp, backend.xp.empty_like(x)

        def compute(part: tuple) -> None:
            xp.maximum(x[part], 0, out=y[part])

        backend.each(compute, _channel_parts(backend, x))
        self.save(y=y)
        return y

    def backward(self, backend: Backend, dy: Array) -> Array:
        xp, y = backend.xp, self.saved.y
        dx = xp.empty_like(y)

        def compute(part: tuple) -> None:
            xp.multiply(dy[part], y[part] > 0, out=dx[part])

        backend.each(compute, _channel_parts(backend, y))
        return dx


def _channel_parts(backend: Backend, x: Array) -> list[tuple]:
    """Indices that cut the channels of x (N, C, ...) into parts for the backend's threads."""
    if x.ndim < 2:
        return [(...,)]
    return [(slice(None), part) for part in split_range(x.shape[1], backend.shares(8 * x.size))]


@operation
def relu(input: Any, inplace: bool = False) -> Tensor:
    """max(x, 0), elementwise; NaN propagates. The gradient at 0 is 0."""
    return ReLU()(input)


class Hardtanh(Clamp):
    """See :func:`hardtanh`."""

    any_dtype = ()

    def derivative(self, backend: Backend, x: Array) -> Array:
        return (x > self.min) & (x < self.max)


@operation
def hardtanh(
    input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """min(max(x, min_val), max_val), elementwise. The gradient at the limits is 0.

    Raises
    ------
    ArgumentError
        A limit is not a number, or min_val > max_val.
    """
    function = Hardtanh(min=check_number("min_val", min_val), max=check_number("max_val", max_val))
    if min_val > max_val:
        raise ArgumentError(f"min_val={min_val!r}: expected at most max_val={max_val!r}")
    return function(input)


@operation
def relu6(input: Any, inplace: bool = False) -> Tensor:
    """min(max(x, 0), 6), elementwise. The gradient at 0 and at 6 is 0.

    Source: Howard et al. 2017, "MobileNets", arXiv:1704.04861.
    """
    return Hardtanh(min=0, max=6)(input)


class LeakyReLU(Elementwise):
    """See :func:`leaky_relu`."""

    negative_slope: float

    def value(self, backend: Backend, x: Array) -> Array:
        y = x * self.negative_slope
        backend.xp.copyto(y, x, where=x > 0)
        return y

    def derivative(self, backend: Backend, x: Array) -> Array:
        dx = backend.xp.full_like(x, self.negative_slope)
        backend.xp.copyto(dx, 1, where=x > 0)
        return dx


@operation
def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope · x. The gradient at 0 is negative_slope.

    Source: Maas et al. 2013, "Rectifier nonlinearities improve neural network acoustic models".

    Raises
    ------
    ArgumentError
        negative_slope is not a number.
    """
    return LeakyReLU(negative_slope=negative_slope)(input)


@operation
def rrelu(
    input: Any,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
    *,
    key: Key = None,
) -> Tensor:
    """x where x > 0, else slope · x, with a random slope for each element in training.

    Otherwise :func:`leaky_relu` with the mean slope. Source: Xu et al. 2015, "Empirical evaluation
    of rectified activations in convolutional network", arXiv:1505.00853.

    Parameters
    ----------
    lower, upper
        The slopes are drawn uniformly between them.
    training
        Whether to draw slopes.
    key
        Seeds the slopes, as in :func:`dropout`.

    Raises
    ------
    ArgumentError
        lower or upper is not a finite number, or lower > upper.
    """
    upper = check_number("upper", upper, -_FINITE, _FINITE)
    lower = check_number("lower", lower, -_FINITE, upper)
    if not check_flag("training", training):
        return leaky_relu(input, (lower + upper) / 2)
    input, key = Tensor.of(input), check_key(key)
    with input.backend.active():
        slopes = uniform(input.backend, input.shape, key) * (upper - lower) + lower
    return where(gt(input, 0), input, mul(input, slopes.astype(input.dtype)))


class PReLU(Function):
    """See :func:`prelu`."""

    arguments = ("input", "weight")

    def forward(self, backend: Backend, x: Array, weight: Array) -> Array:
        self.save(x=x, weight=weight)
        y = backend.xp.multiply(x, _per_channel(weight, x), out=backend.xp.empty_like(x))
        backend.xp.copyto(y, x, where=x > 0)
        return y

    def backward(self, backend: Backend, dy: Array) -> tuple:
        xp, x, weight = backend.xp, self.saved.x, self.saved.weight
        dx = xp.multiply(dy, _per_channel(weight, x), out=xp.empty_like(x))
        xp.copyto(dx, dy, where=x > 0)
        if not self.needs_grad[1]:
            return dx, None
        terms = xp.minimum(x, 0, out=xp.empty_like(x))
        terms *= dy
        if weight.size == 1:
            return dx, terms.sum().reshape(weight.shape)
        return dx, to_batch_last(xp, terms).reshape(len(weight), x.size // len(weight)).sum(axis=1)


def _per_channel(weight: Array, x: Array) -> Array:
    """``weight``, (), (1,) or (C,), in a shape that broadcasts to x (N, C, ...)."""
    return weight.reshape(()) if weight.size == 1 else weight.reshape(-1, *(1,) * (x.ndim - 2))


@operation
def prelu(input: Any, weight: Any) -> Tensor:
    """x where x > 0, else weight · x: :func:`leaky_relu` with trained slopes.

    The gradient at 0 is weight. Source: He et al. 2015, arXiv:1502.01852.

    Parameters
    ----------
    input : (N, C, ...); or (L,), of one channel
    weight : (), (1,) or (C,)
        One slope for all channels, or one for each.

    Raises
    ------
    ShapeError
        weight has another shape.
    """
    input, weight = Tensor.of(input), Tensor.of(weight)
    channels = input.shape[1] if input.ndim > 1 else 1
    if weight.shape not in ((), (1,), (channels,)):
        raise ShapeError(
            f"weight has shape {weight.shape}, input {input.shape}: expected one slope, (1,), or "
            f"one for each channel, ({channels},)"
        )
    return PReLU()(input, weight)


@operation
def threshold(input: Any, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """``input`` where it is above the threshold, else ``value``, elementwise.

    The gradient at the threshold is 0.

    Raises
    ------
    ArgumentError
        threshold or value is not a number.
    """
    is_low = le(input, check_number("threshold", threshold))
    return where(is_low, check_number("value", value), input)


# -- ELU, GELU, SiLU, softplus -------------------------------------------------------------


class ELU(Elementwise):
    """See :func:`elu`; for selu times ``scale``, for celu of ``rate`` · x."""

    alpha: float
    scale: float = 1.0
    rate: float = 1.0

    def value(self, backend: Backend, x: Array) -> Array:
        xp = backend.xp
        y = xp.expm1(self._low(xp, x)) * finite(xp, self.alpha, x.dtype) + xp.maximum(x, 0)
        return y if self.scale == 1 else y * self.scale

    def derivative(self, backend: Backend, x: Array) -> Array:
        xp, slope = backend.xp, self.alpha * self.scale * self.rate
        dx = xp.exp(self._low(xp, x)) * finite(xp, slope, x.dtype)
        xp.copyto(dx, self.scale, where=x > 0)
        return dx

    def _low(self, xp: Any, x: Array) -> Array:
        low = xp.minimum(x, 0)
        return low if self.rate == 1 else low * finite(xp, self.rate, x.dtype)


@operation
def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha · (exp(x) - 1). The gradient at 0 is alpha.

    Source: Clevert et al. 2016, arXiv:1511.07289.

    Raises
    ------
    ArgumentError
        alpha is not a number.
    """
    return ELU(alpha=alpha)(input)


@operation
def selu(input: Any, inplace: bool = False) -> Tensor:
    """scale · elu(x, alpha) with scale = 1.0507... and alpha = 1.6732....

    With weights of variance 1 / fan_in, it keeps mean 0 and variance 1. Source: Klambauer et al.
    2017, "Self-normalizing neural networks", arXiv:1706.02515.
    """
    return ELU(alpha=_SELU_ALPHA, scale=_SELU_SCALE)(input)


@operation
def celu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha · (exp(x / alpha) - 1). The gradient at 0 is 1.

    Source: Barron 2017, "Continuously differentiable exponential linear units", arXiv:1704.07483.

    Raises
    ------
    ArgumentError
        alpha is not a number, or it is 0.
    """
    if check_number("alpha", alpha) == 0:
        raise ArgumentError(f"alpha={alpha!r}: expected a number other than 0")
    return ELU(alpha=alpha, rate=1 / alpha)(input)


class GELU(Elementwise):
    """See :func:`gelu`. The derivative is Φ(x) + x · φ(x), φ the standard normal density."""

    def value(self, backend: Backend, x: Array) -> Array:
        return _normal_cdf(backend, x) * backend.xp.maximum(x, -_NORMAL_FAR)

    def derivative(self, backend: Backend, x: Array) -> Array:
        near = backend.xp.clip(x, -_NORMAL_FAR, _NORMAL_FAR)
        density = backend.xp.exp(near * near * -0.5)
        return density * near * (1 / math.sqrt(2 * math.pi)) + _normal_cdf(backend, x)


def _normal_cdf(backend: Backend, x: Array) -> Array:
    return backend.special.ndtr(x, out=backend.xp.empty_like(x))  # float16 stays float16


class TanhGELU(Elementwise):
    """See :func:`gelu`. (1 + tanh(u)) / 2 is sigmoid(2u), u = √(2/π) · (x + 0.044715 · x³)."""

    def value(self, backend: Backend, x: Array) -> Array:
        near = backend.xp.clip(x, -_NORMAL_FAR, _NORMAL_FAR)
        gate = stable_sigmoid(backend.xp, near * self._factor(near, 1))
        return gate * backend.xp.maximum(x, -_NORMAL_FAR)

    def derivative(self, backend: Backend, x: Array) -> Array:
        near = backend.xp.clip(x, -_NORMAL_FAR, _NORMAL_FAR)
        gate = stable_sigmoid(backend.xp, near * self._factor(near, 1))
        return gate + near * self._factor(near, 3) * gate * (1 - gate)

    @staticmethod
    def _factor(x: Array, power: int) -> Array:
        """2u / x for ``power`` 1, the derivative of 2u for ``power`` 3."""
        return (x * x * (0.044715 * power) + 1) * (2 * math.sqrt(2 / math.pi))


@operation
def gelu(input: Any, approximate: str = "none") -> Tensor:
    """x · Φ(x), with Φ(x) = (1 + erf(x / √2)) / 2.

    Source: Hendrycks & Gimpel 2016, arXiv:1606.08415.

    Parameters
    ----------
    input : (N, ...)
    approximate
        "none"; or "tanh" for x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))) / 2.

    Raises
    ------
    ArgumentError
        Unknown ``approximate``.
    """
    kind = {"none": GELU, "tanh": TanhGELU}
    return kind[check_choice("approximate", approximate, tuple(kind))]()(input)


class SiLU(Elementwise):
    """See :func:`silu`. The derivative is s + x · s · (1 - s) with s = sigmoid(x)."""

    def value(self, backend: Backend, x: Array) -> Array:
        return stable_sigmoid(backend.xp, x) * backend.xp.maximum(x, -_FAR)

    def derivative(self, backend: Backend, x: Array) -> Array:
        gate = stable_sigmoid(backend.xp, x)
        return ((1 - gate) * backend.xp.clip(x, -_FAR, _FAR) + 1) * gate


@operation
def silu(input: Any, inplace: bool = False) -> Tensor:
    """x · sigmoid(x), elementwise; also called swish.

    Source: Ramachandran et al. 2017, arXiv:1710.05941.
    """
    return SiLU()(input)


class Mish(Elementwise):
    """See :func:`mish`. The derivative is t + x · (1 - t²) · sigmoid(x) with t = y / x."""

    def value(self, backend: Backend, x: Array) -> Array:
        gate = backend.xp.tanh(stable_softplus(backend.xp, x))
        return gate * backend.xp.maximum(x, -_FAR)

    def derivative(self, backend: Backend, x: Array) -> Array:
        xp, near = backend.xp, backend.xp.clip(x, -_FAR, _FAR)
        gate = xp.tanh(stable_softplus(xp, near))
        return (1 - gate * gate) * near * stable_sigmoid(xp, near) + gate


@operation
def mish(input: Any, inplace: bool = False) -> Tensor:
    """x · tanh(softplus(x)), elementwise.

    Source: Misra 2019, "Mish: a self regularized non-monotonic activation function",
    arXiv:1908.08681.
    """
    return Mish()(input)


class Softplus(Elementwise):
    """See :func:`softplus`. The derivative is sigmoid(beta · x)."""

    beta: float
    threshold: float

    def value(self, backend: Backend, x: Array) -> Array:
        z = x * self.beta
        y = stable_softplus(backend.xp, z) / self.beta
        backend.xp.copyto(y, x, where=z > self.threshold)
        return y

    def derivative(self, backend: Backend, x: Array) -> Array:
        z = x * self.beta
        dx = stable_sigmoid(backend.xp, z)
        backend.xp.copyto(dx, 1, where=z > self.threshold)
        return dx


@operation
def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta · x)) / beta; x itself where beta · x > threshold.

    Source: Dugas et al. 2001, "Incorporating second-order functional knowledge".

    Raises
    ------
    ArgumentError
        beta or threshold is not a number, or beta is 0.
    """
    function = Softplus(beta=beta, threshold=threshold)
    if beta == 0:
        raise ArgumentError(f"beta={beta!r}: expected a number other than 0")
    return function(input)


# -- sigmoid, tanh and the like ------------------------------------------------------------

sigmoid = unary(
    "sigmoid",
    "1 / (1 + exp(-x))",
    lambda xp, y: (1 - y) * y,
    lambda backend, x: stable_sigmoid(backend.xp, x),
    from_output=True,
)
logsigmoid = unary(
    "logsigmoid",
    "log(sigmoid(x)), without underflow",
    lambda xp, x: stable_sigmoid(xp, -x),
    lambda backend, x: -stable_softplus(backend.xp, -x),
)
tanh = unary("tanh", "tanh(x)", lambda xp, y: 1 - y * y, from_output=True)


softsign = unary(
    "softsign",
    "x / (1 + |x|)",
    lambda xp, x: xp.square(1 / (xp.absolute(x) + 1)),
    lambda backend, x: x / (backend.xp.absolute(x) + 1),
)
tanhshrink = unary(
    "tanhshrink",
    "x - tanh(x)",
    lambda xp, x: xp.square(xp.tanh(x)),
    lambda backend, x: x - backend.xp.tanh(x),
)


class Hardsigmoid(Elementwise):
    """See :func:`hardsigmoid`."""

    def value(self, backend: Backend, x: Array) -> Array:
        y = x / 6 + 0.5
        return backend.xp.clip(y, 0, 1, out=y)

    def derivative(self, backend: Backend, x: Array) -> Array:
        return ((x > -3) & (x < 3)) * x.dtype.type(1 / 6)


@operation
def hardsigmoid(input: Any, inplace: bool = False) -> Tensor:
    """min(max(x / 6 + 1 / 2, 0), 1), elementwise. The gradient at -3 and at 3 is 0."""
    return Hardsigmoid()(input)


class Hardswish(Hardsigmoid):
    """See :func:`hardswish`."""

    def value(self, backend: Backend, x: Array) -> Array:
        # 0 times minus infinity would be NaN
        return super().value(backend, x) * backend.xp.maximum(x, -3)

    def derivative(self, backend: Backend, x: Array) -> Array:
        dx = x / 3 + 0.5
        backend.xp.copyto(dx, 0, where=x <= -3)
        backend.xp.copyto(dx, 1, where=x >= 3)
        return dx


@operation
def hardswish(input: Any, inplace: bool = False) -> Tensor:
    """x · hardsigmoid(x), elementwise. The gradient is 0 at -3 and 1 at 3.

    Source: Howard et al. 2019, "Searching for MobileNetV3", arXiv:1905.02244.
    """
    return Hardswish()(input)


@operation
def hardshrink(input: Any, lambd: float = 0.5) -> Tensor:
    """x where |x| > lambd, else 0, elementwise. The gradient at ± lambd is 0.

    Raises
    ------
    ArgumentError
        lambd is not a number.
    """
    return where(le(abs(input), check_number("lambd", lambd)), 0.0, input)


class Softshrink(Elementwise):
    """See :func:`softshrink`."""

    lambd: float

    def value(self, backend: Backend, x: Array) -> Array:
        return x - backend.xp.clip(x, -self.lambd, self.lambd)

    def derivative(self, backend: Backend, x: Array) -> Array:
        return (x < -self.lambd) | (x > self.lambd)


@operation
def softshrink(input: Any, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by lambd, or to 0 where |x| <= lambd, elementwise.

    The gradient at ± lambd is 0.

    Raises
    ------
    ArgumentError
        lambd is not a number >= 0.
    """
    return Softshrink(lambd=check_number("lambd", lambd, 0))(input)


@operation
def glu(input: Any, dim: int = -1) -> Tensor:
    """The first half of the input along ``dim``, times the sigmoid of the second half.

    Source: Dauphin et al. 2017, "Language modeling with gated convolutional networks",
    arXiv:1612.08083.

    Raises
    ------
    ShapeError
        No such axis, or one of odd length.
    """
    input = Tensor.of(input)
    size = input.shape[check_dim("dim", dim, input.ndim)]
    if size % 2:
        raise ShapeError(f"glu: axis {dim} of shape {input.shape}: expected an even length")
    value, gate = split(input, [size // 2] * 2, dim)
    return mul(value, sigmoid(gate))


# -- softmax -------------------------------------------------------------------------------


class Softmax(Function):
    """See :func:`softmax`. dx = y · (dy - sum(y · dy))."""

    arguments = ("input",)

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def forward(self, backend: Backend, x: Array) -> Array:
        xp = backend.xp
        y = xp.subtract(x, x.max(axis=self.dim, keepdims=True), out=xp.empty_like(x))
        xp.exp(y, out=y)
        y /= y.sum(axis=self.dim, dtype=sum_dtype(x.dtype), keepdims=True)
        self.save(y=y)
        return y

    def backward(self, backend: Backend, dy: Array) -> Array:
        y = self.saved.y
        dx = backend.xp.multiply(y, dy, out=backend.xp.empty_like(y))
        dx -= y * dx.sum(axis=self.dim, dtype=sum_dtype(dy.dtype), keepdims=True)
        return dx


class LogSoftmax(Softmax):
    """See :func:`log_softmax`. dx = dy - softmax(x) · sum(dy)."""

    def forward(self, backend: Backend, x: Array) -> Array:
        y = stable_log_softmax(backend.xp, x, self.dim)
        self.save(y=y)
        return y

    def backward(self, backend: Backend, dy: Array) -> Array:
        dx = backend.xp.exp(self.saved.y, out=backend.xp.empty_like(self.saved.y))
        dx *= dy.sum(axis=self.dim, dtype=sum_dtype(dy.dtype), keepdims=True)
        return backend.xp.subtract(dy, dx, out=dx)


def _along_dim(kind: type[Softmax], input: Any, dim: int | None, dtype: Any) -> Tensor:
    input = Tensor.of(input) if dtype is None else astype(input, dtype)
    axes = input.ndim or 1  # a single number is its only axis
    if dim is None:
        if axes == 3:
            raise ArgumentError(
                f"dim=None: ambiguous for the input's shape {input.shape}; pass dim=1 for classes "
                "of (N, C, L), or dim=0, which PyTorch takes"
            )
        dim = min(axes - 1, 1)
    if not isinstance(dim, int) or not -axes <= dim < axes:
        raise ArgumentError(f"dim={dim!r}: expected an axis of the input's shape {input.shape}")
    if input.ndim == 0:
        return reshape(kind(0)(reshape(input, 1)), ())
    return reshape(input, input.shape) if 0 in input.shape else kind(dim % axes)(input)


@operation
def softmax(input: Any, dim: int | None = 1, dtype: Any = None) -> Tensor:
    """exp(x) / sum(exp(x)) along ``dim`` (default: classes of (N, C, ...)).

    Parameters
    ----------
    dim
        None: 1, or 0 if there is one axis. PyTorch, whose default None is, takes 0 for three axes;
        that is refused here.
    dtype
        Convert the input to this dtype first.

    Raises
    ------
    ArgumentError
        No such axis, or ``dim`` is None and there are three.
    """
    return _along_dim(Softmax, input, dim, dtype)


@operation
def log_softmax(input: Any, dim: int | None = 1, dtype: Any = None) -> Tensor:
    """log(softmax(x)) along ``dim``, without underflow; arguments as in :func:`softmax`."""
    return _along_dim(LogSoftmax, input, dim, dtype)


@operation
def softmin(input: Any, dim: int | None = 1, dtype: Any = None) -> Tensor:
    """softmax(-x) along ``dim``; arguments as in :func:`softmax`."""
    return softmax(neg(input), dim, dtype)


@operation
def gumbel_softmax(
    logits: Any, tau: float = 1, hard: bool = False, *, dim: int = -1, key: Key = None
) -> Tensor:
    """softmax((logits + noise) / tau) along ``dim``: a differentiable sample of a class.

    The noise has a Gumbel distribution. Source: Jang et al. 2017, arXiv:1611.01144.

    Parameters
    ----------
    tau
        Temperature, > 0: the lower, the closer to one-hot.
    hard
        Return a one-hot array, with the gradient of the softmax.
    key
        Seeds the noise, as in :func:`dropout`.

    Raises
    ------
    ArgumentError
        No such axis, or tau is not a number > 0.
    """
    logits, tau = Tensor.of(logits), check_number("tau", tau, 0, above=True)
    key = check_key(key)
    xp = logits.backend.xp
    with logits.backend.active():
        noise = -xp.log(-xp.log(uniform(logits.backend, logits.shape, key)))
        soft = softmax(div(add(logits, noise.astype(logits.dtype)), tau), dim)
        if not check_flag("hard", hard):
            return soft
        largest = soft.data == soft.data.max(axis=dim, keepdims=True)
        return add(soft, largest.astype(logits.dtype) - soft.data)
