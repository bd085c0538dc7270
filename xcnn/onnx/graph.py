"""An ONNX graph as a Module that can be run, trained, moved and exported again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .. import nn
from ..errors import ArgumentError, ShapeError
from ..nn.module import Buffer
from ..tensor import Parameter, Tensor
from .node import Node, Value


class Graph(nn.Module):
    """The nodes of an ONNX graph, in their order, and its weights.

    Weights keep their names in the file: ``state_dict()`` of a model that was exported and loaded
    has the keys of the original. ``xcnn.onnx.load`` makes one.

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
        Arrays by name: float arrays become parameters, or buffers where only a running mean or
        variance is; what nodes take as a setting, and integers, stay NumPy arrays.
    constants
        Arrays by name that are not trained.
    metadata
        Strings that the file carries.

    Attributes
    ----------
    input_names, output_names : list of str
    metadata : dict of str
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
        self._nodes = {_path(node, number): node for number, node in enumerate(nodes)}
        self.inputs = dict(inputs)
        self.output_names = list(outputs)
        self.metadata = dict(metadata)
        self._tensors: dict[str, Tensor] = {}
        self._host: dict[str, Any] = {}
        uses = _uses(nodes)
        for name, array in {**weights, **constants}.items():
            kinds = uses.get(name, set())
            if array.dtype.kind != "f" or kinds == {"static"}:
                self._host[name] = array
            elif name in constants or array.ndim == 0 or "weight" not in kinds:
                self._tensors[name] = Buffer(array)
            else:
                self._tensors[name] = Parameter(array)
        self._last_uses = _last_uses(nodes, self.output_names)

    @property
    def input_names(self) -> list[str]:
        return list(self.inputs)

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
        ShapeError
            An input of another shape than the graph declares.
        """
        values = self._given(inputs)
        for number, node in enumerate(self._nodes.values()):
            found = node(*[values[n] if n else None for n in node.inputs])
            values.update(_named(node, found))
            for name in self._last_uses[number]:
                del values[name]
        outputs = tuple(_as_tensor(values[name], self.device) for name in self.output_names)
        return outputs[0] if len(outputs) == 1 else outputs

    def _given(self, inputs: Sequence[Any]) -> dict[str, Value]:
        if len(inputs) != len(self.inputs):
            raise ArgumentError(
                f"{len(inputs)} inputs: this graph takes {len(self.inputs)} "
                f"({', '.join(self.inputs)})"
            )
        values: dict[str, Value] = {**self._tensors, **self._host}
        for (name, shape), given in zip(self.inputs.items(), inputs, strict=True):
            if given is not None:
                given = Tensor.of(given)
                _check_shape(name, given.shape, shape)
            values[name] = given
        return values


def _path(node: Node, number: int) -> str:
    """What the module is called: unique, without dots, which would mean a module inside another."""
    return f"{node.name.replace('.', '_') or node.type}#{number}"


def _uses(nodes: Sequence[Node]) -> dict[str, set[str]]:
    """As what each value is taken: as a setting, "static"; "buffer"; or "weight"."""
    uses: dict[str, set[str]] = {}
    for node in nodes:
        kinds = {
            **dict.fromkeys(node.operator.static, "static"),
            **dict.fromkeys(node.operator.buffers, "buffer"),
        }
        for number, name in enumerate(node.inputs):
            uses.setdefault(name, set()).add(kinds.get(number, "weight"))
    return uses


def _last_uses(nodes: Sequence[Node], outputs: Sequence[str]) -> list[list[str]]:
    """After each node, the values that no later one takes."""
    last = {name: n for n, node in enumerate(nodes) for name in (*node.inputs, *node.outputs)}
    gone: list[list[str]] = [[] for _ in nodes]
    for name, number in last.items():
        if name and name not in outputs:
            gone[number].append(name)
    return gone


def _named(node: Node, found: tuple[Value, ...]) -> dict[str, Value]:
    if len(found) < len(node.outputs):
        raise node.error(f"{len(node.outputs)} outputs: expected at most {len(found)}")
    return {name: y for name, y in zip(node.outputs, found, strict=False) if name}


def _as_tensor(value: Value, device: str) -> Tensor:
    return value if isinstance(value, Tensor) else Tensor(value).to(device)


def _check_shape(name: str, shape: Sequence[int], declared: Any) -> None:
    if declared is None:
        return
    same = len(shape) == len(declared) and all(
        not isinstance(d, int) or n == d for n, d in zip(shape, declared, strict=True)
    )
    if not same:
        wanted = ", ".join("any" if d is None else str(d) for d in declared)
        raise ShapeError(f"input {name!r} has shape {tuple(shape)}: expected ({wanted})")
