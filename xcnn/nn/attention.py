"""Attention layers."""

from __future__ import annotations

import math
from typing import Any

from .. import functional as F
from .. import init
from ..checks import check_flag, check_int, check_number
from ..errors import ArgumentError, ShapeError, show
from ..tensor import Parameter, Tensor
from .linear import Linear
from .module import Module, full

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Attention of several heads: each has its own projections of queries, keys and values.

    Source: Vaswani et al. 2017, "Attention is all you need", arXiv:1706.03762.

    Parameters
    ----------
    embed_dim
        E, features of the queries and of the output: a multiple of ``num_heads``.
    num_heads
        Number of heads.
    dropout
        Probability of dropping an attention weight in training.
    bias
        Whether the projections have a bias.
    add_bias_kv
        Whether to append a trained key and value to every sequence.
    add_zero_attn
        Whether to append a key and a value of zeros to every sequence.
    kdim, vdim
        Features of keys and values; default: ``embed_dim``.
    batch_first
        Whether inputs and output are (N, L, E) rather than (L, N, E).
    device, dtype
        Of the parameters; default: the CPU and float32.

    Attributes
    ----------
    in_proj_weight : Parameter (3·E, E)
        Projections of queries, keys and values; ``q_proj_weight`` (E, E), ``k_proj_weight``
        (E, kdim) and ``v_proj_weight`` (E, vdim) instead where kdim or vdim differ from E.
    in_proj_bias : Parameter (3·E,) or None
    out_proj : Linear
    bias_k, bias_v : Parameter (1, 1, E) or None
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        self.embed_dim = size = check_int("embed_dim", embed_dim)
        self.num_heads = check_int("num_heads", num_heads)
        if size % self.num_heads:
            raise ArgumentError(
                f"num_heads={show(num_heads)}: expected a divisor of embed_dim={size}"
            )
        self.dropout = check_number("dropout", dropout, 0, 1)
        self.add_zero_attn = check_flag("add_zero_attn", add_zero_attn)
        self.batch_first = check_flag("batch_first", batch_first)
        self.kdim = size if kdim is None else check_int("kdim", kdim)
        self.vdim = size if vdim is None else check_int("vdim", vdim)
        if self.kdim == self.vdim == size:
            self.in_proj_weight = _matrix(3 * size, size)
        else:
            self.q_proj_weight = _matrix(size, size)
            self.k_proj_weight = _matrix(size, self.kdim)
            self.v_proj_weight = _matrix(size, self.vdim)
        self.in_proj_bias = Parameter(full(3 * size)) if check_flag("bias", bias) else None
        self.out_proj = Linear(size, size, bias, "linear")
        self.bias_k: Parameter | None = None
        self.bias_v: Parameter | None = None
        if check_flag("add_bias_kv", add_bias_kv):
            self.bias_k, self.bias_v = (
                Parameter(_matrix(1, size).data.reshape(1, 1, size)) for _ in range(2)
            )
        self.to(device=device, dtype=dtype)

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        """Of attention from a sequence to itself, without ``out_proj``."""
        examples = output_shape[0 if self.batch_first else 1] if len(output_shape) == 3 else 1
        length = math.prod(output_shape[:-1]) // max(examples, 1)
        width = self.embed_dim
        projections = length * width * (width + self.kdim + self.vdim)
        return examples * (projections + 2 * length**2 * width)

    def forward(
        self,
        query: Any,
        key: Any,
        value: Any,
        key_padding_mask: Any = None,
        need_weights: bool = True,
        attn_mask: Any = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from ``query`` to ``key`` and ``value``.

        Parameters
        ----------
        query : (L, N, E), (N, L, E) with ``batch_first``, or (L, E)
        key : (S, N, kdim), (N, S, kdim) or (S, kdim)
        value : (S, N, vdim), (N, S, vdim) or (S, vdim)
        key_padding_mask : (N, S) or (S,)
            Bools, True for keys to ignore; or numbers that are added to the scores.
        need_weights
            Whether to return the attention weights.
        attn_mask : (L, S) or (N·num_heads, L, S)
            Bools, True where a query must not read a key; or numbers that are added.
        average_attn_weights
            Whether to return the mean of the weights over the heads.
        is_causal
            States that ``attn_mask`` is the causal mask, which must be passed too; it has no other
            effect.

        Returns
        -------
        output : Tensor
            As ``query``.
        weights : Tensor or None
            (N, L, S) or (L, S); with ``average_attn_weights=False``, an axis of heads before L.

        Raises
        ------
        ShapeError
            The shapes do not fit.
        ArgumentError
            ``is_causal`` without ``attn_mask``.
        """
        if check_flag("is_causal", is_causal) and attn_mask is None:
            raise ArgumentError("is_causal=True needs attn_mask, the causal mask")
        tensors = [Tensor.of(t) for t in (query, key, value)]
        is_batched = tensors[0].ndim == 3
        if any(t.ndim != (3 if is_batched else 2) for t in tensors):
            shapes = ", ".join(str(t.shape) for t in tensors)
            raise ShapeError(
                f"query, key and value have shapes {shapes}: expected 2 or 3 axes each"
            )
        if not is_batched:
            tensors = [F.unsqueeze(t, 0) for t in tensors]
        elif not self.batch_first:
            tensors = [F.permute(t, (1, 0, 2)) for t in tensors]
        projected = self._extended(self._projected(tensors))
        q, k, v = (self._split(t) for t in projected)  # (N, heads, L or S, E / heads)
        mask = self._mask(attn_mask, key_padding_mask, q, k.shape[-2])
        y, weights = F.Attention.of(q, k, v, mask, self.dropout if self.training else 0.0)
        y = F.reshape(F.permute(y, (0, 2, 1, 3)), tensors[0].shape)
        y = self.out_proj(y)
        if check_flag("average_attn_weights", average_attn_weights):
            weights = F.mean(weights, 1)
        if not is_batched:
            y, weights = F.squeeze(y, 0), F.squeeze(weights, 0)
        elif not self.batch_first:
            y = F.permute(y, (1, 0, 2))
        return y, weights if check_flag("need_weights", need_weights) else None

    def _projected(self, tensors: list[Tensor]) -> list[Tensor]:
        """Queries, keys and values, each (N, length, E)."""
        if "in_proj_weight" in vars(self):
            weights = F.split(self.in_proj_weight, self.embed_dim)
        else:
            weights = self.q_proj_weight, self.k_proj_weight, self.v_proj_weight
        biases: Any = (None,) * 3
        if self.in_proj_bias is not None:
            biases = F.split(self.in_proj_bias, self.embed_dim)
        return [F.linear(*three) for three in zip(tensors, weights, biases, strict=True)]

    def _extended(self, projected: list[Tensor]) -> list[Tensor]:
        """With the appended keys and values."""
        query, *pair = projected
        if self.bias_k is not None and self.bias_v is not None:
            rows = (len(query), 1, self.embed_dim)
            extra = [F.expand(bias, rows) for bias in (self.bias_k, self.bias_v)]
            pair = [F.concat(both, 1) for both in zip(pair, extra, strict=True)]
        if self.add_zero_attn:
            pair = [F.pad(t, (0, 0, 0, 1)) for t in pair]
        return [query, *pair]

    def _split(self, x: Tensor) -> Tensor:
        """(N, length, E) as (N, heads, length, E / heads)."""
        sizes = self.num_heads, self.embed_dim // self.num_heads
        return F.permute(F.reshape(x, (*x.shape[:2], *sizes)), (0, 2, 1, 3))

    def _mask(self, attn_mask: Any, padding: Any, query: Tensor, keys: int) -> Tensor | None:
        """The numbers to add to the scores (N, heads, L, S), or None."""
        total = None
        batch, _, length, _ = query.shape
        for name, mask in (("attn_mask", attn_mask), ("key_padding_mask", padding)):
            if mask is None:
                continue
            mask = Tensor.of(mask)
            if mask.dtype.kind == "b":  # True: not read
                zeros = query.backend.xp.zeros(mask.shape, query.dtype)
                mask = F.where(mask, -math.inf, zeros)
            known = mask.shape[-1]
            if name == "key_padding_mask":
                mask = F.reshape(mask, (batch, 1, 1, known))
            elif mask.ndim == 3:
                mask = F.reshape(mask, (batch, self.num_heads, length, known))
            mask = F.pad(mask, (0, keys - known))  # the appended keys are read
            total = mask if total is None else F.add(total, mask)
        return total


def _matrix(rows: int, columns: int) -> Parameter:
    weight = Parameter(full((rows, columns)))
    init.xavier_uniform_(weight)
    return weight
