"""Functions that a model brings with it, replaced by what they consist of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ...errors import FileFormatError, UnsupportedOperatorError

# Functions that call functions grow exponentially: a file of 1 KiB can stand for any number.
_NODES = 200_000
_BYTES = 2**28
_Key = tuple[str, str, str]


def inlined(model: Any) -> tuple[Iterable[Any], Iterable[Any]]:
    """The nodes of a model's graph and the operator sets that they come from, without functions.

    Raises
    ------
    FileFormatError
        Functions that call themselves, are defined twice, or stand for too many nodes.
    UnsupportedOperatorError
        Functions for other versions of the operators than the model's.
    """
    if not model.functions:
        return model.graph.node, model.opset_import
    _check_size(model)
    from onnx import inliner

    found = inliner.inline_local_functions(_without_weights(model))
    _check_all_gone(model, found.graph.node)
    return found.graph.node, found.opset_import


def _check_all_gone(model: Any, nodes: Iterable[Any]) -> None:
    names = {(f.domain, f.name, f.overload) for f in model.functions}
    left = {n.op_type for n in nodes if (n.domain, n.op_type, n.overload) in names}
    if left:
        raise UnsupportedOperatorError(
            f"the model's functions {', '.join(map(repr, sorted(left)))} are written for other "
            "versions of the operators than the model: "
            "onnx.inliner.inline_local_functions(model, convert_version=True) may convert them"
        )


def _without_weights(model: Any) -> Any:
    """A copy without the data of the initializers, whose names the inliner must not use again."""
    copy = type(model)(ir_version=model.ir_version)
    copy.opset_import.extend(model.opset_import)
    copy.functions.extend(model.functions)
    copy.graph.name = "graph"
    copy.graph.node.extend(model.graph.node)
    copy.graph.input.extend(model.graph.input)
    copy.graph.output.extend(model.graph.output)
    for tensor in model.graph.initializer:
        copy.graph.initializer.add(name=tensor.name)
    return copy


def _check_size(model: Any) -> None:
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    if len(functions) != len(model.functions):
        raise FileFormatError("the model defines a function twice")
    nodes, size = _expanded(model.graph.node, functions, {})
    if nodes > _NODES or size > _BYTES:
        raise FileFormatError(
            f"the model's functions stand for {nodes} nodes of {size} bytes: xcnn reads up to "
            f"{_NODES} nodes of {_BYTES} bytes; export it without functions"
        )


def _expanded(
    nodes: Iterable[Any], functions: dict[_Key, Any], known: dict[_Key, Any]
) -> tuple[int, int]:
    """How many nodes, and at most how many bytes, ``nodes`` are without functions.

    ``known`` has it by function; None for one whose nodes are being counted.
    """
    count = size = 0
    for node in _all(nodes):
        key = node.domain, node.op_type, node.overload
        inner, inner_size = 1, 0
        if key in functions:
            if key not in known:
                known[key] = None
                known[key] = _expanded(functions[key].node, functions, known)
            if known[key] is None:
                raise FileFormatError(f"the model's function {key[1]!r} calls itself")
            inner, inner_size = known[key]
        count += max(inner, 1)  # a call of a function without nodes takes time, too
        size += inner_size + inner * (node.ByteSize() + 32)  # each may take over its attributes
    return count, size


def _all(nodes: Iterable[Any]) -> Iterator[Any]:
    """The nodes and those of their subgraphs."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _all(graph.node)
