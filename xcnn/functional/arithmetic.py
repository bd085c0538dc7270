"""Arithmetic on two arrays, whose shapes broadcast as in NumPy."""

from __future__ import annotations

from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..errors import DTypeError, ShapeError
from ..tensor import Function, Tensor, operation


def sum_to(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Sum ``gradient`` over the axes along which ``shape`` was broadcast."""
    if gradient.shape == shape:
        return gradient
    extra = gradient.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        extra + i for i, n in enumerate(shape) if n == 1 and gradient.shape[extra + i] != 1
    )
    return gradient.sum(axis=axes).reshape(shape)


class Binary(Function):
    """An operation on two arrays that broadcast; in ``like``'s memory order when equal shapes."""

    arguments = ("a", "b")

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


class Add(Binary):
    """a + b."""

    def forward(self, backend: Backend, a: Array, b: Array) -> Array:
        self.save(shapes=(a.shape, b.shape))
        return self._apply(backend, "add", a, b)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        return tuple(sum_to(dy, shape) for shape in self.saved.shapes)


class Sub(Binary):
    """a - b."""

    def forward(self, backend: Backend, a: Array, b: Array) -> Array:
        self.save(shapes=(a.shape, b.shape))
        return self._apply(backend, "subtract", a, b)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        a, b = self.saved.shapes
        return sum_to(dy, a), -sum_to(dy, b)


class Mul(Binary):
    """a * b."""

    def forward(self, backend: Backend, a: Array, b: Array) -> Array:
        self.save(a=a, b=b)
        return self._apply(backend, "multiply", a, b)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        a, b = self.saved.a, self.saved.b
        return sum_to(dy * b, a.shape), sum_to(dy * a, b.shape)


class Div(Binary):
    """a / b."""

    def forward(self, backend: Backend, a: Array, b: Array) -> Array:
        self.save(a=a, b=b)
        return self._apply(backend, "true_divide", a, b)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        a, b = self.saved.a, self.saved.b
        return sum_to(dy / b, a.shape), sum_to(-dy * a / (b * b), b.shape)


@operation
def add(a: Any, b: Any) -> Tensor:
    """A + b, elementwise, shapes broadcast as in NumPy."""
    return Add()(*operands(a, b))


@operation
def sub(a: Any, b: Any) -> Tensor:
    """A - b, elementwise, shapes broadcast as in NumPy."""
    return Sub()(*operands(a, b))


@operation
def mul(a: Any, b: Any) -> Tensor:
    """A * b, elementwise, shapes broadcast as in NumPy."""
    return Mul()(*operands(a, b))


@operation
def div(a: Any, b: Any) -> Tensor:
    """A / b, elementwise, shapes broadcast as in NumPy."""
    return Div()(*operands(a, b))


def operands(a: Any, b: Any) -> tuple[Tensor, Tensor]:
    """Both as Tensors; a plain number takes the other's dtype and device."""
    if isinstance(a, int | float):
        b = Tensor.of(b)
        return _number(a, b), b
    a = Tensor.of(a)
    if isinstance(b, int | float):
        b = _number(b, a)
    return a, Tensor.of(b)


def _number(value: float, like: Tensor) -> Tensor:
    with like.backend.active():
        return Tensor(like.backend.xp.full((), value, like.dtype))


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
