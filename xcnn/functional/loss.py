"""Losses of two arrays of one shape. All take ``reduction``: "mean" (default), "sum" or "none"."""

from __future__ import annotations

from typing import Any

from ..autograd import Function
from ..backends import Backend
from ..errors import ArgumentError, GradientError, ShapeError
from ..tensor import Tensor
from ..tracing import operation
from .activation import stable_sigmoid
from .elementwise import number
from .smooth import softplus_of

Array = Any


REDUCTIONS = ("mean", "sum", "none")


def check_reduction(reduction: str, known: tuple[str, ...] = REDUCTIONS) -> str:
    """Refuse an unknown reduction.

    Raises
    ------
    ArgumentError
        Not one of those ``known``.
    """
    if reduction not in known:
        names = [f'"{name}"' for name in known]
        raise ArgumentError(
            f"reduction={reduction!r}: expected {', '.join(names[:-1])} or {names[-1]}"
        )
    return reduction


class Loss(Function):
    """A loss of one term per example or element, reduced at the end.

    Subclasses give ``terms``, and the derivatives of each term by input and target: ``slope`` and
    ``target_slope``, new arrays. Weights are constants.
    """

    arguments = ("input", "target", "weight", "pos_weight")
    reductions: tuple[str, ...] = REDUCTIONS

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = check_reduction(reduction, self.reductions)

    def forward(self, backend: Backend, x: Array, target: Array, *weights: Array) -> Array:
        terms = self.terms(backend, x, target, *weights)
        self.count: Any = 1
        if self.reduction == "none":
            return terms
        if self.reduction == "sum":
            return terms.sum()
        self.count = self.counted(backend, terms, target, *weights)
        with backend.quiet_overflow():  # the mean of no terms, 0 / 0, is NaN
            return terms.sum() / self.count

    def backward(self, backend: Backend, dy: Array) -> tuple:
        dy = self.per_term(backend, dy)
        slopes = self.slope, self.target_slope, *[None] * (len(self.needs_grad) - 2)
        return tuple(
            _weighted(slope(backend), dy) if needed and slope else None
            for slope, needed in zip(slopes, self.needs_grad, strict=True)
        )

    def counted(self, backend: Backend, terms: Array, target: Array, *weights: Array) -> Any:
        """What the mean divides by."""
        return terms.size

    def per_term(self, backend: Backend, dy: Array) -> Array:
        """The gradient of each term; without terms to divide by there is none to give."""
        return dy if self.reduction in ("sum", "none") else dy / max(self.count, 1)

    def terms(self, backend: Backend, x: Array, target: Array, *weights: Array) -> Array:
        raise NotImplementedError

    def slope(self, backend: Backend) -> Array:
        raise NotImplementedError

    def target_slope(self, backend: Backend) -> Array:
        raise NotImplementedError


def _weighted(slope: Array, dy: Array) -> Array:
    """``slope`` times the gradient of the term it belongs to, in place."""
    if 0 < dy.ndim < slope.ndim:
        dy = dy[:, None]  # one term per example, a slope per class
    slope *= dy
    return slope


class MSELoss(Loss):
    """See :func:`mse_loss`."""

    def terms(self, backend: Backend, x: Array, target: Array) -> Array:
        difference = backend.xp.subtract(x, target, out=backend.xp.empty_like(x))
        self.save(difference=difference)
        return difference * difference

    def slope(self, backend: Backend) -> Array:
        return self.saved.difference * 2

    def target_slope(self, backend: Backend) -> Array:
        return self.saved.difference * -2


class L1Loss(Loss):
    """See :func:`l1_loss`."""

    def terms(self, backend: Backend, x: Array, target: Array) -> Array:
        difference = backend.xp.subtract(x, target, out=backend.xp.empty_like(x))
        self.save(difference=difference)
        return backend.xp.abs(difference)

    def slope(self, backend: Backend) -> Array:
        return backend.xp.sign(self.saved.difference)

    def target_slope(self, backend: Backend) -> Array:
        return -self.slope(backend)


class HuberLoss(Loss):
    """See :func:`huber_loss`; divided by ``delta`` it is :func:`smooth_l1_loss`."""

    def __init__(self, reduction: str, delta: float, divided: bool = False) -> None:
        super().__init__(reduction)
        self.delta = delta
        self.divided = divided

    def terms(self, backend: Backend, x: Array, target: Array) -> Array:
        xp = backend.xp
        difference = xp.subtract(x, target, out=xp.empty_like(x))
        self.save(difference=difference)
        size = xp.abs(difference)
        near = xp.minimum(size, self.delta)
        size -= near / 2
        size *= near / self.delta if self.divided else near
        return size

    def slope(self, backend: Backend) -> Array:
        difference = self.saved.difference
        slope = backend.xp.empty_like(difference)
        backend.xp.clip(difference, -self.delta, self.delta, out=slope)
        if self.divided:
            slope /= self.delta
        return slope

    def target_slope(self, backend: Backend) -> Array:
        return -self.slope(backend)


