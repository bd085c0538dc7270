"""Small ONNX models for tests, and running them."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from xcnn.onnx.load import build


def model_of(nodes, inputs, outputs, weights=None, opset=21, **settings):
    """A ``ModelProto``: ``inputs`` maps names to shapes, ``weights`` to arrays."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_empty_tensor_value_info(n) for n in outputs],
        [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in (weights or {}).items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10, **settings
    )


def graph_of(kind, inputs, weights=None, opset=21, outputs=("y",), **attributes):
    """A Graph with one node, whose inputs are ``inputs`` (shapes by name) and then ``weights``."""
    names = [*inputs, *(weights or {})]
    node = helper.make_node(kind, names, list(outputs), name=f"a {kind}", **attributes)
    return build(model_of([node], inputs, outputs, weights, opset))
