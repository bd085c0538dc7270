"""Rows of a table by index, and one-hot vectors."""

from __future__ import annotations

from typing import Any

from ..arrays import Array, sum_dtype
from ..backends import Backend
from ..checks import check_dim, check_embedding_settings, check_int, check_size, is_int
from ..errors import DTypeError, ShapeError
from ..tensor import Function, Tensor, operation
from .arithmetic import eq
from .elementwise import astype
from .shape import unsqueeze

__all__ = ["embedding", "one_hot"]


class Embedding(Function):
    """See :func:`embedding`; the gradient of a row is the sum over its uses, in a fixed order."""

    arguments = ("weight", "input")
    any_dtype = ("input",)

    def __init__(self, padding_idx: int | None) -> None:
        self.padding_idx = padding_idx

    def forward(self, backend: Backend, weight: Array, index: Array) -> Array:
        xp = backend.xp
        exists = (index >= 0) & (index < len(weight))
        if len(weight):
            rows = xp.take(weight, xp.where(exists, index, 0), axis=0)
        else:
            rows = xp.empty((*index.shape, *weight.shape[1:]), weight.dtype)
        xp.copyto(rows, xp.nan, where=~exists[..., None])
        used = exists if self.padding_idx is None else exists & (index != self.padding_idx)
        self.save(index=xp.where(used, index, len(weight)), shape=weight.shape)
        return rows

    def backward(self, backend: Backend, dy: Array) -> tuple:
        size, width = self.saved.shape
        index = self.saved.index.reshape(-1)
        rows = dy.reshape(index.size, width).astype(sum_dtype(dy.dtype), copy=False)
        return backend.sum_rows(rows, index, size + 1)[:size], None


@operation
def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of ``weight`` with the indices ``input``.

    Parameters
    ----------
    input : (...)
        Integers from 0 to V - 1.
    weight : (V, D)
    padding_idx
        The row that gets no gradient; negative: from the end.
    max_norm, norm_type, scale_grad_by_freq, sparse
        As in PyTorch; only the defaults are accepted.

    Returns
    -------
    Tensor (..., D)

    Raises
    ------
    DTypeError, ShapeError
        ``input`` is not of integers, or ``weight`` not (V, D).
    ArgumentError
        An index out of range (on a GPU, where checking would wait for the device, its row is NaN),
        ``padding_idx`` is not a row, or a setting is refused.
    """
    check_embedding_settings(max_norm, scale_grad_by_freq, sparse)
    index, weight = integers("input", input), Tensor.of(weight)
    if weight.ndim != 2:
        raise ShapeError(f"embedding: weight has shape {weight.shape}: expected (V, D)")
    size = len(weight)
    if padding_idx is not None:
        padding_idx = check_dim("padding_idx", padding_idx, size)
    index.backend.check_indices("embedding: input", index.data, size)
    return Embedding(padding_idx)(weight, index)


def integers(name: str, value: Any) -> Tensor:
    """``value`` as a Tensor of int64.

    Raises
    ------
    DTypeError
        It holds no integers.
    """
    tensor = Tensor.of(value)
    if tensor.dtype.kind not in "iu":
        raise DTypeError(
            f"{name} is {tensor.dtype}: expected integer indices; use .astype('int64')"
        )
    return astype(tensor, "int64")


@operation
def one_hot(tensor: Any, num_classes: int = -1) -> Tensor:
    """A vector of ``num_classes`` integers for each class index: 1 at the class, 0 elsewhere.

    Parameters
    ----------
    tensor : (...)
        Class indices, integers.
    num_classes
        -1: one more than the largest index, which waits for a GPU.

    Returns
    -------
    Tensor (..., num_classes), int64

    Raises
    ------
    DTypeError
        ``tensor`` is not of integers.
    ArgumentError
        An index out of range (on a GPU, if ``num_classes`` is given, its vector is 0 instead), or
        ``num_classes`` is neither -1 nor an int >= 1.
    ShapeError
        ``tensor`` is empty, and ``num_classes`` is not given.
    """
    index = integers("tensor", tensor)
    if is_int(num_classes) and num_classes == -1:
        if index.numel() == 0:
            raise ShapeError("one_hot: tensor is empty: pass num_classes")
        num_classes = int(index.data.max()) + 1
    num_classes = check_int("num_classes", num_classes)
    check_size("num_classes", num_classes, (*index.shape, num_classes))
    index.backend.check_class_indices(index.data, num_classes)
    classes = index.backend.run(lambda backend: backend.xp.arange(num_classes, dtype="int64"))
    return astype(eq(unsqueeze(index, -1), classes), "int64")
