"""Dropout layers."""

from __future__ import annotations

from typing import Any

from .. import functional as F
from ..checks import check_flag, check_number
from ..tensor import Tensor
from .operation import OperationLayer

# fmt: off
__all__ = [
    "AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout",
]
# fmt: on


class Dropout(OperationLayer, function=F.dropout):
    """Zero each element with probability ``p`` in training; see :func:`xcnn.functional.dropout`.

    Parameters
    ----------
    p
        Probability, 0 to 1.
    inplace
        Makes no difference; see :mod:`xcnn.functional.activation`.

    Raises
    ------
    ArgumentError
        ``p`` outside 0 to 1.
    """

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        self.p = check_number("p", p, 0, 1)
        self.inplace = check_flag("inplace", inplace)

    def forward(self, x: Any) -> Tensor:
        return type(self).function(x, self.p, self.training)


class Dropout1d(Dropout, function=F.dropout1d):
    """Dropout of whole channels of (N, C, L); see :func:`xcnn.functional.dropout1d`."""


class Dropout2d(Dropout, function=F.dropout2d):
    """Dropout of whole channels of (N, C, H, W); see :func:`xcnn.functional.dropout2d`."""


class Dropout3d(Dropout, function=F.dropout3d):
    """Dropout of whole channels of (N, C, D, H, W); see :func:`xcnn.functional.dropout3d`."""


class AlphaDropout(Dropout, function=F.alpha_dropout):
    """Dropout for networks of SELU; see :func:`xcnn.functional.alpha_dropout`."""


class FeatureAlphaDropout(Dropout, function=F.feature_alpha_dropout):
    """AlphaDropout of whole channels; see :func:`xcnn.functional.feature_alpha_dropout`."""
