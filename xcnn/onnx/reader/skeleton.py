"""A model without its weights: what a saved Graph is built from again."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any


def outline_of(
    model: Any, nodes: Iterable[Any], imports: Iterable[Any], kept: Mapping[str, Any]
) -> str:
    """A copy of an ``onnx.ModelProto`` without the data of weights and constants, in base64.

    Parameters
    ----------
    model
        Not changed.
    nodes, imports
        Of the graph and the operator sets, without the model's own functions.
    kept
        NumPy arrays by name: those of which no state dict has the data.
    """
    copy = type(model)(ir_version=model.ir_version)
    copy.opset_import.extend(imports)
    copy.metadata_props.extend(model.metadata_props)
    copy.graph.name = "graph"
    copy.graph.input.extend(model.graph.input)
    copy.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        _add_tensor(copy.graph.initializer.add(), tensor, tensor.name, kept)
    for node in nodes:
        _add_node(copy.graph.node.add(), node, kept)
    return base64.b64encode(copy.SerializeToString(deterministic=True)).decode()


def _add_node(copy: Any, node: Any, kept: Mapping[str, Any]) -> None:
    if node.op_type != "Constant" or node.attribute[0].name != "value":
        copy.CopyFrom(node)
        return
    copy.op_type, copy.name = node.op_type, node.name
    copy.output.extend(node.output)
    given = node.attribute[0]
    value = copy.attribute.add(name=given.name, type=given.type)
    _add_tensor(value.t, given.t, node.output[0], kept)


def _add_tensor(copy: Any, tensor: Any, name: str, kept: Mapping[str, Any]) -> None:
    from onnx import numpy_helper

    if name in kept:
        copy.CopyFrom(numpy_helper.from_array(kept[name], name))
        return
    copy.name, copy.data_type = name, tensor.data_type
    copy.dims.extend(tensor.dims)
    copy.data_location = copy.EXTERNAL  # with no place: in the state dict
