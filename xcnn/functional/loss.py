"""Losses."""

from __future__ import annotations

from typing import Any

from ..arrays import Array
from ..backends import Backend
from ..checks import (
    REDUCTIONS,
    check_ignore_index,
    check_reduction,
    check_smoothing,
    number,
)
from ..errors import ArgumentError, DTypeError, GradientError, ShapeError
from ..layout import rows_last
from ..tensor import Function, Tensor, operation
from .activation import log_softmax_of, softplus_of, stable_sigmoid


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


class _ClassLoss(Loss):
    """A loss of class indices: examples whose target is ``ignore_index`` do not count.

    The mean divides by the number of the others or, where classes have weights, by the sum of the
    weights of their classes.
    """

    any_dtype = ("target",)

    def __init__(self, reduction: str, ignore_index: int) -> None:
        super().__init__(reduction)
        self.ignore_index = ignore_index

    def forward(self, backend: Backend, x: Array, target: Array, *weights: Array) -> Array:
        target = target.astype("int64", copy=False)  # uint8 has no number for -100
        backend.check_class_indices(target, x.shape[1], self.ignore_index)
        (weight,) = weights
        self.share = None if weight is None else self._share(backend, target, weight)
        return super().forward(backend, x, target, weight)

    def _share(self, backend: Backend, target: Array, weight: Array) -> Array:
        """The weight of each example's class, (N, ...); 0 where it does not count."""
        xp = backend.xp
        exists = (target >= 0) & (target < len(weight))
        share = xp.take(weight, xp.where(exists, target, 0))
        xp.copyto(share, 0, where=target == self.ignore_index)
        return share

    def counted(self, backend: Backend, terms: Array, target: Array, *weights: Array) -> Any:
        if self.share is not None:
            return self.share.sum()
        return (target != self.ignore_index).sum(dtype=terms.dtype)

    def per_term(self, backend: Backend, dy: Array) -> Array:
        if self.reduction != "mean":
            return dy
        return dy / backend.xp.where(self.count == 0, 1, self.count)

    def shared(self, a: Array) -> Array:
        """Terms (N, ...) or slopes (N, C, ...) times the share of their example."""
        if self.share is None:
            return a
        return a * (self.share if a.ndim == self.share.ndim else self.share[:, None])


class CrossEntropy(_ClassLoss):
    """See :func:`cross_entropy`, with class indices."""

    def terms(self, backend: Backend, x: Array, target: Array, *weights: Array) -> Array:
        columns = rows_last(backend.xp, x)  # (C, ..., N)
        numbers = backend.xp.moveaxis(target, 0, -1)  # (..., N)
        terms, slope = backend.cross_entropy(
            columns.reshape(len(columns), numbers.size),
            numbers.reshape(-1),
            self.recorded,
            self.ignore_index,
        )
        self.save(slope=slope if slope is None else slope.reshape(columns.shape))
        return self.shared(backend.xp.moveaxis(terms.reshape(numbers.shape), -1, 0))

    def slope(self, backend: Backend) -> Array:
        """softmax(x) - onehot(target); a copy, as it may be asked for again."""
        slope = backend.xp.moveaxis(self.saved.slope.copy(), -1, 0)
        if self.share is not None:
            slope *= self.share[:, None]
        return slope


class NLLLoss(_ClassLoss):
    """See :func:`nll_loss`."""

    def terms(self, backend: Backend, x: Array, target: Array, *weights: Array) -> Array:
        xp, counts = backend.xp, target != self.ignore_index
        hot = _one_hot(xp, target, x)
        hot &= counts[:, None]
        self.save(hot=hot, x=x)
        terms = -xp.where(hot, x, 0).sum(axis=1)
        exists = (target >= 0) & (target < x.shape[1])
        return self.shared(xp.where(exists | ~counts, terms, xp.nan).astype(x.dtype))

    def slope(self, backend: Backend) -> Array:
        slope = backend.xp.zeros_like(self.saved.x)
        slope -= self.saved.hot
        return self.shared(slope)


class SmoothCrossEntropy(_ClassLoss):
    """See :func:`cross_entropy`, with class indices and label smoothing."""

    def __init__(self, reduction: str, ignore_index: int, smoothing: float) -> None:
        super().__init__(reduction, ignore_index)
        self.smoothing = smoothing

    def terms(self, backend: Backend, x: Array, target: Array, *weights: Array) -> Array:
        xp = backend.xp
        hot = xp.zeros_like(x)
        hot += _one_hot(xp, target, x)
        q = _times_classes(_smoothed(hot, self.smoothing), *weights)
        ignored = target == self.ignore_index
        xp.copyto(q, 0, where=ignored[:, None])
        log_p = log_softmax_of(xp, x, 1)
        self.save(log_p=log_p, q=q)
        terms = -(q * log_p).sum(axis=1)
        exists = (target >= 0) & (target < x.shape[1])
        terms = xp.where(exists, terms, xp.nan).astype(x.dtype)
        xp.copyto(terms, 0, where=ignored)
        return terms

    def slope(self, backend: Backend) -> Array:
        return _soft_slope(backend.xp, self.saved.q, self.saved.log_p)


