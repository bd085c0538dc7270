"""Nodes of a loaded graph, written as they were read, or as their operator is by now."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from ...importer.node import Node
from ..upgrade import is_renewed, renewed
from ..writer import Writer, emits

#: took attributes whose defaults change nothing
_GREW = (
    *("AveragePool", "Cast", "CastLike", "DepthToSpace", "GatherND", "MaxPool"),
    *("Range", "Reshape", "Resize", "Shape", "SpaceToDepth"),
)


@emits("Node.forward")
def forward(w: Writer, self: Node, inputs: tuple[Any, ...], relu: bool) -> list[str]:
    """A tracer sees ReLUs by themselves: ``relu`` is False."""
    from onnx import helper

    w.stem = self.name
    if is_renewed(self):
        return renewed(w, self, inputs)
    node = w.append(helper.make_node(self.type, [], [], domain=self.domain), inputs)
    types = {k: a.type for k, a in _schema(self.type, self.domain, self.version).attributes.items()}
    for key, value in self.attributes.items():
        node.attribute.append(helper.make_attribute(key, _as_proto(value), attr_type=types[key]))
    results = [n and w.unique(n) for n in self.outputs]
    node.output[:] = results
    return results


def is_same(node: Node, version: int) -> bool:
    """Whether the operator set of ``version`` has the operator as the node's own set has it.

    Types may have been added, and inputs at the end; attributes only where without them the
    operator is what it was: a default may mean something new.
    """
    old = _schema(node.type, node.domain, node.version)
    new = _schema(node.type, node.domain, version if node.domain == "" else node.version)
    if old.since_version == new.since_version:
        return True
    if new.deprecated or (node.type == "PRelu" and node.version < 7):  # slopes per channel
        return False
    inputs, defaults = [i.name for i in old.inputs], _defaults(new)
    if node.type in _GREW:
        defaults = {k: v for k, v in defaults.items() if k in old.attributes}
    same_inputs = inputs == [i.name for i in new.inputs][: len(inputs)]
    return same_inputs and defaults == _defaults(old)


@cache
def _schema(type: str, domain: str, version: int) -> Any:
    from onnx import defs

    return defs.get_schema(type, max_inclusive_version=version, domain=domain)


def _defaults(schema: Any) -> dict[str, Any]:
    return {k: a.default_value.SerializeToString() for k, a in schema.attributes.items()}


def _as_proto(value: Any) -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
