"""Dropout layer."""

from __future__ import annotations

from numbers import Real
from typing import Any

from .. import functional as F
from ..errors import ArgumentError
from ..tensor import Tensor
from .module import Module


class Dropout(Module):
    """Zero each element with probability ``p`` in training; see :func:`xcnn.functional.dropout`.

    Raises
    ------
    ArgumentError
        ``p`` outside 0 to 1.
    """

    def __init__(self, p: float = 0.5) -> None:
        if not isinstance(p, float | Real) or not 0 <= p <= 1:
            raise ArgumentError(f"p={p!r}: expected a probability from 0 to 1")
        self.p = float(p)

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
