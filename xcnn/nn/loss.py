"""Losses as modules, under PyTorch's names; see :mod:`xcnn.functional.loss` and ``class_loss``.

Weights are buffers: they move with the module, ``loss.to("cuda")``, and must be where the input is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from .. import functional as F
from ..checks import check_ignore_index, check_reduction, check_smoothing, number
from ..errors import ArgumentError
from ..functional.loss import KLDivLoss as KLDiv
from ..tensor import Buffer, Tensor
from .module import Module


class _Loss(Module):
    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = check_reduction(reduction)

    def forward(self, input: Any, target: Any) -> Tensor:
        return type(self).function(input, target, reduction=self.reduction)

    def _buffer(self, name: str, value: Any) -> Buffer | None:
        """A weight as part of the state; what was passed for it is no setting to show or save."""
        self._init_arguments.pop(name, None)
        return None if value is None else Buffer(value)


class MSELoss(_Loss):
    """:func:`xcnn.functional.mse_loss`."""

    function = staticmethod(F.mse_loss)


class L1Loss(_Loss):
    """:func:`xcnn.functional.l1_loss`."""

    function = staticmethod(F.l1_loss)


class SmoothL1Loss(_Loss):
    """:func:`xcnn.functional.smooth_l1_loss`."""

    def __init__(self, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__(reduction)
        self.beta = number("beta", beta)
        if self.beta < 0:
            raise ArgumentError(f"beta={beta!r}: expected a number >= 0")

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.smooth_l1_loss(input, target, self.reduction, self.beta)


class HuberLoss(_Loss):
    """:func:`xcnn.functional.huber_loss`."""

    def __init__(self, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__(reduction)
        self.delta = number("delta", delta)
        if self.delta <= 0:
            raise ArgumentError(f"delta={delta!r}: expected a number > 0")

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.huber_loss(input, target, self.reduction, self.delta)


class KLDivLoss(_Loss):
    """:func:`xcnn.functional.kl_div`."""

    def __init__(self, reduction: str = "mean", log_target: bool = False) -> None:
        self.reduction = check_reduction(reduction, KLDiv.reductions)
        self.log_target = log_target

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.kl_div(input, target, self.reduction, log_target=self.log_target)


class CrossEntropyLoss(_Loss):
    """:func:`xcnn.functional.cross_entropy`.

    Attributes
    ----------
    weight : Buffer (C,) or None
    """

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
        self.label_smoothing = check_smoothing(label_smoothing)

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.cross_entropy(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(_Loss):
    """:func:`xcnn.functional.nll_loss`.

    Attributes
    ----------
    weight : Buffer (C,) or None
    """

    def __init__(
        self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean"
    ) -> None:
        super().__init__(reduction)
        self.weight = self._buffer("weight", weight)
        self.ignore_index = check_ignore_index(ignore_index)

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.nll_loss(
            input,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
        )


class BCELoss(_Loss):
    """:func:`xcnn.functional.binary_cross_entropy`.

    Attributes
    ----------
    weight : Buffer or None
    """

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__(reduction)
        self.weight = self._buffer("weight", weight)

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.binary_cross_entropy(input, target, self.weight, reduction=self.reduction)


class BCEWithLogitsLoss(_Loss):
    """:func:`xcnn.functional.binary_cross_entropy_with_logits`.

    Attributes
    ----------
    weight, pos_weight : Buffer or None
    """

    def __init__(
        self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
    ) -> None:
        super().__init__(reduction)
        self.weight = self._buffer("weight", weight)
        self.pos_weight = self._buffer("pos_weight", pos_weight)

    def forward(self, input: Any, target: Any) -> Tensor:
        return F.binary_cross_entropy_with_logits(
            input, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )
