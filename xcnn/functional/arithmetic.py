"""Addition, multiplication, sums: what models write with + - * / and .mean()."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd import Function
from ..backends import Backend
from ..errors import DTypeError, ShapeError
from ..tensor import Tensor
from ..tracing import operation

Array = Any
_FLOATS = ("float16", "float32", "float64")
Axes = int | Sequence[int] | None


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


class Sum(Function):
    """See :func:`sum`."""

    arguments = ("input",)

    def __init__(self, dim: Axes, keepdim: bool, mean: bool) -> None:
        self.axis = tuple(dim) if isinstance(dim, Sequence) else dim
        self.keepdim = keepdim
        self.mean = mean

    def forward(self, backend: Backend, x: Array) -> Array:
        try:
            y = x.sum(axis=self.axis, keepdims=True)
        except ValueError as error:  # NumPy's AxisError is one
            raise ShapeError(f"dim={self.axis!r} does not fit shape {x.shape}: {error}") from error
        self.save(shape=x.shape, kept=y.shape)
        if self.mean:
            self.scale = y.size / x.size if x.size else float("nan")
            y = y * self.scale
        if self.keepdim:
            return y
        axes = range(x.ndim) if self.axis is None else self.axis
        axes = (axes,) if isinstance(axes, int) else axes
        gone = {a % x.ndim for a in axes}
        return y.reshape(tuple(n for i, n in enumerate(x.shape) if i not in gone))

    def backward(self, backend: Backend, dy: Array) -> Array:
        dy = dy.reshape(self.saved.kept)
        if self.mean:
            dy = dy * self.scale
        return backend.xp.broadcast_to(dy, self.saved.shape)


class AsType(Function):
    """See :func:`astype`."""

    arguments = ("input",)

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def forward(self, backend: Backend, x: Array) -> Array:
        return x.astype(self.dtype)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return dy  # the walk gives it the input's type


@operation
def astype(input: Any, dtype: Any) -> Tensor:
    """The same values in another floating-point type; itself if it is of that type.

    Raises
    ------
    DTypeError
        Not a floating-point type.
    """
    input = Tensor.of(input)
    if str(dtype) not in _FLOATS:
        raise DTypeError(f"dtype={dtype!r}: expected one of {', '.join(_FLOATS)}")
    return input if input.dtype == dtype else AsType(dtype)(input)


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


@operation
def sum(input: Any, dim: Axes = None, keepdim: bool = False) -> Tensor:
    """Sum over the axes ``dim`` (default: all).

    Raises
    ------
    ShapeError
        No such axis.
    """
    return Sum(dim, keepdim, mean=False)(input)


@operation
def mean(input: Any, dim: Axes = None, keepdim: bool = False) -> Tensor:
    """Mean over the axes ``dim`` (default: all); NaN for an empty array.

    Raises
    ------
    ShapeError
        No such axis.
    """
    return Sum(dim, keepdim, mean=True)(input)


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


def _install_operators() -> None:
    """Give Tensor its operators; they live above it, so it cannot import them."""
    operators: dict[str, Any] = {
        "__add__": add,
        "__radd__": lambda a, b: add(b, a),
        "__sub__": sub,
        "__rsub__": lambda a, b: sub(b, a),
        "__mul__": mul,
        "__rmul__": lambda a, b: mul(b, a),
        "__truediv__": div,
        "__rtruediv__": lambda a, b: div(b, a),
        "__neg__": lambda a: mul(a, -1),
        "astype": astype,
        "sum": sum,
        "mean": mean,
    }
    for name, function in operators.items():
        setattr(Tensor, name, function)


_install_operators()
