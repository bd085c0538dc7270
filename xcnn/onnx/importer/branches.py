"""The branches of If as nodes of the graph, which run only if the condition is theirs."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from itertools import count
from typing import Any

from ...errors import FileFormatError
from ..reader import require_onnx
from .node import Guards

Names = MutableMapping[str, str] | None
Pairs = Iterator[tuple[Any, Guards]]


class Branches:
    """Flattens the graphs that Ifs contain.

    Parameters
    ----------
    constants
        Arrays by name; those of the file are added. A constant condition leaves one branch.
    constant
        Reads a Constant node: its name and array.
    """

    def __init__(
        self, constants: dict[str, Any], constant: Callable[[Any], tuple[str, Any]]
    ) -> None:
        self.constants, self.constant = constants, constant
        self.numbers = count()

    def nodes(
        self,
        protos: Iterable[Any],
        names: Names = None,
        guards: Guards = (),
    ) -> Pairs:
        """Each node and what must hold for it to run.

        An If is the nodes of its branches under unique ``names``, and a node that picks from their
        results.
        """
        for proto in protos:
            inputs, outputs = (
                [(names or {}).get(n, n) for n in v] for v in (proto.input, proto.output)
            )
            if (
                proto.op_type == "If"
                and not proto.domain
                and all(inputs[:1])
                and inputs
                and outputs
            ):
                yield from self._chosen(proto, inputs[0], outputs, names, guards)
                continue
            node = proto
            if names is not None:
                node = type(proto)()
                node.CopyFrom(proto)
                node.input[:], node.output[:] = inputs, outputs
            if node.op_type == "Constant" and outputs and not node.domain:
                self.constants.update([self.constant(node)])
            yield node, guards

    def _chosen(
        self, node: Any, condition: str, outputs: list[str], names: Names, guards: Guards
    ) -> Pairs:
        helper = require_onnx().helper
        value = self.constants.get(condition)
        results: list[str] = []
        for wanted in [True, False] if value is None else [bool(value.item())]:
            graph = self._graph(node, "then_branch" if wanted else "else_branch")
            inner = [t.name for t in graph.initializer]
            inner += [n for proto in graph.node for n in proto.output]
            prefix = f"{next(self.numbers)}/"
            scope = ChainMap({n: prefix + n for n in inner if n}, *getattr(names, "maps", []))
            within = (*guards, (condition, wanted)) if value is None else guards
            for tensor in graph.initializer:
                yield helper.make_node("Constant", [], [scope[tensor.name]], value=tensor), guards
            yield from self.nodes(graph.node, scope, within)
            results += [scope.get(o.name, o.name) for o in graph.output]
        if value is not None:
            for result, output in zip(results, outputs, strict=True):
                yield helper.make_node("Identity", [result], [output]), guards
        else:
            yield helper.make_node("If", [condition, *results], outputs, name=node.name), guards

    @staticmethod
    def _graph(node: Any, name: str) -> Any:
        graph = next((a.g for a in node.attribute if a.name == name), None)
        if graph is None or len(graph.output) != len(node.output):
            raise FileFormatError(
                f"node {node.name!r} (If): the attribute {name} is missing, or has not the "
                f"{len(node.output)} outputs of the node"
            )
        return graph
