"""Dropout layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from .. import functional as F
from ..checks import check_flag, check_number
from ..tensor import Tensor
from .module import Module

# fmt: off
__all__ = [
    "AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout",
]
# fmt: on


class Dropout(Module):
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

    function: ClassVar[Callable[..., Tensor]] = staticmethod(F.dropout)

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        self.p = check_number("p", p, 0, 1)
        self.inplace = check_flag("inplace", inplace)

    def forward(self, x: Any) -> Tensor:
        return type(self).function(x, self.p, self.training)


class Dropout1d(Dropout):
    """Dropout of whole channels of (N, C, L); see :func:`xcnn.functional.dropout1d`."""

    function = staticmethod(F.dropout1d)


class Dropout2d(Dropout):
    """Dropout of whole channels of (N, C, H, W); see :func:`xcnn.functional.dropout2d`."""

    function = staticmethod(F.dropout2d)


class Dropout3d(Dropout):
    """Dropout of whole channels of (N, C, D, H, W); see :func:`xcnn.functional.dropout3d`."""

    function = staticmethod(F.dropout3d)


class AlphaDropout(Dropout):
    """Dropout for networks of SELU; see :func:`xcnn.functional.alpha_dropout`."""

    function = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(Dropout):
    """AlphaDropout of whole channels; see :func:`xcnn.functional.feature_alpha_dropout`."""

    function = staticmethod(F.feature_alpha_dropout)