class KLDivLoss(Loss):
    """See :func:`kl_div`."""

    reductions = "mean", "batchmean", "sum", "none"

    def __init__(self, reduction: str, log_target: bool) -> None:
        super().__init__(reduction)
        self.log_target = log_target

    def terms(self, backend: Backend, x: Array, target: Array) -> Array:
        self.save(x=x, target=target)
        return self._probability(backend.xp, target) * (self._logarithm(backend, target) - x)

    def counted(self, backend: Backend, terms: Array, target: Array, *weights: Array) -> Any:
        return len(terms) if self.reduction == "batchmean" else terms.size

    def slope(self, backend: Backend) -> Array:
        return -self._probability(backend.xp, self.saved.target)

    def target_slope(self, backend: Backend) -> Array:
        x, target = self.saved.x, self.saved.target
        slope = self._logarithm(backend, target) - x + 1
        return slope * backend.xp.exp(target) if self.log_target else slope

    def _probability(self, xp: Any, target: Array) -> Array:
        return xp.exp(target) if self.log_target else target

    def _logarithm(self, backend: Backend, target: Array) -> Array:
        """log(target); 0 where target is 0, as 0 · log(0) is."""
        if self.log_target:
            return target
        with backend.quiet_overflow():  # NaN for a negative probability
            return backend.xp.log(backend.xp.where(target == 0, 1, target))


class BinaryCrossEntropy(Loss):
    """See :func:`binary_cross_entropy`."""

    def terms(self, backend: Backend, x: Array, target: Array, weight: Array | None) -> Array:
        self.save(x=x, target=target, weight=weight)
        yes, no = self._logarithms(backend.xp, x)
        return _times(-(target * yes + (1 - target) * no), weight)

    def slope(self, backend: Backend) -> Array:
        x, target = self.saved.x, self.saved.target
        slope = (x - target) / backend.xp.maximum(x * (1 - x), 1e-12)
        return _times(slope, self.saved.weight)

    def target_slope(self, backend: Backend) -> Array:
        yes, no = self._logarithms(backend.xp, self.saved.x)
        return _times(no - yes, self.saved.weight)

    @staticmethod
    def _logarithms(xp: Any, x: Array) -> tuple[Array, Array]:
        """log(x) and log(1 - x), at least -100: a sure and wrong answer costs 100, not infinity."""
        yes = xp.log(xp.maximum(x, _TINY))
        sure = x >= 1  # where log1p(-x) has no value
        no = xp.where(sure, -100, xp.log1p(xp.where(sure, 0, -x)))
        return xp.maximum(yes, -100), xp.maximum(no, -100)


