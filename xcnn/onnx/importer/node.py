"""A node of an ONNX graph as a Module, and the registry of operators."""

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

Value = Any  # a Tensor on the model's device, a NumPy array on the host, or None if omitted
Guards = tuple[tuple[str, bool], ...]  # names of bools, and the values they must have
_MAX_LENGTH = 256  # of a setting such as a shape; arrays have at most 64 axes
#: errors that malformed attributes and inputs may raise
MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Operator:
    """The implementation of an ONNX operator.

    Attributes
    ----------
    compute
        ``compute(node, *inputs)``, which returns one value or a tuple with one per output.
    static
        Indices of the inputs that are settings, such as a shape, passed as NumPy arrays.
    buffers
        Indices of the inputs that are state but not trained.
    takes_relu
        Whether ``compute`` has a parameter ``relu``, to apply a ReLU in the same pass.
    """

    compute: Callable[..., Any]
    static: tuple[int, ...]
    buffers: tuple[int, ...]
    takes_relu: bool


#: by domain and type, such as ("", "Conv")
OPERATORS: dict[tuple[str, str], Operator] = {}


def operator(
    *types: str, domain: str = "", static: Sequence[int] = (), buffers: Sequence[int] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register ``compute(node, *inputs)`` for these operator types. A decorator.

    Inputs are Tensors, NumPy arrays if ``static``, or None if omitted. The result is a Tensor, a
    NumPy array (which stays on the host) or a tuple of them.
    """

    def register(compute: Callable[..., Any]) -> Callable[..., Any]:
        takes_relu = "relu" in inspect.signature(compute).parameters
        for name in types:
            OPERATORS[domain, name] = Operator(compute, tuple(static), tuple(buffers), takes_relu)
        return compute

    return register


class NodeError(FileFormatError):
    """An error whose message already names the node."""

    def passed_through(self, module: Any) -> None:
        """Do nothing: the module's path need not be added."""


class Node(nn.Module):
    """One node of a graph: maps inputs to its output, or to a tuple of outputs.

    If all inputs are on the host, so is the result: shape arithmetic never involves a GPU.

    Parameters
    ----------
    type, domain
        The operator's.
    name
        Name in the file, for error messages.
    attributes
        Values by name: int, float, str, NumPy array, or a list of int, float or str.
    inputs, outputs
        Names of values, empty if omitted.
    version
        Operator set version of the graph.
    limit
        Maximum size of one value in bytes.

    Attributes
    ----------
    weight_shapes : dict
        Shapes of the inputs that are weights, by input index.
    guards
        Conditions of the Ifs in whose branches the node is; the graph leaves it out otherwise.
    """

    guards: Guards = ()
    generator: Any  # of a seeded Dropout, created on first use

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
        self.type, self.domain, self.name = type, domain, name
        self.attributes = dict(attributes)
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self.version, self.limit = version, limit
        self.weight_shapes: dict[int, tuple[int, ...]] = {}

    @property
    def operator(self) -> Operator:
        return OPERATORS[self.domain, self.type]

    def _members(self) -> Iterator[tuple[str, Any]]:
        """No members: weights belong to the graph."""
        return iter(())

    def describe(self) -> str:
        settings = ", ".join(f"{k}={_short(v)}" for k, v in self.attributes.items())
        return f"{self.type}({settings})"

    def multiply_adds(self, output_shape: tuple[int, ...]) -> int:
        """Multiply-adds of a Conv, Gemm or MatMul with a weight; 0 for other operators."""
        shapes, count = self.weight_shapes, 0
        if self.type == "Conv":
            count = math.prod(shapes.get(1, (0, 0))[1:])
        elif self.type == "Gemm":
            count = shapes.get(1, (0, 0))[1 if self.integer("transB", 0) else 0]
        elif self.type == "MatMul":
            count = shapes[1][-2:][0] if 1 in shapes else shapes.get(0, (0,))[-1]
        return math.prod(output_shape) * count

    @operation
    def forward(self, *inputs: Value, relu: bool = False) -> Any:
        """Compute the output, or a tuple of outputs: Tensors, or NumPy arrays on the host.

        ``relu`` applies a ReLU to the output, for operators that support it.
        """
        compute, static = self.operator.compute, self.operator.static
        for number in range(_required_inputs(compute)):
            if number >= len(inputs) or inputs[number] is None:
                raise self.error(f"input {number} is omitted, but this operator requires it")
        arguments, on_host = _placed(inputs, static)
        try:
            result = compute(self, *arguments, **({"relu": True} if relu else {}))
        except XcnnError:
            raise
        except MemoryError as error:
            raise OutOfMemoryError(str(error) or "out of memory") from error
        except (*MALFORMED, RuntimeError) as error:
            if isinstance(error, RuntimeError) and type(error) is not RuntimeError:  # GPU errors
                raise
            raise self.error(str(error) or type(error).__name__) from error
        values = result[: len(self.outputs)] if isinstance(result, tuple) else (result,)
        outputs = tuple(_to_host(y) if on_host else y for y in values)
        return outputs[0] if len(outputs) == 1 else outputs

    # -- attributes -------------------------------------------------------------------------

    def error(self, text: str) -> FileFormatError:
        """An error that names the node."""
        return NodeError(f"node {self.name!r} ({self.type}): {text}")

    def _attribute(self, name: str, kinds: Any, expected: str, default: Any) -> Any:
        value = self.attributes.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise self.error(f"attribute {name}={_short(value)}: expected {expected}")
        return value

    def integer(self, name: str, default: Any = None) -> Any:
        """An int attribute, or ``default``."""
        return self._attribute(name, int, "an int", default)

    def number(self, name: str, default: Any = None) -> Any:
        """A float attribute, or ``default``."""
        return self._attribute(name, float, "a float", default)

    def text(self, name: str, default: Any = None, choices: Sequence[str] = ()) -> Any:
        """A string attribute, or ``default``; one of ``choices`` if there are any."""
        value = self._attribute(name, str, "a string", default)
        if choices and value not in choices:
            raise self.error(f"{name}={value!r}: expected one of {', '.join(choices)}")
        return value

    def integers(self, name: str, default: Any = None) -> Any:
        """An attribute that is a list of ints, or ``default``."""
        value = self._attribute(name, list, "a list of ints", default)
        if isinstance(value, list) and not all(isinstance(v, int) for v in value):
            raise self.error(f"attribute {name}={_short(value)}: expected a list of ints")
        return value

    def axis(self, number: int, ndim: int) -> int:
        """An axis as a non-negative number; negative ones count from the end."""
        if not -ndim <= number < ndim:
            raise self.error(f"axis {number}: the input has {ndim} axes")
        return number % ndim

    def axes(self, numbers: Any, ndim: int) -> list[int]:
        """Axes as non-negative numbers, without repeats."""
        numbers = as_ints(numbers)
        axes = [self.axis(n, ndim) for n in numbers]
        if len(set(axes)) != len(axes):
            raise self.error(f"axes {numbers}: an axis of the input ({ndim} axes) is repeated")
        return axes

    def has_output(self, number: int) -> bool:
        """Whether the node has output ``number``."""
        return number < len(self.outputs) and bool(self.outputs[number])

    def check_same_dtype(self, a: Tensor, b: Tensor) -> None:
        """Reject inputs of different dtypes."""
        if a.dtype != b.dtype:
            raise self.error(f"inputs are {a.dtype} and {b.dtype}: expected the same type")

    def check_size(self, shape: Sequence[int], dtype: Any) -> None:
        """Reject an output larger than the limit before it is allocated.

        A length of 0 does not exempt the other lengths: a sum along that axis has their size.

        Raises
        ------
        FileFormatError
            Too large, or a negative length.
        """
        if min(shape, default=0) < 0:
            raise self.error(f"an output of shape {tuple(shape)}: expected lengths >= 0")
        size = math.prod(max(n, 1) for n in shape) * np.dtype(str(dtype)).itemsize
        if size > self.limit:
            raise self.error(
                f"an output of shape {tuple(shape)} takes {size} bytes, more than the limit of "
                f"{self.limit}; if you trust the file, load it with a larger limit="
            )

    def check_broadcast(self, dtype: Any, *inputs: Tensor) -> None:
        """Call :meth:`check_size` for the shape that the inputs broadcast to."""
        self.check_size(np.broadcast_shapes(*(x.shape for x in inputs)), dtype)


def as_ints(values: Any, limit: int = _MAX_LENGTH) -> list[int]:
    """An integer, or a list or array of them, as a list of int.

    Raises
    ------
    ValueError
        More than ``limit`` integers: a few bytes of a file can describe an array of any length.
    """
    numbers = np.asarray(values).reshape(-1)
    if numbers.size > limit:
        raise ValueError(f"{numbers.size} numbers for a setting: expected at most {limit}")
    return [int(n) for n in numbers]


def _placed(inputs: Sequence[Value], static: tuple[int, ...]) -> tuple[list[Value], bool]:
    """The inputs moved to where ``compute`` expects them, and whether all were on the host."""
    backend, placed = None, list(inputs)
    for number, value in enumerate(inputs):
        if number in static:
            placed[number] = _to_host(value)
        elif backend is None and isinstance(value, Tensor):
            backend = value.backend
    for number, value in enumerate(inputs):
        if number not in static and value is not None and not isinstance(value, Tensor):
            placed[number] = Tensor(value if backend is None else backend.asarray(value))
    return placed, backend is None


@cache
def _required_inputs(compute: Callable[..., Any]) -> int:
    """Number of inputs of ``compute(node, *inputs)`` without a default."""
    parameters = list(inspect.signature(compute).parameters.values())[1:]
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.KEYWORD_ONLY)
    return sum(p.default is p.empty and p.kind not in kinds for p in parameters)


def _to_host(value: Value) -> Value:
    return value.numpy() if isinstance(value, Tensor) else value


def _short(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"<{value.dtype} {value.shape}>"
    text = repr(value.tolist() if isinstance(value, np.ndarray) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
