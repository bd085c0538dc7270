"""Nodes of older sets of operators, in the form that their operator has by now."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..importer.node import Node
from .writer import Value, Writer

_Write = Callable[..., Any]

_GONE = ("broadcast", "is_test", "spatial")  # attributes; what they ask for is the rule by now


def is_renewed(node: Node) -> bool:
    """Whether :func:`renewed` writes the node; False too where its own form still holds."""
    if node.domain or node.version >= _RENEWED.get(node.type, (0,))[0]:
        return False
    if node.type == "BatchNormalization":  # of each pixel, or of statistics that it gives back
        return bool(node.integer("spatial", 1)) and not any(map(node.wants, range(1, 5)))
    # the mask was of numbers
    return node.type != "Dropout" or node.version >= 10 or not node.wants(1)


def renewed(w: Writer, node: Node, inputs: tuple[Any, ...]) -> list[str]:
    """Write an older node, and give the names of its results."""
    found = _RENEWED[node.type][1](w, node, *inputs)
    return found if isinstance(found, list) else [found]


def _moved(*names: str) -> _Write:
    """With these attributes as inputs: lists are of int64, numbers of the first input's type."""

    def write(w: Writer, node: Node, x: Value, *inputs: Any) -> Any:
        kept = {k: v for k, v in node.attributes.items() if k not in (*names, *_GONE)}
        given = (node.attributes.get(name) for name in names)
        moved = [
            w.ints(v) if isinstance(v, list) else None if v is None else w.like(x, v) for v in given
        ]
        count = 1 + max(n for n, name in enumerate(node.outputs) if name)
        return w.node(node.type, x, *inputs, *moved, outputs=count, **kept)

    return write


def _of_two(w: Writer, node: Node, a: Value, b: Value) -> str:
    """The axes of b began at ``axis``."""
    first: Any = b
    start = node.integer("axis")
    if start is not None and node.integer("broadcast", 0) and b.ndim:
        after = a.ndim - node.axis(start, a.ndim) - b.ndim
        if after > 0:
            first = w.node("Unsqueeze", b, w.ints(range(b.ndim, b.ndim + after)))
    return w.node(node.type, a, first)


def _split(w: Writer, node: Node, x: Value, sizes: Value | None = None) -> Any:
    """Equal parts had not to be counted."""
    count, given = len(node.outputs), node.integers("split")
    how = {"axis": node.integer("axis", 0), "outputs": count}
    if given is None and sizes is None:
        return w.node("Split", x, num_outputs=count, **how)
    return w.node("Split", x, sizes or w.ints(given), **how)


def _softmax(w: Writer, node: Node, x: Value) -> str:
    """It was over all axes from ``axis`` on."""
    axis = node.axis(node.integer("axis", 1), x.ndim)
    if axis == x.ndim - 1:
        return w.node(node.type, x, axis=-1)
    y = w.node(node.type, w.node("Flatten", x, axis=axis), axis=-1)
    return w.node("Reshape", y, w.node("Shape", x))


def _resize(w: Writer, node: Node, x: Value, scales: Value | None = None) -> str:
    """The nearest pixel was the one before, or, along axes that shrink, the one after."""
    mode = node.text("mode", "nearest")
    if scales is None:
        scales = _constant(np.asarray(node.attributes["scales"], "float32"))
    how = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    if mode != "nearest":
        return w.node("Resize", x, None, scales, **how)
    y: Any = x
    factors = scales.array  # None where the graph computes them; they enlarge, or the check fails
    if factors is not None and (factors < 1).any():
        y = w.node("Resize", y, None, _constant(np.minimum(factors, 1)), nearest_mode="ceil", **how)
        scales = _constant(np.maximum(factors, 1))
    return w.node("Resize", y, None, scales, nearest_mode="floor", **how)


def _constant(array: Any) -> Value:
    return Value(None, array.shape, array.dtype, array)


#: by type: the version before which a node has another form, and what writes it
_RENEWED: dict[str, tuple[int, _Write]] = {
    **dict.fromkeys(("Add", "Div", "Mul", "Pow", "Sub"), (7, _of_two)),
    **dict.fromkeys(("And", "Equal", "Greater", "Less", "Or"), (7, _of_two)),
    "BatchNormalization": (14, _moved()),
    "Clip": (11, _moved("min", "max")),
    "Dropout": (12, _moved("ratio")),
    "Gemm": (7, _moved()),
    "LogSoftmax": (13, _softmax),
    "Pad": (11, _moved("pads", "value")),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin"), (18, _moved("axes"))),
    "ReduceSum": (13, _moved("axes")),
    "Resize": (11, _resize),
    "Slice": (10, _moved("starts", "ends", "axes")),
    "Softmax": (13, _softmax),
    "Split": (18, _split),
    "Squeeze": (13, _moved("axes")),
    "Unsqueeze": (13, _moved("axes")),
    "Upsample": (99, _resize),
}
