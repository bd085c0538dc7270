"""Losses of classes, probabilities and values.

The others are in the modules named ``loss_*``; :func:`from_terms` makes them of Tensor operations.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

from ..arrays import Array, in_range
from ..backends import Backend
from ..checks import (
    KL_REDUCTIONS,
    check_choice,
    check_flag,
    check_ignore_index,
    check_number,
    check_reduction,
)
from ..errors import ArgumentError, DTypeError, GradientError, ShapeError
from ..layout import to_batch_last
from ..tensor import Function, Tensor, operation
from .activation import stable_log_softmax, stable_sigmoid, stable_softplus
from .arithmetic import broadcasts
from .elementwise import astype
from .reduction import mean, sum
from .shape import reshape, unsqueeze

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")


def _refuse_old_reduction(name: str, value: Any) -> None:
    """Refuse ``size_average`` and ``reduce``, PyTorch's old names of the reduction, unless None."""
    if value is not None:
        new = "mean" if value is not False else "sum" if name == "size_average" else "none"
        new = value if isinstance(value, str) else new
        raise ArgumentError(
            f"{name}={value!r}: PyTorch's old name of the reduction: use reduction={new!r} instead"
        )


#: of the settings that many losses have
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "size_average": _refuse_old_reduction,
    "reduce": _refuse_old_reduction,
    "reduction": check_reduction,
    "ignore_index": lambda _, value: check_ignore_index(value),
}
_TINY = 1e-44  # below exp(-100), but not 0 in float32

# -- shared by all losses ------------------------------------------------------------------


class Loss(Function):
    """A loss of one term per example or element, reduced at the end.

    Subclasses define ``terms`` and their derivatives with respect to input and target, as new
    arrays: ``derivative`` and ``target_derivative``. Weights are constants. Half types are computed
    in float32.
    """

    arguments = ("input", "target", "weight", "pos_weight")

    def __init__(self, reduction: str) -> None:
        self.reduction = reduction

    def forward(self, backend: Backend, x: Array, *others: Array) -> Array:
        loss = self.reduced(backend, _wide(x), *map(_wide, others))
        if loss.dtype == x.dtype:
            return loss
        with backend.quiet_overflow():  # float16 ends at 65504
            return loss.astype(x.dtype)

    def reduced(self, backend: Backend, x: Array, target: Array, *weights: Array) -> Array:
        """The terms, their sum or their mean."""
        terms = self.terms(backend, x, target, *weights)
        self.divisor: Any = 1
        if self.reduction == "none":
            return terms
        if self.reduction == "sum":
            return backend.xp.asarray(terms.sum())
        self.divisor = self.mean_divisor(backend, terms, target)
        with backend.quiet_overflow():  # the mean of no terms, 0 / 0, is NaN
            return backend.xp.asarray(terms.sum() / self.divisor)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        dy = self.term_gradient(backend, _wide(dy))
        derivatives = self.derivative, self.target_derivative
        gradients = [
            _scaled(derivative(backend), dy) if needed else None
            for derivative, needed in zip(derivatives, self.needs_grad, strict=False)
        ]
        return *gradients, *[None] * (len(self.needs_grad) - 2)

    def mean_divisor(self, backend: Backend, terms: Array, target: Array) -> Any:
        return terms.size

    def term_gradient(self, backend: Backend, dy: Array) -> Array:
        """The gradient of each term; the divisor of an empty mean counts as 1."""
        return dy if self.reduction in ("sum", "none") else dy / max(self.divisor, 1)

    def terms(self, backend: Backend, x: Array, target: Array, *weights: Array) -> Array:
        raise NotImplementedError

    def derivative(self, backend: Backend) -> Array:
        raise NotImplementedError

    def target_derivative(self, backend: Backend) -> Array:
        raise NotImplementedError


def _wide(a: Array | None) -> Array | None:
    """``a``, at least float32 if it has a floating-point type."""
    is_half = a is not None and a.dtype.kind == "f" and a.dtype.itemsize < 4
    return a.astype("float32") if is_half else a  # type: ignore[union-attr]


def _scaled(derivative: Array, dy: Array) -> Array:
    """``derivative`` times the gradient of its term, in place."""
    if 0 < dy.ndim < derivative.ndim:
        dy = dy[:, None]  # one term per example, a derivative per class
    derivative *= dy
    return derivative


