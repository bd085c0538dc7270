"""Functions of one number at a time, and of two: exp, log, pow, maximum and the like.

As in plain array code, a CPU warns where a logarithm of 0 or a division by 0 gives infinity.
"""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Function
from ..backends import Backend
from ..errors import DTypeError, ShapeError
from ..tensor import Tensor
from ..tracing import operation
from .arithmetic import Binary, operands, sum_to
from .elementwise import Elementwise, number

Array = Any


class _OfResult(Elementwise):
    """Where the slope is simpler in y than in x: ``slope`` is given y."""

    def forward(self, backend: Backend, x: Array) -> Array:
        y = self.value(backend, x)
        self.save(x=y)
        return y


class Abs(Elementwise):
    """See :func:`abs`."""

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.absolute(x, out=backend.xp.empty_like(x))

    def slope(self, backend: Backend, x: Array) -> Array:
        return backend.xp.sign(x)


class Erf(Elementwise):
    """See :func:`erf`. The slope is 2 / √π · exp(-x²)."""

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.special.erf(x, out=backend.xp.empty_like(x))

    def slope(self, backend: Backend, x: Array) -> Array:
        xp = backend.xp
        near = xp.clip(x, -100, 100, out=xp.empty_like(x))  # x² does not overflow
        slope = xp.multiply(near, near, out=xp.empty_like(x))
        xp.negative(slope, out=slope)
        xp.exp(slope, out=slope)
        slope *= 2 / math.sqrt(math.pi)
        return slope


class Exp(_OfResult):
    """See :func:`exp`."""

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.exp(x, out=backend.xp.empty_like(x))

    def slope(self, backend: Backend, x: Array) -> Array:
        return x


class Log(Elementwise):
    """See :func:`log`."""

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.log(x, out=backend.xp.empty_like(x))

    def slope(self, backend: Backend, x: Array) -> Array:
        return 1 / x


class Reciprocal(_OfResult):
    """See :func:`reciprocal`."""

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.true_divide(1, x, out=backend.xp.empty_like(x))

    def slope(self, backend: Backend, x: Array) -> Array:
        return -(x * x)


class Sqrt(_OfResult):
    """See :func:`sqrt`."""

    def value(self, backend: Backend, x: Array) -> Array:
        return backend.xp.sqrt(x, out=backend.xp.empty_like(x))

    def slope(self, backend: Backend, x: Array) -> Array:
        return 0.5 / x


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


class Maximum(Binary):
    """See :func:`maximum`."""

    largest = True

    def forward(self, backend: Backend, a: Array, b: Array) -> Array:
        self.save(a=a, b=b)
        return self._apply(backend, "maximum" if self.largest else "minimum", a, b)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        a, b = self.saved.a, self.saved.b
        return self._share(backend, dy, a, b), self._share(backend, dy, b, a)

    def _share(self, backend: Backend, dy: Array, own: Array, other: Array) -> Array:
        """Of ``dy``, what goes to ``own``."""
        share = backend.xp.ones_like(dy)
        backend.xp.copyto(share, 0.5, where=own == other)
        backend.xp.copyto(share, 0, where=own < other if self.largest else own > other)
        share *= dy
        return sum_to(share, own.shape)


class Minimum(Maximum):
    """See :func:`minimum`."""

    largest = False


class Pow(Binary):
    """See :func:`pow`. da = dy · b · a^(b - 1), db = dy · a^b · log(a)."""

    arguments = ("input", "exponent")

    def forward(self, backend: Backend, a: Array, b: Array) -> Array:
        y = self._apply(backend, "power", a, b)
        self.save(a=a, b=b, y=y)
        return y

    def backward(self, backend: Backend, dy: Array) -> tuple:
        return (
            self._to_base(backend.xp, dy) if self.needs_grad[0] else None,
            self._to_exponent(backend, dy) if self.needs_grad[1] else None,
        )

    def _to_base(self, xp: Any, dy: Array) -> Array:
        a, b = self.saved.a, self.saved.b
        slope = xp.power(xp.where(b == 0, 1, a), b - 1, out=xp.empty_like(dy))
        slope *= b
        slope *= dy
        return sum_to(slope, a.shape)

    def _to_exponent(self, backend: Backend, dy: Array) -> Array:
        xp, a, b = backend.xp, self.saved.a, self.saved.b
        base = xp.where((a == 0) & (b >= 0), 1, a)  # a power of 0 stays 0
        with backend.quiet_overflow():  # NaN for a negative base
            slope = xp.log(base, out=xp.empty_like(dy))
        slope *= self.saved.y
        slope *= dy
        return sum_to(slope, b.shape)


