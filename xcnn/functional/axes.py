"""The axes of an array in another order, fewer or more of them: views, nothing is copied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..autograd import Function
from ..backends import Backend
from ..errors import ArgumentError, ShapeError
from ..geometry import is_int
from ..tensor import Tensor
from ..tracing import operation

Array = Any


class Permute(Function):
    """See :func:`permute`."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, dims: tuple[int, ...]) -> None:
        self.dims = dims

    def forward(self, backend: Backend, x: Array) -> Array:
        return x.transpose(self.dims)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return dy.transpose(sorted(range(len(self.dims)), key=self.dims.__getitem__))


class UnitAxes(Function):
    """See :func:`squeeze` and :func:`unsqueeze`: a shape that differs in axes of length 1 only."""

    arguments = ("input",)
    any_dtype = ("input",)

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def forward(self, backend: Backend, x: Array) -> Array:
        self.save(shape=x.shape)
        return x.reshape(self.shape)

    def backward(self, backend: Backend, dy: Array) -> Array:
        return dy.reshape(self.saved.shape)


def check_dim(name: str, dim: Any, ndim: int) -> int:
    """An axis counted from the front; negative ones count from the back.

    Raises
    ------
    ArgumentError
        Not an int.
    ShapeError
        No such axis.
    """
    if not is_int(dim):
        raise ArgumentError(f"{name}={dim!r}: expected an int")
    if not -ndim <= dim < ndim:
        raise ShapeError(
            f"{name}={dim}: there are {ndim} axes, expected "
            + (f"{-ndim} to {ndim - 1}" if ndim else "none")
        )
    return int(dim) % ndim


@operation
def permute(input: Any, dims: Sequence[int]) -> Tensor:
    """The axes in another order: axis i of the result is axis ``dims[i]`` of ``input``. A view.

    Raises
    ------
    ArgumentError
        ``dims`` are not ints.
    ShapeError
        They do not name every axis once.
    """
    input = Tensor.of(input)
    given = [check_dim("dims", d, input.ndim) for d in dims]
    if sorted(given) != list(range(input.ndim)):
        raise ShapeError(
            f"dims={tuple(dims)}: expected each of the {input.ndim} axes of {input.shape} once"
        )
    return Permute(tuple(given))(input)


@operation
def squeeze(input: Any, dim: int | Sequence[int] | None = None) -> Tensor:
    """Without the axes of length 1; only those in ``dim``, if it is given. A view.

    Axes in ``dim`` that are longer stay.

    Raises
    ------
    ArgumentError
        ``dim`` is not an int or several.
    ShapeError
        No such axis, or one comes twice.
    """
    input = Tensor.of(input)
    dims: Any = range(input.ndim) if dim is None else dim if isinstance(dim, Sequence) else (dim,)
    given = [check_dim("dim", d, input.ndim) for d in dims]
    if len(set(given)) < len(given):
        raise ShapeError(f"dim={dim}: an axis comes twice")
    shape = tuple(n for i, n in enumerate(input.shape) if n != 1 or i not in given)
    return UnitAxes(shape)(input)


@operation
def unsqueeze(input: Any, dim: int) -> Tensor:
    """With one more axis, of length 1, that is number ``dim`` of the result. A view.

    Raises
    ------
    ArgumentError
        ``dim`` is not an int.
    ShapeError
        The result has no such axis.
    """
    input = Tensor.of(input)
    dim = check_dim("dim", dim, input.ndim + 1)
    return UnitAxes((*input.shape[:dim], 1, *input.shape[dim:]))(input)


def _permute_method(tensor: Tensor, *dims: Any) -> Tensor:
    return permute(tensor, dims[0] if len(dims) == 1 and isinstance(dims[0], Sequence) else dims)


def _transpose(tensor: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two axes exchanged."""
    first, second = (
        check_dim(name, dim, tensor.ndim) for name, dim in (("dim0", dim0), ("dim1", dim1))
    )
    order = list(range(tensor.ndim))
    order[first], order[second] = second, first
    return permute(tensor, order)


def _turned(tensor: Tensor) -> Tensor:
    if tensor.ndim > 2:
        raise ShapeError(f".T of shape {tensor.shape}: expected at most two axes; use permute")
    return permute(tensor, range(tensor.ndim)[::-1])


def _install_methods() -> None:
    methods: dict[str, Any] = {
        "permute": _permute_method,
        "transpose": _transpose,
        "T": property(_turned),
        "squeeze": squeeze,
        "unsqueeze": unsqueeze,
    }
    for name, method in methods.items():
        setattr(Tensor, name, method)


_install_methods()
