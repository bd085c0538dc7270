"""Distances and similarities of vectors."""

from __future__ import annotations

from .. import functional as F
from ..checks import check_flag, check_number
from .operation import OperationLayer

__all__ = ["CosineSimilarity", "PairwiseDistance"]


class CosineSimilarity(OperationLayer, function=F.cosine_similarity):
    """:func:`xcnn.functional.cosine_similarity`, called with (x1, x2)."""

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        self.dim = dim
        self.eps = check_number("eps", eps, 0)


class PairwiseDistance(OperationLayer, function=F.pairwise_distance):
    """:func:`xcnn.functional.pairwise_distance`, called with (x1, x2)."""

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        self.p = check_number("p", p)
        self.eps = check_number("eps", eps)
        self.keepdim = check_flag("keepdim", keepdim)
