"""What a model computes for an example, as the calls that matter to its outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ... import backends, nn
from ...arrays import Array
from ...errors import ArgumentError
from ...nn.module import evaluating
from ...tensor import Call, Tensor, Tracer, no_grad


def placed(example: Any, device: str) -> list[Tensor]:
    """The inputs on a device, each an array object of its own, by which it is known."""
    given = example if isinstance(example, tuple | list) and _holds_arrays(example) else (example,)
    target = backends.get(device)
    return [_moved(Tensor.of(x), target) for x in given]


def _holds_arrays(values: Any) -> bool:
    """Whether this is several inputs, and not one in nested lists."""
    return isinstance(values, tuple) or any(hasattr(v, "shape") for v in values)


def _moved(tensor: Tensor, target: Any) -> Tensor:
    return Tensor(target.asarray(tensor.numpy())[...])


def run(model: nn.Module, inputs: list[Tensor]) -> tuple[list[Tensor], list[Call]]:
    """The outputs, and all operations that were called.

    Raises
    ------
    ArgumentError
        The model returns something else than Tensors.
    """
    tracer = Tracer()
    with evaluating(model), tracer.active():
        found = model(*inputs)
    return outputs_of(found), tracer.calls


def inside(call: Call) -> tuple[Any, list[Call]]:
    """The result of a node of a graph, computed again, and the operations that it consists of."""
    node, inputs = call.arguments["self"], call.arguments["inputs"]
    tracer = Tracer()
    with no_grad(), tracer.active():
        found = type(node).forward.__wrapped__(node, *inputs)
    return found, tracer.calls


def outputs_of(found: Any) -> list[Tensor]:
    """What a model returned, as a list."""
    outputs = list(found) if isinstance(found, tuple | list) else [found]
    wrong = [type(y).__name__ for y in outputs if not isinstance(y, Tensor)]
    if wrong or not outputs:
        raise ArgumentError(
            f"the model returned {wrong[0] if wrong else 'nothing'}: expected a Tensor or a tuple "
            "of Tensors; wrap it in a Module that returns them"
        )
    return outputs


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by dotted path, as in its state dict."""
    return dict(model._state())


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


def needed(calls: list[Call], sources: set[int], outputs: Any) -> list[Call]:
    """The calls that lead from sources, ids of arrays such as inputs and weights, to the outputs.

    Those that use neither have constant results, and those that return an argument itself, as
    dropout does in evaluation mode, do nothing.
    """
    known, live = set(sources), []
    for call in calls:
        taken = {id(a) for a in arrays_in(call.arguments)}
        made = {id(a) for a in arrays_in(call.result)}
        if taken & known and made - taken:
            known |= made
            live.append(call)
    return _used(live, {id(a) for a in arrays_in(outputs)})


def _used(calls: list[Call], wanted: set[int]) -> list[Call]:
    kept = []
    for call in reversed(calls):
        if wanted & {id(a) for a in arrays_in(call.result)}:
            wanted |= {id(a) for a in arrays_in(call.arguments)}
            kept.append(call)
    return kept[::-1]