def _same_shape(input: Any, target: Any) -> tuple[Tensor, Tensor]:
    input, target = Tensor.of(input), Tensor.of(target)
    if input.shape != target.shape:
        raise ShapeError(
            f"input has shape {input.shape}, target {target.shape}: they must be equal; "
            "reshape one of them"
        )
    return input, target


def matched(input: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Both in the shape to which they broadcast, with a warning if that is not their own."""
    input, target = Tensor.of(input), Tensor.of(target)
    if input.shape == target.shape:
        return input, target
    longer, shorter = sorted((input.shape, target.shape), key=len, reverse=True)
    padded = (1,) * (len(longer) - len(shorter)) + shorter
    shape = tuple(m if n == 1 else n for n, m in zip(longer, padded, strict=True))
    if not (broadcasts(longer, shape) and broadcasts(padded, shape)):
        return _same_shape(input, target)
    warnings.warn(
        f"input has shape {input.shape}, target {target.shape}: both are broadcast to {shape}; "
        "reshape one of them if that is not meant",
        stacklevel=4,
    )
    with input.backend.active():
        zeros = input.backend.xp.zeros(shape, input.dtype)
    return input + zeros, target + zeros


def _constant(name: str, value: Any) -> Tensor | None:
    """``value`` as a Tensor that needs no gradient, or None."""
    tensor = None if value is None else Tensor.of(value)
    if tensor is not None and tensor.requires_grad:
        raise GradientError(
            f"{name} requires a gradient, which losses do not compute: pass {name}.detach(), and "
            f"in xcnn.vjp pass {name} as a keyword"
        )
    return tensor


def _broadcast(name: str, value: Any, input: Tensor) -> Tensor | None:
    weight = _constant(name, value)
    if weight is not None and not broadcasts(weight.shape, input.shape):
        raise ShapeError(
            f"{name} has shape {weight.shape}, input {input.shape}: expected a shape that "
            "broadcasts to the input's"
        )
    return weight


def reduced(terms: Tensor, reduction: str) -> Tensor:
    """The terms, their sum or their mean."""
    return terms if reduction == "none" else mean(terms) if reduction == "mean" else sum(terms)


def wide(input: Tensor) -> Tensor:
    """``input``, at least float32 if it has a floating-point type."""
    is_half = input.dtype.kind == "f" and input.dtype.itemsize < 4
    return astype(input, "float32") if is_half else input


def narrow(loss: Tensor, dtype: Any) -> Tensor:
    """A loss of :func:`wide` inputs, in the dtype that they had."""
    with loss.backend.quiet_overflow():  # float16 ends at 65504
        return astype(loss, dtype)


def checked(**checks: Callable[[str, Any], Any]) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Make a public loss of a function: its settings are checked, each by the check of its name.

    They stay on the loss as ``checks``, for its class in :mod:`xcnn.nn`.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        signature = inspect.signature(function)
        used = {n: c for n, c in (_CHECKS | checks).items() if n in signature.parameters}
        call: Any = function

        @functools.wraps(function)
        def loss(*arguments: _P.args, **settings: _P.kwargs) -> _R:
            bound = signature.bind(*arguments, **settings)
            bound.apply_defaults()
            given: Any = bound.arguments
            for name, check in used.items():
                given[name] = check(name, given[name])
            return call(**given)

        loss.checks = used  # type: ignore[attr-defined]
        return operation(loss)

    return decorate


def from_terms(
    **checks: Callable[[str, Any], Any],
) -> Callable[[Callable[_P, Tensor]], Callable[_P, Tensor]]:
    """Make a public loss of the function of its terms; half types are computed in float32."""

    def decorate(terms: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
        parameters = inspect.signature(terms).parameters.items()
        inputs = [n for n, p in parameters if p.default is p.empty or n == "weight"]
        function: Any = terms

        @functools.wraps(terms)
        def loss(*_: _P.args, **given: _P.kwargs) -> Tensor:
            first = Tensor.of(given[inputs[0]])
            with first.backend.active():
                given.update(_inputs(terms.__name__, inputs, given))
                y = reduced(function(**given), str(given["reduction"]))
                return narrow(y, first.dtype)

        return checked(**checks)(loss)

    return decorate


def _inputs(loss: str, names: list[str], given: dict[str, Any]) -> dict[str, Tensor]:
    """The inputs of a loss as Tensors of one type, at least float32; indices stay integers."""
    first = Tensor.of(given[names[0]])
    if first.dtype.kind != "f":
        raise DTypeError(
            f"{loss}: {names[0]} is {first.dtype}, expected a floating-point array; convert it, "
            "for example with .astype('float32')"
        )
    tensors = {names[0]: first}
    for name in (n for n in names[1:] if given[n] is not None or n != "weight"):
        value, is_number = given[name], isinstance(given[name], float)
        value = first.backend.xp.full((), value, first.dtype) if is_number else value
        tensor = tensors[name] = Tensor.of(value)
        if tensor.dtype.kind not in "fiub":
            raise DTypeError(f"{loss}: {name} is {tensor.dtype}: expected numbers")
        if tensor.dtype.kind == "f" and tensor.dtype != first.dtype:
            raise DTypeError(
                f"{loss}: {names[0]} is {first.dtype}, {name} is {tensor.dtype}; both must have "
                f"the same dtype: use .astype({str(first.dtype)!r})"
            )
    return {name: wide(tensor) for name, tensor in tensors.items()}


def _times(a: Array, weight: Array | None) -> Array:
    return a if weight is None else a * weight


# -- elementwise losses --------------------------------------------------------------------


class DifferenceLoss(Loss):
    """A loss of input - target; subclasses define ``value`` and its ``derivative``."""

    def terms(self, backend: Backend, x: Array, target: Array) -> Array:
        difference = backend.xp.subtract(x, target, out=backend.xp.empty_like(x))
        self.save(difference=difference)
        return self.value(backend.xp, difference)

    def target_derivative(self, backend: Backend) -> Array:
        return -self.derivative(backend)

    def value(self, xp: Any, difference: Array) -> Array:
        raise NotImplementedError


class MSELoss(DifferenceLoss):
    """See :func:`mse_loss`."""

    def value(self, xp: Any, difference: Array) -> Array:
        return difference * difference

    def derivative(self, backend: Backend) -> Array:
        return self.saved.difference * 2


@checked()
def mse_loss(
    input: Any,
    target: Any,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Tensor:
    """(input - target)², elementwise.

    Parameters
    ----------
    input, target
        Of the same shape; other shapes that broadcast are taken with a warning.
    size_average, reduce
        PyTorch's old names of ``reduction``: refused.
    reduction
        "mean", "sum" or "none".
    weight
        The weight of each element, in the shape of input. The mean divides by their sum.

    Raises
    ------
    ShapeError
        The shapes do not broadcast, or weight has another one.
    """
    return _weighted(MSELoss(reduction), input, target, weight, by_weight=True)


class L1Loss(DifferenceLoss):
    """See :func:`l1_loss`."""

    def value(self, xp: Any, difference: Array) -> Array:
        return xp.abs(difference)

    def derivative(self, backend: Backend) -> Array:
        return backend.xp.sign(self.saved.difference)


@checked()
def l1_loss(
    input: Any,
    target: Any,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    weight: Any = None,
) -> Tensor:
    """|input - target|, elementwise; the arguments are those of :func:`mse_loss`.

    The gradient where both are equal is 0.

    Raises
    ------
    ShapeError
        The shapes do not broadcast, or weight has another one.
    """
    return _weighted(L1Loss(reduction), input, target, weight, by_weight=True)


class HuberLoss(DifferenceLoss):
    """See :func:`huber_loss`; divided by ``delta`` it is :func:`smooth_l1_loss`."""

    def __init__(self, reduction: str, delta: float, divided: bool = False) -> None:
        super().__init__(reduction)
        self.delta = delta
        self.divided = divided

    def value(self, xp: Any, difference: Array) -> Array:
        size, delta = xp.abs(difference), in_range(xp, self.delta, difference.dtype)
        near = xp.minimum(size, delta)
        size -= near / 2
        size *= near / delta if self.divided else near
        return size

    def derivative(self, backend: Backend) -> Array:
        difference = self.saved.difference
        delta = in_range(backend.xp, self.delta, difference.dtype)
        dx = backend.xp.empty_like(difference)
        backend.xp.clip(difference, -delta, delta, out=dx)
        if self.divided:
            dx /= delta
        return dx


@checked(delta=partial(check_number, low=0, above=True))
def huber_loss(
    input: Any, target: Any, reduction: str = "mean", delta: float = 1.0, weight: Any = None
) -> Tensor:
    """With d = |input - target|: d² / 2 where d < delta, else delta · (d - delta / 2).

    The arguments are those of :func:`mse_loss`, but also with ``weight`` the mean divides by the
    number of elements, as in PyTorch.

    Source: Huber 1964, "Robust estimation of a location parameter".

    Raises
    ------
    ShapeError
        The shapes do not broadcast, or weight has another one.
    ArgumentError
        delta is not above 0.
    """
    return _weighted(HuberLoss(reduction, delta), input, target, weight, by_weight=False)


@checked(beta=partial(check_number, low=0))
def smooth_l1_loss(
    input: Any,
    target: Any,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """With d = |input - target|: d² / (2 · beta) where d < beta, else d - beta / 2.

    :func:`huber_loss` divided by beta; beta 0 gives :func:`l1_loss`. Source: Girshick 2015, "Fast
    R-CNN", arXiv:1504.08083.

    Raises
    ------
    ShapeError
        The shapes do not broadcast.
    ArgumentError
        beta is negative.
    """
    input, target = matched(input, target)
    loss = HuberLoss(reduction, beta, divided=True) if beta else L1Loss(reduction)
    return loss(input, target)


def _weighted(loss: Loss, input: Any, target: Any, weight: Any, by_weight: bool) -> Tensor:
    """A loss with a weight per element; with ``by_weight``, the mean divides by their sum."""
    shape = Tensor.of(input).shape
    input, target = matched(input, target)
    if weight is None:
        return loss(input, target)
    weight = Tensor.of(weight)
    if weight.shape != shape:
        raise ShapeError(
            f"weight has shape {weight.shape}, input {shape}: they must be equal; reshape one of "
            "them"
        )
    dtype, reduction = input.dtype, loss.reduction
    input, target, weight = wide(input), wide(target), wide(weight)
    loss.reduction = "none"
    terms = loss(input, target) * weight
    if by_weight and reduction == "mean":
        return narrow(sum(terms) / sum(weight), dtype)
    return narrow(reduced(terms, reduction), dtype)


class KLDivLoss(Loss):
    """See :func:`kl_div`."""

    def __init__(self, reduction: str, log_target: bool) -> None:
        super().__init__(reduction)
        self.log_target = log_target

    def terms(self, backend: Backend, x: Array, target: Array) -> Array:
        self.save(x=x, target=target)
        return self._probability(backend.xp, target) * self._difference(backend, x, target)

    def mean_divisor(self, backend: Backend, terms: Array, target: Array) -> Any:
        return len(terms) if self.reduction == "batchmean" and terms.ndim else terms.size

    def derivative(self, backend: Backend) -> Array:
        return -self._probability(backend.xp, self.saved.target)

    def target_derivative(self, backend: Backend) -> Array:
        x, target = self.saved.x, self.saved.target
        derivative = self._difference(backend, x, target) + 1
        return derivative * backend.xp.exp(target) if self.log_target else derivative

    def _probability(self, xp: Any, target: Array) -> Array:
        return xp.exp(target) if self.log_target else target

    def _difference(self, backend: Backend, x: Array, target: Array) -> Array:
        """log(target) - x, with 0 for the logarithms of 0 where target is 0: 0 · log(0) is 0."""
        xp, log = backend.xp, target
        with backend.quiet_overflow():  # NaN for a negative probability
            if not self.log_target:
                log = xp.log(xp.where(target == 0, 1, target))
            impossible = self._probability(xp, target) == 0
            log, x = (xp.where(impossible & (a == -xp.inf), 0, a) for a in (log, x))
            return log - x


@checked(reduction=partial(check_choice, choices=KL_REDUCTIONS), log_target=check_flag)
def kl_div(
    input: Any,
    target: Any,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """target · (log(target) - input): the terms of the Kullback-Leibler divergence.

    Parameters
    ----------
    input
        Log-probabilities, from log_softmax.
    target : same shape as input, or one that broadcasts (with a warning)
        Probabilities; or their logarithms with ``log_target``. A probability of 0 contributes 0.
    reduction
        "batchmean" divides the sum by the batch size, which is the definition of the divergence;
        "mean" divides it by the number of elements; or "sum" or "none".

    Raises
    ------
    ShapeError
        The shapes do not broadcast.
    """
    input, target = matched(input, target)
    return KLDivLoss(reduction, log_target)(input, target)


class BinaryCrossEntropy(Loss):
    """See :func:`binary_cross_entropy`."""

    def terms(self, backend: Backend, x: Array, target: Array, weight: Array | None) -> Array:
        self.save(x=x, target=target, weight=weight)
        log_p, log_q = self._logarithms(backend.xp, x)
        return _times(-(target * log_p + (1 - target) * log_q), weight)

    def derivative(self, backend: Backend) -> Array:
        x, target = self.saved.x, self.saved.target
        dx = (x - target) / backend.xp.maximum(x * (1 - x), 1e-12)
        return _times(dx, self.saved.weight)

    def target_derivative(self, backend: Backend) -> Array:
        log_p, log_q = self._logarithms(backend.xp, self.saved.x)
        return _times(log_q - log_p, self.saved.weight)

    @staticmethod
    def _logarithms(xp: Any, x: Array) -> tuple[Array, Array]:
        """log(x) and log(1 - x), at least -100: a certain wrong answer costs 100, not inf."""
        log_p = xp.log(xp.maximum(x, _TINY))
        is_one = x >= 1  # where log1p(-x) is not finite
        log_q = xp.where(is_one, -100, xp.log1p(xp.where(is_one, 0, -x)))
        return xp.maximum(log_p, -100), xp.maximum(log_q, -100)


@checked()
def binary_cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """-(target * log(input) + (1 - target) * log(1 - input)) of probabilities, from a sigmoid.

    Each logarithm is at least -100, as in PyTorch.

    Parameters
    ----------
    input, target : (N, ...)
        Of the same shape.
    weight
        The weight of each term, a constant that broadcasts to input's shape. The mean still divides
        by the number of terms.
    reduction
        "mean", "sum" or "none".

    Raises
    ------
    ShapeError
        The shapes differ, or weight does not broadcast.
    GradientError
        weight requires a gradient.
    """
    input, target = _same_shape(input, target)
    weight = _broadcast("weight", weight, input)
    return BinaryCrossEntropy(reduction)(input, target, weight)


class BinaryCrossEntropyWithLogits(Loss):
    """See :func:`binary_cross_entropy_with_logits`.

    A term is (1 - t) · softplus(x) + p · t · softplus(-x), with target t and pos_weight p, where
    softplus(±x) = log(1 + exp(-|x|)) + max(±x, 0).
    """

    def terms(
        self,
        backend: Backend,
        x: Array,
        target: Array,
        weight: Array | None,
        pos_weight: Array | None,
    ) -> Array:
        self.save(x=x, target=target, weight=weight, pos_weight=pos_weight)
        xp, size = backend.xp, backend.xp.abs(x)
        terms = _times(stable_softplus(xp, -size), _softplus_factor(target, pos_weight))
        slope = xp.where(x > 0, 1 - target, _times(target, pos_weight))
        terms += slope * xp.where(slope == 0, 0, size)  # 0 for an infinite x on the right side
        return _times(terms, weight)

    def derivative(self, backend: Backend) -> Array:
        target, pos_weight = self.saved.target, self.saved.pos_weight
        dx = stable_sigmoid(backend.xp, self.saved.x)
        dx = _times(dx, _softplus_factor(target, pos_weight))
        dx -= _times(target, pos_weight)
        return _times(dx, self.saved.weight)

    def target_derivative(self, backend: Backend) -> Array:
        x, pos_weight = self.saved.x, self.saved.pos_weight
        derivative = -x
        if pos_weight is not None:
            derivative += (pos_weight - 1) * stable_softplus(backend.xp, derivative)
        return _times(derivative, self.saved.weight)


def _softplus_factor(target: Array, pos_weight: Array | None) -> Array | None:
    """1 + (p - 1) · t."""
    return None if pos_weight is None else 1 + (pos_weight - 1) * target


@checked()
def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    reduce: Any = None,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Tensor:
    """:func:`binary_cross_entropy` of sigmoid(input), without overflow.

    Parameters
    ----------
    input, target : (N, ...)
        Of the same shape.
    weight
        The weight of each term, a constant that broadcasts to input's shape.
    reduction
        "mean", "sum" or "none".
    pos_weight
        The weight of positive targets, a constant factor of target * log(sigmoid(input)), such as
        (C,) for (N, C): above 1 where positive examples are rare.

    Raises
    ------
    ShapeError
        The shapes differ, or weight or pos_weight does not broadcast.
    GradientError
        weight or pos_weight requires a gradient.
    """
    input, target = _same_shape(input, target)
    weights = _broadcast("weight", weight, input), _broadcast("pos_weight", pos_weight, input)
    return BinaryCrossEntropyWithLogits(reduction)(input, target, *weights)


# -- classification losses -----------------------------------------------------------------


class ClassLoss(Loss):
    """A loss with class indices as targets; examples with target ``ignore_index`` are ignored.

    The mean divides by the number of remaining examples or, with class weights, by the sum of
    their weights.
    """

    any_dtype = ("target",)

    def __init__(self, reduction: str, ignore_index: int) -> None:
        super().__init__(reduction)
        self.ignore_index = ignore_index

    def reduced(self, backend: Backend, x: Array, target: Array, *weights: Array) -> Array:
        target = target.astype("int64", copy=False)  # uint8 cannot hold -100
        backend.check_class_indices(target, x.shape[1], self.ignore_index)
        (weight,) = weights
        self.weights = None if weight is None else self._example_weights(backend, target, weight)
        return super().reduced(backend, x, target, weight)

    def _example_weights(self, backend: Backend, target: Array, weight: Array) -> Array:
        """The class weight of each example, (N, ...); 0 for ignored examples."""
        xp = backend.xp
        exists = (target >= 0) & (target < len(weight))
        weights = xp.take(weight, xp.where(exists, target, 0))
        xp.copyto(weights, 0, where=target == self.ignore_index)
        return weights

    def mean_divisor(self, backend: Backend, terms: Array, target: Array) -> Any:
        if self.weights is not None:
            return self.weights.sum()
        return (target != self.ignore_index).sum(dtype=terms.dtype)

    def term_gradient(self, backend: Backend, dy: Array) -> Array:
        if self.reduction != "mean":
            return dy
        return dy / backend.xp.where(self.divisor == 0, 1, self.divisor)

    def weighted(self, xp: Any, terms: Array) -> Array:
        """The terms times the weights of their examples; an infinite term of weight 0 counts 0."""
        if self.weights is None:
            return terms
        return xp.where((self.weights == 0) & (terms == xp.inf), 0, terms) * self.weights


class CrossEntropy(ClassLoss):
    """See :func:`cross_entropy`, with class indices."""

    def terms(self, backend: Backend, x: Array, target: Array, *weights: Array) -> Array:
        xp = backend.xp
        logits, classes = to_batch_last(xp, x), xp.moveaxis(target, 0, -1)  # (C, ..., N), (..., N)
        terms, dx = backend.cross_entropy(
            logits.reshape(len(logits), classes.size),
            classes.reshape(-1),
            self.recorded,
            self.ignore_index,
        )
        self.save(dx=dx if dx is None else dx.reshape(logits.shape))
        return self.weighted(xp, xp.moveaxis(terms.reshape(classes.shape), -1, 0))

    def derivative(self, backend: Backend) -> Array:
        """softmax(x) - onehot(target); a copy, as backward may run again."""
        dx = backend.xp.moveaxis(self.saved.dx.copy(), -1, 0)
        if self.weights is not None:
            dx *= self.weights[:, None]
        return dx


class SoftCrossEntropy(Loss):
    """See :func:`cross_entropy`, with probabilities."""

    def __init__(self, reduction: str, smoothing: float) -> None:
        super().__init__(reduction)
        self.smoothing = smoothing

    def terms(self, backend: Backend, x: Array, target: Array, *weights: Array) -> Array:
        log_p = stable_log_softmax(backend.xp, x, 1)
        q = _times_classes(_smoothed(target, self.smoothing), *weights)
        self.save(log_p=log_p, q=q, weights=weights)
        return _soft_terms(backend.xp, q, log_p)

    def derivative(self, backend: Backend) -> Array:
        return _soft_derivative(backend.xp, self.saved.q, self.saved.log_p)

    def target_derivative(self, backend: Backend) -> Array:
        xp, q, log_p = backend.xp, self.saved.q, self.saved.log_p
        log_p = xp.where((q == 0) & (log_p == -xp.inf), 0, log_p)
        return _times_classes(log_p * (self.smoothing - 1), *self.saved.weights)


class SmoothCrossEntropy(ClassLoss):
    """See :func:`cross_entropy`, with class indices and label smoothing."""

    def __init__(self, reduction: str, ignore_index: int, smoothing: float) -> None:
        super().__init__(reduction, ignore_index)
        self.smoothing = smoothing

    def terms(self, backend: Backend, x: Array, target: Array, *weights: Array) -> Array:
        xp = backend.xp
        one_hot = xp.zeros_like(x)
        one_hot += one_of_classes(xp, target, x)
        q = _times_classes(_smoothed(one_hot, self.smoothing), *weights)
        ignored = target == self.ignore_index
        xp.copyto(q, 0, where=ignored[:, None])
        log_p = stable_log_softmax(xp, x, 1)
        self.save(log_p=log_p, q=q)
        terms = _soft_terms(xp, q, log_p)
        exists = (target >= 0) & (target < x.shape[1])
        terms = xp.where(exists, terms, xp.nan).astype(x.dtype)
        xp.copyto(terms, 0, where=ignored)
        return terms

    def derivative(self, backend: Backend) -> Array:
        return _soft_derivative(backend.xp, self.saved.q, self.saved.log_p)


def _smoothed(target: Array, smoothing: float) -> Array:
    """``target`` mixed with the uniform distribution; ``target`` itself without smoothing."""
    return target * (1 - smoothing) + smoothing / target.shape[1] if smoothing else target


def _times_classes(a: Array, weight: Array | None) -> Array:
    """``a`` (N, C, ...) times the weights (C,)."""
    return a if weight is None else a * weight.reshape(-1, *(1,) * (a.ndim - 2))


def _soft_terms(xp: Any, q: Array, log_p: Array) -> Array:
    """-sum(q * log_p) over the classes; where q is 0, 0 even if log_p is -inf."""
    return -(q * xp.where(q == 0, 0, log_p)).sum(axis=1)


def _soft_derivative(xp: Any, q: Array, log_p: Array) -> Array:
    """softmax(x) * sum(q) - q."""
    dx = xp.exp(log_p, out=xp.empty_like(log_p))
    dx *= q.sum(axis=1, keepdims=True)
    dx -= q
    return dx


def one_of_classes(xp: Any, target: Array, x: Array) -> Array:
    """Booleans in x's shape (N, C, ...), true at the class of each target."""
    classes = xp.arange(x.shape[1], dtype=target.dtype)
    return target[:, None] == classes.reshape(-1, *(1,) * (x.ndim - 2))


def class_indices(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and class indices, both with a batch axis.

    Raises
    ------
    ShapeError, DTypeError
        The target does not fit the input, or is not of integers.
    """
    expected = input.shape[:1] + input.shape[2:] if input.ndim != 1 else ()
    if input.ndim == 0 or target.shape != expected:
        raise ShapeError(
            f"target has shape {target.shape}, input {input.shape}: expected class indices of "
            f"shape {expected} for an input (N, classes, ...) or (classes,)"
        )
    if target.dtype.kind not in "iu":
        raise DTypeError(
            f"target is {target.dtype}: expected integer class indices; use .astype('int64')"
        )
    return (unsqueeze(input, 0), unsqueeze(target, 0)) if input.ndim == 1 else (input, target)


def class_weights(value: Any, input: Tensor) -> Tensor | None:
    """A weight per class, or None.

    Raises
    ------
    ShapeError, GradientError
        Not (C,), or not a constant.
    """
    weight = _constant("weight", value)
    if weight is not None and weight.shape != (input.shape[1],):
        raise ShapeError(
            f"weight has shape {weight.shape}, input {input.shape}: expected one number for each "
            f"class, ({input.shape[1]},)"
        )
    return weight


@checked(label_smoothing=partial(check_number, low=0, high=1))
def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of softmax(input) and class indices or probabilities.

    -sum over c of weight[c] * target[n, c] * log softmax(input)[n, c]

    Parameters
    ----------
    input : (N, C), (N, C, ...) or, without a batch, (C,)
        Logits: do not apply softmax first.
    target : (N,), (N, ...) or ()
        Class indices 0 to C - 1 (integers); or probabilities in the shape of input (floats).
    weight : (C,)
        The weight of each class, a constant; None: all are 1.
    size_average, reduce
        PyTorch's old names of ``reduction``: refused.
    ignore_index
        Examples (or pixels) with this target are ignored. For class indices only.
    reduction
        "mean", "sum" or "none". With class indices, the mean divides by the number of examples
        (and pixels) that are not ignored or, with ``weight``, by the sum of the weights of their
        classes; with probabilities, by the number of examples (and pixels).
    label_smoothing
        From 0 to 1: the fraction of the target that is spread evenly over all classes. Source:
        Szegedy et al. 2016, arXiv:1512.00567.

    Raises
    ------
    ShapeError, DTypeError
        The shape or dtype of target matches neither form, or weight is not (C,).
    ArgumentError
        A class index out of range (on a GPU, where checking would wait for the device, the loss is
        NaN instead); label_smoothing out of range; an ``ignore_index`` >= 0 for probabilities.
    GradientError
        weight requires a gradient.
    """
    input, target = Tensor.of(input), Tensor.of(target)
    smoothing = label_smoothing
    is_alone = input.ndim == 1
    if target.shape == input.shape and target.dtype.kind == "f" and input.ndim:
        if ignore_index >= 0:
            raise ArgumentError(
                f"ignore_index={ignore_index}: target holds probabilities, which have no index to "
                "ignore; leave it out, or pass class indices"
            )
        loss: Loss = SoftCrossEntropy(reduction, smoothing)
        if is_alone:
            input, target = unsqueeze(input, 0), unsqueeze(target, 0)
    else:
        input, target = class_indices(input, target)
        if smoothing:
            loss = SmoothCrossEntropy(reduction, ignore_index, smoothing)
        else:
            loss = CrossEntropy(reduction, ignore_index)
    y = loss(input, target, class_weights(weight, input))
    return reshape(y, ()) if is_alone else y


class NLLLoss(ClassLoss):
    """See :func:`nll_loss`."""

    def terms(self, backend: Backend, x: Array, target: Array, *weights: Array) -> Array:
        xp, included = backend.xp, target != self.ignore_index
        one_hot = one_of_classes(xp, target, x)
        one_hot &= included[:, None]
        self.save(one_hot=one_hot, x=x)
        terms = -xp.where(one_hot, x, 0).sum(axis=1)
        exists = (target >= 0) & (target < x.shape[1])
        return self.weighted(xp, xp.where(exists | ~included, terms, xp.nan).astype(x.dtype))

    def derivative(self, backend: Backend) -> Array:
        dx = backend.xp.zeros_like(self.saved.x)
        dx -= self.saved.one_hot
        return _times(dx, None if self.weights is None else self.weights[:, None])


@checked()
def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    size_average: Any = None,
    ignore_index: int = -100,
    reduce: Any = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood, -weight[target[n]] * input[n, target[n]], of log-probabilities.

    Parameters
    ----------
    input : (N, C), (N, C, ...) or, without a batch, (C,)
        Log-probabilities, from log_softmax.
    target : (N,), (N, ...) or ()
        Class indices.
    weight, size_average, ignore_index, reduce, reduction
        As in :func:`cross_entropy`.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, GradientError
        As :func:`cross_entropy`.
    """
    is_alone = (input := Tensor.of(input)).ndim == 1
    input, target = class_indices(input, Tensor.of(target))
    y = NLLLoss(reduction, ignore_index)(input, target, class_weights(weight, input))
    return reshape(y, ()) if is_alone else y
