"""The operators and methods of Tensor that this package defines, in one table.

``Tensor`` declares their signatures, but cannot import this package, which depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from inspect import unwrap
from typing import Any

from .. import hints
from ..checks import check_number
from ..creation import as_tensor, empty, full, ones, rand_like, randn_like, zeros
from ..errors import DTypeError, GradientError, ShapeError
from ..tensor import DTYPE_ALIASES, Buffer, Tensor, is_grad_enabled, operation
from . import activation, arithmetic, elementwise, fold, indexing, linear, reduction, shape, sorting


def _reflected(function: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    """``function`` with its two arguments swapped, for ``__radd__`` and the like."""
    return lambda b, a: function(a, b)


def _compared(function: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Any]:
    """``function`` as an operator; Python compares with anything but numbers, as not equal."""

    def compare(a: Tensor, b: Any) -> Any:
        kind = getattr(getattr(b, "dtype", None), "kind", "")
        is_numbers = isinstance(b, int | float | list | tuple) or kind in {*"fiub"}
        return function(a, b) if is_numbers else NotImplemented

    return compare


@operation
def _store(tensor: Tensor, name: str, value: Any) -> Tensor:
    """Overwrite the elements of ``tensor``, for an operation that works in place."""
    if is_grad_enabled() and tensor.requires_grad:
        raise GradientError(
            f"{name}: this tensor requires a gradient, and changes in place are not recorded; "
            "assign the result of the operation without the underscore, or use xcnn.no_grad()"
        )
    value = Tensor.of(value)
    if value.dtype.kind == "f" and tensor.dtype.kind != "f":
        raise DTypeError(f"{name}: the result is {value.dtype}, the tensor {tensor.dtype}")
    try:
        tensor.data[...] = value.data
    except ValueError as error:
        raise ShapeError(
            f"{name}: the result has shape {value.shape}, the tensor {tensor.shape}"
        ) from error
    return tensor


def _augmented(name: str, function: Callable[[Any, Any], Tensor]) -> Callable[[Tensor, Any], Any]:
    """``a += b`` and the like: in place for a buffer and under no_grad, else a new tensor.

    What an operation saved for backward must not change, so ``x += y`` in a forward is x = x + y.
    """

    def apply(a: Tensor, b: Any) -> Tensor:
        if isinstance(a, Buffer) or not is_grad_enabled():
            return _store(a, name, function(a, b))
        if a.requires_grad and a.is_leaf:
            raise GradientError(
                f"{name} on a leaf that requires a gradient: use it under xcnn.no_grad(), or "
                "assign the result to another name"
            )
        return function(a, b)

    return apply


def _iterate(tensor: Tensor) -> Iterator[Tensor]:
    return (indexing.getitem(tensor, i) for i in range(len(tensor)))


def _one_by_one(function: Callable[[Any, Any], Tensor]) -> Callable[..., Tensor]:
    """``function`` with its ints passed as one sequence or one by one."""

    @wraps(function)
    def method(tensor: Tensor, *ints: Any, **named: Any) -> Tensor:
        is_sequence = named or (len(ints) == 1 and isinstance(ints[0], Sequence))
        return function(tensor, *(ints if is_sequence else (ints,)), **named)

    return method


def _bernoulli(tensor: Tensor, p: float = 0.5) -> Tensor:
    """Overwrite with 1, with probability ``p``, or 0."""
    return _store(tensor, "bernoulli_", rand_like(tensor) < check_number("p", p, 0, 1))


def _normal(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Overwrite with normal random numbers."""
    mean, std = check_number("mean", mean), check_number("std", std, 0)
    return _store(tensor, "normal_", randn_like(tensor) * std + mean)


