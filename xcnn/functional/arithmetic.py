"""Arithmetic on two arrays, with NumPy broadcasting."""

from __future__ import annotations

from typing import Any

from ..arrays import Array, sum_dtype
from ..backends import Backend
from ..errors import DTypeError, ShapeError
from ..tensor import Function, Tensor, operation

__all__ = ["add", "div", "maximum", "minimum", "mul", "pow", "sub", "where"]


def sum_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum ``gradient`` over the axes along which ``shape`` was broadcast."""
    if gradient.shape == shape:
        return gradient
    extra = gradient.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(shape) if n == 1 and gradient.shape[extra + i] != 1
    )
    return gradient.sum(axis=axes, dtype=sum_dtype(gradient.dtype)).reshape(shape)


def broadcasts(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether an array of ``shape`` broadcasts to the shape ``other``."""
    pairs = zip(reversed(shape), reversed(other), strict=False)
    return len(shape) <= len(other) and all(n in (1, m) for n, m in pairs)


def operands(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Both as Tensors; a plain number takes the dtype and device of the other operand."""
    if isinstance(a, int) or (isinstance(a, float) and not isinstance(b, int)):
        b = Tensor.of(b)
        return _number(a, b), b
    a = Tensor.of(a)
    return a, _number(b, a) if isinstance(b, int | float) else Tensor.of(b)


def _number(value: float, like: Tensor) -> Tensor:
    with like.backend.active():
        try:
            number = float(value) if like.dtype.kind == "f" else value
            return Tensor(like.backend.xp.full((), number, like.dtype))
        except OverflowError as error:
            raise DTypeError(f"{value} is too large for {like.dtype}") from error


class Binary(Function):
    """y = ufunc(a, b) with broadcasting; for equal shapes, y has a's memory order.

    Subclasses set ``ufunc`` and which of a, b and y backward ``saves``, and define the gradients of
    a and b before they are summed over broadcast axes (default: dy).
    """

    arguments = ("a", "b")
    ufunc = ""
    saves: tuple[str, ...] = ("a", "b")

    def forward(self, backend: Backend, a: Array, b: Array) -> Array:
        y = self._apply(backend, self.ufunc, a, b)
        arrays = {"a": a, "b": b, "y": y}
        self.save(shapes=(a.shape, b.shape), **{name: arrays[name] for name in self.saves})
        return y

    def _apply(self, backend: Backend, operation: str, a: Array, b: Array) -> Array:
        ufunc = getattr(backend.xp, operation)
        if a.shape == b.shape:
            return ufunc(a, b, out=backend.xp.empty_like(a))
        try:
            return ufunc(a, b)
        except ValueError as error:
            raise ShapeError(
                f"{type(self).__name__}: shapes {a.shape} and {b.shape} do not broadcast"
            ) from error

    def backward(self, backend: Backend, dy: Array) -> tuple:
        a, b = self.saved.shapes
        return (
            sum_to(self.gradient_a(backend, dy), a) if self.needs_grad[0] else None,
            sum_to(self.gradient_b(backend, dy), b) if self.needs_grad[1] else None,
        )

    def gradient_a(self, backend: Backend, dy: Array) -> Array:
        return dy

    def gradient_b(self, backend: Backend, dy: Array) -> Array:
        return dy


class Add(Binary):
    """See :func:`add`."""

    ufunc, saves = "add", ()


@operation
def add(a: Any, b: Any) -> Tensor:
    """a + b, elementwise, with NumPy broadcasting."""
    return Add()(*operands(a, b))


class Sub(Binary):
    """See :func:`sub`."""

    ufunc, saves = "subtract", ()

    def gradient_b(self, backend: Backend, dy: Array) -> Array:
        return -dy


@operation
def sub(a: Any, b: Any) -> Tensor:
    """a - b, elementwise, with NumPy broadcasting."""
    return Sub()(*operands(a, b))


class Mul(Binary):
    """See :func:`mul`."""

    ufunc = "multiply"

    def gradient_a(self, backend: Backend, dy: Array) -> Array:
        return dy * self.saved.b

    def gradient_b(self, backend: Backend, dy: Array) -> Array:
        return dy * self.saved.a


@operation
def mul(a: Any, b: Any) -> Tensor:
    """a * b, elementwise, with NumPy broadcasting."""
    return Mul()(*operands(a, b))


class Div(Binary):
    """See :func:`div`."""

    ufunc = "true_divide"

    def gradient_a(self, backend: Backend, dy: Array) -> Array:
        return dy / self.saved.b

    def gradient_b(self, backend: Backend, dy: Array) -> Array:
        return -dy * self.saved.a / (self.saved.b * self.saved.b)


@operation
def div(a: Any, b: Any) -> Tensor:
    """a / b, elementwise, with NumPy broadcasting."""
    return Div()(*operands(a, b))


class Maximum(Binary):
    """See :func:`maximum`."""

    ufunc, smaller = "maximum", "less"

    def gradient_a(self, backend: Backend, dy: Array) -> Array:
        return self._where_selected(backend.xp, dy, self.saved.a, self.saved.b)

    def gradient_b(self, backend: Backend, dy: Array) -> Array:
        return self._where_selected(backend.xp, dy, self.saved.b, self.saved.a)

    def _where_selected(self, xp: Any, dy: Array, operand: Array, other: Array) -> Array:
        """dy where ``operand`` was selected, dy / 2 where both are equal, else 0."""
        gradient = xp.ones_like(dy)
        xp.copyto(gradient, 0.5, where=operand == other)
        xp.copyto(gradient, 0, where=getattr(xp, self.smaller)(operand, other))
        gradient *= dy
        return gradient


@operation
def maximum(a: Any, b: Any) -> Tensor:
    """The larger of a and b, elementwise, with NumPy broadcasting; NaN propagates.

    Where both are equal, each gets half of the gradient.
    """
    return Maximum()(*operands(a, b))


class Minimum(Maximum):
    """See :func:`minimum`."""

    ufunc, smaller = "minimum", "greater"


@operation
def minimum(a: Any, b: Any) -> Tensor:
    """The smaller of a and b, elementwise; see :func:`maximum`."""
    return Minimum()(*operands(a, b))


class Pow(Binary):
    """See :func:`pow`. da = dy · b · a^(b - 1), db = dy · a^b · log(a)."""

    arguments = ("input", "exponent")
    ufunc, saves = "power", ("a", "b", "y")

    def gradient_a(self, backend: Backend, dy: Array) -> Array:
        xp, a, b = backend.xp, self.saved.a, self.saved.b
        gradient = xp.power(xp.where(b == 0, 1, a), b - 1, out=xp.empty_like(dy))
        gradient *= b
        gradient *= dy
        return gradient

    def gradient_b(self, backend: Backend, dy: Array) -> Array:
        xp, a, b = backend.xp, self.saved.a, self.saved.b
        base = xp.where((a == 0) & (b >= 0), 1, a)  # a power of 0 stays 0
        with backend.quiet_overflow():  # NaN for a negative base
            gradient = xp.log(base, out=xp.empty_like(dy))
        gradient *= self.saved.y
        gradient *= dy
        return gradient


@operation
def pow(input: Any, exponent: Any) -> Tensor:
    """``input`` to the power of ``exponent``, elementwise, with NumPy broadcasting.

    Parameters
    ----------
    input : any shape
        A negative number to a fractional power is NaN.
    exponent
        A number, or an array of input's dtype.
    """
    return Pow()(*operands(input, exponent))


class Where(Function):
    """See :func:`where`."""

    arguments = ("a", "b", "condition")
    any_dtype = ("a", "condition")

    def forward(self, backend: Backend, a: Array, b: Array, condition: Array) -> Array:
        self.save(condition=condition, shapes=(a.shape, b.shape))
        try:
            return _select(backend.xp, condition, a, b)
        except ValueError as error:
            raise ShapeError(
                f"Where: shapes {condition.shape}, {a.shape} and {b.shape} do not broadcast"
            ) from error

    def backward(self, backend: Backend, dy: Array) -> tuple:
        zeros, condition = backend.xp.zeros_like(dy), self.saved.condition
        a, b = self.saved.shapes
        needs_a, needs_b, _ = self.needs_grad
        return (
            sum_to(_select(backend.xp, condition, dy, zeros), a) if needs_a else None,
            sum_to(_select(backend.xp, condition, zeros, dy), b) if needs_b else None,
            None,
        )


def _select(xp: Any, condition: Array, a: Array, b: Array) -> Array:
    """``xp.where``, in the memory order of the larger array if the others broadcast to it."""
    like = max(a, b, key=lambda v: (v.ndim, v.size))
    if not all(broadcasts(v.shape, like.shape) for v in (condition, a, b)):
        return xp.where(condition, a, b)
    y = xp.empty_like(like)
    xp.copyto(y, b)
    xp.copyto(y, a, where=condition)
    return y


@operation
def where(condition: Any, a: Any, b: Any) -> Tensor:
    """``a`` where ``condition`` is true, else ``b``, elementwise, with NumPy broadcasting.

    The gradient goes to the selected operand. ``xcnn.onnx.export`` treats a condition computed from
    ``x.data`` as a constant, so its check rejects the model.

    Parameters
    ----------
    condition : any shape, bool
    a, b
        Arrays of the same dtype; one may be a number.

    Raises
    ------
    DTypeError
        ``condition`` is not bool.
    ShapeError
        The shapes do not broadcast.
    """
    condition = Tensor.of(condition)
    if condition.dtype.kind != "b":
        raise DTypeError(f"condition is {condition.dtype}: expected bool, for example x.data > 0")
    return Where()(*operands(a, b), condition)
