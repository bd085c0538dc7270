"""Linear maps and matrix products."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import check_flag, check_input
from ..errors import ArgumentError, ShapeError
from ..tensor import Function, Tensor, operands, operation
from .arithmetic import add, mul, sum_to
from .conv import check_bias, shape_of
from .indexing import diagonal
from .reduction import named, sum
from .shape import PlainReshape, common_shape, permute, reshape, squeeze, unsqueeze

__all__ = ["bilinear", "bmm", "dot", "einsum", "linear", "matmul", "mm", "mv", "outer"]

Terms = list[list[Any]]
"""The labels of the axes of each factor: letters, and ints for the axes of an ellipsis."""
Part = tuple[Tensor, list[Any]]
"""A factor and its labels."""


class Linear(Function):
    """See :func:`linear`. In memory: weight (out, in) @ x (in, N)."""

    arguments = ("input", "weight", "bias")
    returns_new = True

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


class MatMul(Function):
    """See :func:`matmul`."""

    arguments = ("input", "other")
    returns_new = True
    any_dtype = ("input",)

    def forward(self, backend: Backend, a: Array, b: Array) -> Array:
        self.save(a=a, b=b)
        return backend.matmul(a, b)

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
    check_input(input, -1, features, "features in the last axis (images need nn.Flatten() first)")
    check_bias(shape_of(bias), outputs)
    if input.ndim == 2:
        return Linear(relu)(input, weight, bias)
    leading = input.shape[:-1]
    rows = reshape(input, (input.data.size // features if features else 0, features))
    return reshape(Linear(relu)(rows, weight, bias), (*leading, outputs))


@operation
def matmul(input: Any, other: Any) -> Tensor:
    """Matrix product of (..., n, k) and (..., k, m); leading axes broadcast.

    A vector is a row on the left, a column on the right, and that axis is left out of the result.

    Raises
    ------
    ShapeError
        No axes, or the inner lengths differ.
    """
    a, b = Tensor.of(input), Tensor.of(other)
    if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
        raise ShapeError(
            f"matmul: shapes {a.shape} and {b.shape}: expected (..., n, k), (..., k, m), or (k,) "
            "on either side"
        )
    common_shape("matmul: leading axes", a.shape[:-2], b.shape[:-2])
    is_row, is_column = a.ndim == 1, b.ndim == 1
    y = MatMul()(unsqueeze(a, 0) if is_row else a, unsqueeze(b, 1) if is_column else b)
    return squeeze(y, (-2,) * is_row + (-1,) * is_column) if is_row or is_column else y


def _product(name: str, *axes: int) -> Callable[[Any, Any], Tensor]:
    def product(input: Any, other: Any) -> Tensor:
        """:func:`matmul` of arrays with {axes} axes, without broadcasting.

        Raises
        ------
        ShapeError
            Other numbers of axes, or lengths that do not match.
        """
        a, b = Tensor.of(input), Tensor.of(other)
        if (a.ndim, b.ndim) != axes or a.shape[:-2] != b.shape[:-2]:
            raise ShapeError(
                f"{name}: shapes {a.shape} and {b.shape}: expected {words} axes"
                + " and one batch size" * (axes == (3, 3))
            )
        return matmul(a, b)

    words = " and ".join(map(str, axes))
    return named(product, name, axes=words)


mm, mv = _product("mm", 2, 2), _product("mv", 2, 1)
bmm, dot = _product("bmm", 3, 3), _product("dot", 1, 1)


@operation
def outer(input: Any, vec2: Any) -> Tensor:
    """The products of each element of (n,) and each of (m,): (n, m)."""
    a, b = Tensor.of(input), Tensor.of(vec2)
    if (a.ndim, b.ndim) != (1, 1):
        raise ShapeError(f"outer: shapes {a.shape} and {b.shape}: expected (n,) and (m,)")
    return mul(unsqueeze(a, 1), b)


# -- Einstein's notation ---------------------------------------------------------------------------


@operation
def einsum(equation: str, *operands: Any) -> Tensor:
    """Products of elements with the same letters, summed over the letters not in the result.

    Operands are multiplied two at a time, from left to right, as matrices where there is a sum.

    Parameters
    ----------
    equation
        Letters for the axes of each operand, "ij,jk->ik". ``...`` stands for axes that broadcast. A
        letter repeated in an operand takes its diagonal. Without ``->`` the result has the letters
        that occur once, in alphabetical order.
    *operands
        One array per term of ``equation``, or one list of them.

    Raises
    ------
    ArgumentError
        ``equation`` cannot be read.
    ShapeError
        It does not match the shapes.
    """
    if not isinstance(equation, str):
        raise ArgumentError(
            f"einsum: equation is {type(equation).__name__}: expected a str such as 'ij,jk->ik'; "
            "axes as lists of ints are not supported"
        )
    if len(operands) == 1 and isinstance(operands[0], list | tuple):
        operands = tuple(operands[0])
    tensors = [Tensor.of(v) for v in operands]
    (terms, result), name = _parse(equation, tensors), f"einsum: {equation!r}"
    lengths: dict[Any, int] = {}
    for term, tensor in zip(terms, tensors, strict=True):
        for label, n in zip(term, tensor.shape, strict=True):
            known = lengths.setdefault(label, n)
            if known != n and 1 not in (known, n):
                shapes = [t.shape for t in tensors]
                raise ShapeError(f"{name}: shapes {shapes}: lengths {known} and {n} differ")
            lengths[label] = n if known == 1 else known
    parts = [_without_repeats(t, term, lengths) for t, term in zip(tensors, terms, strict=True)]
    x, a = parts[0]
    for i, (y, b) in enumerate(parts[1:], 2):
        others = {*result, *(v for _, term in parts[i:] for v in term)}
        (x, a), (y, b) = _summed(x, a, others.union(b)), _summed(y, b, others.union(a))
        out = [v for v in dict.fromkeys(a + b) if v in others]
        x, a = _contract(x, a, y, b, out), out
    x, a = _summed(x, a, {*result})
    return x if a == result else permute(x, [a.index(v) for v in result])


def _parse(equation: str, tensors: list[Tensor]) -> tuple[Terms, list[Any]]:
    left, arrow, right = equation.replace(" ", "").partition("->")
    names = left.split(",")
    if not all(re.fullmatch(r"[A-Za-z]*(\.\.\.)?[A-Za-z]*", name) for name in (*names, right)):
        raise ArgumentError(f"einsum: equation={equation!r}: expected letters, as in 'ij,jk->ik'")
    shapes = [t.shape for t in tensors]
    hidden = [t.ndim - len(n.replace("...", "")) for n, t in zip(names, tensors, strict=False)]
    if len(names) != len(tensors) or any(
        count < 0 or (count and "..." not in name)
        for name, count in zip(names, hidden, strict=True)
    ):
        raise ShapeError(f"einsum: {equation!r} does not fit the shapes {shapes}")
    terms = [_labels(name, count) for name, count in zip(names, hidden, strict=True)]
    if not arrow:
        letters = Counter(left)
        right = "..." + "".join(v for v in sorted(letters) if v.isalpha() and letters[v] == 1)
    result = _labels(right, max(hidden))
    if len({*result}) < len(result) or not {*result} <= {v for term in terms for v in term}:
        raise ArgumentError(
            f"einsum: equation={equation!r}: expected each letter of the result once, and in a term"
        )
    return terms, result


def _labels(name: str, hidden: int) -> list[Any]:
    head, dots, tail = name.partition("...")
    return [*head, *(range(-hidden, 0) if dots else ()), *tail]


def _without_repeats(x: Tensor, term: list[Any], lengths: dict[Any, int]) -> Part:
    """Leave out axes that broadcast, and take the diagonal of repeated ones."""
    spread = [i for i, label in enumerate(term) if x.shape[i] != lengths[label]]
    if spread:
        x, term = squeeze(x, spread), [label for i, label in enumerate(term) if i not in spread]
    while repeated := [label for label in term if term.count(label) > 1]:
        i, j = [k for k, label in enumerate(term) if label == repeated[0]][:2]
        x = diagonal(x, 0, i, j)
        term = [label for k, label in enumerate(term) if k not in (i, j)] + repeated[:1]
    return x, term


def _summed(x: Tensor, term: list[Any], kept: set[Any]) -> Part:
    """Sum over the axes whose labels are not ``kept``."""
    dims = [i for i, label in enumerate(term) if label not in kept]
    return (sum(x, dims), [label for label in term if label in kept]) if dims else (x, term)


def _contract(x: Tensor, a: list, y: Tensor, b: list, out: list) -> Tensor:
    """The product of two factors, summed over the labels that ``out`` lacks, each in both.

    Computed as stacked matrix products (batch, left, inner) @ (batch, inner, right).
    """
    sizes = {**dict(zip(a, x.shape, strict=True)), **dict(zip(b, y.shape, strict=True))}
    left, right = [v for v in a if v not in b], [v for v in b if v not in a]
    batch = [v for v in a if v in b and v in out]
    inner = [v for v in a if v in b and v not in out]
    stack, rows, terms, columns = (
        [math.prod(sizes[v] for v in labels)] for labels in (batch, left, inner, right)
    )
    stack = stack if batch else []
    x = permute(x, [a.index(v) for v in batch + left + inner])
    y = permute(y, [b.index(v) for v in batch + inner + right])
    x, y = PlainReshape(stack + rows + terms)(x), PlainReshape(stack + terms + columns)(y)
    order = batch + left + right
    product = PlainReshape([sizes[v] for v in order])(MatMul()(x, y) if inner else mul(x, y))
    return permute(product, [order.index(v) for v in out])


@operation
def bilinear(input1: Any, input2: Any, weight: Any, bias: Any = None) -> Tensor:
    """y = x1ᵀ W x2 + b for each output.

    Parameters
    ----------
    input1 : (..., in1)
    input2 : (..., in2)
    weight : (out, in1, in2)
    bias : (out,), or None

    Returns
    -------
    Tensor
        (..., out).

    Raises
    ------
    ShapeError
        The shapes do not match.
    """
    y = einsum("...i,oij,...j->...o", input1, weight, input2)
    check_bias(None if bias is None else Tensor.of(bias).shape, y.shape[-1])
    return y if bias is None else add(y, bias)
