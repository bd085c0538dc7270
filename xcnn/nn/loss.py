"""Losses as modules, under PyTorch's names; see :mod:`xcnn.functional.loss`.

Weights are buffers: ``loss.to("cuda")`` moves them to the device of the input.
To add a loss, write ``class NAME(Loss, function=F.name)`` and add it to ``__all__``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from .. import functional as F
from ..arrays import Array
from ..checks import OLD_REDUCTIONS, check_reduction, refuse_old_reduction
from ..tensor import Buffer, Tensor
from .operation import OperationLayer

# fmt: off
__all__ = [
    "BCELoss", "BCEWithLogitsLoss", "CTCLoss", "CosineEmbeddingLoss", "CrossEntropyLoss",
    "DiceLoss", "FocalLoss", "GaussianNLLLoss", "HingeEmbeddingLoss", "HuberLoss", "KLDivLoss",
    "L1Loss", "Loss", "LovaszLoss", "MSELoss", "MarginRankingLoss", "MultiLabelMarginLoss",
    "MultiLabelSoftMarginLoss", "MultiMarginLoss", "NLLLoss", "PoissonNLLLoss", "SmoothL1Loss",
    "SoftMarginLoss", "SoftmaxFocalLoss", "TripletMarginLoss",
    "TripletMarginWithDistanceLoss", "TverskyLoss",
]
# fmt: on


class _Criterion(OperationLayer):
    """Base class of all losses, whatever they are called with.

    A subclass whose function lists the checks of its settings gets a constructor that takes and
    checks them.
    """

    if TYPE_CHECKING:  # each class takes the settings of its function

        def __init__(self, *arguments: Any, **settings: Any) -> None: ...

    reduction: str = "mean"
    _left_out: ClassVar[tuple[str, ...]] = ()  # settings that the function has, but not the class

    def __init_subclass__(cls, function: Callable[..., Any] | None = None) -> None:
        if function is not None:
            cls.function = staticmethod(function)
        if "function" in vars(cls) and hasattr(cls.function, "checks"):
            cls.__init__ = _constructor(cls.function, cls._left_out)  # type: ignore[method-assign]
        super().__init_subclass__()


def _constructor(function: Any, left_out: tuple[str, ...]) -> Callable[..., None]:
    """An ``__init__`` that takes the settings of a loss; weights become buffers."""
    parameters = inspect.signature(function).parameters.values()
    settings = [p for p in parameters if p.default is not p.empty and p.name not in left_out]
    own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    old = [own.replace(name=n, kind=own.KEYWORD_ONLY, default=None) for n in OLD_REDUCTIONS]
    signature = inspect.Signature([own, *settings, *old])

    def construct(self: Any, *arguments: Any, **named: Any) -> None:
        refuse_old_reduction(dict(named))
        bound = signature.bind(self, *arguments, **named)
        bound.apply_defaults()
        for name, value in list(bound.arguments.items())[1:]:
            if name.endswith("weight"):
                self._init_arguments.pop(name, None)  # it is stored with the state
                value = None if value is None else Buffer(value)
            check = function.checks.get(name)
            setattr(self, name, check(name, value) if check else value)

    construct.__signature__ = signature  # type: ignore[attr-defined]
    return construct


class Loss(_Criterion):
    """Base class of the losses, called with (input, target).

    Attributes
    ----------
    function
        The function of :mod:`xcnn.functional` that it calls.
    target : str
        Kind of target: "classes" (class indices or class probabilities), "binary" (0 or 1, or
        probabilities of 1), "labels" (a list of class indices), "values", or another name, of
        targets that only this loss and some metrics take.
    threshold : float
        For binary targets: a larger output predicts 1.
    term_names : tuple of str
        Of a loss that is a sum: names of what :meth:`terms` returns, each of which is a metric.
    lower_is_better : bool
        Whether the epoch with the lowest loss is the best; not if two networks compete.
    """

    target: ClassVar[str] = "values"
    term_names: ClassVar[tuple[str, ...]] = ()
    threshold: ClassVar[float] = 0.5
    lower_is_better: ClassVar[bool] = True
    _averages_terms: ClassVar[bool] = False  # whether a term is a mean over several elements

    if not TYPE_CHECKING:

        def __init__(self, reduction: str = "mean") -> None:
            self.reduction = check_reduction("reduction", reduction)

    def prediction(self, output: Any) -> Any:
        """Convert a model's output to predictions: probabilities, or the output itself.

        Of a model with several outputs, a tuple or dict, only if the loss takes such.
        """
        return output

    def terms(self, output: Any, target: Any) -> dict[str, Tensor]:
        """The terms of a loss that is a sum, by name, each the mean over the examples."""
        return {}

    def divisor(self, output: Any, target: Any) -> Any:
        """What the mean over a batch divides by; see :meth:`total`.

        Parameters
        ----------
        output, target
            What the loss is called with, Tensors or arrays of one device.

        Returns
        -------
        int, or array ()
            For values and binary targets, the number of elements; for "sum" and "batchmean", of
            examples. For class indices, the number of labels (pixels count) that are not ignored
            or, with class weights and not for "sum", the sum of their weights; for class
            probabilities, the number of examples (pixels count). For other targets, the number of
            examples. It stays on the device: nothing waits for a GPU.
        """
        target = Tensor.of(target)
        if self.target == "classes":
            if target.dtype.kind != "f":
                return self._label_weight(target)
            return math.prod(target.shape[:1] + target.shape[2:])
        by_element = self.target in ("values", "binary") and self.reduction in ("mean", "none")
        return target.numel() if by_element else math.prod(target.shape[:1])

    def _label_weight(self, target: Tensor) -> Array:
        """The number of labels that are not ignored, or the sum of their class weights."""
        xp = target.backend.xp
        labels = target.data.astype("int64", copy=False)  # uint8 cannot hold -100
        is_counted = labels != getattr(self, "ignore_index", -100)
        weight = getattr(self, "weight", None)
        if weight is None or self.reduction == "sum":
            return is_counted.sum()
        weights = xp.take(weight.data, xp.where(is_counted, labels, 0))
        return xp.where(is_counted, weights, 0).sum()

    def total(self, loss: Any, output: Any, target: Any) -> tuple[Array, Any]:
        """The loss of a batch as a fraction that can be summed over batches of any sizes.

        The sum of the numerators divided by the sum of the divisors is the loss of all examples at
        once; for ``reduction="sum"``, their mean per example. A batch whose mean divides by 0, such
        as one with nothing but ignored labels, contributes (0, 0), although its loss is NaN.

        Parameters
        ----------
        loss
            What the call of this loss with (output, target) returned.
        output, target
            As for :meth:`divisor`.

        Returns
        -------
        sum : array ()
            On the device of ``loss``, in its dtype.
        divisor : int, or array ()
            From :meth:`divisor`.
        """
        loss, divisor = Tensor.of(loss), self.divisor(output, target)
        xp = loss.backend.xp
        if self.reduction == "sum" or (self.reduction == "none" and not self._averages_terms):
            return loss.data.sum(), divisor
        mean = loss.data.sum() / max(loss.numel(), 1) if loss.ndim else loss.data
        if isinstance(divisor, int | float):  # known on the host
            return mean * divisor if divisor else xp.zeros_like(mean), divisor
        return xp.where(divisor == 0, 0, mean * divisor.astype(mean.dtype)), divisor


class CrossEntropyLoss(Loss, function=F.cross_entropy):
    """:func:`xcnn.functional.cross_entropy`.

    Attributes
    ----------
    weight : Buffer (C,) or None
    """

    target = "classes"

    def prediction(self, output: Tensor) -> Tensor:
        return F.softmax(output)


class NLLLoss(Loss, function=F.nll_loss):
    """:func:`xcnn.functional.nll_loss`.

    Attributes
    ----------
    weight : Buffer (C,) or None
    """

    target = "classes"

    def prediction(self, output: Tensor) -> Tensor:
        return F.exp(output)


class BCELoss(Loss, function=F.binary_cross_entropy):
    """:func:`xcnn.functional.binary_cross_entropy`.

    Attributes
    ----------
    weight : Buffer or None
    """

    target = "binary"


class _LogitLoss(Loss):
    """A loss of logits, for binary targets."""

    target = "binary"
    threshold = 0.0

    def prediction(self, output: Tensor) -> Tensor:
        return F.sigmoid(output)


class BCEWithLogitsLoss(_LogitLoss, function=F.binary_cross_entropy_with_logits):
    """:func:`xcnn.functional.binary_cross_entropy_with_logits`.

    Attributes
    ----------
    weight, pos_weight : Buffer or None
    """


class MSELoss(Loss, function=F.mse_loss):
    """:func:`xcnn.functional.mse_loss`."""

    _left_out = ("weight",)


class L1Loss(Loss, function=F.l1_loss):
    """:func:`xcnn.functional.l1_loss`."""

    _left_out = ("weight",)


class SmoothL1Loss(Loss, function=F.smooth_l1_loss):
    """:func:`xcnn.functional.smooth_l1_loss`."""


class HuberLoss(Loss, function=F.huber_loss):
    """:func:`xcnn.functional.huber_loss`."""

    _left_out = ("weight",)


class KLDivLoss(Loss, function=F.kl_div):
    """:func:`xcnn.functional.kl_div`."""


class PoissonNLLLoss(Loss, function=F.poisson_nll_loss):
    """:func:`xcnn.functional.poisson_nll_loss`."""

    log_input: bool

    def prediction(self, output: Tensor) -> Tensor:
        return F.exp(output) if self.log_input else output


class HingeEmbeddingLoss(Loss, function=F.hinge_embedding_loss):
    """:func:`xcnn.functional.hinge_embedding_loss`; the targets are 1 and -1."""


class SoftMarginLoss(Loss, function=F.soft_margin_loss):
    """:func:`xcnn.functional.soft_margin_loss`; the targets are 1 and -1."""


class MultiMarginLoss(Loss, function=F.multi_margin_loss):
    """:func:`xcnn.functional.multi_margin_loss`.

    Attributes
    ----------
    weight : Buffer (C,) or None
    """

    target = "classes"

    def divisor(self, output: Any, target: Any) -> int:
        """The number of examples, whatever their weights."""
        return Tensor.of(target).numel()


class MultiLabelMarginLoss(Loss, function=F.multilabel_margin_loss):
    """:func:`xcnn.functional.multilabel_margin_loss`."""

    target = "labels"


class MultiLabelSoftMarginLoss(_LogitLoss, function=F.multilabel_soft_margin_loss):
    """:func:`xcnn.functional.multilabel_soft_margin_loss`.

    Attributes
    ----------
    weight : Buffer or None
    """

    _averages_terms = True


class FocalLoss(_LogitLoss, function=F.focal_loss):
    """:func:`xcnn.functional.focal_loss`."""


class SoftmaxFocalLoss(CrossEntropyLoss, function=F.softmax_focal_loss):
    """:func:`xcnn.functional.softmax_focal_loss`.

    Attributes
    ----------
    weight : Buffer (C,) or None
    """


class _RegionLoss(Loss):
    """A loss of segmentation, of classes or masks, by its ``mode``: a mean over pictures."""

    mode: str
    threshold = 0.0
    _averages_terms = True

    @property
    def target(self) -> str:  # type: ignore[override]
        return "binary" if self.mode == "binary" else "classes"

    def prediction(self, output: Tensor) -> Tensor:
        return F.sigmoid(output) if self.mode == "binary" else F.softmax(output)

    def divisor(self, output: Any, target: Any) -> int:
        """The number of pictures, whatever pixels of them are ignored."""
        return len(Tensor.of(target))


class DiceLoss(_RegionLoss, function=F.dice_loss):
    """:func:`xcnn.functional.dice_loss`."""


class TverskyLoss(_RegionLoss, function=F.tversky_loss):
    """:func:`xcnn.functional.tversky_loss`."""


class LovaszLoss(_RegionLoss, function=F.lovasz_loss):
    """:func:`xcnn.functional.lovasz_loss`."""


class GaussianNLLLoss(_Criterion, function=F.gaussian_nll_loss):
    """:func:`xcnn.functional.gaussian_nll_loss`, called with (input, target, var)."""


class MarginRankingLoss(_Criterion, function=F.margin_ranking_loss):
    """:func:`xcnn.functional.margin_ranking_loss`, called with (input1, input2, target)."""


class CosineEmbeddingLoss(_Criterion, function=F.cosine_embedding_loss):
    """:func:`xcnn.functional.cosine_embedding_loss`, called with (input1, input2, target)."""


class TripletMarginLoss(_Criterion, function=F.triplet_margin_loss):
    """:func:`xcnn.functional.triplet_margin_loss`, called with (anchor, positive, negative)."""


class TripletMarginWithDistanceLoss(_Criterion, function=F.triplet_margin_with_distance_loss):
    """:func:`xcnn.functional.triplet_margin_with_distance_loss`, called with three inputs."""


class CTCLoss(_Criterion, function=F.ctc_loss):
    """:func:`xcnn.functional.ctc_loss`, called with both inputs and their lengths."""


#: losses of (input, target) by the name of their function, without "_loss"
LOSSES: dict[str, type[Loss]] = {
    cls.function.__name__.removesuffix("_loss"): cls
    for cls in list(globals().values())
    if isinstance(cls, type) and issubclass(cls, Loss) and "function" in vars(cls)
}