class SoftCrossEntropy(Loss):
    """See :func:`cross_entropy`, with probabilities."""

    def __init__(self, reduction: str, smoothing: float) -> None:
        super().__init__(reduction)
        self.smoothing = smoothing

    def terms(self, backend: Backend, x: Array, target: Array, *weights: Array) -> Array:
        log_p = log_softmax_of(backend.xp, x, 1)
        q = _times_classes(_smoothed(target, self.smoothing), *weights)
        self.save(log_p=log_p, q=q, weights=weights)
        return -(q * log_p).sum(axis=1)

    def slope(self, backend: Backend) -> Array:
        return _soft_slope(backend.xp, self.saved.q, self.saved.log_p)

    def target_slope(self, backend: Backend) -> Array:
        return _times_classes(self.saved.log_p * (self.smoothing - 1), *self.saved.weights)


def _smoothed(target: Array, smoothing: float) -> Array:
    """Mixed with equal probabilities; itself if there is nothing to mix."""
    return target * (1 - smoothing) + smoothing / target.shape[1] if smoothing else target


def _times_classes(a: Array, weight: Array | None) -> Array:
    """``a`` (N, C, ...) times the weights (C,)."""
    return a if weight is None else a * weight.reshape(-1, *(1,) * (a.ndim - 2))


def _soft_slope(xp: Any, q: Array, log_p: Array) -> Array:
    """softmax(x) * sum(q) - q."""
    slope = xp.exp(log_p, out=xp.empty_like(log_p))
    slope *= q.sum(axis=1, keepdims=True)
    slope -= q
    return slope


def _one_hot(xp: Any, target: Array, x: Array) -> Array:
    """Booleans in x's shape (N, C, ...), true at each target's class."""
    numbers = xp.arange(x.shape[1], dtype=target.dtype)
    return target[:, None] == numbers.reshape(-1, *(1,) * (x.ndim - 2))


@operation
def cross_entropy(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of softmax(input) with classes or probabilities.

    -sum over c of weight[c] * target[n, c] * log softmax(input)[n, c]

    Parameters
    ----------
    input : (N, C) or (N, C, ...)
        Logits: do not apply softmax first.
    target : (N,) or (N, ...)
        Class indices 0 to C - 1 (integers); or probabilities in the shape of input (floats).
    weight : (C,)
        A weight for each class, a constant; None: all are 1.
    ignore_index
        Examples (or pixels) of this class index cost nothing and do not count. For class indices
        only.
    reduction
        "mean", "sum" or "none". Of class indices, the mean divides by the sum of the weights of
        the classes of all examples (and pixels) that count, thus without ``weight`` by their
        number; of probabilities by the number of examples (and pixels).
    label_smoothing
        From 0 to 1: the share of the target that is spread evenly over all classes. Source:
        Szegedy et al. 2016, arXiv:1512.00567.

    Raises
    ------
    ShapeError, DTypeError
        Shape or dtype of target fits neither form, or weight is not (C,).
    ArgumentError
        A class index out of range (on a GPU, where looking would stop the device, the loss is
        NaN instead); label_smoothing out of range; an ``ignore_index`` >= 0 for probabilities.
    GradientError
        weight requires a gradient.
    """
    input, target = Tensor.of(input), Tensor.of(target)
    ignore_index = check_ignore_index(ignore_index)
    smoothing = check_smoothing(label_smoothing)
    if target.shape == input.shape and target.dtype.kind == "f" and input.ndim >= 2:
        if ignore_index >= 0:
            raise ArgumentError(
                f"ignore_index={ignore_index}: target holds probabilities, which have no index to "
                "ignore; leave it out, or pass class indices"
            )
        return SoftCrossEntropy(reduction, smoothing)(input, target, _class_weights(weight, input))
    arrays = *_classes(input, target), _class_weights(weight, input)
    if smoothing:
        return SmoothCrossEntropy(reduction, ignore_index, smoothing)(*arrays)
    return CrossEntropy(reduction, ignore_index)(*arrays)


@operation
def nll_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-likelihood, -weight[target[n]] * input[n, target[n]], of log-probabilities.

    Parameters
    ----------
    input : (N, C) or (N, C, ...)
        Log-probabilities, from log_softmax.
    target : (N,) or (N, ...)
        Class indices.
    weight, ignore_index, reduction
        As in :func:`cross_entropy`.

    Raises
    ------
    ShapeError, DTypeError, ArgumentError, GradientError
        As :func:`cross_entropy`.
    """
    ignore_index = check_ignore_index(ignore_index)
    input, target = _classes(Tensor.of(input), Tensor.of(target))
    return NLLLoss(reduction, ignore_index)(input, target, _class_weights(weight, input))


def _class_weights(weight: Any, input: Tensor) -> Tensor | None:
    weight = constant("weight", weight)
    if weight is not None and weight.shape != (input.shape[1],):
        raise ShapeError(
            f"weight has shape {weight.shape}, input {input.shape}: expected one number for each "
            f"class, ({input.shape[1]},)"
        )
    return weight


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