class Where(Function):
    """See :func:`where`."""

    arguments = ("a", "b", "condition")
    any_dtype = ("a", "condition")

    def forward(self, backend: Backend, a: Array, b: Array, condition: Array) -> Array:
        self.save(condition=condition, shapes=(a.shape, b.shape))
        try:
            return self._chosen(backend.xp, condition, a, b)
        except ValueError as error:
            raise ShapeError(
                f"Where: shapes {condition.shape}, {a.shape} and {b.shape} do not broadcast"
            ) from error

    def _chosen(self, xp: Any, condition: Array, a: Array, b: Array) -> Array:
        """In the memory order of what the others fit into, if one is that large."""
        like = max(a, b, key=lambda v: (v.ndim, v.size))
        if not all(_fits(v.shape, like.shape) for v in (condition, a, b)):
            return xp.where(condition, a, b)
        y = xp.empty_like(like)
        xp.copyto(y, b)
        xp.copyto(y, a, where=condition)
        return y

    def backward(self, backend: Backend, dy: Array) -> tuple:
        condition, (a, b) = self.saved.condition, self.saved.shapes
        wants_a, wants_b, _ = self.needs_grad
        return (
            sum_to(_only(backend.xp, dy, condition), a) if wants_a else None,
            sum_to(_only(backend.xp, dy, ~condition), b) if wants_b else None,
            None,
        )


def _fits(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether an array of ``shape`` broadcasts to the shape ``other``."""
    pairs = zip(reversed(shape), reversed(other), strict=False)
    return len(shape) <= len(other) and all(n in (1, m) for n, m in pairs)


def _only(xp: Any, dy: Array, where: Array) -> Array:
    """``dy`` among zeros."""
    found = xp.zeros_like(dy)
    xp.copyto(found, dy, where=where)
    return found


@operation
def abs(input: Any) -> Tensor:
    """|x|, elementwise. The gradient at 0 is 0."""
    return Abs()(input)


@operation
def erf(input: Any) -> Tensor:
    """2 / √π times the integral of exp(-t²) from 0 to x, elementwise."""
    return Erf()(input)


@operation
def exp(input: Any) -> Tensor:
    """The exponential function, elementwise."""
    return Exp()(input)


@operation
def log(input: Any) -> Tensor:
    """The natural logarithm, elementwise: minus infinity of 0, NaN of negative numbers."""
    return Log()(input)


@operation
def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b, elementwise, shapes broadcast as in NumPy; NaN propagates.

    Where both are equal, each has half of the gradient.
    """
    return Maximum()(*operands(a, b))


@operation
def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of a and b, elementwise, as :func:`maximum`."""
    return Minimum()(*operands(a, b))


@operation
def pow(input: Any, exponent: Any) -> Tensor:
    """``input`` to the power of ``exponent``, elementwise, shapes broadcast as in NumPy.

    Parameters
    ----------
    input : any shape
        A negative number has no power of an exponent that is not whole: NaN.
    exponent
        A number, or an array of input's dtype.
    """
    return Pow()(*operands(input, exponent))


@operation
def reciprocal(input: Any) -> Tensor:
    """1 / x, elementwise."""
    return Reciprocal()(input)


@operation
def sqrt(input: Any) -> Tensor:
    """√x, elementwise; NaN of negative numbers. The gradient at 0 is infinite."""
    return Sqrt()(input)


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


@operation
def where(condition: Any, a: Any, b: Any) -> Tensor:
    """``a`` where ``condition`` is true, else ``b``, elementwise, shapes broadcast as in NumPy.

    The gradient goes to the one that was taken. A condition made of ``x.data`` is a constant to
    ``xcnn.onnx.export``, whose check then refuses it.

    Parameters
    ----------
    condition : any shape, bool
    a, b
        Of one dtype; one of them may be a number.

    Raises
    ------
    DTypeError
        ``condition`` is not bool.
    ShapeError
        The shapes do not broadcast.
    """
    condition = Tensor.of(condition)
    if condition.dtype.kind != "b":
        raise DTypeError(
            f"condition is {condition.dtype}: expected bool, such as what x.data > 0 gives"
        )
    return Where()(*operands(a, b), condition)


def _install_methods() -> None:
    """Give Tensor what PyTorch's tensors have of these."""
    methods: dict[str, Any] = {
        "__abs__": abs,
        "__pow__": pow,
        "__rpow__": lambda exponent, base: pow(base, exponent),
        **{f.__name__: f for f in (abs, exp, log, pow, reciprocal, sqrt)},
    }
    for name, function in methods.items():
        setattr(Tensor, name, function)


_install_methods()
