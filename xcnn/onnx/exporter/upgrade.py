"""Upgrading nodes of older operator sets to the exported one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from ..importer import Node
from .writer import Value, Writer

_Upgrade = Callable[..., Any]

#: attributes that were removed, because one setting became the only behaviour
_REMOVED = ("broadcast", "is_test", "spatial")
#: operators with new attributes whose defaults keep the old meaning
_COMPATIBLE = (
    *("ArgMax", "ArgMin", "AveragePool", "Cast", "CastLike", "DepthToSpace", "GatherND"),
    *("MaxPool", "Range", "Reshape", "Resize", "ScatterElements", "ScatterND", "Shape"),
    *("SpaceToDepth", "TopK"),
)


def is_current(node: Node, version: int) -> bool:
    """Whether a node means the same in operator set ``version``.

    New types and trailing inputs are allowed; new attributes only if their defaults keep the
    meaning.
    """
    old = schema(node.type, node.domain, node.version)
    new = schema(node.type, node.domain, version if node.domain == "" else node.version)
    if old.since_version == new.since_version:
        return True
    if new.deprecated or (node.type == "PRelu" and node.version < 7):  # one slope per channel
        return False
    inputs, defaults = [i.name for i in old.inputs], _defaults(new)
    if node.type in _COMPATIBLE:
        defaults = {k: v for k, v in defaults.items() if k in old.attributes}
    same_inputs = inputs == [i.name for i in new.inputs][: len(inputs)]
    return same_inputs and defaults == _defaults(old)


@cache
def schema(type: str, domain: str, version: int) -> Any:
    """The ``onnx.defs.OpSchema`` of an operator."""
    from onnx import defs

    return defs.get_schema(type, max_inclusive_version=version, domain=domain)


def _defaults(schema: Any) -> dict[str, Any]:
    return {k: a.default_value.SerializeToString() for k, a in schema.attributes.items()}


def can_upgrade(node: Node) -> bool:
    """Whether :func:`upgrade` supports a node; False if it needs no upgrade."""
    if node.domain or node.version >= _UPGRADES.get(node.type, (0,))[0]:
        return False
    if node.type == "BatchNormalization":  # neither per pixel nor with statistics as outputs
        return bool(node.integer("spatial", 1)) and not any(map(node.has_output, range(1, 5)))
    # before version 10 the mask was numeric
    return node.type != "Dropout" or node.version >= 10 or not node.has_output(1)


def upgrade(w: Writer, node: Node, inputs: tuple[Any, ...]) -> list[str]:
    """Write a node in its current form and return the names of its outputs."""
    names = _UPGRADES[node.type][1](w, node, *inputs)
    return names if isinstance(names, list) else [names]


def _as_inputs(*names: str) -> _Upgrade:
    """Turn attributes into inputs: lists as int64, numbers in the first input's dtype."""

    def write(w: Writer, node: Node, x: Value, *inputs: Any) -> Any:
        attributes = {k: v for k, v in node.attributes.items() if k not in (*names, *_REMOVED)}
        values = (node.attributes.get(name) for name in names)
        moved = [
            w.ints(v) if isinstance(v, list) else None if v is None else w.like(x, v)
            for v in values
        ]
        count = 1 + max(n for n, name in enumerate(node.outputs) if name)
        return w.node(node.type, x, *inputs, *moved, outputs=count, **attributes)

    return write


def _binary(w: Writer, node: Node, a: Value, b: Value) -> str:
    """Before version 7, the axes of b were aligned with those of a from ``axis`` on."""
    aligned: Any = b
    start = node.integer("axis")
    if start is not None and node.integer("broadcast", 0) and b.ndim:
        after = a.ndim - node.axis(start, a.ndim) - b.ndim
        if after > 0:
            aligned = w.node("Unsqueeze", b, w.ints(range(b.ndim, b.ndim + after)))
    return w.node(node.type, a, aligned)


