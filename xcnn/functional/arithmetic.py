"""Arithmetic and comparisons of two arrays, with NumPy broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any

from ..arrays import Array, sum_dtype
from ..backends import Backend
from ..checks import check_choice, check_flag, check_number, is_int
from ..errors import DTypeError, ShapeError
from ..tensor import Function, Tensor, operation

__all__ = [
    "add",
    "atan2",
    "bitwise_and",
    "bitwise_not",
    "bitwise_or",
    "bitwise_xor",
    "div",
    "eq",
    "floor_divide",
    "fmod",
    "ge",
    "gt",
    "isclose",
    "le",
    "logical_and",
    "logical_not",
    "logical_or",
    "logical_xor",
    "lt",
    "maximum",
    "minimum",
    "mul",
    "ne",
    "pow",
    "remainder",
    "sub",
    "where",
]


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
    """Both as Tensors of one dtype.

    A plain number takes the dtype and device of the other operand, or float32 if it is a float next
    to ints. Ints and bools take the dtype of floats, and their common type next to each other. Of
    floats, both must have the same.
    """
    a, b = (v if isinstance(v, Tensor | int | float) else _plain(v) for v in (a, b))
    if isinstance(a, int) or (isinstance(a, float) and not isinstance(b, int)):
        b = Tensor.of(b)
        a = _number(a, b)
    else:
        a = Tensor.of(a)
        b = _number(b, a) if isinstance(b, int | float) else Tensor.of(b)
    if a.dtype == b.dtype or a.dtype.kind == b.dtype.kind == "f":
        return a, b
    if "f" in (a.dtype.kind, b.dtype.kind):
        dtype = a.dtype if a.dtype.kind == "f" else b.dtype
    else:
        dtype = a.backend.xp.result_type(a.dtype, b.dtype)
    return a.astype(dtype), b.astype(dtype)


def _plain(value: Any) -> Any:
    """A NumPy scalar as Python's number, which is on every device; anything else unchanged."""
    return value.item() if isinstance(value, Real) else value  # type: ignore[attr-defined]


def _number(value: float, like: Tensor) -> Tensor:
    kind = like.dtype.kind
    dtype: Any = like.dtype
    if isinstance(value, float) and kind != "f":
        dtype = "float32"
    elif kind == "b" and not isinstance(value, bool):
        dtype = "int64"
    with like.backend.active():
        try:
            number = float(value) if kind == "f" else value
            return Tensor(like.backend.xp.full((), number, dtype))
        except OverflowError as error:
            raise DTypeError(f"{value} is too large for {like.dtype}") from error


