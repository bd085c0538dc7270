"""Batch, instance, group, layer and local response normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np

from .... import functional as F
from ....functional import LocalResponseNorm
from ....tensor import Buffer, Tensor
from ...reader import DTYPES
from ..node import Node, operator

_STASH_TYPES = {number: DTYPES[number] for number in (1, 10, 11)}


def _epsilon(node: Node) -> float:
    return node.number("epsilon", 1e-5)


# -- batch ----------------------------------------------------------------------------------


@operator("BatchNormalization", buffers=(3, 4))
def batch_normalization(
    node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor
) -> Any:
    """In ONNX's training mode, a node also returns statistics; see :func:`_training_outputs`.

    Before version 14, that mode is set by the number of outputs, not by ``training_mode``.
    """
    shape, dtype, momentum = x.shape, x.dtype, node.number("momentum", 0.9)
    x = F.astype(_with_channels(node, x), scale.dtype)
    scale, bias, mean, var = (_flat(x, t) for t in (scale, bias, mean, var))
    returns_statistics = any(map(node.has_output, range(1, 5)))
    if node.integer("training_mode", 0) if node.version >= 14 else returns_statistics:
        y, *statistics = _training_outputs(node, x, scale, bias, mean, var)
        return (F.astype(F.reshape(y, shape), dtype), *statistics)
    # as nn.BatchNorm2d: training uses batch statistics and updates the running ones
    training = node.training and isinstance(mean, Buffer) and isinstance(var, Buffer)
    if not 0 <= momentum <= 1:
        raise node.error(f"momentum={momentum}: expected a number from 0 to 1")
    rate = 1 - momentum if training else 0.0
    y = F.batch_norm(x, mean, var, scale, bias, training, rate, _epsilon(node))
    return F.astype(F.reshape(y, shape), dtype)


def _with_channels(node: Node, x: Tensor) -> Tensor:
    """``x`` as (N, C) or (N, C, pixels)."""
    if x.ndim == 0:
        raise node.error("the input has no axes: expected (N, C, ...)")
    if x.ndim == 1:
        return F.reshape(x, len(x), 1)
    if node.version < 9 and not node.integer("spatial", 1):
        return F.flatten(x, 1)  # each pixel is a channel
    return x if x.ndim <= 4 else F.flatten(x, 2)


def _flat(x: Tensor, weight: Tensor) -> Tensor:
    """A weight of C elements in any shape, reshaped to (C,); a Buffer stays a Buffer."""
    if weight.numel() != x.shape[1]:
        raise ValueError(f"weight or statistic has shape {weight.shape}: expected ({x.shape[1]},)")
    if weight.ndim == 1:
        return weight
    if isinstance(weight, Buffer):
        return Buffer(weight.data.reshape(-1))  # a view, because batch_norm updates it in place
    return F.reshape(weight, weight.numel())


def _training_outputs(
    node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, var: Tensor
) -> tuple[Tensor, ...]:
    """Output, running mean and variance, and before version 14 also those of the batch.

    ONNX uses the biased (population) variance; ``batch_norm`` returns the unbiased one.
    """
    count = x.numel() // max(1, x.shape[1])
    momentum = node.number("momentum", 0.9) if count else 1.0  # an empty batch changes nothing
    with x.backend.active():
        batch_mean, batch_var = (x.backend.xp.zeros_like(t.data) for t in (mean, var))
        y = F.batch_norm(x, batch_mean, batch_var, scale, bias, True, 1.0, _epsilon(node))
        batch_var *= (count - 1) / max(1, count)
        running = [
            Tensor(old.data * momentum + batch * (1 - momentum))
            for old, batch in ((mean, batch_mean), (var, batch_var))
        ]
    batch = () if node.version >= 14 else (Tensor(batch_mean), Tensor(batch_var))
    return (y, *running, *batch)


# -- instance, group ------------------------------------------------------------------------


@operator("InstanceNormalization")
def instance_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    if x.ndim < 3:
        raise node.error(f"input has shape {x.shape}: expected (N, C, ...), at least three axes")
    return F.group_norm(x, x.shape[1], scale, bias, _epsilon(node))


@operator("GroupNormalization")
def group_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    groups, dtype = node.integer("num_groups"), x.dtype
    if x.ndim < 2 or not groups or groups < 1 or x.shape[1] % groups:
        raise node.error(f"num_groups={groups}, input {x.shape}: expected a divisor of axis 1")
    if node.version < 21:
        scale, bias = (_per_channel(t, groups, x.shape[1]) for t in (scale, bias))
    else:
        x, scale, bias = (_stashed(node, t) for t in (x, scale, bias))
    return F.astype(F.group_norm(x, groups, scale, bias, _epsilon(node)), dtype)


def _per_channel(weight: Tensor, groups: int, channels: int) -> Tensor:
    """Weights per group, (groups,), repeated for each channel, (channels,)."""
    if weight.shape != (groups,):
        raise ValueError(f"scale or bias has shape {weight.shape}: expected ({groups},)")
    return F.reshape(F.expand(F.reshape(weight, groups, 1), groups, channels // groups), channels)


def _stashed(node: Node, x: Tensor) -> Tensor:
    """``x`` in the precision of the statistics if that is float64; float16 always uses float32."""
    return F.astype(x, "float64") if _stash_type(node) == "float64" else x


def _stash_type(node: Node) -> str:
    number = node.integer("stash_type", 1)
    if number not in _STASH_TYPES:
        raise node.error(f"stash_type={number}: expected one of {[*_STASH_TYPES]}")
    return _STASH_TYPES[number]


# -- layer ----------------------------------------------------------------------------------


@operator("LayerNormalization")
def layer_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None) -> Any:
    axis, eps = node.axis(node.integer("axis", -1), x.ndim), _epsilon(node)
    for weight in (scale, bias):
        if weight is not None and np.broadcast_shapes(x.shape, weight.shape) != x.shape:
            raise node.error(f"scale or bias {weight.shape} does not broadcast to input {x.shape}")
    last, wide = x.shape[axis:], _stashed(node, x)
    scale, bias = _stashed(node, scale), None if bias is None else _stashed(node, bias)
    if scale.shape == last and (bias is None or bias.shape == last):
        y = F.layer_norm(wide, last, scale, bias, eps)
    else:
        y = F.mul(F.layer_norm(wide, last, eps=eps), scale)
        y = y if bias is None else F.add(y, bias)
    return (F.astype(y, x.dtype), *_layer_statistics(node, x, axis, eps))


def _layer_statistics(node: Node, x: Tensor, axis: int, eps: float) -> tuple[Tensor, ...]:
    """Mean and inverse standard deviation, keeping reduced axes, if the node has such outputs."""
    if not node.has_output(1) and not node.has_output(2):
        return ()
    x, axes = F.astype(x, _stash_type(node)), tuple(range(axis, x.ndim))
    mean = F.mean(x, axes, keepdim=True)
    centred = F.sub(x, mean)
    var = F.mean(F.mul(centred, centred), axes, keepdim=True)
    return mean, F.reciprocal(F.sqrt(F.add(var, eps)))


# -- local response -------------------------------------------------------------------------


class _LocalResponse(LocalResponseNorm):
    """For an even size, ONNX's window has one more channel after the centre than before it."""

    def __init__(self, size: int, alpha: float, beta: float, k: float) -> None:
        super().__init__(size, alpha, beta, k)
        self.before, self.after = self.after, self.before


@operator("LRN")
def lrn(node: Node, x: Tensor) -> Tensor:
    size = node.integer("size")
    if x.ndim < 2 or not size or size < 1:
        raise node.error(f"size={size}, input {x.shape}: expected size >= 1 and (N, C, ...)")
    defaults = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}
    return _LocalResponse(size, *(node.number(n, d) for n, d in defaults.items()))(x)
