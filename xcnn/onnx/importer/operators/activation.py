"""Activations, Dropout and Clip."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .... import functional as F
from .... import random
from ....arrays import Array
from ....tensor import Tensor
from ..node import Node, operator

# defaults of ONNX, in float32 as the file would have them
_SELU = (1.67326319217681884765625, 1.05070102214813232421875)


@operator("Relu")
def relu(node: Node, x: Tensor) -> Tensor:
    if x.dtype.kind == "i":
        with x.backend.active():
            return Tensor(x.backend.xp.maximum(x.data, 0))
    return F.relu(x)


@operator("LeakyRelu")
def leaky_relu(node: Node, x: Tensor) -> Tensor:
    return F.leaky_relu(x, node.number("alpha", 0.01))


@operator("PRelu")
def prelu(node: Node, x: Tensor, slope: Tensor) -> Tensor:
    """Slopes of one number, or of one per channel, go to the fast way."""
    aligned = slope.shape
    if node.version < 7 and slope.ndim == 1 and x.ndim > 1 and slope.size > 1:
        aligned = (*slope.shape, *(1,) * (x.ndim - 2))  # of channels
    aligned = (*(1,) * (x.ndim - len(aligned)), *aligned)
    if np.broadcast_shapes(aligned, x.shape) != x.shape:
        raise node.error(f"slope has shape {slope.shape}, which does not broadcast to {x.shape}")
    if x.dtype.kind != "f":
        with x.backend.active():
            a, slopes = x.data, slope.data.reshape(aligned)
            return Tensor(x.backend.xp.where(a < 0, a * slopes, a))
    if slope.size == 1 or (x.ndim > 1 and slope.size == aligned[1]):
        return F.prelu(x, F.reshape(slope, (slope.size,)))
    slope = F.reshape(slope, aligned)
    return F.sub(F.relu(x), F.mul(F.relu(F.mul(x, -1)), slope))


@operator("Elu")
def elu(node: Node, x: Tensor) -> Tensor:
    return F.elu(x, node.number("alpha", 1.0))


@operator("Celu")
def celu(node: Node, x: Tensor) -> Tensor:
    alpha = node.number("alpha", 1.0)
    if not alpha > 0:
        raise node.error(f"alpha={alpha}: expected a number above 0")
    return F.mul(F.elu(F.div(x, alpha)), alpha)


@operator("Selu")
def selu(node: Node, x: Tensor) -> Tensor:
    alpha, gamma = node.number("alpha", _SELU[0]), node.number("gamma", _SELU[1])
    if np.float32(alpha) == np.float32(_SELU[0]) and np.float32(gamma) == np.float32(_SELU[1]):
        return F.selu(x)
    return F.mul(F.elu(x, alpha), gamma)


@operator("Gelu")
def gelu(node: Node, x: Tensor) -> Tensor:
    return F.gelu(x, node.text("approximate", "none"))


@operator("HardSigmoid")
def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    alpha, beta = node.number("alpha", 0.2), node.number("beta", 0.5)
    if np.float32(alpha) == np.float32(1 / 6) and beta == 0.5:
        return F.hardsigmoid(x)
    return F.clamp(F.add(F.mul(x, alpha), beta), 0, 1)


@operator("HardSwish")
def hard_swish(node: Node, x: Tensor) -> Tensor:
    return F.hardswish(x)


@operator("Sigmoid")
def sigmoid(node: Node, x: Tensor) -> Tensor:
    return F.sigmoid(x)


@operator("Tanh")
def tanh(node: Node, x: Tensor) -> Tensor:
    return F.tanh(x)


@operator("Softplus")
def softplus(node: Node, x: Tensor) -> Tensor:
    return F.softplus(x, threshold=math.inf)


@operator("Softsign")
def softsign(node: Node, x: Tensor) -> Tensor:
    return F.div(x, F.add(F.abs(x), 1))


@operator("Mish")
def mish(node: Node, x: Tensor) -> Tensor:
    return F.mul(x, F.tanh(F.softplus(x, threshold=math.inf)))


@operator("Swish")
def swish(node: Node, x: Tensor) -> Tensor:
    alpha = node.number("alpha", 1.0)
    return F.silu(x) if alpha == 1 else F.mul(x, F.sigmoid(F.mul(x, alpha)))


@operator("ThresholdedRelu")
def thresholded_relu(node: Node, x: Tensor) -> Tensor:
    return F.threshold(x, node.number("alpha", 1.0), 0)


@operator("Softmax", "LogSoftmax")
def softmax(node: Node, x: Tensor) -> Tensor:
    function = F.softmax if node.type == "Softmax" else F.log_softmax
    axis = node.axis(node.integer("axis", 1 if node.version < 13 else -1), x.ndim)
    if x.size == 0:
        return x
    if node.version >= 13 or axis == x.ndim - 1:
        return function(x, axis)
    # older versions: over all axes from that one on
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
        with x.backend.active():
            return Tensor(x.backend.xp.clip(x.data, low, high))
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
    """Drops where the file says so, and while the model is being trained."""
    p, dropping = _dropout_settings(node, ratio, training)
    if not dropping or p == 0:
        return (x, _mask(node, x, None)) if node.wants(1) else x
    if node.integer("seed") is not None:
        return _seeded(node, x, p)
    key = random.next_key()
    y = F.dropout(x, p, key=key)
    return (y, _mask(node, x, key, p)) if node.wants(1) else y


def _dropout_settings(node: Node, ratio: Array, training: Array) -> tuple[float, bool]:
    """The probability, and whether to drop."""
    always = training is not None and bool(training)
    p = node.number("ratio", 0.5) if ratio is None else float(ratio)
    if not 0 <= p <= 1:
        raise node.error(f"ratio={p}: expected a probability from 0 to 1")
    return p, always or node.training


def _mask(node: Node, x: Tensor, key: int | None, p: float = 0.0) -> Tensor:
    """True where ``x`` was kept; numbers of x's type before version 10."""
    with x.backend.active():
        ones = x.backend.xp.ones_like(x.data)
        kept = ones if key is None else F.dropout(ones, p, key=key).data != 0
        return Tensor(kept.astype(x.dtype if node.version < 10 else bool))


def _seeded(node: Node, x: Tensor, p: float) -> Any:
    """With a generator of the node's own, that of ONNX's reference implementation, on the host."""
    kept = x.backend.asarray(_generator(node).uniform(size=x.shape) >= p)
    with x.backend.active():
        share = kept.astype(x.dtype)
        share *= 1 / (1 - p) if p < 1 else 0.0
    return F.mul(x, share), Tensor(kept)


def _generator(node: Node) -> Any:
    """Seeded once; it goes on from call to call."""
    own = vars(node)
    if "generator" not in own:
        own["generator"] = np.random.RandomState(node.integer("seed") % 2**32)
    return own["generator"]
