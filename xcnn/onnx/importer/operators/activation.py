"""Activations, Clip and Dropout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .... import functional as F
from .... import random
from ....arrays import Array
from ....tensor import Tensor
from ..node import Node, operator
from .arithmetic import on_device

_SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}


def _hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    if np.float32(alpha) == np.float32(1 / 6) and beta == 0.5:
        return F.hardsigmoid(x)
    return F.clamp(F.add(F.mul(x, alpha), beta), 0, 1)


def _selu(x: Tensor, alpha: float, gamma: float) -> Tensor:
    if np.allclose((alpha, gamma), [*_SELU.values()], 1e-7, 0):
        return F.selu(x)
    return F.mul(F.elu(x, alpha), gamma)


def _swish(x: Tensor, alpha: float) -> Tensor:
    return F.silu(x) if alpha == 1 else F.mul(x, F.sigmoid(F.mul(x, alpha)))


#: by type: float attributes and their defaults, and ``compute(x, *attributes)``
_ACTIVATIONS: dict[str, tuple[dict[str, float], Callable[..., Tensor]]] = {
    "Celu": ({"alpha": 1.0}, F.celu),
    "Elu": ({"alpha": 1.0}, F.elu),
    "HardSigmoid": ({"alpha": 0.2, "beta": 0.5}, _hard_sigmoid),
    "HardSwish": ({}, F.hardswish),
    "LeakyRelu": ({"alpha": 0.01}, F.leaky_relu),
    "Mish": ({}, F.mish),
    "Selu": (_SELU, _selu),
    "Sigmoid": ({}, F.sigmoid),
    "Softplus": ({}, lambda x: F.softplus(x, threshold=math.inf)),
    "Softsign": ({}, F.softsign),
    "Swish": ({"alpha": 1.0}, _swish),
    "Tanh": ({}, F.tanh),
    "ThresholdedRelu": ({"alpha": 1.0}, lambda x, alpha: F.threshold(x, alpha, 0)),
}


@operator(*_ACTIVATIONS)
def activation(node: Node, x: Tensor) -> Tensor:
    attributes, compute = _ACTIVATIONS[node.type]
    return compute(x, *(node.number(name, default) for name, default in attributes.items()))


@operator("Relu")
def relu(node: Node, x: Tensor) -> Tensor:
    return on_device(x, lambda xp: xp.maximum(x.data, 0)) if x.dtype.kind == "i" else F.relu(x)


@operator("PRelu")
def prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    shape = slope.shape
    if node.version < 7 and slope.ndim == 1 and x.ndim > 1 and slope.numel() > 1:
        shape = (*slope.shape, *(1,) * (x.ndim - 2))  # one slope per channel
    shape = (*(1,) * (x.ndim - len(shape)), *shape)
    if np.broadcast_shapes(shape, x.shape) != x.shape:
        raise node.error(f"slope has shape {slope.shape}, which does not broadcast to {x.shape}")
    if x.dtype.kind != "f":
        a, slopes = x.data, slope.data.reshape(shape)
        return on_device(x, lambda xp: xp.where(a < 0, a * slopes, a))
    if slope.numel() == 1 or (x.ndim > 1 and slope.numel() == shape[1]):
        return F.prelu(x, F.reshape(slope, (slope.numel(),)))  # faster
    slope = F.reshape(slope, shape)
    return F.sub(F.relu(x), F.mul(F.relu(F.mul(x, -1)), slope))


@operator("Gelu")
def gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x, node.text("approximate", "none"))


@operator("Softmax", "LogSoftmax")
def softmax(node: Node, x: Tensor) -> Tensor:
    function = F.softmax if node.type == "Softmax" else F.log_softmax
    axis = node.axis(node.integer("axis", 1 if node.version < 13 else -1), x.ndim)
    if x.numel() == 0:
        return x
    if node.version >= 13 or axis == x.ndim - 1:
        return function(x, axis)
    # before version 13, softmax was over all axes from ``axis`` on
    rows = F.reshape(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))
    return F.reshape(function(rows, 1), x.shape)


@operator("Clip", static=(1, 2))
def clip(node: Node, x: Tensor, low: Array = None, high: Array = None) -> Tensor:
    if node.version < 11:
        low, high = node.number("min"), node.number("max")
    else:
        low, high = _bound(node, x, "min", low), _bound(node, x, "max", high)
    if low is None and high is None:
        return x
    if x.dtype.kind in "iu" and node.version >= 11:
        return F.clamp(x, low, high)
    if low == 0 and (high is None or high == math.inf):
        return F.relu(x)
    return F.relu6(x) if (low, high) == (0, 6) else F.clamp(x, low, high)


def _bound(node: Node, x: Tensor, name: str, value: Array) -> Any:
    if value is None:
        return None
    if value.size != 1 or value.dtype.kind != x.dtype.kind:
        raise node.error(f"{name} is {value.dtype} {value.shape}: expected one {x.dtype}")
    return value.item()


@operator("Dropout", static=(1, 2))
def dropout(node: Node, x: Tensor, ratio: Array = None, training: Array = None) -> Any:
    """Active in training mode, or if the node sets ``training_mode``."""
    p = node.number("ratio", 0.5) if ratio is None else float(ratio)
    if not 0 <= p <= 1:
        raise node.error(f"ratio={p}: expected a probability from 0 to 1")
    is_active = p > 0 and (node.training or (training is not None and bool(training)))
    if is_active and node.integer("seed") is not None:
        return _seeded(node, x, p)
    key = random.next_key() if is_active else None
    y = x if key is None else F.dropout(x, p, key=key)
    return (y, _mask(node, x, key, p)) if node.has_output(1) else y


def _mask(node: Node, x: Tensor, key: int | None, p: float = 0.0) -> Tensor:
    """Mask of the elements that dropout keeps: bool, or x's dtype before version 10."""
    with x.backend.active():
        ones = x.backend.xp.ones_like(x.data)
        mask = ones if key is None else F.dropout(ones, p, key=key).data != 0
        return Tensor(mask.astype(x.dtype if node.version < 10 else bool))


def _seeded(node: Node, x: Tensor, p: float) -> Any:
    """Dropout with the generator of ONNX's reference implementation, seeded once per node."""
    if "generator" not in vars(node):
        node.generator = np.random.RandomState(node.integer("seed") % 2**32)
    start, count, total = random.part(len(x)) or (0, len(x), len(x))
    drawn = node.generator.uniform(size=(total, *x.shape[1:]))[start : start + count]
    mask = x.backend.asarray(drawn >= p)
    with x.backend.active():
        scale = mask.astype(x.dtype)
        scale *= 1 / (1 - p) if p < 1 else 0.0
    return F.mul(x, scale), Tensor(mask)