def _split(w: Writer, node: Node, x: Value, sizes: Value | None = None) -> Any:
    """Before version 18, ``num_outputs`` was implicit."""
    count, lengths, axis = len(node.outputs), node.integers("split"), node.integer("axis", 0)
    parts = sizes or (lengths and w.ints(lengths))
    num_outputs = None if parts else count
    return w.node("Split", x, parts, outputs=count, axis=axis, num_outputs=num_outputs)


def _softmax(w: Writer, node: Node, x: Value) -> str:
    """Before version 13, softmax was over all axes from ``axis`` on."""
    axis = node.axis(node.integer("axis", 1), x.ndim)
    if axis == x.ndim - 1:
        return w.node(node.type, x, axis=-1)
    y = w.node(node.type, w.node("Flatten", x, axis=axis), axis=-1)
    return w.node("Reshape", y, w.node("Shape", x))


def _renamed(**changes: Any) -> _Upgrade:
    """Other attributes: by name, a value, or the new values by the old ones."""

    def write(w: Writer, node: Node, *inputs: Value) -> str:
        attributes = dict(node.attributes)
        for name, value in changes.items():
            old = attributes.get(name)
            attributes[name] = value.get(old, old) if isinstance(value, dict) else value
        return w.node(node.type, *inputs, **attributes)

    return write


def _top_k(w: Writer, node: Node, x: Value) -> Any:
    axis, count = node.integer("axis", -1), node.integer("k")
    return w.node("TopK", x, w.ints([count]), outputs=2, axis=axis)


def _scatter(w: Writer, node: Node, *inputs: Value) -> str:
    return w.node("ScatterElements", *inputs, **node.attributes)


def _resize(w: Writer, node: Node, x: Value, scales: Value | None = None) -> str:
    """In nearest mode, positions were rounded down, or up along axes that shrink."""
    y: Any = x
    factors: Any = scales or np.asarray(node.attributes["scales"], "float32")
    if scales is not None and scales.array is not None:  # computed scales are assumed to enlarge
        factors = scales.array
    mode = node.text("mode", "nearest")
    attributes = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    if mode != "nearest":
        return w.node("Resize", x, None, factors, **attributes)
    if isinstance(factors, np.ndarray) and (factors < 1).any():
        y = w.node("Resize", y, None, np.minimum(factors, 1), nearest_mode="ceil", **attributes)
        factors = np.maximum(factors, 1)
    return w.node("Resize", y, None, factors, nearest_mode="floor", **attributes)


#: by type: the version that introduced the current form, and how to upgrade to it
_UPGRADES: dict[str, tuple[int, _Upgrade]] = {
    **dict.fromkeys(("Add", "Div", "Mul", "Pow", "Sub"), (7, _binary)),
    **dict.fromkeys(("And", "Equal", "Greater", "Less", "Or", "Xor"), (7, _binary)),
    "BatchNormalization": (14, _as_inputs()),
    "Clip": (11, _as_inputs("min", "max")),
    "Dropout": (12, _as_inputs("ratio")),
    "Gemm": (7, _as_inputs()),
    "GridSample": (20, _renamed(mode={None: "linear", "bilinear": "linear", "bicubic": "cubic"})),
    **dict.fromkeys(("LogSoftmax", "Softmax"), (13, _softmax)),
    "Pad": (11, _as_inputs("pads", "value")),
    **{
        f"Reduce{name}": (18, _as_inputs("axes"))
        for name in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare")
    },
    **dict.fromkeys(("ReduceSum", "Squeeze", "Unsqueeze"), (13, _as_inputs("axes"))),
    "Resize": (11, _resize),
    "RoiAlign": (16, _renamed(coordinate_transformation_mode="output_half_pixel")),
    "Scatter": (99, _scatter),
    "Slice": (10, _as_inputs("starts", "ends", "axes")),
    "Split": (18, _split),
    "TopK": (10, _top_k),
    "Upsample": (99, _resize),
}
