"""Activations and other elementwise functions."""

from __future__ import annotations

from typing import Any

from ....extend import onnx_emitter
from ..writer import CannotExportError, Value, Writer
from .spatial import unsqueezed

_SATURATED = 15  # above it softplus(x) = x in float32

#: operations whose ONNX operator has the same name, capitalised, and no attributes
_PLAIN = (
    *("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "erf", "exp", "log"),
    *("mish", "reciprocal", "relu", "selu", "sigmoid", "sin", "sinh", "softsign", "sqrt", "tan"),
    "tanh",
)
#: those that keep integers; the rounding ones are the identity for them
_EXACT = ("abs", "neg", "sign")
_ROUNDING = ("ceil", "floor")
#: by operation: the ONNX operator, and for each attribute the type and name of its argument
_NODES: dict[str, tuple[str, dict[str, tuple[type, str]]]] = {
    **{name: (name.capitalize(), {}) for name in (*_PLAIN, *_EXACT, *_ROUNDING)},
    "celu": ("Celu", {"alpha": (float, "alpha")}),
    "elu": ("Elu", {"alpha": (float, "alpha")}),
    "gelu": ("Gelu", {"approximate": (str, "approximate")}),
    "hardshrink": ("Shrink", {"lambd": (float, "lambd")}),
    "hardswish": ("HardSwish", {}),
    "isinf": ("IsInf", {}),
    "isnan": ("IsNaN", {}),
    "leaky_relu": ("LeakyRelu", {"alpha": (float, "negative_slope")}),
    "softshrink": ("Shrink", {"lambd": (float, "lambd"), "bias": (float, "lambd")}),
}


def floats(w: Writer, input: Value) -> Any:
    """Integers and bools as float32."""
    return input if input.dtype.kind == "f" else w.cast(input, "float32")


def _register(function: str, type: str, attributes: dict[str, tuple[type, str]]) -> None:
    @onnx_emitter(function)
    def emit(w: Writer, input: Value, **arguments: Any) -> str:
        values = {name: kind(arguments[key]) for name, (kind, key) in attributes.items()}
        if function in _ROUNDING and input.dtype.kind != "f":
            return w.node("Identity", input)
        return w.node(type, input if function in _EXACT else floats(w, input), **values)


for _function, _node in _NODES.items():
    _register(_function, *_node)


def _register_softmax(function: str, type: str) -> None:
    @onnx_emitter(function)
    def emit(w: Writer, input: Value, dim: int | None, dtype: Any) -> str:
        axis = min(input.ndim - 1, 1) if dim is None else int(dim)
        return w.node(type, input if dtype is None else w.cast(input, dtype), axis=axis)


_register_softmax("softmax", "Softmax")
_register_softmax("log_softmax", "LogSoftmax")


@onnx_emitter("clone", "contiguous", "positive")
def identity(w: Writer, input: Value) -> str:
    return w.node("Identity", input)


@onnx_emitter("round")
def round(w: Writer, input: Value, decimals: int = 0) -> str | None:
    if input.dtype.kind != "f":
        return w.node("Identity", input)
    return None if decimals else w.node("Round", input)


@onnx_emitter("trunc")
def trunc(w: Writer, input: Value) -> str | None:
    return None if input.dtype.kind == "f" else w.node("Identity", input)


@onnx_emitter("relu6")
def relu6(w: Writer, input: Value) -> str | None:
    return clamp(w, input, 0, 6)


@onnx_emitter("hardtanh")
def hardtanh(w: Writer, input: Value, min_val: float, max_val: float) -> str | None:
    return clamp(w, input, min_val, max_val)


@onnx_emitter("clamp")
def clamp(w: Writer, input: Value, min: Any, max: Any) -> str | None:
    bounds = [min, max]
    if any(isinstance(bound, Value) for bound in bounds):
        return None
    whole = input.dtype.kind == "f" or not any(isinstance(bound, float) for bound in bounds)
    x, dtype = (input, input.dtype) if whole else (floats(w, input), "float32")
    return w.node("Clip", x, *(None if b is None else w.number(b, dtype) for b in bounds))


@onnx_emitter("hardsigmoid")
def hardsigmoid(w: Writer, input: Value) -> str:
    return w.node("HardSigmoid", input, alpha=1 / 6, beta=0.5)


@onnx_emitter("prelu")
def prelu(w: Writer, input: Value, weight: Value) -> str:
    slope = unsqueezed(w, weight, input) if weight.ndim and weight.shape[0] > 1 else weight
    return w.node("PRelu", input, slope)


@onnx_emitter("softplus")
def softplus(w: Writer, input: Value, beta: float, threshold: float) -> str | None:
    if threshold < _SATURATED:
        return None
    y = w.node("Softplus", input if beta == 1 else w.node("Mul", input, w.like(input, beta)))
    return y if beta == 1 else w.node("Div", y, w.like(input, beta))


@onnx_emitter("threshold")
def threshold(w: Writer, input: Value, threshold: float, value: float) -> str | None:
    return None if value else w.node("ThresholdedRelu", input, alpha=float(threshold))


@onnx_emitter(
    "alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout",
    "rrelu",
)  # fmt: skip
def random(w: Writer, training: bool, **arguments: Any) -> None:
    """Inactive dropout returns its input, and is not exported."""
    if training:
        raise CannotExportError("with training=True: random numbers")
