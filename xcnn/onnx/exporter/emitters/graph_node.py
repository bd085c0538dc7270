"""Nodes of a loaded graph, written unchanged or upgraded."""

from __future__ import annotations

from typing import Any

import numpy as np

from ....extend import onnx_emitter
from ...importer import Node
from ..upgrade import can_upgrade, schema, upgrade
from ..writer import Writer


@onnx_emitter("Node.forward")
def forward(w: Writer, self: Node, inputs: tuple[Any, ...], relu: bool) -> list[str]:
    """``relu`` is always False: ReLUs are not fused while tracing."""
    from onnx import helper, numpy_helper

    w.prefix = self.name
    if can_upgrade(self):
        return upgrade(w, self, inputs)
    node = w.append(helper.make_node(self.type, [], [], domain=self.domain), inputs)
    declared = schema(self.type, self.domain, self.version).attributes
    for key, value in self.attributes.items():
        proto = numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        node.attribute.append(helper.make_attribute(key, proto, attr_type=declared[key].type))
    names = [n and w.unique(n) for n in self.outputs]
    node.output[:] = names
    return names