class Binary(Function):
    """y = ufunc(a, b) with broadcasting; for equal shapes, y has a's memory order.

    Subclasses set ``ufunc`` and which of a, b and y backward ``saves``, and define the gradients of
    a and b before they are summed over broadcast axes (default: dy).
    """

    arguments = ("input", "other")
    any_dtype = ("input",)  # Function checks that the other one matches it
    ufunc = ""
    settings: Mapping[str, Any] = {}
    saves: tuple[str, ...] = ("a", "b")

    def forward(self, backend: Backend, a: Array, b: Array) -> Array:
        y = self._apply(backend, self.ufunc, a, b)
        arrays = {"a": a, "b": b, "y": y}
        self.save(shapes=(a.shape, b.shape), **{name: arrays[name] for name in self.saves})
        return y

    def _apply(self, backend: Backend, operation: str, a: Array, b: Array) -> Array:
        ufunc = getattr(backend.xp, operation)
        if a.shape == b.shape and a.dtype.kind == "f" and self.differentiable:
            return ufunc(a, b, out=backend.xp.empty_like(a))
        try:
            return ufunc(a, b, **self.settings)
        except ValueError as error:
            raise ShapeError(
                f"{type(self).__name__}: shapes {a.shape} and {b.shape} do not broadcast"
            ) from error
        except TypeError as error:
            raise DTypeError(
                f"{type(self).__name__}: not for arrays of {a.dtype}; convert them, for example "
                "with .float()"
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
def add(input: Any, other: Any, alpha: float = 1) -> Tensor:
    """input + alpha · other, elementwise, with NumPy broadcasting."""
    return Add()(*operands(input, _scaled(other, alpha)))


def _scaled(other: Any, alpha: float) -> Any:
    if isinstance(alpha, int | float) and alpha == 1:
        return other
    alpha = alpha if is_int(alpha) else check_number("alpha", alpha)
    return other * alpha if isinstance(other, int | float) else mul(other, alpha)


class Sub(Binary):
    """See :func:`sub`."""

    ufunc, saves = "subtract", ()

    def gradient_b(self, backend: Backend, dy: Array) -> Array:
        return -dy


@operation
def sub(input: Any, other: Any, alpha: float = 1) -> Tensor:
    """input - alpha · other, elementwise, with NumPy broadcasting."""
    return Sub()(*operands(input, _scaled(other, alpha)))


class Mul(Binary):
    """See :func:`mul`."""

    ufunc = "multiply"

    def gradient_a(self, backend: Backend, dy: Array) -> Array:
        return dy * self.saved.b

    def gradient_b(self, backend: Backend, dy: Array) -> Array:
        return dy * self.saved.a


@operation
def mul(input: Any, other: Any) -> Tensor:
    """input · other, elementwise, with NumPy broadcasting."""
    return Mul()(*operands(input, other))


class Div(Binary):
    """See :func:`div`."""

    ufunc = "true_divide"

    def gradient_a(self, backend: Backend, dy: Array) -> Array:
        return dy / self.saved.b

    def gradient_b(self, backend: Backend, dy: Array) -> Array:
        return -dy * self.saved.a / (self.saved.b * self.saved.b)


@operation
def div(input: Any, other: Any, rounding_mode: str | None = None) -> Tensor:
    """input / other, elementwise, with NumPy broadcasting.

    Parameters
    ----------
    input, other
        Ints become float32.
    rounding_mode
        None; ``"floor"`` rounds the quotient down and ``"trunc"`` towards 0, and ints stay ints.

    Raises
    ------
    ArgumentError
        Another rounding mode.
    """
    a, b = operands(input, other)
    if rounding_mode is None:
        return Div()(a, b) if a.dtype.kind == "f" else Div()(a.astype(float), b.astype(float))
    if check_choice("rounding_mode", rounding_mode, ("floor", "trunc")) == "floor":
        return FloorDivide()(a, b)
    return div(a - fmod(a, b), b).astype(a.dtype)


class FloorDivide(Binary):
    """See :func:`floor_divide`."""

    ufunc, differentiable = "floor_divide", False


@operation
def floor_divide(input: Any, other: Any) -> Tensor:
    """input / other rounded down, elementwise, with NumPy broadcasting; ints stay ints."""
    return FloorDivide()(*operands(input, other))


class Remainder(Binary):
    """See :func:`remainder`."""

    ufunc, quotient = "remainder", "floor"

    def gradient_b(self, backend: Backend, dy: Array) -> Array:
        quotient = self.saved.a / self.saved.b
        return -dy * getattr(backend.xp, self.quotient)(quotient)


@operation
def remainder(input: Any, other: Any) -> Tensor:
    """The remainder of input / other rounded down: it has the sign of other."""
    return Remainder()(*operands(input, other))


class Fmod(Remainder):
    """See :func:`fmod`."""

    ufunc, quotient = "fmod", "trunc"


@operation
def fmod(input: Any, other: Any) -> Tensor:
    """The remainder of input / other rounded towards 0: it has the sign of input."""
    return Fmod()(*operands(input, other))


class Atan2(Binary):
    """See :func:`atan2`."""

    ufunc = "arctan2"

    def gradient_a(self, backend: Backend, dy: Array) -> Array:
        return dy * self.saved.b / (self.saved.a**2 + self.saved.b**2)

    def gradient_b(self, backend: Backend, dy: Array) -> Array:
        return -dy * self.saved.a / (self.saved.a**2 + self.saved.b**2)


@operation
def atan2(input: Any, other: Any) -> Tensor:
    """The angle of the point (other, input) in radians, from -π to π, elementwise."""
    a, b = operands(input, other)
    return Atan2()(a, b) if a.dtype.kind == "f" else Atan2()(a.astype(float), b.astype(float))


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
def maximum(input: Any, other: Any) -> Tensor:
    """The larger of both, elementwise, with NumPy broadcasting; NaN propagates.

    Where both are equal, each gets half of the gradient.
    """
    return Maximum()(*operands(input, other))


class Minimum(Maximum):
    """See :func:`minimum`."""

    ufunc, smaller = "minimum", "greater"


@operation
def minimum(input: Any, other: Any) -> Tensor:
    """The smaller of both, elementwise; see :func:`maximum`."""
    return Minimum()(*operands(input, other))


class Pow(Binary):
    """See :func:`pow`. da = dy · b · a^(b - 1), db = dy · a^b · log(a)."""

    arguments = ("input", "exponent")
    ufunc, saves = "power", ("a", "b", "y")

    def forward(self, backend: Backend, a: Array, b: Array) -> Array:
        with backend.quiet_overflow():  # NaN for a negative base
            return super().forward(backend, a, b)

    def gradient_a(self, backend: Backend, dy: Array) -> Array:
        xp, a, b = backend.xp, self.saved.a, self.saved.b
        with backend.quiet_overflow():  # NaN for a negative base
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
        A number, or an array.
    """
    return Pow()(*operands(input, exponent))


class Where(Function):
    """See :func:`where`."""

    arguments = ("input", "other", "condition")
    any_dtype = ("input", "condition")

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
def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    """``input`` where ``condition`` is true, else ``other``, elementwise, with NumPy broadcasting.

    The gradient goes to the selected operand. ``xcnn.onnx.export`` treats a condition computed from
    ``x.data`` as a constant, so its check rejects the model.

    Parameters
    ----------
    condition : any shape, bool
    input, other
        Arrays of the same dtype; one may be a number. Without both, the result is that of
        ``nonzero(condition, as_tuple=True)``.

    Raises
    ------
    DTypeError
        ``condition`` is not bool.
    ShapeError
        The shapes do not broadcast.
    """
    condition = Tensor.of(condition)
    if condition.dtype.kind != "b":
        raise DTypeError(f"condition is {condition.dtype}: expected bool, for example x > 0")
    return Where()(*operands(input, other), condition)


# -- comparisons and logic -----------------------------------------------------------------


class Compare(Binary):
    """The comparison or logical operation ``ufunc``, which has no gradient."""

    differentiable, saves = False, ()

    def __init__(self, ufunc: str, **settings: Any) -> None:
        self.ufunc, self.settings = ufunc, settings


def _compare(name: str, ufunc: str, text: str) -> Callable[[Any, Any], Tensor]:
    def function(input: Any, other: Any) -> Tensor:
        return Compare(ufunc)(*operands(input, other))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{text}, elementwise, with NumPy broadcasting. No gradient."
    return operation(function)


eq = _compare("eq", "equal", "Whether input = other")
ne = _compare("ne", "not_equal", "Whether input ≠ other")
lt = _compare("lt", "less", "Whether input < other")
le = _compare("le", "less_equal", "Whether input ≤ other")
gt = _compare("gt", "greater", "Whether input > other")
ge = _compare("ge", "greater_equal", "Whether input ≥ other")
logical_and = _compare("logical_and", "logical_and", "Whether both are nonzero")
logical_or = _compare("logical_or", "logical_or", "Whether one or both are nonzero")
logical_xor = _compare("logical_xor", "logical_xor", "Whether exactly one is nonzero")
bitwise_and = _compare("bitwise_and", "bitwise_and", "The bits set in both, for ints or bools")
bitwise_or = _compare("bitwise_or", "bitwise_or", "The bits set in either, for ints or bools")
bitwise_xor = _compare("bitwise_xor", "bitwise_xor", "The bits set in one only, for ints or bools")


@operation
def logical_not(input: Any) -> Tensor:
    """Whether each element is 0. No gradient."""
    return eq(input, 0)


@operation
def bitwise_not(input: Any) -> Tensor:
    """Every bit inverted, for ints or bools: ``~mask``. No gradient."""
    input = Tensor.of(input)
    if input.dtype.kind not in "iub":
        raise DTypeError(f"bitwise_not: input is {input.dtype}: expected ints or bools")
    return Tensor(input.backend.run(lambda backend, x: backend.xp.invert(x), input.data))


@operation
def isclose(
    input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Whether |input - other| ≤ atol + rtol · |other|, elementwise. No gradient."""
    limits = {"rtol": check_number("rtol", rtol, 0), "atol": check_number("atol", atol, 0)}
    close = Compare("isclose", **limits, equal_nan=check_flag("equal_nan", equal_nan))
    return close(*operands(input, other))
