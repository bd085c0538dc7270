"""The operators and methods of Tensor that this package defines, in one table.

``Tensor`` declares their signatures, but cannot import this package, which depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..checks import check_dim
from ..errors import ShapeError
from ..tensor import Tensor
from . import activation, arithmetic, elementwise, linear, reduction, shape


def _reflected(function: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    """``function`` with its two arguments swapped, for ``__radd__`` and the like."""
    return lambda b, a: function(a, b)


def _iterate(tensor: Tensor) -> Iterator[Tensor]:
    return (shape.getitem(tensor, i) for i in range(len(tensor)))


def _permute(tensor: Tensor, *dims: Any) -> Tensor:
    """Reorder the axes; ``dims`` are ints or one sequence."""
    is_sequence = len(dims) == 1 and isinstance(dims[0], Sequence)
    return shape.permute(tensor, dims[0] if is_sequence else dims)


def _transpose(tensor: Tensor, dim0: int, dim1: int) -> Tensor:
    """Swap two axes."""
    first, second = check_dim("dim0", dim0, tensor.ndim), check_dim("dim1", dim1, tensor.ndim)
    order = list(range(tensor.ndim))
    order[first], order[second] = second, first
    return shape.permute(tensor, order)


def _matrix_transpose(tensor: Tensor) -> Tensor:
    if tensor.ndim > 2:
        raise ShapeError(f".T of shape {tensor.shape}: expected at most two axes; use permute")
    return shape.permute(tensor, range(tensor.ndim)[::-1])


_BINARY = {
    "add": arithmetic.add,
    "sub": arithmetic.sub,
    "mul": arithmetic.mul,
    "truediv": arithmetic.div,
    "pow": arithmetic.pow,
    "matmul": linear.matmul,
}
#: functions installed as methods of the same name
_SAME_NAME: dict[Any, tuple[str, ...]] = {
    arithmetic: ("pow",),
    activation: ("hardshrink", "log_softmax", "prelu", "relu", "sigmoid", "softmax", "tanh"),
    elementwise: tuple(elementwise.__all__),
    reduction: ("mean", "sum"),
    shape: ("reshape", "split", "squeeze", "unsqueeze"),
}
METHODS: dict[str, Any] = {
    **{f"__{name}__": function for name, function in _BINARY.items()},
    **{f"__r{name}__": _reflected(function) for name, function in _BINARY.items()},
    **{name: getattr(module, name) for module, names in _SAME_NAME.items() for name in names},
    "__neg__": lambda tensor: arithmetic.mul(tensor, -1),
    "__abs__": elementwise.abs,
    "__getitem__": shape.getitem,
    "__iter__": _iterate,
    "T": property(_matrix_transpose),
    "flatten": lambda tensor, start_dim=0: shape.flatten(tensor, start_dim),
    "permute": _permute,
    "transpose": _transpose,
}


def install(kind: type[Tensor]) -> None:
    """Set the operators and methods of the table on ``kind``."""
    for name, method in METHODS.items():
        setattr(kind, name, method)
