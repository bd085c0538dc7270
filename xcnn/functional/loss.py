"""Losses of classes, probabilities and values.

The others are in the modules named ``loss_*``; :func:`from_terms` makes them of Tensor operations.
"""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

from ..arrays import Array, in_range
from ..backends import Backend
from ..checks import (
    KL_REDUCTIONS,
    OLD_REDUCTIONS,
    check_choice,
    check_flag,
    check_ignore_index,
    check_number,
    check_reduction,
    refuse_old_reduction,
)
from ..errors import ArgumentError, DTypeError, GradientError, ShapeError
from ..layout import to_batch_first, to_batch_last
from ..tensor import Function, Tensor, operation
from .activation import stable_log_softmax, stable_sigmoid, stable_softplus
from .arithmetic import broadcasts, sub, where
from .elementwise import abs, astype, clamp, exp, log, square
from .reduction import mean, sum
from .shape import reshape, unsqueeze

# fmt: off
__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "huber_loss",
    "kl_div", "l1_loss", "mse_loss", "nll_loss", "smooth_l1_loss",
]
# fmt: on

_P = ParamSpec("_P")
_R = TypeVar("_R")


#: of the settings that many losses have
_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "reduction": check_reduction,
    "ignore_index": lambda _, value: check_ignore_index(value),
}

_TINY = 1e-44  # below exp(-100), but not 0 in float32

# -- shared by all losses ------------------------------------------------------------------


def _same_shape(input: Any, target: Any) -> tuple[Tensor, Tensor]:
    input, target = Tensor.of(input), Tensor.of(target)
    if input.shape != target.shape:
        raise ShapeError(
            f"input has shape {input.shape}, target {target.shape}: they must be equal; "
            "reshape one of them"
        )
    return input, target


