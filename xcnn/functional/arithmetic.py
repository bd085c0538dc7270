"""Arithmetic and comparisons of two arrays, with NumPy broadcasting.

To add an operation, write a row in the form of :func:`binary` and list it in ``__all__``.
"""

from __future__ import annotations

from collections.abc import Callable
from numbers import Real
from typing import Any, Protocol

from ..arrays import Array, sum_dtype
from ..backends import Backend
from ..checks import check_choice, check_flag, check_number, is_int
from ..errors import ArgumentError, DTypeError, ShapeError
from ..tensor import Function, Tensor, operation

# fmt: off
__all__ = [
    "add", "allclose", "atan2", "bitwise_and", "bitwise_not", "bitwise_or", "bitwise_xor",
    "copysign", "div", "eq", "equal", "floor_divide", "fmax", "fmin", "fmod", "ge", "gt", "hypot",
    "isclose", "isin", "le", "logaddexp", "logical_and", "logical_not", "logical_or",
    "logical_xor", "lt", "maximum", "minimum", "mul", "ne", "pow", "remainder", "sub", "where",
]
# fmt: on


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


def operands(a: Any, b: Any, to_float: bool = False) -> tuple[Tensor, Tensor]:
    """Both as Tensors of one dtype.

    A plain number takes the dtype and device of the other operand, or float32 if it is a float next
    to ints. Ints and bools take the dtype of floats, and their common type next to each other (that
    of the array, if one of two int operands is 0-d); with ``to_float``, float32. Of floats, both
    must have the same.
    """
    a, b = (v if isinstance(v, Tensor | int | float) else _plain(v) for v in (a, b))
    if isinstance(a, int) or (isinstance(a, float) and not isinstance(b, int)):
        b = Tensor.of(b)
        a = _number(a, b)
    else:
        a = Tensor.of(a)
        b = _number(b, a) if isinstance(b, int | float) else Tensor.of(b)
    if a.dtype.kind == b.dtype.kind == "f" or (a.dtype == b.dtype and not to_float):
        return a, b
    dtype: Any = "float32"
    if "f" in (a.dtype.kind, b.dtype.kind):
        dtype = a.dtype if a.dtype.kind == "f" else b.dtype
    elif not to_float:
        dtype = a.backend.xp.result_type(a.dtype, b.dtype)
        if "b" not in (a.dtype.kind, b.dtype.kind) and (a.ndim == 0) != (b.ndim == 0):
            dtype = a.dtype if a.ndim else b.dtype
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


Slope = Callable[[Any, Array, Array, Array], Array]


class Binary(Function):
    """y = value(a, b) with broadcasting; for equal shapes, y has a's memory order.

    ``slope_a`` and ``slope_b`` are the gradients of a and b before they are summed over broadcast
    axes. Poles and overflows give infinity or NaN without a warning.
    """

    arguments = ("input", "other")
    any_dtype = ("input",)  # Function checks that the other one matches it
    ufunc = ""
    saves = True

    def forward(self, backend: Backend, a: Array, b: Array) -> Array:
        name = type(self).__name__
        try:
            y = self.value(backend.xp, a, b)
        except ValueError as error:
            if "broadcast" in str(error):
                shapes = f"{a.shape} and {b.shape}"
                raise ShapeError(f"{name}: shapes {shapes} do not broadcast") from error
            raise ArgumentError(f"{name}: {error} Convert them with .float()") from error
        except TypeError as error:
            raise DTypeError(
                f"{name}: not for arrays of {a.dtype}; convert them, for example with .float()"
            ) from error
        self.save(shapes=(a.shape, b.shape), operands=(a, b) if self.saves else (None, None))
        return y

    def value(self, xp: Any, a: Array, b: Array) -> Array:
        if a.shape == b.shape and a.dtype.kind == "f" and self.differentiable:
            return getattr(xp, self.ufunc)(a, b, out=xp.empty_like(a))
        return getattr(xp, self.ufunc)(a, b)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        slopes = self.slope_a, self.slope_b
        arguments = backend.xp, dy, *self.saved.operands
        return tuple(
            sum_to(slope(*arguments), shape) if needed else None
            for slope, shape, needed in zip(slopes, self.saved.shapes, self.needs_grad, strict=True)
        )

    def slope_a(self, xp: Any, dy: Array, a: Any, b: Any) -> Array:
        raise NotImplementedError

    def slope_b(self, xp: Any, dy: Array, a: Any, b: Any) -> Array:
        raise NotImplementedError


class BinaryOperation(Protocol):
    """A function of two arrays."""

    def __call__(self, input: Any, other: Any) -> Tensor: ...


