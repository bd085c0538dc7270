"""The graph of a network: its layers, and which output each of them takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from .. import backends
from ..nn import Module, evaluating
from ..tensor import Tensor, Tracer

#: operations and layers of which a graph is drawn
MAX_NODES = 3000


@dataclass
class Node:
    """A layer without layers inside, or an operation called between layers.

    Attributes
    ----------
    path : dotted name of the layer, or of the module that called the operation
    kind : class of the layer, or name of the operation
    text : the layer with its settings
    shape : of the output, without the batch axis
    parameters, multiply_adds : numbers
    inputs : positions of the nodes whose outputs it takes; -1 is the network's input
    """

    path: str
    kind: str
    text: str
    shape: tuple[int, ...]
    parameters: int = 0
    multiply_adds: int = 0
    inputs: list[int] = field(default_factory=list)


@dataclass
class Graph:
    """The nodes in the order of their calls, and the kinds of all modules by path."""

    nodes: list[Node] = field(default_factory=list)
    kinds: dict[str, str] = field(default_factory=dict)

    @property
    def multiply_adds(self) -> int:
        """Of all nodes together."""
        return sum(node.multiply_adds for node in self.nodes)


def trace(model: Module, input_shape: Sequence[int]) -> Graph:
    """Run a model on zeros, (1, ``*input_shape``), and record what takes the output of what.

    Operations inside a layer belong to it; others, as the addition of a residual block, are nodes
    of their own.
    """
    recorder, backend = _Recorder(), backends.get(model.device)
    with ExitStack() as stack:
        for path, module in model.named_modules():
            recorder.graph.kinds[path] = type(module).__name__
            before, after = recorder.hooks(path, module)
            stack.callback(module.register_forward_pre_hook(before).remove)
            stack.callback(module.register_forward_hook(after).remove)
        stack.enter_context(backend.active())
        stack.enter_context(evaluating(model))
        stack.enter_context(recorder.tracer.active())
        x = Tensor(backend.xp.zeros((1, *input_shape), model.dtype))
        recorder.producers = {id(x): -1, id(x.data): -1}
        recorder.kept.append(x)
        model(x)
    return recorder.graph


class _Recorder:
    """Turns the calls of modules and operations into nodes."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.tracer = Tracer()
        # ids of tensors and of their arrays: the node that computed them, of an array the first
        self.producers: dict[int, int] = {}
        self.kept: list[Any] = []  # an id is only that of one array while it exists
        self._paths: list[str] = []
        self._inside = 0  # layers that are being called
        self._done = 0  # calls of operations

    def hooks(self, path: str, module: Module) -> tuple[Any, Any]:
        """What to call before and after a module."""
        is_layer = not list(module.children())

        def before(module: Module, inputs: tuple) -> None:
            self._add_operations()
            self._paths.append(path)
            self._inside += is_layer

        def after(module: Module, inputs: tuple, output: Any) -> Any:
            if is_layer:
                self._done = len(self.tracer.calls)
                self._inside -= 1
                if id(output) in self.producers:  # returned as it came, such as by Identity
                    output = Tensor(output.data)
                self._add_layer(path, module, inputs, output)
            else:
                self._add_operations()
                if module.is_layer:  # its first operation stands for what it computes itself
                    self._count(path, module, output)
            self._paths.pop()
            return output

        return before, after

    def _add_operations(self) -> None:
        """Add the operations called since the last module, unless a layer called them."""
        calls, self._done = self.tracer.calls[self._done :], len(self.tracer.calls)
        for call in calls if not self._inside else ():
            results = list(_tensors(call.result))
            inputs = self._sources(list(call.arguments.values()))
            # not of constants, and not one that returns what it took, such as dropout
            if inputs and any(id(result) not in self.producers for result in results):
                path = self._paths[-1] if self._paths else ""
                name = call.name.rpartition(".")[2].strip("_")
                node = Node(path, name, name, results[0].shape[1:], inputs=inputs)
                self._add(node, results)

    def _add_layer(self, path: str, module: Module, inputs: tuple, output: Any) -> None:
        results = list(_tensors(output))
        if not results:
            return
        parameters = sum(p.numel() for p in module.parameters())
        products = module.multiply_adds(results[0].shape)
        kind, sources = type(module).__name__, self._sources(inputs)
        shape = results[0].shape[1:]
        node = Node(path, kind, module.describe(), shape, parameters, products, sources)
        self._add(node, results)

    def _count(self, path: str, module: Module, output: Any) -> None:
        node = next((n for n in self.graph.nodes if n.path == path), None)
        shapes = [tensor.shape for tensor in _tensors(output)]
        if node is not None and shapes:
            node.parameters += sum(p.numel() for p in module.parameters(recurse=False))
            node.multiply_adds += module.multiply_adds(shapes[0])

    def _add(self, node: Node, results: list[Tensor]) -> None:
        self.kept += results
        for tensor in results:
            self.producers[id(tensor)] = len(self.graph.nodes)
            self.producers.setdefault(id(tensor.data), len(self.graph.nodes))
        self.graph.nodes.append(node)

    def _sources(self, values: Any) -> list[int]:
        ids = [(id(tensor), id(tensor.data)) for tensor in _tensors(values)]
        known = [next((i for i in pair if i in self.producers), None) for pair in ids]
        return list(dict.fromkeys(self.producers[i] for i in known if i is not None))


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def architecture(model: Module, graph: Graph) -> dict[str, Any]:
    """The graph for the page, with totals; only its first ``MAX_NODES`` nodes."""
    nodes = graph.nodes[:MAX_NODES]
    return {
        "nodes": [vars(node) for node in nodes],
        "kinds": {path: kind for path, kind in graph.kinds.items() if path},
        "left_out": len(graph.nodes) - len(nodes),
        "parameters": sum(p.numel() for p in model.parameters()),
        "multiply_adds": graph.multiply_adds,
        "model": type(model).__name__,
    }