class BinaryCrossEntropyWithLogits(Loss):
    """See :func:`binary_cross_entropy_with_logits`.

    A term is (1 - t) · x + (1 + (p - 1) · t) · log(1 + exp(-x)), with target t and pos_weight p.
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
        loss = _times(softplus_of(backend.xp, -x), _slant(target, pos_weight))
        loss += (1 - target) * x
        return _times(loss, weight)

    def slope(self, backend: Backend) -> Array:
        target, pos_weight = self.saved.target, self.saved.pos_weight
        slope = stable_sigmoid(backend.xp, self.saved.x)
        slope = _times(slope, _slant(target, pos_weight))
        slope -= _times(target, pos_weight)
        return _times(slope, self.saved.weight)

    def target_slope(self, backend: Backend) -> Array:
        x, pos_weight = self.saved.x, self.saved.pos_weight
        slope = -x
        if pos_weight is not None:
            slope += (pos_weight - 1) * softplus_of(backend.xp, slope)
        return _times(slope, self.saved.weight)


def _slant(target: Array, pos_weight: Array | None) -> Array | None:
    return None if pos_weight is None else 1 + (pos_weight - 1) * target


def _times(a: Array, weight: Array | None) -> Array:
    return a if weight is None else a * weight


_TINY = 1e-44  # below exp(-100), and still a number in float32


@operation
def mse_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """(input - target)², of two arrays of the same shape.

    Raises
    ------
    ShapeError
        The shapes differ.
    """
    input, target = _same_shape(input, target)
    return MSELoss(reduction)(input, target)


@operation
def l1_loss(input: Any, target: Any, reduction: str = "mean") -> Tensor:
    """|input - target|, of two arrays of the same shape. The gradient where they agree is 0.

    Raises
    ------
    ShapeError
        The shapes differ.
    """
    input, target = _same_shape(input, target)
    return L1Loss(reduction)(input, target)


@operation
def smooth_l1_loss(input: Any, target: Any, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """With d = |input - target|: d² / (2 · beta) where d < beta, else d - beta / 2.

    :func:`huber_loss` divided by beta; beta 0 gives :func:`l1_loss`. Source: Girshick 2015, "Fast
    R-CNN", arXiv:1504.08083.

    Raises
    ------
    ShapeError
        The shapes differ.
    ArgumentError
        beta is negative.
    """
    input, target = _same_shape(input, target)
    beta = number("beta", beta)
    if beta < 0:
        raise ArgumentError(f"beta={beta!r}: expected a number >= 0")
    loss = HuberLoss(reduction, beta, divided=True) if beta else L1Loss(reduction)
    return loss(input, target)


@operation
def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """With d = |input - target|: d² / 2 where d < delta, else delta · (d - delta / 2).

    Source: Huber 1964, "Robust estimation of a location parameter".

    Raises
    ------
    ShapeError
        The shapes differ.
    ArgumentError
        delta is not above 0.
    """
    input, target = _same_shape(input, target)
    delta = number("delta", delta)
    if delta <= 0:
        raise ArgumentError(f"delta={delta!r}: expected a number > 0")
    return HuberLoss(reduction, delta)(input, target)


@operation
def kl_div(input: Any, target: Any, reduction: str = "mean", *, log_target: bool = False) -> Tensor:
    """Target · (log(target) - input): the Kullback-Leibler divergence, element by element.

    Parameters
    ----------
    input
        Log-probabilities, from log_softmax.
    target : same shape as input
        Probabilities; or their logarithms with ``log_target``. A probability of 0 costs 0.
    reduction
        "batchmean" divides the sum by the first length, as the definition of the divergence wants;
        "mean" divides it by the number of elements; or "sum" or "none".

    Raises
    ------
    ShapeError
        The shapes differ, or there is no first length for "batchmean".
    """
    input, target = _same_shape(input, target)
    if reduction == "batchmean" and input.ndim == 0:
        raise ShapeError('reduction="batchmean" needs a batch axis, input has none; use "sum"')
    return KLDivLoss(reduction, log_target)(input, target)


@operation
def binary_cross_entropy(
    input: Any, target: Any, weight: Any = None, *, reduction: str = "mean"
) -> Tensor:
    """-(target * log(input) + (1 - target) * log(1 - input)), of probabilities from a sigmoid.

    Each logarithm is capped at -100, as in PyTorch.

    Parameters
    ----------
    input, target : (N, ...)
        Of the same shape.
    weight
        Each term's weight; a constant that broadcasts to input's shape. The mean still divides by
        the number of terms.
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


@operation
def binary_cross_entropy_with_logits(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    reduction: str = "mean",
    pos_weight: Any = None,
) -> Tensor:
    """:func:`binary_cross_entropy` of sigmoid(input), without overflow.

    Parameters
    ----------
    input, target : (N, ...)
        Of the same shape.
    weight
        Each term's weight; a constant that broadcasts to input's shape.
    reduction
        "mean", "sum" or "none".
    pos_weight
        What target * log(sigmoid(input)) is multiplied by, such as (C,) for (N, C): above 1 where
        positive examples are rare. A constant.

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


def _same_shape(input: Any, target: Any) -> tuple[Tensor, Tensor]:
    input, target = Tensor.of(input), Tensor.of(target)
    if input.shape != target.shape:
        raise ShapeError(
            f"input has shape {input.shape}, target {target.shape}: they must be equal; "
            "reshape one of them"
        )
    return input, target


def _broadcast(name: str, weight: Any, input: Tensor) -> Tensor | None:
    weight = constant(name, weight)
    if weight is None:
        return None
    shape = input.shape[max(0, input.ndim - weight.ndim) :]
    if weight.ndim > input.ndim or any(
        n not in (1, m) for n, m in zip(weight.shape, shape, strict=True)
    ):
        raise ShapeError(
            f"{name} has shape {weight.shape}, input {input.shape}: expected a shape that "
            "broadcasts to the input's"
        )
    return weight


def constant(name: str, value: Any) -> Tensor | None:
    """``value`` as a Tensor, or None.

    Raises
    ------
    GradientError
        It requires a gradient.
    """
    if value is None:
        return None
    tensor = Tensor.of(value)
    if tensor.requires_grad:
        raise GradientError(
            f"{name} requires a gradient, but losses give it none: pass {name}.detach(), and in "
            f"xcnn.vjp pass {name} as a keyword"
        )
    return tensor
