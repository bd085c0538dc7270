"""One operator of an ONNX graph as a Module, and the table of those that xcnn computes."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ... import nn
from ...errors import FileFormatError, OutOfMemoryError, XcnnError
from ...tensor import Tensor, operation

Value = Any  # a Tensor on the model's device; a NumPy array, kept on the host; None, left out
_MOST = 256  # lengths or axes that a setting names; arrays have at most 64 axes
#: what settings that no file should have can lead to
_MALFORMED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Operator:
    """How xcnn computes an operator.

    Attributes
    ----------
    compute
        ``compute(node, *inputs)``, giving one value or a tuple with one per output.
    static
        Numbers of the inputs that are settings, such as a shape: they arrive as NumPy arrays.
    buffers
        Numbers of the inputs that belong to the state but are not trained.
    takes_relu
        Whether ``compute`` has an argument ``relu``: it makes the ReLU after it in one pass.
    """

    compute: Callable[..., Any]
    static: tuple[int, ...]
    buffers: tuple[int, ...]
    takes_relu: bool


#: by domain and type, as ("", "Conv")
OPERATORS: dict[tuple[str, str], Operator] = {}


def operator(
    *types: str, domain: str = "", static: Sequence[int] = (), buffers: Sequence[int] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function ``compute(node, *inputs)`` into the table, for these types of node.

    Its inputs are Tensors, NumPy arrays where ``static`` says so, and None where the node leaves
    one out; it returns a Tensor, a NumPy array for what stays on the host, or a tuple of them.
    """

    def enter(compute: Callable[..., Any]) -> Callable[..., Any]:
        takes_relu = "relu" in inspect.signature(compute).parameters
        for name in types:
            OPERATORS[domain, name] = Operator(compute, tuple(static), tuple(buffers), takes_relu)
        return compute

    return enter


class NodeError(FileFormatError):
    """An error whose text names its node already."""

    def passed_through(self, module: Any) -> None:
        """Add nothing."""


