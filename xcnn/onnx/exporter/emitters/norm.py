"""Normalisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ....extend import onnx_emitter
from ..writer import Value, Writer
from .spatial import unsqueezed

Weight = Value | None


@onnx_emitter("batch_norm")
def batch_norm(
    w: Writer,
    input: Value,
    weight: Weight,
    bias: Weight,
    training: bool,
    eps: float,
    **running: Any,  # and what follows in the same pass
) -> str:
    if training:
        y = _with_batch_statistics(w, input, weight, bias, eps)
    else:
        statistics = running["running_mean"], running["running_var"]
        y = _norm(w, "BatchNormalization", input, weight, bias, *statistics, epsilon=float(eps))
    if running.get("residual") is not None:
        y = w.node("Add", y, running["residual"])
    if not running.get("relu"):
        return y
    if running["ceiling"] == math.inf:
        return w.node("Relu", y)
    return w.node("Clip", y, *(w.number(bound, input.dtype) for bound in (0, running["ceiling"])))


@onnx_emitter("instance_norm")
def instance_norm(w: Writer, input: Value, use_input_stats: bool, **settings: Any) -> str:
    if not use_input_stats:
        return batch_norm(w, input, training=False, **settings)
    weight, bias, eps = settings["weight"], settings["bias"], float(settings["eps"])
    return _norm(w, "InstanceNormalization", input, weight, bias, epsilon=eps)


@onnx_emitter("group_norm")
def group_norm(
    w: Writer, input: Value, num_groups: int, weight: Weight, bias: Weight, eps: float
) -> str:
    attributes = {"num_groups": int(num_groups), "epsilon": float(eps)}
    return _norm(w, "GroupNormalization", input, weight, bias, **attributes)


def _norm(
    w: Writer, type: str, input: Value, weight: Weight, bias: Weight, *more: Any, **attributes: Any
) -> str:
    """A normalisation node; ONNX requires weight and bias."""
    scale = weight or w.like(input, np.ones(input.shape[1]))
    shift = bias or w.like(input, np.zeros(input.shape[1]))
    return w.node(type, input, scale, shift, *more, **attributes)


@onnx_emitter("layer_norm")
def layer_norm(
    w: Writer, input: Value, normalized_shape: Any, weight: Weight, bias: Weight, eps: float
) -> str:
    ndim = len(normalized_shape) if isinstance(normalized_shape, tuple | list) else 1
    scale = weight or w.like(input, np.ones(input.shape[-ndim:]))
    return w.node("LayerNormalization", input, scale, bias, axis=-ndim, epsilon=float(eps))


@onnx_emitter("local_response_norm")
def local_response_norm(
    w: Writer, input: Value, size: int, alpha: float, beta: float, k: float
) -> str:
    """LRN for images and odd sizes, which is all that ONNX supports; else an average pool over
    the channels.
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


def _with_batch_statistics(
    w: Writer, input: Value, weight: Weight, bias: Weight, eps: float
) -> str:
    axes = w.ints([n for n in range(input.ndim) if n != 1])
    centred = w.node("Sub", input, w.node("ReduceMean", input, axes, keepdims=1))
    var = w.node("ReduceMean", w.node("Mul", centred, centred), axes, keepdims=1)
    y = w.node("Div", centred, w.node("Sqrt", w.node("Add", var, w.like(input, float(eps)))))
    y = y if weight is None else w.node("Mul", y, unsqueezed(w, weight, input))
    return y if bias is None else w.node("Add", y, unsqueezed(w, bias, input))
