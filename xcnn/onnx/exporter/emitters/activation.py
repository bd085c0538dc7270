"""Activations and other elementwise functions."""

from __future__ import annotations

from typing import Any

from ....extend import onnx_emitter
from ..writer import Value, Writer
from .spatial import unsqueezed

_SATURATED = 15  # above it softplus(x) = x in float32

#: operations whose ONNX operator has the same name, capitalised, and no attributes
_PLAIN = ("abs", "erf", "exp", "log", "reciprocal", "relu", "selu", "sigmoid", "sqrt", "tanh")
#: by operation: the ONNX operator, and for each attribute the type and name of its argument
_NODES: dict[str, tuple[str, dict[str, tuple[type, str]]]] = {
    **{name: (name.capitalize(), {}) for name in _PLAIN},
    "elu": ("Elu", {"alpha": (float, "alpha")}),
    "gelu": ("Gelu", {"approximate": (str, "approximate")}),
    "hardswish": ("HardSwish", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": (float, "negative_slope")}),
    "log_softmax": ("LogSoftmax", {"axis": (int, "dim")}),
    "softmax": ("Softmax", {"axis": (int, "dim")}),
}


def _register(function: str, type: str, attributes: dict[str, tuple[type, str]]) -> None:
    @onnx_emitter(function)
    def emit(w: Writer, input: Value, **arguments: Any) -> str:
        values = {name: kind(arguments[key]) for name, (kind, key) in attributes.items()}
        return w.node(type, input, **values)


for _function, _node in _NODES.items():
    _register(_function, *_node)


@onnx_emitter("relu6")
def relu6(w: Writer, input: Value) -> str:
    return clamp(w, input, 0, 6)


@onnx_emitter("clamp")
def clamp(w: Writer, input: Value, min: float | None, max: float | None) -> str:
    low, high = (None if bound is None else w.like(input, bound) for bound in (min, max))
    return w.node("Clip", input, low, high)


@onnx_emitter("hardsigmoid")
def hardsigmoid(w: Writer, input: Value) -> str:
    return w.node("HardSigmoid", input, alpha=1 / 6, beta=0.5)


@onnx_emitter("prelu")
def prelu(w: Writer, input: Value, weight: Value) -> str:
    slope = unsqueezed(w, weight, input) if weight.shape[0] > 1 else weight
    return w.node("PRelu", input, slope)


@onnx_emitter("silu")
def silu(w: Writer, input: Value) -> str:
    return w.node("Mul", input, w.node("Sigmoid", input))


@onnx_emitter("softplus")
def softplus(w: Writer, input: Value, beta: float, threshold: float) -> str:
    scaled = input if beta == 1 else w.node("Mul", input, w.like(input, beta))
    if threshold >= _SATURATED:
        y = w.node("Softplus", scaled)
    else:
        curve = w.node("Softplus", w.node("Min", scaled, w.like(input, threshold)))
        y = _above(w, scaled, input, threshold, curve)
    return y if beta == 1 else w.node("Div", y, w.like(input, beta))


@onnx_emitter("threshold")
def threshold(w: Writer, input: Value, threshold: float, value: float) -> str:
    if value == 0:
        return w.node("ThresholdedRelu", input, alpha=float(threshold))
    return _above(w, input, input, threshold, w.like(input, value))


def _above(w: Writer, x: Any, like: Value, threshold: float, other: str) -> str:
    """``x`` where it exceeds the threshold, elsewhere ``other``, which must be finite."""
    above = w.node("Relu", w.node("Sub", x, w.like(like, threshold)))
    mask = w.cast(w.cast(above, "bool"), like.dtype)  # non-zero is true
    rest = w.node("Mul", other, w.node("Sub", w.like(like, 1), mask))
    return w.node("Add", w.node("ThresholdedRelu", x, alpha=float(threshold)), rest)