def binary(
    name: str,
    doc: str,
    slope_a: Slope | None = None,
    slope_b: Slope | None = None,
    *,
    ufunc: str = "",
    to_float: bool = False,
    divides: bool = False,
    saves: bool = True,
) -> BinaryOperation:
    """Make the operation ``name``.

    Parameters
    ----------
    doc
        Its docstring without ", elementwise, with NumPy broadcasting." at the end.
    slope_a, slope_b
        Functions of ``xp``, dy, a and b that return the gradients of a and b; without ``slope_b``,
        it is ``slope_a`` with a and b swapped; with neither, there are no gradients.
    ufunc
        The name of the function of ``xp``; default: ``name``.
    to_float
        Integers become float32.
    divides
        Integers must not be divided by 0: checked where that does not wait for the device.
    saves
        Whether the gradients use a and b.
    """
    slope: Any = slope_a
    members: dict[str, Any] = {
        "__doc__": f"See :func:`{name}`.",
        "ufunc": ufunc or name,
        "saves": saves,
        "differentiable": slope_a is not None,
        "slope_a": staticmethod(slope),
        "slope_b": staticmethod(slope_b or (lambda xp, dy, a, b: slope(xp, dy, b, a))),
    }
    kind = type(name.title().replace("_", ""), (Binary,), members)

    def call(input: Any, other: Any) -> Tensor:
        a, b = operands(input, other, to_float)
        if divides and b.dtype.kind != "f":
            b.backend.check_divisor(name, b.data)
        return kind()(a, b)

    call.__name__ = call.__qualname__ = name
    call.__doc__ = f"{doc}, elementwise, with NumPy broadcasting."
    return operation(call)


_add = binary("add", "input + other", lambda xp, dy, a, b: dy, saves=False)
_sub = binary(
    "sub",
    "input - other",
    lambda xp, dy, a, b: dy,
    lambda xp, dy, a, b: -dy,
    ufunc="subtract",
    saves=False,
)


@operation
def add(input: Any, other: Any, alpha: float = 1) -> Tensor:
    """input + alpha · other, elementwise, with NumPy broadcasting."""
    return _add(input, _scaled(other, alpha))


def _scaled(other: Any, alpha: float) -> Any:
    if isinstance(alpha, int | float) and alpha == 1:
        return other
    if not isinstance(alpha, bool):
        alpha = int(alpha) if is_int(alpha) else check_number("alpha", alpha)
    return other * alpha if isinstance(other, int | float) else mul(other, alpha)


@operation
def sub(input: Any, other: Any, alpha: float = 1) -> Tensor:
    """input - alpha · other, elementwise, with NumPy broadcasting."""
    return _sub(input, _scaled(other, alpha))


mul = binary("mul", "input · other", lambda xp, dy, a, b: dy * b, ufunc="multiply")
_true_divide = binary(
    "div",
    "input / other",
    lambda xp, dy, a, b: dy / b,
    lambda xp, dy, a, b: -dy * a / (b * b),
    ufunc="true_divide",
    to_float=True,
)


