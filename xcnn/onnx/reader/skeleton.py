"""A model without its weights: the architecture of a saved Graph."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from typing import Any


def without_weights(
    model: Any, nodes: Iterable[Any], imports: Iterable[Any], settings: Mapping[str, Any]
) -> str:
    """Serialise an ``onnx.ModelProto`` without the data of its weights and constants, in base64.

    Parameters
    ----------
    model
        The model; it is not modified.
    nodes, imports
        Nodes and opset imports after inlining functions.
    settings
        NumPy arrays by name, stored with their data because the state dict does not hold them.
    """
    copy = copy_header(model, imports)
    copy.metadata_props.extend(model.metadata_props)
    for tensor in model.graph.initializer:
        _add_tensor(copy.graph.initializer.add(), tensor, tensor.name, settings)
    for node in nodes:
        _add_node(copy.graph.node.add(), node, settings)
    return base64.b64encode(copy.SerializeToString(deterministic=True)).decode()


def copy_header(model: Any, imports: Iterable[Any]) -> Any:
    """A model with the same version, inputs and outputs, but no nodes or weights."""
    copy = type(model)(ir_version=model.ir_version)
    copy.opset_import.extend(imports)
    copy.graph.name = "graph"
    copy.graph.input.extend(model.graph.input)
    copy.graph.output.extend(model.graph.output)
    return copy


def _add_node(copy: Any, node: Any, settings: Mapping[str, Any]) -> None:
    if node.op_type != "Constant" or node.attribute[0].name != "value":
        copy.CopyFrom(node)
        return
    copy.op_type, copy.name = node.op_type, node.name
    copy.output.extend(node.output)
    value = node.attribute[0]
    tensor = copy.attribute.add(name=value.name, type=value.type).t
    _add_tensor(tensor, value.t, node.output[0], settings)


def _add_tensor(copy: Any, tensor: Any, name: str, settings: Mapping[str, Any]) -> None:
    from onnx import numpy_helper

    if name in settings:
        copy.CopyFrom(numpy_helper.from_array(settings[name], name))
        return
    copy.name, copy.data_type = name, tensor.data_type
    copy.dims.extend(tensor.dims)
    copy.data_location = copy.EXTERNAL  # without a location: in the state dict
