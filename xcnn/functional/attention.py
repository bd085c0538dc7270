"""Attention: a weighted mean of values, with weights from the products of queries and keys."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ..checks import check_flag, check_number
from ..errors import ArgumentError, ShapeError
from ..tensor import Tensor, operation
from .activation import softmax
from .arithmetic import add, eq, mul, where
from .dropout import dropout
from .linear import matmul
from .reduction import amax
from .shape import permute, reshape, unsqueeze

__all__ = ["scaled_dot_product_attention"]


@operation
def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query · keyᵀ · scale + attn_mask) · value.

    Source: Vaswani et al. 2017, "Attention is all you need", arXiv:1706.03762.

    Parameters
    ----------
    query : (..., L, E)
    key : (..., S, E)
    value : (..., S, V)
    attn_mask : broadcasts to (..., L, S)
        Bools, True where a query may read a key; or numbers that are added to the scores. A query
        that may read nothing gets 0.
    dropout_p
        Probability of dropping a weight, also in evaluation mode: pass 0 there.
    is_causal
        Let query i read the keys 0 to i; not together with ``attn_mask``.
    scale
        Default: 1 / √E.
    enable_gqa
        Let several heads of the query share a head of key and value: axis -3 of the query is a
        multiple of theirs.

    Returns
    -------
    Tensor
        (..., L, V)

    Raises
    ------
    ShapeError
        Fewer than two axes, or shapes that do not fit.
    ArgumentError
        A setting is out of range, or settings conflict.
    """
    tensors = query, key, value = Tensor.of(query), Tensor.of(key), Tensor.of(value)
    settings = attn_mask, dropout_p, is_causal, scale
    shapes = ", ".join(str(t.shape) for t in tensors)
    if min(t.ndim for t in tensors) < 2 or query.shape[-1] != key.shape[-1]:
        raise ShapeError(
            f"query, key and value have shapes {shapes}: expected (..., L, E), (..., S, E) and "
            "(..., S, V)"
        )
    if not check_flag("enable_gqa", enable_gqa):
        return Attention.of(query, key, value, *settings).output
    if min(t.ndim for t in tensors) < 3 or query.shape[-3] % max(1, key.shape[-3]):
        raise ShapeError(
            f"enable_gqa: query, key and value have shapes {shapes}: expected heads in axis -3, "
            "those of the query a multiple of the others'"
        )
    heads = key.shape[-3], query.shape[-3] // key.shape[-3]
    grouped = reshape(query, (*query.shape[:-3], *heads, *query.shape[-2:]))
    y = Attention.of(grouped, unsqueeze(key, -3), unsqueeze(value, -3), *settings).output
    return reshape(y, (*query.shape[:-1], value.shape[-1]))


class Attention(NamedTuple):
    """The result of :func:`scaled_dot_product_attention`, and the weights (..., L, S)."""

    output: Tensor
    weights: Tensor

    @classmethod
    def of(
        cls,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
    ) -> Attention:
        """Attend from ``query`` to ``key`` and ``value``."""
        mask = Tensor.of(attn_mask) if attn_mask is not None else None
        weights = _weights(query, key, mask, is_causal, scale)
        weights = dropout(weights, dropout_p) if dropout_p else weights
        return cls(matmul(weights, value), weights)


def _weights(
    query: Tensor, key: Tensor, mask: Tensor | None, is_causal: bool, scale: float | None
) -> Tensor:
    if scale is None:
        scale = 1 / math.sqrt(max(1, query.shape[-1]))
    swapped = (*range(key.ndim - 2), key.ndim - 1, key.ndim - 2)
    scores = mul(matmul(query, permute(key, swapped)), check_number("scale", scale))
    if check_flag("is_causal", is_causal):
        if mask is not None:
            raise ArgumentError("is_causal=True and attn_mask: pass one of them")
        shape = scores.shape[-2:]
        mask = Tensor(scores.backend.run(lambda backend: backend.xp.tri(*shape, dtype=bool)))
    if mask is None:
        return softmax(scores, -1)
    scores = where(mask, scores, -math.inf) if mask.dtype.kind == "b" else add(scores, mask)
    reads_none = eq(amax(scores.detach(), -1, keepdim=True), -math.inf)
    weights = softmax(where(reads_none, 0.0, scores), -1)  # not NaN
    return where(reads_none, 0.0, weights)
