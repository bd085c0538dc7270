"""An ONNX graph as a Module that can be run, trained, moved and exported again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ... import nn
from ...errors import ArgumentError, ShapeError, printable
from ...tensor import Buffer, Parameter, Tensor
from .node import Node, Value


class Graph(nn.Module):
    """The nodes of an ONNX graph in order, and its weights, as built by ``xcnn.onnx.load``.

    Weights keep their names in the file, so the ``state_dict()`` of a model that was exported and
    loaded has the original's keys, except for the batch counters, which ONNX does not store.

    Parameters
    ----------
    nodes
        In topological order.
    inputs
        Name and declared shape of each input: a tuple of lengths, each an int, or a str or None if
        variable; None if even the number of axes is unknown.
    outputs
        Names of the outputs.
    weights
        Arrays by name. Float arrays become parameters, or buffers if not trained (see
        ``xcnn.onnx.load``); integers and settings of nodes stay NumPy arrays.
    constants
        Arrays by name that are not trained.
    metadata
        Strings stored in the file.

    Attributes
    ----------
    input_names, output_names : list of str
    inputs : dict
        Declared shape by name. To use another batch size than the file declares, make that length
        variable: ``graph.inputs["x"] = (None, 3, 224, 224)``.
    metadata : dict of str
    settings : dict
        NumPy arrays by name that are neither parameters nor buffers.

    Notes
    -----
    Inputs are passed in the order of the file; None omits an optional one. A weight that the file
    also lists as an input is not an input here. The nodes are submodules under their names, so
    hooks and ``nn.record_activations`` see their outputs.
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
        self._init_arguments = {}  # they would keep the arrays alive; see set_skeleton
        self._nodes = dict(zip(_paths(nodes), nodes, strict=True))
        self.inputs, self.output_names = dict(inputs), list(outputs)
        self.metadata = dict(metadata)
        self._tensors: dict[str, Tensor] = {}
        self.settings: dict[str, Any] = {}
        uses = _uses(nodes)
        for name, array in {**weights, **constants}.items():
            kinds = uses.get(name, set())
            if array.dtype.kind != "f" or kinds == {"static"}:
                self.settings[name] = array
            else:
                is_trained = name not in constants and _is_trained(array, kinds)
                self._tensors[name] = Parameter(array) if is_trained else Buffer(array)
        self._last_uses = _last_uses(nodes, self.output_names)
        self._fusable = _fusable_relus(nodes, self.output_names)
        for node in nodes:
            shapes = {n: self._tensors[x].shape for n, x in _used(node) if x in self._tensors}
            node.weight_shapes = shapes

    def set_skeleton(self, model: str) -> None:
        """Set the description to store when the graph is saved; see ``load.rebuild``."""
        self._init_arguments = {"model": model}

    @property
    def input_names(self) -> list[str]:
        return list(self.inputs)

    def describe(self) -> str:
        names = f"{', '.join(self.inputs)} -> {', '.join(self.output_names)}"
        return printable(f"Graph({names})")

    def __repr__(self) -> str:
        """A line per node: path, operator, inputs and outputs."""
        lines = [
            f"({path}): {node.describe()}: {_short(node.inputs)} -> {_short(node.outputs)}"
            for path, node in self._nodes.items()
        ]
        return "\n  ".join(map(printable, [f"{self.describe()}(", *lines])) + "\n)"

    def _members(self) -> Iterator[tuple[str, Any]]:
        """Nodes and weights under their names in the file."""
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
        Tensor, or tuple of Tensors if the graph has several outputs

        Raises
        ------
        ArgumentError
            Wrong number of inputs.
        FileFormatError
            A node cannot handle its inputs, for instance None for a required one.
        ShapeError
            An input does not have the declared shape.
        """
        values = self._initial_values(inputs)
        device = next((values[n].device for n in self.inputs if values[n] is not None), self.device)
        fused: set[Node] = set()
        for node, unused in zip(self._nodes.values(), self._last_uses, strict=True):
            if not all(_is_true(node, values[n]) == wanted for n, wanted in node.guards):
                values.update((n, None) for n in node.outputs if n)
            elif node not in fused:
                arguments = [values[n] if n else None for n in node.inputs]
                relu = self._fusable.get(node)
                if relu is None or node.is_observed or relu.is_observed:
                    values.update(_named_outputs(node, node(*arguments)))
                else:
                    values[relu.outputs[0]] = node(*arguments, relu=True)
                    fused.add(relu)
            for name in unused:
                values.pop(name, None)
        outputs = tuple(_as_tensor(name, values[name], device) for name in self.output_names)
        return outputs[0] if len(outputs) == 1 else outputs

    def _initial_values(self, inputs: Sequence[Any]) -> dict[str, Value]:
        if len(inputs) != len(self.inputs):
            raise ArgumentError(
                f"{len(inputs)} inputs: this graph takes {len(self.inputs)}: {list(self.inputs)}"
            )
        values: dict[str, Value] = {**self._tensors, **self.settings}
        for (name, shape), value in zip(self.inputs.items(), inputs, strict=True):
            values[name] = None if value is None else Tensor.of(value)
            if value is not None:
                _check_shape(name, values[name].shape, shape)
        return values


def _paths(nodes: Sequence[Node]) -> list[str]:
    """Submodule names: unique, and without dots, which separate the components of a path."""
    paths: dict[str, None] = {}
    for number, node in enumerate(nodes):
        name = printable(node.name.replace(".", "_")) or node.type
        name = f"{name}#{number}" if name in paths else name
        while name in paths:
            name += "_"
        paths[name] = None
    return list(paths)


#: by type: how arithmetic uses its inputs
_ARITHMETIC = {
    **dict.fromkeys(("Add", "Mul", "Sum"), "operand"),
    **dict.fromkeys(("Div", "Max", "Min", "Pow", "Sub", "Where"), "constant"),
}


def _uses(nodes: Sequence[Node]) -> dict[str, set[str]]:
    """How nodes use each value: as a "static" setting, a "buffer", the "weight" of a layer, or an
    "operand" or "constant" in arithmetic.
    """
    uses: dict[str, set[str]] = {}
    for node in nodes:
        kinds = {
            **dict.fromkeys(node.operator.static, "static"),
            **dict.fromkeys(node.operator.buffers, "buffer"),
        }
        default = _ARITHMETIC.get(node.type, "weight")
        for number, name in _used(node):
            uses.setdefault(name, set()).add(kinds.get(number, default))
    return uses


def _is_trained(array: Any, kinds: set[str]) -> bool:
    return ("weight" in kinds and array.ndim > 0) or ("operand" in kinds and array.size > 1)


def _used(node: Node) -> list[tuple[int, str]]:
    """Number and name of each input that is not omitted."""
    return [(number, name) for number, name in enumerate(node.inputs) if name]


def _last_uses(nodes: Sequence[Node], outputs: Sequence[str]) -> list[list[str]]:
    """For each node, the values that no later node uses."""
    last = {
        name: n
        for n, node in enumerate(nodes)
        for name in (*node.inputs, *node.outputs, *(guard for guard, _ in node.guards))
    }
    unused: list[list[str]] = [[] for _ in nodes]
    for name in last.keys() - {"", *outputs}:
        unused[last[name]].append(name)
    return unused


def _fusable_relus(nodes: Sequence[Node], outputs: Sequence[str]) -> dict[Node, Node]:
    """By node: the Relu that can be fused into it, being the only use of its only output."""
    uses = Counter((*outputs, *(name for node in nodes for name in node.inputs if name)))
    producers = {node.outputs: node for node in nodes if node.operator.takes_relu}
    return {
        producers[relu.inputs]: relu
        for relu in nodes
        if relu.type == "Relu" and relu.inputs in producers and uses[relu.inputs[0]] == 1
    }


def _named_outputs(node: Node, result: Any) -> dict[str, Value]:
    values = result if isinstance(result, tuple) else (result,)
    names = {number: name for number, name in enumerate(node.outputs) if name}
    if any(n >= len(values) or values[n] is None for n in names):
        raise node.error(f"{len(node.outputs)} outputs: expected at most {len(values)}")
    return {name: values[number] for number, name in names.items()}


def _is_true(node: Node, condition: Value) -> bool:
    """The value of a condition: a GPU makes the host wait for it."""
    if condition is None or condition.shape not in ((), (1,)):
        raise node.error(f"the condition of its If is {condition!r}: expected one bool")
    return bool(condition.item())


def _as_tensor(name: str, value: Value, device: str) -> Tensor:
    if value is None:
        raise ArgumentError(f"input {name!r} is None, but it is also an output of the graph")
    return value if isinstance(value, Tensor) else Tensor(value).to(device)


def _short(names: Sequence[str]) -> str:
    """Up to eight names; "-" for an omitted one."""
    more = [f"and {len(names) - 8} more"] if len(names) > 8 else []
    return ", ".join([*(name or "-" for name in names[:8]), *more])


def _check_shape(name: str, shape: Sequence[int], declared: Any) -> None:
    fits = declared is None or (
        len(shape) == len(declared)
        and all(not isinstance(d, int) or n == d for n, d in zip(shape, declared, strict=True))
    )
    if not fits:
        expected = ", ".join("any" if d is None else str(d) for d in declared)
        raise ShapeError(
            f"input {name!r} has shape {tuple(shape)}: expected ({expected}); to use another batch "
            f"size than the file declares, set that length of graph.inputs[{name!r}] to None"
        )