def matched(input: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Both broadcast to their common shape, with a warning if one changes."""
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
        "reshape one of them if this is not intended",
        stacklevel=4,
    )
    with input.backend.active():
        zeros = input.backend.xp.zeros(shape, input.dtype)
    return input + zeros, target + zeros


def _constant(name: str, value: Any, shape: tuple[int, ...] | None = None) -> Tensor | None:
    """``value`` as a Tensor that needs no gradient and broadcasts to ``shape``, or None."""
    if value is None:
        return None
    tensor = Tensor.of(value)
    if tensor.requires_grad:
        raise GradientError(
            f"{name} requires a gradient, which losses do not compute: pass {name}.detach(), and "
            f"in xcnn.vjp pass {name} as a keyword"
        )
    if shape is not None and not broadcasts(tensor.shape, shape):
        raise ShapeError(
            f"{name} has shape {tensor.shape}, input {shape}: expected a shape that broadcasts to "
            "the input's"
        )
    return tensor


def reduced(terms: Tensor, reduction: str, weights: Any = None) -> Tensor:
    """The terms, their sum, or their mean, which divides by the sum of ``weights``, if any."""
    if reduction in ("none", "sum"):
        return terms if reduction == "none" else sum(terms)
    if reduction == "batchmean":
        return sum(terms) / (len(terms) if terms.ndim else 1)
    if weights is None:
        return mean(terms)
    total = sum(weights)
    is_none = total.data == 0
    return where(is_none, math.nan, sum(terms) / where(is_none, 1.0, total))


def wide(input: Tensor) -> Tensor:
    """``input``, at least float32 if it has a floating-point type."""
    is_half = input.dtype.kind == "f" and input.dtype.itemsize < 4
    return astype(input, "float32") if is_half else input


def narrow(loss: Tensor, dtype: Any) -> Tensor:
    """A loss of :func:`wide` inputs, in the dtype that they had."""
    if loss.dtype == dtype:
        return loss
    return astype(loss, dtype)  # float16 ends at 65504


def checked(**checks: Callable[[str, Any], Any]) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Make a public loss of a function: its settings are checked, each by the check of its name.

    ``size_average`` and ``reduce``, PyTorch's old names of ``reduction``, are refused.

    They stay on the loss as ``checks``, for its class in :mod:`xcnn.nn`.
    """

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        signature = inspect.signature(function)
        names = tuple(signature.parameters)
        used = {n: c for n, c in (_CHECKS | checks).items() if n in names}
        shown = signature.parameters.values()
        defaults = {p.name: p.default for p in shown if p.default is not p.empty}
        call: Any = function

        @functools.wraps(function)
        def loss(*arguments: _P.args, **settings: _P.kwargs) -> _R:
            if not settings.keys().isdisjoint(OLD_REDUCTIONS):
                refuse_old_reduction(settings)
            # a fifth of the time of Signature.bind, which raises the TypeErrors
            given: Any = defaults | dict(zip(names, arguments, strict=False)) | settings
            is_twice = not settings.keys().isdisjoint(names[: len(arguments)])
            if given.keys() != set(names) or is_twice or len(arguments) > len(names):
                signature.bind(*arguments, **settings)
            for name, check in used.items():
                given[name] = check(name, given[name])
            return call(**given)

        loss.checks = used  # type: ignore[attr-defined]
        return operation(loss)

    return decorate


def from_terms(
    **checks: Callable[[str, Any], Any],
) -> Callable[[Callable[_P, Tensor]], Callable[_P, Tensor]]:
    """Make a public loss of the function of its terms; half types are computed in float32.

    It may also return (terms, weights) for a mean that divides by the sum of the weights.
    """

    def decorate(terms: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
        parameters = inspect.signature(terms).parameters.items()
        inputs = [n for n, p in parameters if p.default is p.empty or n.endswith("weight")]
        function: Any = terms

        @functools.wraps(terms)
        def loss(*_: _P.args, **given: _P.kwargs) -> Tensor:
            first = Tensor.of(given[inputs[0]])
            with first.backend.active():
                given.update(_inputs(terms.__name__, inputs, given))
                found = function(**given)
                y, weights = found if isinstance(found, tuple) else (found, None)
                return narrow(reduced(y, str(given["reduction"]), weights), first.dtype)

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
    tensors = {names[0]: wide(first)}
    for name in (n for n in names[1:] if given[n] is not None or not n.endswith("weight")):
        value = given[name]
        if isinstance(value, float):
            value = first.backend.xp.full((), value, first.dtype)
        tensor = tensors[name] = wide(Tensor.of(value))
        if tensor.dtype.kind not in "fiub":
            raise DTypeError(f"{loss}: {name} is {tensor.dtype}: expected numbers")
        if tensor.dtype.kind == "f" and tensor.dtype != tensors[names[0]].dtype:
            raise DTypeError(
                f"{loss}: {names[0]} is {first.dtype}, {name} is {tensor.dtype}; both must have "
                f"the same dtype: use .astype({str(first.dtype)!r})"
            )
    return tensors


# -- elementwise losses --------------------------------------------------------------------


def _difference(input: Any, target: Any, weight: Any = None) -> Tensor:
    """input - target, with a weight in the shape of input."""
    if weight is not None and weight.shape != input.shape:
        raise ShapeError(
            f"weight has shape {weight.shape}, input {input.shape}: they must be equal; reshape "
            "one of them"
        )
    return sub(*matched(input, target))


def _times(terms: Tensor, weight: Any) -> Tensor:
    return terms if weight is None else terms * weight


def _weighted(terms: Tensor, weight: Any) -> Any:
    """The terms, for a mean that divides by the sum of the weights."""
    return _times(terms, weight), weight


@from_terms()
def mse_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Tensor:
    """(input - target)², elementwise.

    Parameters
    ----------
    input, target
        Of the same shape; other shapes that broadcast are taken with a warning.
    reduction
        "mean", "sum" or "none".
    weight
        The weight of each element, in the shape of input. The mean divides by their sum.

    Raises
    ------
    ShapeError
        The shapes do not broadcast, or weight has another one.
    """
    return _weighted(square(_difference(input, target, weight)), weight)


@from_terms()
def l1_loss(input: Any, target: Any, reduction: str = "mean", weight: Any = None) -> Tensor:
    """|input - target|, elementwise; the arguments are those of :func:`mse_loss`.

    The gradient where both are equal is 0.

    Raises
    ------
    ShapeError
        The shapes do not broadcast, or weight has another one.
    """
    return _weighted(abs(_difference(input, target, weight)), weight)


def _huber(difference: Tensor, delta: float, is_divided: bool = False) -> Tensor:
    size = abs(difference)
    delta = in_range(size.backend.xp, delta, size.dtype)
    near = clamp(size, max=delta)
    return (near / delta if is_divided else near) * (size - near / 2.0)


@from_terms(delta=partial(check_number, low=0, above=True))
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
    return _times(_huber(_difference(input, target, weight), delta), weight)


@from_terms(beta=partial(check_number, low=0))
def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
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
    difference = _difference(input, target)
    return _huber(difference, beta, True) if beta else abs(difference)


@from_terms(reduction=partial(check_choice, choices=KL_REDUCTIONS), log_target=check_flag)
def kl_div(input: Any, target: Any, reduction: str = "mean", log_target: bool = False) -> Tensor:
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
    p = exp(target) if log_target else target
    is_zero = p.data == 0
    log_p = target if log_target else log(where(is_zero, 1.0, target))
    # where p is 0, 0 for the logarithms of 0: 0 · log(0) is 0
    log_p, log_q = (where(is_zero & (v.data == -math.inf), 0.0, v) for v in (log_p, input))
    return p * (log_p - log_q)


class BinaryCrossEntropy(Function):
    """See :func:`binary_cross_entropy`."""

    arguments = ("input", "target")

    def forward(self, backend: Backend, x: Array, target: Array) -> Array:
        self.save(x=x, target=target)
        log_p, log_q = self._logarithms(backend.xp, x)
        return -(target * log_p + (1 - target) * log_q)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        xp, x = backend.xp, self.saved.x
        dx = dy * (x - self.saved.target) / xp.maximum(x * (1 - x), 1e-12)
        if not self.needs_grad[1]:
            return dx, None
        log_p, log_q = self._logarithms(xp, x)
        return dx, dy * (log_q - log_p)

    @staticmethod
    def _logarithms(xp: Any, x: Array) -> tuple[Array, Array]:
        """log(x) and log(1 - x), at least -100: a certain wrong answer costs 100, not inf."""
        log_p = xp.log(xp.maximum(x, _TINY))
        is_one = x >= 1  # where log1p(-x) is not finite
        log_q = xp.where(is_one, -100, xp.log1p(xp.where(is_one, 0, -x)))
        return xp.maximum(log_p, -100), xp.maximum(log_q, -100)


@from_terms()
def binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean"
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
    weight = _constant("weight", weight, input.shape)
    return _times(BinaryCrossEntropy()(input, target), weight)


class BinaryCrossEntropyWithLogits(Function):
    """See :func:`binary_cross_entropy_with_logits`.

    A term is (1 - t) · softplus(x) + p · t · softplus(-x), with target t and pos_weight p, where
    softplus(±x) = log(1 + exp(-|x|)) + max(±x, 0).
    """

    arguments = ("input", "target", "pos_weight")

    def forward(self, backend: Backend, x: Array, target: Array, pos_weight: Array | None) -> Array:
        xp, size = backend.xp, backend.xp.abs(x)
        positive = target if pos_weight is None else target * pos_weight
        self.save(x=x, target=target, pos_weight=pos_weight, positive=positive)
        terms = stable_softplus(xp, -size)
        if pos_weight is not None:
            terms = terms * (1 - target + positive)
        slope = xp.where(x > 0, 1 - target, positive)
        return terms + slope * xp.where(slope == 0, 0, size)  # 0 for infinity on the right side

    def backward(self, backend: Backend, dy: Array) -> tuple:
        x, target, pos_weight = self.saved.x, self.saved.target, self.saved.pos_weight
        dx = stable_sigmoid(backend.xp, x)
        if pos_weight is not None:
            dx *= 1 - target + self.saved.positive
        dx -= self.saved.positive
        dx *= dy
        if not self.needs_grad[1]:
            return dx, None, None
        derivative = -x
        if pos_weight is not None:
            derivative = derivative + (pos_weight - 1) * stable_softplus(backend.xp, derivative)
        return dx, dy * derivative, None


@from_terms()
def binary_cross_entropy_with_logits(
    input: Any, target: Any, weight: Any = None, reduction: str = "mean", pos_weight: Any = None
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
    weight = _constant("weight", weight, input.shape)
    pos_weight = _constant("pos_weight", pos_weight, input.shape)
    return _times(BinaryCrossEntropyWithLogits()(input, target, pos_weight), weight)


# -- classification losses -----------------------------------------------------------------


class CrossEntropy(Function):
    """See :func:`cross_entropy`, with class indices and no label smoothing, in one pass."""

    arguments = ("input", "target", "weight")
    any_dtype = ("target",)

    def __init__(self, reduction: str, ignore_index: int) -> None:
        self.reduction = reduction
        self.ignore_index = ignore_index

    def forward(self, backend: Backend, x: Array, target: Array, weight: Array | None) -> Array:
        xp = backend.xp
        backend.check_class_indices(target, x.shape[1], self.ignore_index)
        logits, classes = (to_batch_last(xp, a) for a in (x, target))  # (C, ..., N), (..., N)
        terms, dx = backend.cross_entropy(
            logits.reshape(len(logits), classes.size),
            classes.reshape(-1),
            self.recorded,
            self.ignore_index,
        )
        self.save(dx=dx if dx is None else dx.reshape(logits.shape))
        self.weights: Any = None
        if weight is None and self.reduction == "mean":
            labels = classes.reshape(-1)
            mean, self.inverse = backend.mean_of_terms(terms, labels, self.ignore_index)
            return mean
        terms = to_batch_first(terms.reshape(classes.shape))
        if weight is not None:
            self.weights = example_weights(backend, target, x, weight, self.ignore_index)
            terms = xp.where(self.weights == 0, 0, terms) * self.weights  # 0, also for infinity
        if self.reduction == "none":
            return terms
        total: Any = terms.sum()
        if self.reduction == "mean":
            divisor = self.weights.sum(dtype=terms.dtype)
            total = total / divisor  # the mean of no terms, 0 / 0, is NaN
            self.inverse = 1 / xp.where(divisor == 0, 1, divisor)
        return xp.asarray(total)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        """softmax(x) - onehot(target), times the gradients of the terms."""
        if self.reduction == "mean":
            dy = dy * self.inverse
        if self.weights is not None:
            dy = dy * self.weights
        if dy.ndim:
            dy = backend.xp.moveaxis(dy, 0, -1)
        return to_batch_first(self.saved.dx * dy), None, None


def example_weights(
    backend: Backend, target: Array, x: Any, weight: Any, ignore_index: int | None = None
) -> Array:
    """The class weight of each example (N, ...): 0 if ignored, NaN if the class does not exist.

    Raises
    ------
    ArgumentError
        It does not exist, where checking does not wait for the device.
    """
    xp, classes = backend.xp, x.shape[1]
    backend.check_class_indices(target, classes, ignore_index)
    table = weight.data if isinstance(weight, Tensor) else weight
    table = xp.ones(classes, x.dtype) if table is None else table
    exists = (target >= 0) & (target < classes)
    weights = xp.where(exists, xp.take(table, xp.where(exists, target, 0)), xp.nan)
    return xp.where(target == ignore_index, 0, weights).astype(x.dtype)


class SoftCrossEntropy(Function):
    """-sum(target · log softmax(input)) over the classes; where target is 0, 0 even for -inf."""

    arguments = ("input", "target")

    def forward(self, backend: Backend, x: Array, target: Array) -> Array:
        xp, log_p = backend.xp, stable_log_softmax(backend.xp, x, 1)
        self.save(log_p=log_p, target=target)
        terms = xp.multiply(log_p, target, out=xp.empty_like(log_p))
        xp.copyto(terms, 0, where=target == 0)
        return -terms.sum(axis=1)

    def backward(self, backend: Backend, dy: Array) -> tuple:
        xp, log_p, target = backend.xp, self.saved.log_p, self.saved.target
        dx = xp.exp(log_p, out=xp.empty_like(log_p))
        dx *= target.sum(axis=1, keepdims=True)
        dx -= target
        dx *= dy[:, None]
        if not self.needs_grad[1]:
            return dx, None
        dtarget = xp.multiply(log_p, -dy[:, None], out=xp.empty_like(log_p))
        xp.copyto(dtarget, 0, where=target == 0)
        return dx, dtarget


def one_of_classes(xp: Any, target: Array, x: Any) -> Array:
    """Booleans in x's shape (N, C, ...), batch-last, true at the class of each target."""
    classes = xp.arange(x.shape[1], dtype=target.dtype).reshape(-1, *(1,) * target.ndim)
    return xp.moveaxis(classes == to_batch_last(xp, target), -1, 0)


def class_indices(input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Logits and class indices, int64, both with a batch axis.

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
    if input.ndim == 1:
        input, target = unsqueeze(input, 0), unsqueeze(target, 0)
    if target.dtype == "int64":
        return input, target
    return input, Tensor(target.data.astype("int64"))  # uint8 cannot hold -100


def class_weights(value: Any, input: Tensor) -> Tensor | None:
    """A weight per class, or None.

    Raises
    ------
    ShapeError, GradientError
        Not (C,), or not a constant.
    """
    weight = _constant("weight", value)
    if weight is None:
        return None
    if weight.shape != (input.shape[1],):
        raise ShapeError(
            f"weight has shape {weight.shape}, input {input.shape}: expected one number for each "
            f"class, ({input.shape[1]},)"
        )
    return wide(weight)


@checked(label_smoothing=partial(check_number, low=0, high=1))
def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    ignore_index: int = -100,
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
    is_alone, dtype, smoothing = input.ndim == 1, input.dtype, label_smoothing
    is_soft = target.shape == input.shape and target.dtype.kind == "f" and input.ndim > 0
    if is_soft and ignore_index >= 0:
        raise ArgumentError(
            f"ignore_index={ignore_index}: target holds probabilities, which have no index to "
            "ignore; leave it out, or pass class indices"
        )
    if is_alone and is_soft:
        input, target = unsqueeze(input, 0), unsqueeze(target, 0)
    elif not is_soft:
        input, target = class_indices(input, target)
    factors = class_weights(weight, input)
    if not (is_soft or smoothing):
        y = narrow(CrossEntropy(reduction, ignore_index)(wide(input), target, factors), dtype)
        return reshape(y, ()) if is_alone else y
    given = _inputs("cross_entropy", ["input", "target"], {"input": input, "target": target})
    x, q = given.values()
    included = weights = None
    with x.backend.active():
        if not is_soft:
            labels = q.data
            included = weights = example_weights(x.backend, labels, x, None, ignore_index)
            if factors is not None:
                weights = example_weights(x.backend, labels, x, factors, ignore_index)
            q = Tensor(one_of_classes(x.backend.xp, labels, x).astype(x.dtype))
            included = included[:, None]
        if smoothing:
            q = q * (1 - smoothing) + smoothing / x.shape[1]
        if factors is not None:
            q = q * reshape(factors, (-1, *(1,) * (x.ndim - 2)))
        terms = SoftCrossEntropy()(x, _times(q, included))
        y = narrow(reduced(terms, reduction, weights), dtype)
    return reshape(y, ()) if is_alone else y


@checked()
def nll_loss(
    input: Any, target: Any, weight: Any = None, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """Negative log-likelihood, -weight[target[n]] * input[n, target[n]], of log-probabilities.

    Parameters
    ----------
    input : (N, C), (N, C, ...) or, without a batch, (C,)
        Log-probabilities, from log_softmax.
    target : (N,), (N, ...) or ()
        Class indices.
    weight, ignore_index, reduction
        As in :func:`cross_entropy`.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, GradientError
        As :func:`cross_entropy`.
    """
    dtype, is_alone = (input := Tensor.of(input)).dtype, input.ndim == 1
    input, target = class_indices(input, Tensor.of(target))
    with input.backend.active():
        x, xp = _inputs("nll_loss", ["input"], {"input": input})["input"], input.backend.xp
        factors = class_weights(weight, input)
        weights = example_weights(x.backend, target.data, x, factors, ignore_index)
        terms = sum(where(one_of_classes(xp, target.data, x), x, 0.0), 1) * -weights
        y = narrow(reduced(where(weights == 0, 0.0, terms), reduction, weights), dtype)
    return reshape(y, ()) if is_alone else y
