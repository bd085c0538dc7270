"""Normalisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..writer import Value, Writer, emits


@emits("batch_norm")
def batch_norm(
    w: Writer,
    input: Value,
    running_mean: Value | None,
    running_var: Value | None,
    weight: Value | None,
    bias: Value | None,
    training: bool,
    momentum: Any,
    eps: float,
) -> str:
    if training:
        return _by_batch(w, input, weight, bias, eps)
    scale, shift = _weights(w, input, weight, bias, input.shape[1])
    statistics = running_mean, running_var
    return w.node("BatchNormalization", input, scale, shift, *statistics, epsilon=float(eps))


@emits("instance_norm")
def instance_norm(
    w: Writer,
    input: Value,
    running_mean: Value | None,
    running_var: Value | None,
    weight: Value | None,
    bias: Value | None,
    use_input_stats: bool,
    momentum: Any,
    eps: float,
) -> str:
    if not use_input_stats:
        statistics = running_mean, running_var
        return batch_norm(w, input, *statistics, weight, bias, False, momentum, eps)
    scale, shift = _weights(w, input, weight, bias, input.shape[1])
    return w.node("InstanceNormalization", input, scale, shift, epsilon=float(eps))


@emits("group_norm")
def group_norm(
    w: Writer,
    input: Value,
    num_groups: int,
    weight: Value | None,
    bias: Value | None,
    eps: float,
) -> str:
    scale, shift = _weights(w, input, weight, bias, input.shape[1])
    groups = int(num_groups)
    return w.node("GroupNormalization", input, scale, shift, num_groups=groups, epsilon=float(eps))


@emits("layer_norm")
def layer_norm(
    w: Writer,
    input: Value,
    normalized_shape: Any,
    weight: Value | None,
    bias: Value | None,
    eps: float,
) -> str:
    axes = len(normalized_shape) if isinstance(normalized_shape, tuple | list) else 1
    scale = weight or w.like(input, np.ones(input.shape[-axes:]))
    return w.node("LayerNormalization", input, scale, bias, axis=-axes, epsilon=float(eps))


@emits("local_response_norm")
def local_response_norm(
    w: Writer, input: Value, size: int, alpha: float, beta: float, k: float
) -> str:
    """ONNX's operator takes images and an odd size; the rest is made of an average over channels
    that lie along an axis of pixels.
    """
    alpha, beta, k = float(alpha), float(beta), float(k)
    if input.ndim == 4 and size % 2:
        return w.node("LRN", input, size=int(size), alpha=alpha, beta=beta, bias=k)
    channels, *pixels = input.shape[1:]
    squares = w.node("Mul", input, input)
    rows = w.node("Reshape", squares, w.ints([0, 1, channels, math.prod(pixels)]))
    widths = w.ints([0, 0, size // 2, 0, 0, 0, (size - 1) // 2, 0])
    padded = w.node("Pad", rows, widths, w.like(input, 0))
    means = w.node("AveragePool", padded, kernel_shape=[int(size), 1], strides=[1, 1])
    means = w.node("Reshape", means, w.ints([0, channels, *pixels]))
    base = w.node("Add", w.node("Mul", means, w.like(input, alpha)), w.like(input, k))
    return w.node("Div", input, w.node("Pow", base, w.like(input, beta)))


def _weights(
    w: Writer, input: Value, weight: Value | None, bias: Value | None, channels: int
) -> tuple[Any, Any]:
    """Weight and bias, which ONNX does not leave out."""
    scale = weight or w.like(input, np.ones(channels))
    return scale, bias or w.like(input, np.zeros(channels))


def _by_batch(w: Writer, input: Value, weight: Value | None, bias: Value | None, eps: float) -> str:
    """With the statistics of the batch."""
    axes = w.ints([n for n in range(input.ndim) if n != 1])
    centred = w.node("Sub", input, w.node("ReduceMean", input, axes, keepdims=1))
    var = w.node("ReduceMean", w.node("Mul", centred, centred), axes, keepdims=1)
    y = w.node("Div", centred, w.node("Sqrt", w.node("Add", var, w.like(input, float(eps)))))
    y = y if weight is None else w.node("Mul", y, _per_channel(w, weight, input))
    return y if bias is None else w.node("Add", y, _per_channel(w, bias, input))


def _per_channel(w: Writer, weight: Value, input: Value) -> Any:
    """(C,) in a shape that broadcasts to (N, C, ...)."""
    if input.ndim == 2:
        return weight
    return w.node("Unsqueeze", weight, w.ints(range(1, input.ndim - 1)))
