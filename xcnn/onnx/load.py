"""From an ONNX file to a Graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileFormatError, UnsupportedOperatorError
from . import operators  # noqa: F401  (fills the table)
from .graph import Graph
from .node import OPERATORS, Node
from .read import array_of, attribute, read_model

LIMIT = 2**32  # bytes of one value: four times what the activations of VGG-16 take, 64 images


def load(path: Any, limit: int = LIMIT) -> Graph:
    """Read an ONNX model as a Module, on the CPU, in evaluation mode.

    The model can be trained further, moved to a GPU and exported again; its weights have the
    names that they have in the file. A file may come from anybody: reading and running it executes
    nothing but the operators in it.

    Parameters
    ----------
    path
        The file. Weights that lie in files of their own must be in its folder.
    limit
        The most bytes that one array of the graph may take, weights and results alike.

    Returns
    -------
    Graph

    Raises
    ------
    FileNotFoundError
        No such file.
    FileFormatError
        Not an ONNX file, truncated, or malformed: the text names the node.
    UnsupportedOperatorError
        Lists every node that xcnn does not compute.
    """
    return build(read_model(path, limit), Path(path).parent, limit)


def build(model: Any, folder: Path | None = None, limit: int = LIMIT) -> Graph:
    """The Graph of an ``onnx.ModelProto`` whose external weights, if any, lie in ``folder``.

    Raises
    ------
    FileFormatError, UnsupportedOperatorError
        As :func:`load`.
    """
    graph, versions = model.graph, _versions(model)
    _check_operators(graph.node)
    weights = {t.name: array_of(t, folder, limit, f"weight {t.name!r}") for t in graph.initializer}
    constants, nodes = {}, []
    for number, proto in enumerate(graph.node):
        if proto.op_type == "Constant":
            constants[proto.output[0]] = _constant(proto, folder, limit)
        else:
            nodes.append(_node(proto, number, versions, folder, limit))
    inputs = {i.name: _shape(i.type) for i in graph.input if i.name not in weights}
    outputs = [o.name for o in graph.output]
    _check_names(nodes, {*weights, *constants, *inputs}, outputs)
    metadata = {p.key: p.value for p in model.metadata_props}
    return Graph(nodes, inputs, outputs, weights, constants, metadata).eval()


def _versions(model: Any) -> dict[str, int]:
    """Version of the operator set by domain."""
    return {"" if o.domain == "ai.onnx" else o.domain: o.version for o in model.opset_import}


def _domain(proto: Any) -> str:
    return "" if proto.domain == "ai.onnx" else proto.domain


def _check_operators(protos: Any) -> None:
    known = {*OPERATORS, ("", "Constant")}
    unknown = [p for p in protos if (_domain(p), p.op_type) not in known]
    if unknown:
        lines = [f"{p.domain and p.domain + '.'}{p.op_type}: node {p.name!r}" for p in unknown]
        raise UnsupportedOperatorError(
            f"xcnn does not compute {len(unknown)} of this model's nodes:\n  " + "\n  ".join(lines)
        )


def _node(proto: Any, number: int, versions: dict[str, int], folder: Any, limit: int) -> Node:
    domain, name = _domain(proto), proto.name or f"{proto.op_type}_{number}"
    if domain not in versions:
        raise FileFormatError(f"node {name!r}: the model imports no operators of {domain!r}")
    where = f"node {name!r} ({proto.op_type})"
    attributes = {a.name: attribute(a, folder, limit, where) for a in proto.attribute}
    return Node(
        proto.op_type,
        domain,
        name,
        attributes,
        proto.input,
        proto.output,
        versions[domain],
        limit,
    )


def _constant(proto: Any, folder: Any, limit: int) -> Any:
    """The array of a Constant node."""
    where = f"node {proto.name!r} (Constant)"
    if len(proto.attribute) != 1 or len(proto.output) != 1:
        raise FileFormatError(f"{where}: expected one attribute and one output")
    given = proto.attribute[0]
    value = attribute(given, folder, limit, where)
    if given.name == "value":
        return value
    dtypes = {"value_float": "f4", "value_floats": "f4", "value_int": "i8", "value_ints": "i8"}
    if given.name not in dtypes:
        raise FileFormatError(f"{where}: {given.name} is not supported")
    return np.asarray(value, dtypes[given.name])


def _shape(type: Any) -> tuple[Any, ...] | None:
    """The lengths of an input: int; or a name or None where any is allowed."""
    tensor = type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in tensor.shape.dim
    )


def _check_names(nodes: list[Node], known: set[str], outputs: list[str]) -> None:
    """Every value is made once, before it is taken."""
    for node in nodes:
        missing = [n for n in node.inputs if n and n not in known]
        if missing:
            raise node.error(f"input {missing[0]!r} is not made by an earlier node")
        twice = [n for n in node.outputs if n in known]
        if twice:
            raise node.error(f"output {twice[0]!r} is already made by another node")
        known |= {n for n in node.outputs if n}
    unmade = [n for n in outputs if n not in known]
    if unmade:
        raise FileFormatError(f"output {unmade[0]!r} of the graph is made by no node")
