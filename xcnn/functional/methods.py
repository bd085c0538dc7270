"""The operators and methods of Tensor that this package defines, in one table.

``Tensor`` declares their signatures, but cannot import this package, which depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import wraps
from typing import Any

from ..tensor import Tensor
from . import arithmetic, elementwise, indexing, linear, reduction, shape


def _reflected(function: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
    """``function`` with its two arguments swapped, for ``__radd__`` and the like."""
    return lambda b, a: function(a, b)


def _iterate(tensor: Tensor) -> Iterator[Tensor]:
    return (indexing.getitem(tensor, i) for i in range(len(tensor)))


def _one_by_one(function: Callable[[Any, Any], Tensor]) -> Callable[..., Tensor]:
    """``function`` with its sequence of ints given as such, or one by one."""

    @wraps(function)
    def method(tensor: Tensor, *ints: Any, **named: Any) -> Tensor:
        is_sequence = named or (len(ints) == 1 and isinstance(ints[0], Sequence))
        return function(tensor, *(ints if is_sequence else (ints,)), **named)

    return method


def _matrix_transpose(tensor: Tensor) -> Tensor:
    """The transpose of the last two axes."""
    return shape.transpose(tensor, -2, -1)


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
    elementwise: ("abs", "astype", "clamp", "exp", "log", "reciprocal", "sqrt"),
    reduction: ("mean", "sum"),
    indexing: (
        *("argwhere", "chunk", "diag", "diag_embed", "diagonal", "fliplr", "flipud", "gather"),
        *("index_add", "index_copy", "index_fill", "index_put", "index_select", "masked_fill"),
        *("masked_select", "narrow", "nonzero", "repeat_interleave", "roll", "rot90", "scatter"),
        *("scatter_add", "select", "split", "take", "take_along_dim", "tensor_split", "trace"),
        *("tril", "triu", "unbind"),
    ),
    shape: (
        *("broadcast_to", "clone", "contiguous", "expand", "expand_as", "flatten", "moveaxis"),
        *("movedim", "ravel", "repeat", "reshape", "reshape_as", "squeeze", "swapaxes"),
        *("swapdims", "t", "transpose", "unflatten", "unsqueeze", "view", "view_as"),
    ),
}
METHODS: dict[str, Any] = {
    **{f"__{name}__": function for name, function in _BINARY.items()},
    **{f"__r{name}__": _reflected(function) for name, function in _BINARY.items()},
    **{name: getattr(module, name) for module, names in _SAME_NAME.items() for name in names},
    "__neg__": lambda tensor: arithmetic.mul(tensor, -1),
    "__abs__": elementwise.abs,
    "__getitem__": indexing.getitem,
    "__setitem__": indexing.setitem,
    "__iter__": _iterate,
    "T": property(shape.t),
    "mT": property(_matrix_transpose),
    "flip": _one_by_one(indexing.flip),
    "permute": _one_by_one(shape.permute),
    "tile": _one_by_one(shape.tile),
}


def install(kind: type[Tensor]) -> None:
    """Set the operators and methods of the table on ``kind``."""
    for name, method in METHODS.items():
        setattr(kind, name, method)
