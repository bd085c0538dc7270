"""Inlining the functions that a model defines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ...errors import FileFormatError, UnsupportedOperatorError
from .skeleton import copy_header

# Nested functions grow exponentially: a file of 1 KiB can expand to any number of nodes.
_MAX_NODES = 200_000
_MAX_BYTES = 2**28
_Key = tuple[str, str, str]


def inline_functions(model: Any) -> tuple[Iterable[Any], Iterable[Any]]:
    """The nodes and opset imports of a model after inlining its functions.

    Raises
    ------
    FileFormatError
        A function is malformed, recursive or defined twice, or they expand to too many nodes.
    UnsupportedOperatorError
        A function uses other operator set versions than the model.
    """
    if not model.functions:
        return model.graph.node, model.opset_import
    functions = {(f.domain, f.name, f.overload): f for f in model.functions}
    if len(functions) != len(model.functions):
        raise FileFormatError("the model defines a function twice")
    count, size = _expanded(model.graph.node, functions, {})
    if count > _MAX_NODES or size > _MAX_BYTES:
        raise FileFormatError(
            f"the model's functions expand to {count} nodes of {size} bytes: the maximum is "
            f"{_MAX_NODES} nodes of {_MAX_BYTES} bytes; export the model without functions"
        )
    from onnx import checker, inliner

    try:
        inlined = inliner.inline_local_functions(_without_data(model))
    except checker.ValidationError as error:
        raise FileFormatError(f"the model's functions are malformed: {error}") from error
    remaining = {n.op_type for n in inlined.graph.node if _key(n) in functions}
    if remaining:
        raise UnsupportedOperatorError(
            f"the model's functions {', '.join(map(repr, sorted(remaining)))} use other operator "
            "set versions than the model: try "
            "onnx.inliner.inline_local_functions(model, convert_version=True)"
        )
    return inlined.graph.node, inlined.opset_import


def _key(node: Any) -> _Key:
    return node.domain, node.op_type, node.overload


def _without_data(model: Any) -> Any:
    """A copy without initializer data; the inliner needs only the names, to avoid collisions."""
    copy = copy_header(model, model.opset_import)
    copy.functions.extend(model.functions)
    copy.graph.node.extend(model.graph.node)
    for tensor in model.graph.initializer:
        copy.graph.initializer.add(name=tensor.name)
    return copy


def _expanded(
    nodes: Iterable[Any], functions: dict[_Key, Any], known: dict[_Key, Any]
) -> tuple[int, int]:
    """Number of nodes after inlining, and an upper bound on their size in bytes.

    ``known`` caches both by function; None marks a function whose count is in progress.
    """
    count = size = 0
    for node in _with_subgraphs(nodes):
        key, inner, inner_size = _key(node), 1, 0
        if key in functions:
            if key not in known:
                known[key] = None
                known[key] = _expanded(functions[key].node, functions, known)
            if known[key] is None:
                raise FileFormatError(f"the model's function {key[1]!r} calls itself")
            inner, inner_size = known[key]
        count += max(inner, 1)  # calling an empty function takes time too
        size += inner_size + inner * (node.ByteSize() + 32)  # each may copy the call's attributes
    return count, size


def _with_subgraphs(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _with_subgraphs(graph.node)
