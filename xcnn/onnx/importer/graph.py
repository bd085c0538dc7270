"""An ONNX graph as a Module that can be run, trained, moved and exported again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ... import nn
from ...errors import ArgumentError, ShapeError, printable
from ...tensor import Buffer, Parameter, Tensor, current
from .node import Node, Value


class Graph(nn.Module):
    """The nodes of an ONNX graph, in their order, and its weights.

    Weights keep their names in the file: ``state_dict()`` of a model that was exported and loaded
    has the keys of the original, but for the counts of batches that ONNX has no place for.
    ``xcnn.onnx.load`` makes one.

    Parameters
    ----------
    nodes
        Each after those whose outputs it takes.
    inputs
        Name and declared shape of each input: a list of int, or str or None where a length is
        open; None where even the number of axes is.
    outputs
        Names of the outputs.
    weights
        Arrays by name: float arrays become parameters, or buffers where they are nothing to train,
        see ``xcnn.onnx.load``; what nodes take as a setting, and integers, stay NumPy arrays.
    constants
        Arrays by name that are not trained.
    metadata
        Strings that the file carries.

    Attributes
    ----------
    input_names, output_names : list of str
    inputs : dict
        Declared shape by name. To take another batch size than the file declares, open that
        length: ``graph.inputs["x"] = (None, 3, 224, 224)``.
    metadata : dict of str
    settings : dict
        NumPy arrays by name: what is neither parameter nor buffer.

    Notes
    -----
    Inputs are given in the order of the file; None stands for one that the nodes can do without.
    A weight that the file also lists as an input is a weight. The modules inside are the nodes,
    by name, so hooks and ``nn.record_activations`` see what each gives.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        inputs: Mapping[str, Any],
        outputs: Sequence[str],
        weights: Mapping[str, Any],
        constants: Mapping[str, Any],
        metadata: Mapping[str, str],
    ) -> None:
        self._init_arguments = {}  # the arrays would never be freed; see remember
        self._nodes = dict(zip(_paths(nodes), nodes, strict=True))
        self.inputs = dict(inputs)
        self.output_names = list(outputs)
        self.metadata = dict(metadata)
        self._tensors: dict[str, Tensor] = {}
        self.settings: dict[str, Any] = {}
        uses = _uses(nodes)
        for name, array in {**weights, **constants}.items():
            kinds = uses.get(name, set())
            if array.dtype.kind != "f" or kinds == {"static"}:
                self.settings[name] = array
            elif name in constants or not _is_trained(array, kinds):
                self._tensors[name] = Buffer(array)
            else:
                self._tensors[name] = Parameter(array)
        self._last_uses = _last_uses(nodes, self.output_names)
        self._relus = _relus(nodes, self.output_names)
        for node in nodes:
            shapes = {n: self._tensors[x].shape for n, x in _numbered(node) if x in self._tensors}
            node.weight_shapes = shapes

    def remember(self, model: str) -> None:
        """Let a saved file describe the graph by ``model``, which ``load.rebuild`` takes."""
        self._init_arguments = {"model": model}

    @property
    def input_names(self) -> list[str]:
        return list(self.inputs)

    def describe(self) -> str:
        names = f"{', '.join(self.inputs)} -> {', '.join(self.output_names)}"
        return printable(f"Graph({names})")

    def __repr__(self) -> str:
        """A line per node: its path, what it computes, from which values, and which it makes."""
        lines = [
            f"({path}): {node.describe()}: {_short(node.inputs)} -> {_short(node.outputs)}"
            for path, node in self._nodes.items()
        ]
        return "\n  ".join(map(printable, [f"{self.describe()}(", *lines])) + "\n)"

    def _members(self) -> Iterator[tuple[str, Any]]:
        """Nodes by their names, weights by theirs: what the file calls them."""
        yield from self._nodes.items()
        yield from self._tensors.items()

    def forward(self, *inputs: Any) -> Any:
        """Run the graph.

        Parameters
        ----------
        *inputs
            Arrays or Tensors, in the order of ``input_names``.

        Returns
        -------
        Tensor, or tuple of Tensors where the graph has several outputs

        Raises
        ------
        ArgumentError
            Another number of inputs.
        FileFormatError
            A node cannot compute what it was given, such as None for an input that it needs.
        ShapeError
            An input of another shape than the graph declares.
        """
        values = self._given(inputs)
        device = next((values[n].device for n in self.inputs if values[n] is not None), self.device)
        nodes, done = list(self._nodes.values()), set()
        for number, node in enumerate(nodes):
            if number not in done:
                given = [values[n] if n else None for n in node.inputs]
                relu = nodes[self._relus.get(number, number)]
                if relu is not node and _may_fuse(node, relu):
                    values[relu.outputs[0]] = node(*given, relu=True)
                    done.add(self._relus[number])
                else:
                    values.update(_named(node, node(*given)))
            for name in self._last_uses[number]:
                values.pop(name, None)
        outputs = tuple(_as_tensor(name, values[name], device) for name in self.output_names)
        return outputs[0] if len(outputs) == 1 else outputs

    def _given(self, inputs: Sequence[Any]) -> dict[str, Value]:
        if len(inputs) != len(self.inputs):
            raise ArgumentError(
                f"{len(inputs)} inputs: this graph takes {len(self.inputs)}: {list(self.inputs)}"
            )
        values: dict[str, Value] = {**self._tensors, **self.settings}
        for (name, shape), given in zip(self.inputs.items(), inputs, strict=True):
            if given is not None:
                given = Tensor.of(given)
                _check_shape(name, given.shape, shape)
            values[name] = given
        return values


