"""Losses as modules, under PyTorch's names; see :mod:`xcnn.functional.loss`.

Weights are buffers: ``loss.to("cuda")`` moves them to the device of the input.
To add a loss, write a subclass of :class:`Loss` and add it to ``__all__``.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from .. import functional as F
from ..arrays import Array
from ..checks import KL_REDUCTIONS, REDUCTIONS, check_choice, check_ignore_index, check_number
from ..tensor import Buffer, Tensor
from .operation import OperationLayer

__all__ = [
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "Loss",
    "MSELoss",
    "NLLLoss",
    "SmoothL1Loss",
]


class Loss(OperationLayer):
    """Base class of the losses, called with (input, target).

    Attributes
    ----------
    function
        The function of :mod:`xcnn.functional` that it calls.
    target : str
        Kind of target: "classes" (class indices or class probabilities), "binary" (0 or 1, or
        probabilities of 1) or "values".
    threshold : float
        For binary targets: a larger output predicts 1.
    """

    target: ClassVar[str] = "values"
    threshold: ClassVar[float] = 0.5
    reductions: ClassVar[tuple[str, ...]] = REDUCTIONS
    reduction: str = "mean"

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = check_choice("reduction", reduction, self.reductions)

    def prediction(self, output: Tensor) -> Tensor:
        """Convert a model's output to predictions: probabilities, or the output itself."""
        return output

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
        if self.reduction in ("sum", "none"):
            return loss.data.sum(), divisor
        mean = loss.data.reshape(())
        if isinstance(divisor, int | float):  # known on the host
            return mean * divisor if divisor else xp.zeros_like(mean), divisor
        return xp.where(divisor == 0, 0, mean * divisor.astype(mean.dtype)), divisor

    def _buffer(self, name: str, value: Any) -> Buffer | None:
        """Store a weight as a buffer instead of a recorded argument."""
        self._init_arguments.pop(name, None)
        return None if value is None else Buffer(value)


class CrossEntropyLoss(Loss):
    """:func:`xcnn.functional.cross_entropy`.

    Attributes
    ----------
    weight : Buffer (C,) or None
    """

    function = staticmethod(F.cross_entropy)
    target = "classes"

    def __init__(
        self,
        weight: Any = None,
        *,
        ignore_index: int = -100,
        reduction: str = "mean",
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(reduction)
        self.weight = self._buffer("weight", weight)
        self.ignore_index = check_ignore_index(ignore_index)
        self.label_smoothing = check_number("label_smoothing", label_smoothing, 0, 1)

    def prediction(self, output: Tensor) -> Tensor:
        return F.softmax(output)


class NLLLoss(Loss):
    """:func:`xcnn.functional.nll_loss`.

    Attributes
    ----------
    weight : Buffer (C,) or None
    """

    function = staticmethod(F.nll_loss)
    target = "classes"

    def __init__(
        self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self.weight = self._buffer("weight", weight)
        self.ignore_index = check_ignore_index(ignore_index)

    def prediction(self, output: Tensor) -> Tensor:
        return F.exp(output)


class BCELoss(Loss):
    """:func:`xcnn.functional.binary_cross_entropy`.

    Attributes
    ----------
    weight : Buffer or None
    """

    function = staticmethod(F.binary_cross_entropy)
    target = "binary"

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = self._buffer("weight", weight)


class BCEWithLogitsLoss(Loss):
    """:func:`xcnn.functional.binary_cross_entropy_with_logits`.

    Attributes
    ----------
    weight, pos_weight : Buffer or None
    """

    function = staticmethod(F.binary_cross_entropy_with_logits)
    target = "binary"
    threshold = 0.0

    def __init__(
        self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
    ) -> None:
        super().__init__(reduction)
        self.weight = self._buffer("weight", weight)
        self.pos_weight = self._buffer("pos_weight", pos_weight)

    def prediction(self, output: Tensor) -> Tensor:
        return F.sigmoid(output)


class MSELoss(Loss):
    """:func:`xcnn.functional.mse_loss`."""

    function = staticmethod(F.mse_loss)


class L1Loss(Loss):
    """:func:`xcnn.functional.l1_loss`."""

    function = staticmethod(F.l1_loss)


class SmoothL1Loss(Loss):
    """:func:`xcnn.functional.smooth_l1_loss`."""

    function = staticmethod(F.smooth_l1_loss)

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = check_number("beta", beta, 0)


class HuberLoss(Loss):
    """:func:`xcnn.functional.huber_loss`."""

    function = staticmethod(F.huber_loss)

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = check_number("delta", delta, 0, above=True)


class KLDivLoss(Loss):
    """:func:`xcnn.functional.kl_div`."""

    function = staticmethod(F.kl_div)
    reductions = KL_REDUCTIONS

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__(reduction)
        self.log_target = log_target


#: loss classes by the name of their function, without "_loss"
LOSSES: dict[str, type[Loss]] = {
    cls.function.__name__.removesuffix("_loss"): cls for cls in Loss.__subclasses__()
}
