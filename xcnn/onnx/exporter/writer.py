"""What emitters write nodes with, and the table of emitters."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...extend import EMITTERS
from ...extend import onnx_emitter as emits

__all__ = ["EMITTERS", "CannotExportError", "Value", "Writer", "emits"]


class CannotExportError(Exception):
    """A call that ONNX, or this exporter, has no nodes for; the text says what about it."""


@dataclass(frozen=True)
class Value:
    """An array of the graph; one without a name yet is a constant."""

    name: str | None
    shape: tuple[int, ...]
    dtype: Any
    array: Any = None

    @property
    def ndim(self) -> int:
        return len(self.shape)


class Writer:
    """Collects nodes and gives them and their results names of their own.

    Parameters
    ----------
    taken
        Names of the graph's inputs and weights.

    Attributes
    ----------
    nodes : list of onnx.NodeProto
    stem : str
        How the nodes of the call at hand are called; empty: by their type.
    """

    def __init__(self, taken: Iterable[str]) -> None:
        self.nodes: list[Any] = []
        self.stem = ""
        self._taken = set(taken)
        self._node_names: set[str] = set()
        self._constants: dict[Any, str] = {}

    def node(self, type: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node of ONNX's own operators.

        Parameters
        ----------
        type
            Of the operator.
        *inputs
            Names, Values, NumPy arrays (which become constants), or None for those left out.
        outputs
            How many.
        **attributes
            None: left out.

        Returns
        -------
        str, or list of str if there are several outputs
        """
        from onnx import helper

        node = self.append(helper.make_node(type, [], [], **attributes), inputs)
        results = [self.unique(f"{node.name}.out{n or ''}") for n in range(outputs)]
        node.output[:] = results
        return results[0] if outputs == 1 else results

    def append(self, node: Any, inputs: Iterable[Any]) -> Any:
        """Add a node that is made already, and give it a name."""
        names = [self.name(x) for x in inputs]
        while names and not names[-1]:
            names.pop()
        node.input[:] = names
        node.name = self._title(node.op_type)
        self.nodes.append(node)
        return node

    def name(self, value: Any) -> str:
        """The name of an input of a node."""
        if value is None or isinstance(value, str):
            return value or ""
        if not isinstance(value, Value):
            return self.constant(value)
        return self.constant(value.array) if value.name is None else value.name

    def constant(self, array: Any) -> str:
        """The name of a constant; equal ones are kept once."""
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
        """The name of a constant of int64: shapes, axes."""
        return self.constant(np.asarray([int(v) for v in values], "int64"))

    def like(self, value: Value, number: float | Any) -> str:
        """The name of a constant of the type of ``value``: a number, or several."""
        return self.constant(np.asarray(number, str(value.dtype)))

    def cast(self, x: Any, dtype: Any) -> str:
        """The name of ``x`` in another type."""
        from onnx import helper

        return self.node("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(str(dtype))))

    def unique(self, name: str) -> str:
        """``name``, with a number behind it if that is taken."""
        return _unique(name, self._taken)

    def _title(self, type: str) -> str:
        """The first node of a call is called as its layer; others add their type."""
        if not self.stem:
            return _unique(f"{type}_{len(self.nodes)}", self._node_names)
        title = self.stem if self.stem not in self._node_names else f"{self.stem}.{type}"
        return _unique(title, self._node_names)


def _unique(name: str, taken: set[str]) -> str:
    found, number = name, 1
    while found in taken:
        number += 1
        found = f"{name}_{number}"
    taken.add(found)
    return found