def _paths(nodes: Sequence[Node]) -> list[str]:
    """What the modules are called: unique, without dots, which mean a module inside another."""
    found: dict[str, None] = {}
    for number, node in enumerate(nodes):
        name = printable(node.name.replace(".", "_")) or node.type
        name = f"{name}#{number}" if name in found else name
        while name in found:
            name += "_"
        found[name] = None
    return list(found)


#: what is done to arrays of any kind, by their type
_OPERANDS = {
    **dict.fromkeys(("Add", "Mul", "Sum"), "operand"),
    **dict.fromkeys(("Div", "Max", "Min", "Pow", "Sub", "Where"), "constant"),
}


def _uses(nodes: Sequence[Node]) -> dict[str, set[str]]:
    """As what each value is taken: as a setting, "static"; "buffer"; "weight" of a layer; or as
    "operand" or "constant" of arithmetic.
    """
    uses: dict[str, set[str]] = {}
    for node in nodes:
        kinds = {
            **dict.fromkeys(node.operator.static, "static"),
            **dict.fromkeys(node.operator.buffers, "buffer"),
        }
        for number, name in _numbered(node):
            kind = _OPERANDS.get(node.type, "weight")
            uses.setdefault(name, set()).add(kinds.get(number, kind))
    return uses


def _is_trained(array: Any, kinds: set[str]) -> bool:
    """Of a float array of the file, by its uses."""
    return ("weight" in kinds and array.ndim > 0) or ("operand" in kinds and array.size > 1)


def _numbered(node: Node) -> list[tuple[int, str]]:
    """The inputs that are not left out, with their numbers."""
    return [(number, name) for number, name in enumerate(node.inputs) if name]


def _last_uses(nodes: Sequence[Node], outputs: Sequence[str]) -> list[list[str]]:
    """After each node, the values that no later one takes."""
    last = {name: n for n, node in enumerate(nodes) for name in (*node.inputs, *node.outputs)}
    gone: list[list[str]] = [[] for _ in nodes]
    kept = {"", *outputs}
    for name, number in last.items():
        if name not in kept:
            gone[number].append(name)
    return gone


def _relus(nodes: Sequence[Node], outputs: Sequence[str]) -> dict[int, int]:
    """Numbers of nodes that can make the ReLU after them, and of that: nobody else takes what lies
    between them.
    """
    takers: dict[str, list[int]] = {name: [-1] for name in outputs}
    for number, node in enumerate(nodes):
        for name in node.inputs:
            takers.setdefault(name, []).append(number)
    found = {}
    for number, node in enumerate(nodes):
        after = takers.get(node.outputs[0], []) if len(node.outputs) == 1 else []
        is_relu = len(after) == 1 and after[0] >= 0 and nodes[after[0]].type == "Relu"
        if is_relu and node.operator.takes_relu:
            found[number] = after[0]
    return found


def _may_fuse(node: Node, relu: Node) -> bool:
    """Not where a hook or a tracer wants to see what lies between."""
    return not node._hooks and not relu._hooks and current() is None


def _named(node: Node, found: Any) -> dict[str, Value]:
    values = found if isinstance(found, tuple) else (found,)
    wanted = {number: name for number, name in enumerate(node.outputs) if name}
    if any(n >= len(values) or values[n] is None for n in wanted):
        raise node.error(f"{len(node.outputs)} outputs: expected at most {len(values)}")
    return {name: values[number] for number, name in wanted.items()}


def _as_tensor(name: str, value: Value, device: str) -> Tensor:
    if value is None:
        raise ArgumentError(f"input {name!r} is None, but the graph gives it back as an output")
    return value if isinstance(value, Tensor) else Tensor(value).to(device)


def _short(names: Sequence[str]) -> str:
    """Up to eight names, "-" for one that is left out."""
    more = [f"and {len(names) - 8} more"] if len(names) > 8 else []
    return ", ".join([*(name or "-" for name in names[:8]), *more])


def _check_shape(name: str, shape: Sequence[int], declared: Any) -> None:
    if declared is None:
        return
    same = len(shape) == len(declared) and all(
        not isinstance(d, int) or n == d for n, d in zip(shape, declared, strict=True)
    )
    if not same:
        wanted = ", ".join("any" if d is None else str(d) for d in declared)
        raise ShapeError(
            f"input {name!r} has shape {tuple(shape)}: expected ({wanted}); for another batch size "
            f"than the file's, set graph.inputs[{name!r}] to a shape with None in that place"
        )