class DivideTruncated(Binary):
    """See :func:`div`; the gradient is 0."""

    def value(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.trunc(a / b)

    def slope_a(self, xp: Any, dy: Array, a: Any, b: Any) -> Array:
        return xp.zeros_like(dy)

    slope_b = slope_a


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
    if rounding_mode is None:
        return _true_divide(input, other)
    if check_choice("rounding_mode", rounding_mode, ("floor", "trunc")) == "floor":
        return floor_divide(input, other)
    a, b = operands(input, other)
    if a.dtype.kind == "f":
        return DivideTruncated()(a, b)
    a, b = a.detach(), b.detach()
    return div(a - fmod(a, b), b).astype(a.dtype)


floor_divide = binary(
    "floor_divide",
    "input / other rounded down, gradient 0; ints stay ints",
    lambda xp, dy, a, b: xp.zeros_like(dy),
    divides=True,
    saves=False,
)
remainder = binary(
    "remainder",
    "The remainder of input / other rounded down, with the sign of other",
    lambda xp, dy, a, b: dy,
    lambda xp, dy, a, b: -dy * xp.floor(a / b),
    divides=True,
)
fmod = binary(
    "fmod",
    "The remainder of input / other rounded towards 0, with the sign of input",
    lambda xp, dy, a, b: dy,
    lambda xp, dy, a, b: -dy * xp.trunc(a / b),
    divides=True,
)
atan2 = binary(
    "atan2",
    "The angle of the point (other, input) in radians, from -π to π",
    lambda xp, dy, a, b: dy * b / (a * a + b * b),
    lambda xp, dy, a, b: -dy * a / (a * a + b * b),
    ufunc="arctan2",
    to_float=True,
)
copysign = binary(
    "copysign",
    "|input| with the sign of other",
    lambda xp, dy, a, b: dy * xp.sign(a) * xp.copysign(xp.ones_like(b), b),
    lambda xp, dy, a, b: xp.zeros_like(dy),
    to_float=True,
)
hypot = binary("hypot", "√(input² + other²)", lambda xp, dy, a, b: dy * a / xp.hypot(a, b))
logaddexp = binary(
    "logaddexp",
    "log(exp(input) + exp(other)), without overflow",
    lambda xp, dy, a, b: dy / (1 + xp.exp(b - a)),
)
_TIES = "NaN propagates. Where both are equal, each gets half of the gradient"
maximum = binary(
    "maximum",
    f"The larger of both. {_TIES}",
    lambda xp, dy, a, b: xp.where(a == b, dy / 2, dy * ~(a < b)),
)
minimum = binary(
    "minimum",
    f"The smaller of both. {_TIES}",
    lambda xp, dy, a, b: xp.where(a == b, dy / 2, dy * ~(a > b)),
)


@operation
def fmax(input: Any, other: Any) -> Tensor:
    """The larger of both, elementwise, with NumPy broadcasting; a number rather than NaN."""
    a, b = operands(input, other)
    return where(logical_or(ge(a, b), ne(b, b)), a, b)


@operation
def fmin(input: Any, other: Any) -> Tensor:
    """The smaller of both, elementwise, with NumPy broadcasting; a number rather than NaN."""
    a, b = operands(input, other)
    return where(logical_or(le(a, b), ne(b, b)), a, b)


class Pow(Binary):
    """See :func:`pow`. da = dy · b · a^(b - 1), db = dy · a^b · log(a)."""

    arguments = ("input", "exponent")
    ufunc = "power"

    def slope_a(self, xp: Any, dy: Array, a: Any, b: Any) -> Array:
        gradient = xp.power(xp.where(b == 0, 1, a), b - 1, out=xp.empty_like(dy))
        gradient *= b
        gradient *= dy
        return gradient

    def slope_b(self, xp: Any, dy: Array, a: Any, b: Any) -> Array:
        base = xp.where((a == 0) & (b >= 0), 1, a)  # a power of 0 stays 0
        return xp.log(base) * xp.power(a, b) * dy  # NaN for a negative base


@operation
def pow(input: Any, exponent: Any) -> Tensor:
    """``input`` to the power of ``exponent``, elementwise, with NumPy broadcasting.

    Parameters
    ----------
    input : any shape
        A negative number to a fractional power is NaN.
    exponent
        A number, or an array; of integers, not negative.
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
    if input is None and other is None:
        found = condition.backend.run(
            lambda b, a: b.xp.nonzero(a.reshape(a.shape or 1)), condition.data
        )
        return tuple(map(Tensor, found))
    if condition.dtype.kind != "b":
        raise DTypeError(f"condition is {condition.dtype}: expected bool, for example x > 0")
    return Where()(*operands(input, other), condition)


# -- comparisons and logic -----------------------------------------------------------------

eq = binary("eq", "Whether input = other", ufunc="equal")
ne = binary("ne", "Whether input ≠ other", ufunc="not_equal")
lt = binary("lt", "Whether input < other", ufunc="less")
le = binary("le", "Whether input ≤ other", ufunc="less_equal")
gt = binary("gt", "Whether input > other", ufunc="greater")
ge = binary("ge", "Whether input ≥ other", ufunc="greater_equal")
logical_and = binary("logical_and", "Whether both are nonzero")
logical_or = binary("logical_or", "Whether one or both are nonzero")
logical_xor = binary("logical_xor", "Whether exactly one is nonzero")
bitwise_and = binary("bitwise_and", "The bits set in both, for ints or bools")
bitwise_or = binary("bitwise_or", "The bits set in either, for ints or bools")
bitwise_xor = binary("bitwise_xor", "The bits set in exactly one, for ints or bools")


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


class IsClose(Binary):
    """See :func:`isclose`."""

    differentiable = False

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def value(self, xp: Any, a: Array, b: Array) -> Array:
        return xp.isclose(a, b, **self.settings)


@operation
def isclose(
    input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Whether |input - other| ≤ atol + rtol · |other|, elementwise. No gradient."""
    limits = {"rtol": check_number("rtol", rtol, 0), "atol": check_number("atol", atol, 0)}
    close = IsClose(**limits, equal_nan=check_flag("equal_nan", equal_nan))
    return close(*operands(input, other))


@operation
def allclose(
    input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> bool:
    """Whether all of :func:`isclose` is true, as a bool; it waits for a GPU."""
    return bool(isclose(input, other, rtol, atol, equal_nan).data.all())


@operation
def equal(input: Any, other: Any) -> bool:
    """Whether both have the same shape and elements, as a bool; it waits for a GPU."""
    a, b = Tensor.of(input), Tensor.of(other)
    return a.shape == b.shape and bool(eq(a, b).data.all())


@operation
def isin(elements: Any, test_elements: Any) -> Tensor:
    """Whether each of ``elements`` occurs among ``test_elements``. No gradient."""
    a, b = operands(elements, test_elements)
    return Tensor(a.backend.run(lambda backend, *both: backend.xp.isin(*both), a.data, b.data))
