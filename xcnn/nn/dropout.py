"""Dropout layers."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..checks import check_number
from ..tensor import Tensor
from .module import Module

__all__ = ["Dropout", "Dropout2d"]


class Dropout(Module):
    """Zero each element with probability ``p`` in training; see :func:`xcnn.functional.dropout`.

    Raises
    ------
    ArgumentError
        ``p`` outside 0 to 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = check_number("p", p, 0, 1)

    def forward(self, x: Any) -> Tensor:
        return F.dropout(x, self.p, self.training)


class Dropout2d(Dropout):
    """Zero whole channels with probability ``p`` in training; see
    :func:`xcnn.functional.dropout2d`.

    Raises
    ------
    ArgumentError
        ``p`` outside 0 to 1.
    """

    def forward(self, x: Any) -> Tensor:
        return F.dropout2d(x, self.p, self.training)
