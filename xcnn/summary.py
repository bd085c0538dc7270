"""What a model consists of, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import backends
from .nn import Module, evaluating
from .nn.module import dtype_of, hooked
from .tensor import Parameter, Tensor


@dataclass(frozen=True)
class Layer:
    """One row of a summary, for one example.

    Attributes
    ----------
    path : dotted name
    kind : class
    output_shape : without the batch axis
    parameters : numbers it trains, its own or given to it as inputs
    multiply_adds : of one forward
    memory : bytes of its output
    """

    path: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    memory: int


def layers(model: Module, input_shape: tuple[int, ...]) -> list[Layer]:
    """Each layer without inner layers, in the order of the calls.

    Parameters
    ----------
    model
        Any Module.
    input_shape
        Of one example, such as (1, 28, 28).

    Raises
    ------
    ShapeError
        The model does not take such an input.
    """
    backend = backends.get(model.device)
    found: dict[str, Layer] = {}
    leaves = [(path, m) for path, m in model.named_modules() if not list(m.children())]
    recorders = [(m, _recorder(path, found)) for path, m in leaves]
    with backend.active(), evaluating(model), hooked(recorders):
        model(backend.xp.zeros((1, *input_shape), dtype_of(model)))
    return list(found.values())


def _recorder(path: str, found: dict[str, Layer]) -> Callable[[Module, tuple, Any], None]:
    """A hook that puts each call of a layer into ``found``."""

    def hook(module: Module, inputs: tuple, output: Any) -> None:
        outputs = output if isinstance(output, tuple) else (output,)
        tensors = [y.data for y in outputs if isinstance(y, Tensor)]
        if tensors:
            found[path] = _layer(path, module, inputs, tensors)

    return hook


def _layer(path: str, module: Module, inputs: tuple, outputs: list[Any]) -> Layer:
    """The row of a layer; the shape is that of its first output."""
    parameters = (*module.parameters(), *[x for x in inputs if isinstance(x, Parameter)])
    return Layer(
        path=path,
        kind=getattr(module, "type", type(module).__name__),  # a node has a type of operator
        output_shape=tuple(outputs[0].shape[1:]),
        parameters=sum(p.size for p in parameters),
        multiply_adds=module.multiply_adds(outputs[0].shape),
        memory=sum(y.nbytes for y in outputs),
    )


def summary(model: Module, input_shape: tuple[int, ...]) -> str:
    """A table of :func:`layers` with totals, as text.

    Parameters
    ----------
    model, input_shape
        As for :func:`layers`.
    """
    rows = layers(model, input_shape)
    table: list[tuple[str, ...]] = [
        ("layer", "kind", "output shape", "parameters", "multiply-adds", "memory")
    ]
    shape = " × ".join(map(str, input_shape))
    size = backends.get("cpu").xp.dtype(dtype_of(model))
    table.append(("input", "", shape, "", "", _bytes(math.prod(input_shape) * size.itemsize)))
    table += [_row(r.path, r.kind, r.output_shape, r) for r in rows]
    parameters = sum(p.size for p in model.parameters())
    total = Layer(
        path="total",
        kind="",
        output_shape=(),
        parameters=parameters,
        multiply_adds=sum(r.multiply_adds for r in rows),
        memory=sum(r.memory for r in rows),
    )
    table.append(_row("total", "", (), total))
    return _format(table) + f"\nweights: {_bytes(parameters * size.itemsize)}; all for one example"


def _row(path: str, kind: str, shape: tuple[int, ...], layer: Layer) -> tuple[str, ...]:
    return (
        path,
        kind,
        " × ".join(map(str, shape)),
        f"{layer.parameters:,}",
        f"{layer.multiply_adds:,}",
        _bytes(layer.memory),
    )


def _bytes(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"


def _format(table: list[tuple[Any, ...]]) -> str:
    """Columns as wide as needed, text to the left and numbers to the right."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]

    def line(row: tuple) -> str:
        left = [f"{c:<{w}}" for c, w in zip(row[:3], widths[:3], strict=True)]
        right = [f"{c:>{w}}" for c, w in zip(row[3:], widths[3:], strict=True)]
        return "  ".join(left + right).rstrip()

    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    body = [line(row) for row in table]
    return "\n".join([body[0], rule, *body[1:-1], rule, body[-1]])
