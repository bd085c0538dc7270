"""Embedding."""

from __future__ import annotations

from typing import Any, Self

from .. import functional as F
from .. import init
from ..checks import check_dim, check_embedding_settings, check_flag, check_int, check_number
from ..errors import ShapeError
from ..tensor import Parameter, Tensor
from .module import Module, full
from .operation import OperationLayer

__all__ = ["CosineSimilarity", "Embedding", "PairwiseDistance"]


class Embedding(Module):
    """The rows of a trainable table by index: integers (...) to vectors (..., embedding_dim).

    Parameters
    ----------
    num_embeddings, embedding_dim
        The size of the table.
    padding_idx
        The row that is zero at first and gets no gradient; negative: from the end.
    max_norm, norm_type, scale_grad_by_freq, sparse
        PyTorch's; other values than the defaults are refused.
    device, dtype
        Of the table; default: the CPU and float32.

    Attributes
    ----------
    weight : Parameter (num_embeddings, embedding_dim)
        From the standard normal distribution.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self.num_embeddings = check_int("num_embeddings", num_embeddings)
        self.embedding_dim = check_int("embedding_dim", embedding_dim)
        if padding_idx is not None:
            padding_idx = check_dim("padding_idx", padding_idx, self.num_embeddings)
        self.padding_idx = padding_idx
        check_embedding_settings(max_norm, scale_grad_by_freq, sparse)
        self.weight = Parameter(full((self.num_embeddings, self.embedding_dim)))
        init.normal_(self.weight)
        if padding_idx is not None:
            self.weight.data[padding_idx] = 0
        self.to(device=device, dtype=dtype)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Any,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Self:
        """A layer with the table ``embeddings`` (num_embeddings, embedding_dim), not copied.

        Parameters
        ----------
        freeze
            Do not train it.
        padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse
            As for the class.

        Raises
        ------
        ShapeError
            ``embeddings`` has not two axes.
        """
        table = Tensor.of(embeddings)
        if table.ndim != 2 or not table.numel():
            raise ShapeError(f"embeddings has shape {table.shape}: expected (rows, features)")
        rows, features = table.shape
        with init.skipped():
            layer = cls(
                rows, features, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse
            )
        layer.weight = Parameter(table.data, not check_flag("freeze", freeze))
        return layer

    def forward(self, x: Any) -> Tensor:
        return F.embedding(x, self.weight, self.padding_idx)


class CosineSimilarity(OperationLayer):
    """:func:`xcnn.functional.cosine_similarity`, called with (x1, x2)."""

    function = staticmethod(F.cosine_similarity)

    def __init__(self, dim: int = 1, eps: float = 1e-8) -> None:
        self.dim = dim
        self.eps = check_number("eps", eps, 0)


class PairwiseDistance(OperationLayer):
    """:func:`xcnn.functional.pairwise_distance`, called with (x1, x2)."""

    function = staticmethod(F.pairwise_distance)

    def __init__(self, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> None:
        self.p = check_number("p", p)
        self.eps = check_number("eps", eps)
        self.keepdim = check_flag("keepdim", keepdim)
