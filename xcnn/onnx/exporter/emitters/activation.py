"""Activations and other functions of one number at a time."""

from __future__ import annotations

from typing import Any

from ..writer import Value, Writer, emits

_FAR = 15  # from there on float32 does not tell softplus from its argument


def _same(function: str, type: str) -> None:
    """An activation without settings that is an operator of ONNX."""

    @emits(function)
    def emit(w: Writer, input: Value) -> str:
        return w.node(type, input)


for _function, _type in {
    "abs": "Abs",
    "erf": "Erf",
    "exp": "Exp",
    "hardswish": "HardSwish",
    "log": "Log",
    "reciprocal": "Reciprocal",
    "relu": "Relu",
    "selu": "Selu",
    "sigmoid": "Sigmoid",
    "sqrt": "Sqrt",
    "tanh": "Tanh",
}.items():
    _same(_function, _type)


@emits("relu6")
def relu6(w: Writer, input: Value) -> str:
    return w.node("Clip", input, w.like(input, 0), w.like(input, 6))


@emits("hardsigmoid")
def hardsigmoid(w: Writer, input: Value) -> str:
    return w.node("HardSigmoid", input, alpha=1 / 6, beta=0.5)


@emits("clamp")
def clamp(w: Writer, input: Value, min: float | None, max: float | None) -> str:
    low, high = (None if bound is None else w.like(input, bound) for bound in (min, max))
    return w.node("Clip", input, low, high)


@emits("leaky_relu")
def leaky_relu(w: Writer, input: Value, negative_slope: float) -> str:
    return w.node("LeakyRelu", input, alpha=float(negative_slope))


@emits("prelu")
def prelu(w: Writer, input: Value, weight: Value) -> str:
    slope: Value | str = weight
    if weight.shape[0] > 1 and input.ndim > 2:  # ONNX counts axes from the back
        slope = w.node("Unsqueeze", weight, w.ints(range(1, input.ndim - 1)))
    return w.node("PRelu", input, slope)


@emits("elu")
def elu(w: Writer, input: Value, alpha: float) -> str:
    return w.node("Elu", input, alpha=float(alpha))


@emits("gelu")
def gelu(w: Writer, input: Value, approximate: str) -> str:
    return w.node("Gelu", input, approximate=approximate)


@emits("silu")
def silu(w: Writer, input: Value) -> str:
    return w.node("Mul", input, w.node("Sigmoid", input))


@emits("softplus")
def softplus(w: Writer, input: Value, beta: float, threshold: float) -> str:
    scaled = input if beta == 1 else w.node("Mul", input, w.like(input, beta))
    if threshold >= _FAR:
        y = w.node("Softplus", scaled)
    else:
        curve = w.node("Softplus", w.node("Min", scaled, w.like(input, threshold)))
        y = instead(w, scaled, input, threshold, curve)
    return y if beta == 1 else w.node("Div", y, w.like(input, beta))


@emits("threshold")
def threshold(w: Writer, input: Value, threshold: float, value: float) -> str:
    if value == 0:
        return w.node("ThresholdedRelu", input, alpha=float(threshold))
    return instead(w, input, input, threshold, w.like(input, value))


def instead(w: Writer, x: Any, like: Value, threshold: float, others: str) -> str:
    """``x`` where it is above the threshold, else ``others``, which are finite."""
    above = w.node("Relu", w.node("Sub", x, w.like(like, threshold)))
    mask = w.cast(w.cast(above, "bool"), like.dtype)  # what is not 0 is true
    rest = w.node("Mul", others, w.node("Sub", w.like(like, 1), mask))
    return w.node("Add", w.node("ThresholdedRelu", x, alpha=float(threshold)), rest)


@emits("softmax")
def softmax(w: Writer, input: Value, dim: int) -> str:
    return w.node("Softmax", input, axis=dim)


@emits("log_softmax")
def log_softmax(w: Writer, input: Value, dim: int) -> str:
    return w.node("LogSoftmax", input, axis=dim)
