"""The branches of If as nodes of the graph, which run only if the condition is theirs."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from itertools import count
from typing import Any

from ...errors import FileFormatError
from ..reader import require_onnx
from .node import Guards

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
        names: MutableMapping[str, str] | None = None,
        guards: Guards = (),
    ) -> Pairs:
        """Each node and what must hold for it to run.

        An If is the nodes of its branches under unique ``names``, and a node that picks from their
        results.
        """
        for proto in protos:
            node = proto
            if names is not None:
                node = type(proto)()
                node.CopyFrom(proto)
                node.input[:] = [names.get(n, n) for n in proto.input]
                node.output[:] = [names.get(n, n) for n in proto.output]
            if node.op_type == "Constant" and node.output and not node.domain:
                self.constants.update([self.constant(node)])
            if node.op_type != "If" or node.domain or not node.input or not node.output:
                yield node, guards
            else:
                yield from self._chosen(node, names, guards)

    def _chosen(self, node: Any, names: MutableMapping[str, str] | None, guards: Guards) -> Pairs:
        helper, condition = require_onnx().helper, node.input[0]
        value = self.constants.get(condition)
        is_known = value is not None and value.size == 1
        results: list[str] = []
        for wanted in [bool(value.item())] if is_known else [True, False]:
            graph = self._graph(node, "then_branch" if wanted else "else_branch")
            inner = [t.name for t in graph.initializer]
            inner += [n for proto in graph.node for n in proto.output]
            prefix = f"{next(self.numbers)}/"
            scope = ChainMap({n: prefix + n for n in inner if n}, *getattr(names, "maps", []))
            within = guards if is_known else (*guards, (condition, wanted))
            for tensor in graph.initializer:
                yield helper.make_node("Constant", [], [scope[tensor.name]], value=tensor), guards
            yield from self.nodes(graph.node, scope, within)
            results += [scope.get(o.name, o.name) for o in graph.output]
        if is_known:
            for result, output in zip(results, node.output, strict=True):
                yield helper.make_node("Identity", [result], [output]), guards
        else:
            yield helper.make_node("If", [condition, *results], node.output, name=node.name), guards

    @staticmethod
    def _graph(node: Any, name: str) -> Any:
        graph = next((a.g for a in node.attribute if a.name == name), None)
        if graph is None or len(graph.output) != len(node.output):
            raise FileFormatError(
                f"node {node.name!r} (If): the attribute {name} is missing, or has not the "
                f"{len(node.output)} outputs of the node"
            )
        return graph
