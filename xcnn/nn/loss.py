"""Losses as modules, under PyTorch's names; see :mod:`xcnn.functional.loss`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from .. import functional as F
from ..errors import ArgumentError
from ..tensor import Tensor
from .module import Module


class _Loss(Module):
    function: ClassVar[Callable[..., Tensor]]

    def __init__(self, reduction: str = "mean") -> None:
        if reduction not in ("mean", "sum", "none"):
            raise ArgumentError(f'reduction={reduction!r}: expected "mean", "sum" or "none"')
        self.reduction = reduction

    def forward(self, input: Any, target: Any) -> Tensor:
        return type(self).function(input, target, self.reduction)


class MSELoss(_Loss):
    """:func:`xcnn.functional.mse_loss`."""

    function = staticmethod(F.mse_loss)


class CrossEntropyLoss(_Loss):
    """:func:`xcnn.functional.cross_entropy`."""

    function = staticmethod(F.cross_entropy)


class NLLLoss(_Loss):
    """:func:`xcnn.functional.nll_loss`."""

    function = staticmethod(F.nll_loss)


class BCELoss(_Loss):
    """:func:`xcnn.functional.binary_cross_entropy`."""

    function = staticmethod(F.binary_cross_entropy)


class BCEWithLogitsLoss(_Loss):
    """:func:`xcnn.functional.binary_cross_entropy_with_logits`."""

    function = staticmethod(F.binary_cross_entropy_with_logits)
