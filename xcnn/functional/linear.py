"""Linear maps and matrix products."""

from __future__ import annotations

from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import check_flag
from ..errors import ShapeError
from ..layout import as_matrix, batch_first, batch_last
from ..tensor import Function, Tensor, operands, operation
from .arithmetic import sum_to
from .conv import check_bias, shape_of
from .shape import reshape

__all__ = ["linear", "matmul"]


class Linear(Function):
    """See :func:`linear`. In memory: weight (out, in) @ x (in, N)."""

    arguments = ("input", "weight", "bias")

    def __init__(self, relu: bool) -> None:
        self.relu = relu if relu is True or relu is False else check_flag("relu", relu)

    def forward(self, backend: Backend, x: Array, weight: Array, bias: Array | None) -> Array:
        y = backend.matmul(weight, x.T)  # (out, N)
        if bias is not None or self.relu:
            backend.add_bias(y, bias, slice(None), self.relu)
        self.save(x=x, weight=weight, y=y if self.relu else None)
        return y.T

    def backward(self, backend: Backend, dy: Array) -> tuple:
        x, weight = self.saved.x, self.saved.weight
        d, dbias = backend.bias_backward(dy.T, self.saved.y, self.needs_grad[2])  # (out, N)
        return (
            backend.matmul(weight.T, d).T if self.needs_grad[0] else None,
            backend.matmul(d, x) if self.needs_grad[1] else None,
            dbias,
        )


class BiasReLU(Function):
    """max(x + bias, 0) of images (N, C, H, W), in one pass.

    After 2×2 max pooling this is a quarter of the work, with the same result: adding a bias and
    ReLU preserve the order of pixels.
    """

    arguments = ("input", "bias")

    def forward(self, backend: Backend, x: Array, bias: Array) -> Array:
        y = batch_last(backend.xp, x).copy()
        backend.add_bias(as_matrix(y), bias, slice(None), relu=True)
        self.save(y=y)
        return batch_first(y)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        dx, dbias = backend.bias_backward(batch_last(backend.xp, dy), self.saved.y, True)
        return batch_first(dx), dbias


class MatMul(Function):
    """See :func:`matmul`."""

    arguments = ("a", "b")

    def forward(self, backend: Backend, a: Array, b: Array) -> Array:
        self.save(a=a, b=b)
        try:
            return backend.matmul(a, b)
        except ValueError as error:
            shapes = f"shapes {a.shape} and {b.shape}"
            raise ShapeError(f"matmul: {shapes}: the leading axes do not broadcast") from error

    def backward(self, backend: Backend, dy: Array) -> tuple:
        a, b = self.saved.a, self.saved.b
        return (
            sum_to(backend.matmul(dy, b.swapaxes(-1, -2)), a.shape) if self.needs_grad[0] else None,
            sum_to(backend.matmul(a.swapaxes(-1, -2), dy), b.shape) if self.needs_grad[1] else None,
        )


@operation
def linear(input: Any, weight: Any, bias: Any = None, relu: bool = False) -> Tensor:
    """y = x Wᵀ + b.

    Parameters
    ----------
    input : (N, in) or (..., in)
    weight : (out, in)
    bias : (out,), or None
    relu
        Return max(y, 0), computed in one pass with the bias.

    Returns
    -------
    Tensor
        (N, out) or (..., out).

    Raises
    ------
    ShapeError
        The shapes do not match.
    """
    input, weight, bias = operands(input, weight, bias)
    if weight.ndim != 2:
        raise ShapeError(f"weight has shape {weight.shape}: expected (out_features, in_features)")
    outputs, features = weight.shape
    if input.ndim < 1 or input.shape[-1] != features:
        raise ShapeError(
            f"input has shape {input.shape}, but weight {weight.shape} takes {features} features "
            "in the last axis; images need a Flatten first"
        )
    check_bias(shape_of(bias), outputs)
    if input.ndim == 2:
        return Linear(relu)(input, weight, bias)
    leading = input.shape[:-1]
    rows = reshape(input, (input.data.size // features if features else 0, features))
    return reshape(Linear(relu)(rows, weight, bias), (*leading, outputs))


@operation
def matmul(a: Any, b: Any) -> Tensor:
    """Matrix product of (..., n, k) and (..., k, m); leading axes broadcast.

    Raises
    ------
    ShapeError
        Fewer than two axes, or the inner lengths differ.
    """
    a, b = Tensor.of(a), Tensor.of(b)
    if a.ndim < 2 or b.ndim < 2 or a.shape[-1] != b.shape[-2]:
        raise ShapeError(
            f"matmul: shapes {a.shape} and {b.shape}: expected (..., n, k), (..., k, m)"
        )
    return MatMul()(a, b)
