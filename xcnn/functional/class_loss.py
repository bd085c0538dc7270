"""Losses of classes, given as indices or as probabilities: cross_entropy and nll_loss."""

from __future__ import annotations

from typing import Any

from ..backends import Backend
from ..errors import ArgumentError, DTypeError, ShapeError
from ..geometry import is_int
from ..tensor import Tensor
from ..tracing import operation
from .activation import log_softmax_of
from .elementwise import number
from .layout import rows_last
from .loss import Loss, constant

Array = Any


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
        return SoftCrossEntropy(reduction, smoothing)(input, target, _weights(weight, input))
    arrays = *_classes(input, target), _weights(weight, input)
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
    return NLLLoss(reduction, ignore_index)(input, target, _weights(weight, input))


def check_ignore_index(ignore_index: Any) -> int:
    """Refuse what cannot be a class index.

    Raises
    ------
    ArgumentError
        Not an int of 64 bits.
    """
    if not is_int(ignore_index) or not -(2**63) <= ignore_index < 2**63:
        raise ArgumentError(f"ignore_index={ignore_index!r}: expected an int of 64 bits")
    return int(ignore_index)


def check_smoothing(label_smoothing: Any) -> float:
    """Refuse what is not from 0 to 1.

    Raises
    ------
    ArgumentError
        Anything else.
    """
    smoothing = number("label_smoothing", label_smoothing)
    if not 0 <= smoothing <= 1:
        raise ArgumentError(f"label_smoothing={label_smoothing!r}: expected a number from 0 to 1")
    return smoothing


def _weights(weight: Any, input: Tensor) -> Tensor | None:
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
