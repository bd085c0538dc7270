"""Losses. All take ``reduction``: "mean" (default), "sum" or "none"."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import Function
from ..backends import Backend
from ..errors import ArgumentError, DTypeError, ShapeError
from ..tensor import Tensor
from .activation import log_softmax_of, stable_sigmoid
from .layout import rows_last

Array = Any


class _Loss(Function):
    """A loss of one term per example or element, reduced at the end.

    Subclasses give ``terms``, and the derivatives of each term by input and target: ``slope`` and
    ``target_slope``, new arrays.
    """

    arguments = ("input", "target")

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in ("mean", "sum", "none"):
            raise ArgumentError(f'reduction={reduction!r}: expected "mean", "sum" or "none"')
        self.reduction = reduction

    def forward(self, backend: Backend, x: Array, target: Array) -> Array:
        terms = self.terms(backend, x, target)
        self.scale = 1.0
        if self.reduction == "none":
            return terms
        if self.reduction == "mean":
            self.scale = 1 / terms.size if terms.size else math.nan
        return terms.sum() * self.scale

    def backward(self, backend: Backend, dy: Array) -> tuple:
        slopes = self.slope, self.target_slope
        return tuple(
            self._weighted(slope(backend), dy) if needed else None
            for slope, needed in zip(slopes, self.needs_grad, strict=True)
        )

    def _weighted(self, slope: Array, dy: Array) -> Array:
        """``slope`` times the gradient of the term it belongs to, in place."""
        if self.reduction == "none" and slope.ndim > dy.ndim:
            dy = dy[:, None]  # one term per example, a slope per class
        slope *= dy * self.scale
        return slope

    def terms(self, backend: Backend, x: Array, target: Array) -> Array:
        raise NotImplementedError

    def slope(self, backend: Backend) -> Array:
        raise NotImplementedError

    def target_slope(self, backend: Backend) -> Array:
        raise NotImplementedError


class MSELoss(_Loss):
    """See :func:`mse_loss`."""

    def terms(self, backend: Backend, x: Array, target: Array) -> Array:
        difference = backend.xp.subtract(x, target, out=backend.xp.empty_like(x))
        self.save(difference=difference)
        return difference * difference

    def slope(self, backend: Backend) -> Array:
        return self.saved.difference * 2

    def target_slope(self, backend: Backend) -> Array:
        return self.saved.difference * -2


class CrossEntropy(_Loss):
    """See :func:`cross_entropy`, with class indices."""

    any_dtype = ("target",)

    def terms(self, backend: Backend, x: Array, target: Array) -> Array:
        backend.check_class_indices(target, x.shape[1])
        columns = rows_last(backend.xp, x)  # (C, ..., N)
        numbers = backend.xp.moveaxis(target, 0, -1)  # (..., N)
        terms, slope = backend.cross_entropy(
            columns.reshape(len(columns), numbers.size), numbers.reshape(-1), self.recorded
        )
        self.save(slope=slope if slope is None else slope.reshape(columns.shape))
        return backend.xp.moveaxis(terms.reshape(numbers.shape), -1, 0)

    def slope(self, backend: Backend) -> Array:
        """softmax(x) - onehot(target); a copy, as it may be asked for again."""
        return backend.xp.moveaxis(self.saved.slope.copy(), -1, 0)


class SoftCrossEntropy(_Loss):
    """See :func:`cross_entropy`, with probabilities."""

    def terms(self, backend: Backend, x: Array, target: Array) -> Array:
        log_p = log_softmax_of(backend.xp, x, 1)
        self.save(log_p=log_p, target=target)
        return -(target * log_p).sum(axis=1)

    def slope(self, backend: Backend) -> Array:
        """softmax(x) * sum(target) - target."""
        slope = backend.xp.exp(self.saved.log_p, out=backend.xp.empty_like(self.saved.log_p))
        slope *= self.saved.target.sum(axis=1, keepdims=True)
        slope -= self.saved.target
        return slope

    def target_slope(self, backend: Backend) -> Array:
        return -self.saved.log_p


class NLLLoss(_Loss):
    """See :func:`nll_loss`."""

    any_dtype = ("target",)

    def terms(self, backend: Backend, x: Array, target: Array) -> Array:
        hot = one_hot(backend, target, x)
        self.save(hot=hot, x=x)
        xp = backend.xp
        terms = -xp.where(hot, x, 0).sum(axis=1)
        exists = (target >= 0) & (target < x.shape[1])
        return xp.where(exists, terms, xp.nan).astype(x.dtype)

    def slope(self, backend: Backend) -> Array:
        slope = backend.xp.zeros_like(self.saved.x)
        slope -= self.saved.hot
        return slope


class BinaryCrossEntropy(_Loss):
    """See :func:`binary_cross_entropy`."""

    def terms(self, backend: Backend, x: Array, target: Array) -> Array:
        self.save(x=x, target=target)
        yes, no = self._logarithms(backend.xp, x)
        return -(target * yes + (1 - target) * no)

    def slope(self, backend: Backend) -> Array:
        x, target = self.saved.x, self.saved.target
        return (x - target) / backend.xp.maximum(x * (1 - x), 1e-12)

    def target_slope(self, backend: Backend) -> Array:
        yes, no = self._logarithms(backend.xp, self.saved.x)
        return no - yes

    @staticmethod
    def _logarithms(xp: Any, x: Array) -> tuple[Array, Array]:
        """log(x) and log(1 - x), at least -100: a sure and wrong answer costs 100, not infinity."""
        yes = xp.log(xp.maximum(x, _TINY))
        sure = x >= 1  # where log1p(-x) has no value
        no = xp.where(sure, -100, xp.log1p(xp.where(sure, 0, -x)))
        return xp.maximum(yes, -100), xp.maximum(no, -100)


class BinaryCrossEntropyWithLogits(_Loss):
    """See :func:`binary_cross_entropy_with_logits`."""

    def terms(self, backend: Backend, x: Array, target: Array) -> Array:
        xp = backend.xp
        self.save(x=x, target=target)
        return xp.maximum(x, 0) - x * target + xp.log1p(xp.exp(-xp.abs(x)))

    def slope(self, backend: Backend) -> Array:
        slope = stable_sigmoid(backend.xp, self.saved.x)
        slope -= self.saved.target
        return slope

    def target_slope(self, backend: Backend) -> Array:
        return -self.saved.x


_TINY = 1e-44  # below exp(-100), and still a number in float32


def one_hot(backend: Backend, target: Array, x: Array) -> Array:
    """Booleans in x's shape (N, C, ...), true at each target's class."""
    xp, classes = backend.xp, x.shape[1]
    backend.check_class_indices(target, classes)
    numbers = xp.arange(classes, dtype=target.dtype).reshape(classes, *(1,) * (x.ndim - 2))
    return target[:, None] == numbers


def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """(input - target)², of two arrays of the same shape.

    Raises
    ------
    ShapeError
        The shapes differ.
    """
    input, target = _same_shape(input, target)
    return MSELoss(reduction)(input, target)


def cross_entropy(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Cross-entropy of softmax(input) with classes or probabilities.

    -sum over c of target[n, c] * log softmax(input)[n, c]

    Parameters
    ----------
    input : (N, C) or (N, C, ...)
        Logits: do not apply softmax first.
    target : (N,) or (N, ...)
        Class indices 0 to C - 1 (integers); or probabilities in the shape of input (floats).
    reduction
        "mean" over examples (and pixels), "sum" or "none".

    Raises
    ------
    ShapeError, DTypeError
        Shape or dtype of target fits neither form.
    ArgumentError
        A class index out of range (on a GPU, where looking would stop the device, the loss is
        NaN instead).
    """
    input, target = Tensor.of(input), Tensor.of(target)
    if target.shape == input.shape and target.dtype.kind == "f" and input.ndim >= 2:
        return SoftCrossEntropy(reduction)(input, target)
    return CrossEntropy(reduction)(*_classes(input, target))


