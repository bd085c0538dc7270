"""The Writer, which emitters use to add nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np


class CannotExportError(Exception):
    """ONNX, or this exporter, cannot express a call; the message says why."""


@dataclass(frozen=True)
class Value:
    """An array of the graph; a constant if it has no name."""

    name: str | None
    shape: tuple[int, ...]
    dtype: Any
    array: Any = None

    @property
    def ndim(self) -> int:
        return len(self.shape)


class Writer:
    """Collects nodes and gives them and their outputs unique names.

    Inputs of nodes are names, Values, NumPy arrays (which become constants), or None if omitted.

    Parameters
    ----------
    taken
        Names of the graph's inputs and weights.

    Attributes
    ----------
    nodes : list of onnx.NodeProto
    prefix : str
        Names the nodes of the current call: the path of its module; empty: use the operator.
    batch : tuple of str and int, or None
        An input whose first axis is the variable batch, and the example's batch size, above 1.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self.nodes: list[Any] = []
        self.prefix = ""
        self.batch: tuple[str, int] | None = None
        self._taken = set(taken)
        self._node_names: set[str] = set()
        self._constants: dict[Any, str] = {}

    def node(self, type: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node of ONNX's own operator set.

        Parameters
        ----------
        type
            Operator.
        *inputs
            See :class:`Writer`.
        outputs
            Number of outputs.
        **attributes
            Attributes of the node; those that are None are omitted.

        Returns
        -------
        str, or list of str if there are several outputs
        """
        from onnx import helper

        node = self.append(helper.make_node(type, [], [], **attributes), inputs)
        names = [self.unique(f"{node.name}.out{n or ''}") for n in range(outputs)]
        node.output[:] = names
        return names[0] if outputs == 1 else names

    def append(self, node: Any, inputs: Iterable[Any]) -> Any:
        """Add an ``onnx.NodeProto`` and set its inputs and name."""
        names = [self.name(x) for x in inputs]
        while names and not names[-1]:
            names.pop()
        node.input[:] = names
        node.name = self._node_name(node.op_type)
        self.nodes.append(node)
        return node

    def name(self, value: Any) -> str:
        """The name of an input; adds a constant if necessary."""
        if value is None or isinstance(value, str):
            return value or ""
        if not isinstance(value, Value):
            return self.constant(value)
        return self.constant(value.array) if value.name is None else value.name

    def constant(self, array: Any) -> str:
        """Add a constant, unless an equal one exists, and return its name."""
        from onnx import helper, numpy_helper

        array = np.asarray(array, order="C")
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            name = self.unique(f"constant_{len(self._constants)}")
            tensor = numpy_helper.from_array(array, name)
            self.nodes.append(helper.make_node("Constant", [], [name], name=name, value=tensor))
            self._constants[key] = name
        return self._constants[key]

    def ints(self, values: Iterable[int]) -> str:
        """An int64 constant, such as a shape or axes."""
        return self.constant(np.asarray([int(v) for v in values], "int64"))

    def like(self, value: Value, number: float | Any) -> str:
        """A number or array as a constant with the dtype of ``value``."""
        return self.number(number, value.dtype)

    def number(self, number: float | Any, dtype: Any) -> str:
        """A number or array as a constant of ``dtype``."""
        return self.constant(np.asarray(number, str(dtype)))

    def cast(self, x: Any, dtype: Any) -> str:
        """``x`` in another dtype."""
        from onnx import helper

        return self.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(str(dtype))))

    def unique(self, name: str) -> str:
        """``name``, with a number appended if it is taken."""
        return _unique(name, self._taken)

    def _node_name(self, type: str) -> str:
        """The first node of a module is named by its path; others append their operator."""
        name = self.prefix or f"{type}_{len(self.nodes)}"
        if self.prefix in self._node_names:
            name = f"{self.prefix}.{type}"
        return _unique(name, self._node_names)


def _unique(name: str, taken: set[str]) -> str:
    unique, number = name, 1
    while unique in taken:
        number += 1
        unique = f"{name}_{number}"
    taken.add(unique)
    return unique