class Node(nn.Module):
    """One node of a graph; called with its inputs, it returns its output, or a tuple of them.

    Inputs that all are on the host are computed with there, so that shapes never visit a GPU.

    Parameters
    ----------
    type, domain
        Of the operator.
    name
        Of the node in the file, for error texts.
    attributes
        By name: int, float, str, NumPy array, or a list of such.
    inputs, outputs
        Names of the values, empty where one is left out.
    version
        Of the operator set that the graph was written for.
    limit
        Bytes that one value may take.

    Attributes
    ----------
    weight_shapes : dict
        By number of the input, of those that are weights.
    """

    generator: Any  # of an operator that draws random numbers on the host, once it has

    def __init__(
        self,
        type: str,
        domain: str,
        name: str,
        attributes: Mapping[str, Any],
        inputs: Sequence[str],
        outputs: Sequence[str],
        version: int,
        limit: int,
    ) -> None:
        self.type = type
        self.domain = domain
        self.name = name
        self.attributes = dict(attributes)
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        self.version = version
        self.limit = limit
        self.weight_shapes: dict[int, tuple[int, ...]] = {}

    @property
    def operator(self) -> Operator:
        return OPERATORS[self.domain, self.type]

    def _members(self) -> Iterator[tuple[str, Any]]:
        """Nothing: weights belong to the graph."""
        return iter(())

    def describe(self) -> str:
        settings = ", ".join(f"{k}={_short(v)}" for k, v in self.attributes.items())
        return f"{self.type}({settings})"

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        """Multiply-adds of a product with a weight; 0 of all others."""
        per_value = {"Conv": _of_conv, "Gemm": _of_gemm, "MatMul": _of_matmul}.get(self.type)
        return math.prod(output_shape) * per_value(self) if per_value else 0

    @operation
    def forward(self, *inputs: Value, relu: bool = False) -> Any:
        """The output, a Tensor, or a NumPy array if it is on the host; a tuple of several.

        With ``relu``, for operators that take it, what a ReLU makes of the output.
        """
        self._check_given(inputs)
        arguments, on_host = self._placed(inputs)
        try:
            found = self.operator.compute(self, *arguments, **({"relu": True} if relu else {}))
        except XcnnError:
            raise
        except MemoryError as error:
            raise OutOfMemoryError(str(error) or "not enough memory") from error
        except _MALFORMED as error:
            raise self.error(str(error) or type(error).__name__) from error
        except RuntimeError as error:
            if type(error) is not RuntimeError:  # a GPU's
                raise
            raise self.error(str(error)) from error
        outputs = found[: len(self.outputs)] if isinstance(found, tuple) else (found,)
        outputs = tuple(_on_host(y) if on_host else y for y in outputs)
        return outputs[0] if len(outputs) == 1 else outputs

    def _check_given(self, inputs: Sequence[Value]) -> None:
        """An operator need not care whether its first inputs are there."""
        for number in range(_required(self.operator.compute)):
            if number >= len(inputs) or inputs[number] is None:
                raise self.error(f"input {number} is left out, this operator needs it")

    def _placed(self, inputs: Sequence[Value]) -> tuple[list[Value], bool]:
        """The inputs where ``compute`` wants them, and whether all of them were on the host."""
        static = self.operator.static
        device = next(
            (x.backend for i, x in enumerate(inputs) if isinstance(x, Tensor) and i not in static),
            None,
        )
        placed: list[Value] = []
        for number, value in enumerate(inputs):
            if value is None:
                placed.append(None)
            elif number in static:
                placed.append(_on_host(value))
            elif isinstance(value, Tensor):
                placed.append(value)
            else:
                placed.append(Tensor(value if device is None else device.asarray(value)))
        return placed, device is None

    # -- settings ---------------------------------------------------------------------------

    def error(self, text: str) -> FileFormatError:
        """An error that names the node."""
        return NodeError(f"node {self.name!r} ({self.type}): {text}")

    def _attribute(self, name: str, kinds: Any, wanted: str, default: Any) -> Any:
        value = self.attributes.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise self.error(f"attribute {name}={_short(value)}: expected {wanted}")
        return value

    def integer(self, name: str, default: Any = None) -> Any:
        """An attribute that is an int, else ``default``."""
        return self._attribute(name, int, "an int", default)

    def number(self, name: str, default: Any = None) -> Any:
        """An attribute that is a float, else ``default``."""
        return self._attribute(name, float, "a float", default)

    def text(self, name: str, default: Any = None) -> Any:
        """An attribute that is a string, else ``default``."""
        return self._attribute(name, str, "a string", default)

    def integers(self, name: str, default: Any = None) -> Any:
        """An attribute that is a list of ints, else ``default``."""
        value = self._attribute(name, list, "a list of ints", default)
        if isinstance(value, list) and not all(isinstance(v, int) for v in value):
            raise self.error(f"attribute {name}={_short(value)}: expected a list of ints")
        return value

    def axis(self, number: int, ndim: int) -> int:
        """An axis counted from the front; negative ones count from the back."""
        if not -ndim <= number < ndim:
            raise self.error(f"axis {number}: the input has {ndim} axes")
        return number % ndim

    def axes(self, numbers: Any, ndim: int) -> list[int]:
        """Axes counted from the front, no two alike."""
        found = [self.axis(n, ndim) for n in as_ints(numbers)]
        if len(set(found)) != len(found):
            raise self.error(f"axes {list(numbers)} of an input of {ndim}: one comes twice")
        return found

    def wants(self, output: int) -> bool:
        """Whether the graph names output number ``output``."""
        return output < len(self.outputs) and bool(self.outputs[output])

    def check_size(self, shape: Sequence[int], dtype: Any) -> None:
        """Refuse an output of more bytes than the limit, before its memory is taken.

        An axis of length 0 excuses no other one: a sum along it has the others' size.

        Raises
        ------
        FileFormatError
            Too large, or a negative length.
        """
        if min(shape, default=0) < 0:
            raise self.error(f"an output of shape {tuple(shape)}")
        size = math.prod(max(n, 1) for n in shape) * np.dtype(str(dtype)).itemsize
        if size > self.limit:
            raise self.error(
                f"an output of shape {tuple(shape)} takes {size} bytes, more than the limit of "
                f"{self.limit}; if the file can be trusted, load it with a larger limit="
            )


def as_ints(values: Any, most: int = _MOST) -> list[int]:
    """A NumPy array or a list of whole numbers as Python's ints; a single one as a list of one.

    Raises
    ------
    ValueError
        More than ``most``: a few bytes in a file can make an array of any length.
    """
    found = np.asarray(values).reshape(-1)
    if found.size > most:
        raise ValueError(f"{found.size} numbers for a setting: expected at most {most}")
    return [int(v) for v in found]


@cache
def _required(compute: Callable[..., Any]) -> int:
    """How many inputs ``compute(node, *inputs)`` has no default for."""
    parameters = list(inspect.signature(compute).parameters.values())[1:]
    named = [p for p in parameters if p.kind is not p.VAR_POSITIONAL]
    return sum(p.default is p.empty and p.kind is not p.KEYWORD_ONLY for p in named)


def _of_conv(node: Node) -> int:
    """Multiply-adds for each value of the output."""
    return math.prod(node.weight_shapes.get(1, (0,))[1:])


def _of_gemm(node: Node) -> int:
    shape = node.weight_shapes.get(1, (0, 0))
    return shape[1 if node.integer("transB", 0) else 0]


def _of_matmul(node: Node) -> int:
    if 1 in node.weight_shapes:
        return node.weight_shapes[1][-2:][0]
    return node.weight_shapes.get(0, (0,))[-1]


def _on_host(value: Value) -> Value:
    return value.numpy() if isinstance(value, Tensor) else value


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"<{value.dtype} {value.shape}>"
    text = repr(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