def nll_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """Negative log-likelihood, -input[n, target[n]], of log-probabilities.

    Parameters
    ----------
    input : (N, C) or (N, C, ...)
        Log-probabilities, from log_softmax.
    target : (N,) or (N, ...)
        Class indices.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError
        As :func:`cross_entropy`.
    """
    return NLLLoss(reduction)(*_classes(Tensor.of(input), Tensor.of(target)))


def binary_cross_entropy(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """-(target * log(input) + (1 - target) * log(1 - input)), of probabilities from a sigmoid.

    Each logarithm is capped at -100, as in PyTorch.

    Raises
    ------
    ShapeError
        The shapes differ.
    """
    input, target = _same_shape(input, target)
    return BinaryCrossEntropy(reduction)(input, target)


def binary_cross_entropy_with_logits(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """:func:`binary_cross_entropy` of sigmoid(input), without overflow.

    Raises
    ------
    ShapeError
        The shapes differ.
    """
    input, target = _same_shape(input, target)
    return BinaryCrossEntropyWithLogits(reduction)(input, target)


def _same_shape(input: Any, target: Any) -> tuple[Tensor, Tensor]:
    input, target = Tensor.of(input), Tensor.of(target)
    if input.shape != target.shape:
        raise ShapeError(
            f"input has shape {input.shape}, target {target.shape}: they must be equal; "
            "reshape one of them"
        )
    return input, target


def _classes(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    if input.ndim < 2 or target.shape != input.shape[:1] + input.shape[2:]:
        expected = input.shape[:1] + input.shape[2:]
        raise ShapeError(
            f"target has shape {target.shape}, input {input.shape}: expected class indices of "
            f"shape {expected}, input being (N, classes, ...)"
        )
    if target.dtype.kind not in "iu":
        raise DTypeError(
            f"target is {target.dtype}: expected integer class indices; use .astype('int64')"
        )
    return input, target
