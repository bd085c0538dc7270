"""Recording the calls that a model makes to compute its outputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ... import backends, nn
from ...arrays import Array
from ...errors import ArgumentError
from ...tensor import Call, Tensor, Tracer, no_grad
from ..importer import OPERATORS


def placed(example: Any, device: str) -> list[Tensor]:
    """The inputs on a device, each a new array object: arrays are identified by their ids."""
    is_list = isinstance(example, list) and any(hasattr(x, "shape") for x in example)
    inputs = example if isinstance(example, tuple) or is_list else (example,)
    target = backends.get(device)
    return [Tensor(target.asarray(Tensor.of(x).numpy())[...]) for x in inputs]


def run(model: nn.Module, inputs: list[Tensor]) -> tuple[list[Tensor], list[Call]]:
    """Run a model and return its outputs and all traced calls.

    Raises
    ------
    ArgumentError
        The model returns something other than Tensors.
    """
    tracer = Tracer()
    with nn.evaluating(model), tracer.active():
        outputs = model(*inputs)
    return outputs_of(outputs), tracer.calls


def run_parts(call: Call, parts: Callable[..., Any] | None) -> tuple[Any, list[Call]]:
    """Repeat a call, by ``parts`` if given, and return its result and the calls inside it."""
    tracer = Tracer()
    with no_grad(), tracer.active():
        if parts is not None:
            return parts(*call.arguments.values()), tracer.calls
        function: Any = call.function
        bound: Any = inspect.BoundArguments(inspect.signature(function), call.arguments)
        return function(*bound.args, **bound.kwargs), tracer.calls


def outputs_of(result: Any) -> list[Tensor]:
    """The result of a model as a list of Tensors.

    Raises
    ------
    ArgumentError
        It contains something other than Tensors, or nothing.
    """
    outputs = list(result) if isinstance(result, tuple | list) else [result]
    wrong = [type(y).__name__ for y in outputs if not isinstance(y, Tensor)]
    if wrong or not outputs:
        raise ArgumentError(
            f"the model returned {wrong[0] if wrong else 'nothing'}: expected a Tensor or a tuple "
            "of Tensors; wrap it in a Module that returns them"
        )
    return outputs


def arrays_in(value: Any) -> Iterator[Array]:
    """The arrays in an argument or a result."""
    if isinstance(value, Tensor):
        yield value.data
    elif isinstance(value, list | tuple):
        for item in value:
            yield from arrays_in(item)
    elif isinstance(value, Mapping):
        yield from arrays_in(list(value.values()))
    elif backends.find(value) is not None:
        yield value


def ids_in(value: Any) -> set[int]:
    """The ids of the arrays in an argument or a result."""
    return {id(array) for array in arrays_in(value)}


def changed(call: Call) -> Tensor | None:
    """The tensor that a call writes into, as ``x += y`` and ``x[i] = y`` do; None: it does not."""
    name = {"_store": "tensor", "setitem": "input"}.get(call.name)
    return None if name is None else call.arguments[name]


def needed(calls: list[Call], sources: set[int], outputs: Any) -> list[Call]:
    """The calls that lead from ``sources``, the ids of inputs and weights, to the outputs.

    Excludes calls that depend on no source, whose results are constants, and calls that return an
    argument unchanged, such as dropout in evaluation mode.
    """
    known, dependent = set(sources), []
    for call in calls:
        arguments, results = ids_in(call.arguments), ids_in(call.result)
        results = results - arguments if changed(call) is None else ids_in(changed(call))
        if arguments & known and results:
            known |= results
            dependent.append((call, results))
    wanted, used = ids_in(outputs), []
    for call, results in reversed(dependent):
        if wanted & results:
            wanted |= ids_in(call.arguments)
            used.append(call)
    return used[::-1]


def roles(nodes: Iterable[Any], role: str) -> dict[str, set[bool]]:
    """By value name: whether nodes take it as a ``role`` input, "static" or "buffers"."""
    uses: dict[str, set[bool]] = {}
    for node in nodes:
        operator = OPERATORS.get((node.domain, node.op_type))
        for number, name in enumerate(node.input):
            uses.setdefault(name, set()).add(number in getattr(operator, role, ()))
    return uses