def _uniform(tensor: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Overwrite with uniform random numbers from ``low`` up to ``high``."""
    low, high = check_number("low", low), check_number("high", high)
    return _store(tensor, "uniform_", rand_like(tensor) * (high - low) + low)


def _own(tensor: Tensor, dtype: Any, device: Any) -> dict[str, Any]:
    """The settings of a new tensor: by default the dtype of ``tensor``, on its device."""
    return {
        "dtype": tensor.dtype if dtype is None else dtype,
        "device": tensor.backend if device is None else device,
    }


def _new(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """``make`` as a method of another tensor."""

    def method(tensor: Tensor, *size: Any, dtype: Any = None, device: Any = None) -> Tensor:
        return make(*size, **_own(tensor, dtype, device))

    return method


def _new_full(
    tensor: Tensor, size: Any, fill_value: Any, dtype: Any = None, device: Any = None
) -> Tensor:
    return full(size, fill_value, **_own(tensor, dtype, device))


def _new_tensor(tensor: Tensor, data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    return as_tensor(data, **_own(tensor, dtype, device)).clone().detach()


def _converted(dtype: str) -> Callable[[Tensor], Tensor]:
    return lambda tensor: elementwise.astype(tensor, dtype)


def _missing(tensor: Tensor, name: str) -> Any:
    """``tensor.NAME_(...)``: the method NAME, whose result overwrites the tensor."""
    kind = type(tensor)
    if name.startswith("_"):  # Python and NumPy ask for many of these
        raise AttributeError(name)
    method = getattr(kind, name.removesuffix("_"), None)
    if not name.endswith("_") or method is None:
        known = [n for n in dir(kind) if not n.startswith("_")]
        raise hints.no_attribute(kind.__name__, name, hints.TENSOR, known)
    return lambda *arguments, **settings: _store(
        tensor, name, method(tensor.detach(), *arguments, **settings)
    )


_BINARY = {
    "add": arithmetic.add,
    "and": arithmetic.bitwise_and,
    "floordiv": arithmetic.floor_divide,
    "matmul": linear.matmul,
    "mod": arithmetic.remainder,
    "mul": arithmetic.mul,
    "or": arithmetic.bitwise_or,
    "pow": arithmetic.pow,
    "sub": arithmetic.sub,
    "truediv": arithmetic.div,
    "xor": arithmetic.bitwise_xor,
}


_COMPARISONS = ("eq", "ge", "gt", "le", "lt", "ne")
_MODULES = (arithmetic, elementwise, indexing, linear, reduction, shape, sorting)
_FUNCTIONS = {
    **{name: getattr(module, name) for module in _MODULES for name in module.__all__},
    **{name: getattr(activation, name) for name in ("hardshrink", "log_softmax", "prelu")},
    **{name: getattr(activation, name) for name in ("relu", "sigmoid", "softmax", "tanh")},
}
#: functions installed as methods of the same name: those whose first argument is one tensor
_SAME_NAME = {
    name: function
    for name, function in _FUNCTIONS.items()
    if unwrap(function).__code__.co_varnames[0] == "input" and name != "linear"
}
_DTYPES = {**DTYPE_ALIASES, "bool": "bool", "byte": "uint8"}
#: for tab completion; :func:`_missing` makes those of the others too
_IN_PLACE = [
    f"{name}_" for module in (arithmetic, elementwise) for name in module.__all__
    if name in _SAME_NAME
] + ["masked_fill_", "scatter_", "scatter_add_"]  # fmt: skip
METHODS: dict[str, Any] = {
    **{f"__{name}__": function for name, function in _BINARY.items()},
    **{f"__r{name}__": _reflected(function) for name, function in _BINARY.items()},
    **{f"__i{name}__": _augmented(f"__i{name}__", f) for name, f in _BINARY.items()},
    **{f"__{name}__": _compared(getattr(arithmetic, name)) for name in _COMPARISONS},
    **_SAME_NAME,
    **{name: _converted(dtype) for name, dtype in _DTYPES.items()},
    **{f"new_{make.__name__}": _new(make) for make in (empty, ones, zeros)},
    "new_full": _new_full,
    "new_tensor": _new_tensor,
    "__neg__": lambda tensor: arithmetic.mul(tensor, -1),
    "__pos__": lambda tensor: tensor,
    "__abs__": elementwise.abs,
    "__getitem__": indexing.getitem,
    "__invert__": arithmetic.bitwise_not,
    "__getattr__": _missing,
    "__dir__": lambda tensor: [*object.__dir__(tensor), *_IN_PLACE],
    "__setitem__": indexing.setitem,
    "__iter__": _iterate,
    "T": property(shape.t),
    "mT": property(lambda tensor: shape.transpose(tensor, -2, -1)),
    "copy_": lambda tensor, source: _store(tensor, "copy_", source),
    "bernoulli_": _bernoulli,
    "cpu": lambda tensor: tensor.to("cpu"),
    "cuda": lambda tensor, device=None: tensor.to("cuda" if device is None else device),
    "dim": lambda tensor: tensor.ndim,
    "fill_": lambda tensor, value: _store(tensor, "fill_", value),
    "flip": _one_by_one(indexing.flip),
    "is_contiguous": lambda tensor: tensor.data.flags.c_contiguous,
    "is_floating_point": lambda tensor: tensor.dtype.kind == "f",
    "normal_": _normal,
    "permute": _one_by_one(shape.permute),
    "tile": _one_by_one(shape.tile),
    "tolist": lambda tensor: tensor.numpy().tolist(),
    "type": elementwise.astype,
    "type_as": lambda tensor, other: elementwise.astype(tensor, Tensor.of(other).dtype),
    "uniform_": _uniform,
    "unfold": fold.sliding_windows,
    "where": lambda tensor, condition, other: arithmetic.where(condition, tensor, other),
    "zero_": lambda tensor: _store(tensor, "zero_", 0),
}


def install(kind: type[Tensor]) -> None:
    """Set the operators and methods of the table on ``kind``."""
    for name, method in METHODS.items():
        if callable(method) and not name.startswith("_") and not method.__doc__:
            method.__name__, method.__qualname__ = name, f"Tensor.{name}"  # for help and errors
            method.__doc__ = f"As ``torch.Tensor.{name}``."
        setattr(kind, name, method)
