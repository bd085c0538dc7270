"""Summary table of a model's layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import Any

from . import backends
from .arrays import Array
from .errors import ArgumentError, show
from .nn import Module, evaluating, hooked
from .notebook import html_table
from .tensor import Parameter, Tensor

_HEADER = ["layer", "kind", "output shape", "parameters", "multiply-adds", "memory"]
_ALIGNMENT = "<<<>>>"
_NEEDED = 4  # columns that a narrow terminal shows too


@dataclass(frozen=True)
class Layer:
    """One row of a summary, for a batch of one example.

    Attributes
    ----------
    path : dotted name
    kind : name of the class
    output_shape : without the batch axis
    parameters : number of trainable values, including parameters passed to the layer as inputs
    multiply_adds : in one forward pass
    memory : bytes of the output
    """

    path: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int
    memory: int


def layers(model: Module, input_shape: tuple[int, ...]) -> list[Layer]:
    """List the layers of a model in the order in which they return.

    Parameters
    ----------
    model
        Any Module.
    input_shape
        Shape of one example, such as (1, 28, 28).

    Raises
    ------
    ShapeError
        The model does not accept this shape.
    """
    rows: dict[str, Layer] = {}

    if not isinstance(model, Module):
        raise ArgumentError(f"model is {type(model).__name__}: expected a Module")
    if not isinstance(input_shape, list | tuple):
        raise ArgumentError(
            f"input_shape={show(input_shape)}: expected a tuple such as (1, 28, 28)"
        )

    def recorder(path: str) -> Any:
        def hook(module: Module, inputs: tuple, output: Any) -> None:
            outputs = output if isinstance(output, tuple) else (output,)
            arrays = [y.data for y in outputs if isinstance(y, Tensor)]
            if arrays:
                rows[path] = _layer(path, module, inputs, arrays)

        return hook

    hooks = [(m, recorder(path)) for path, m in model.named_modules() if m.is_layer]
    backend = backends.get(model.device)
    with backend.active(), evaluating(model), hooked(hooks):
        model(backend.xp.zeros((1, *input_shape), model.dtype))
    return list(rows.values())


def _layer(path: str, module: Module, inputs: tuple, outputs: list[Array]) -> Layer:
    """Create the row of a layer, with the shape of its first output."""
    own = module.parameters(recurse=False)  # its children have rows of their own
    parameters = (*own, *[x for x in inputs if isinstance(x, Parameter)])
    return Layer(
        path=path,
        kind=getattr(module, "type", type(module).__name__),  # the operator of an ONNX node
        output_shape=tuple(outputs[0].shape[1:]),
        parameters=sum(p.numel() for p in parameters),
        multiply_adds=module.multiply_adds(outputs[0].shape),
        memory=sum(y.nbytes for y in outputs),
    )


class Summary(str):
    """A text that shows itself without quotes at a prompt, and as a table in a notebook."""

    table: list[list[str]]

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head, *rows = self.table
        title = self.splitlines()[-1]
        return html_table([dict(zip(head, row, strict=True)) for row in rows], title)


def summary(model: Module, input_shape: tuple[int, ...], width: int | None = None) -> Summary:
    """Format :func:`layers` as a table with totals: a text, in a notebook HTML.

    Parameters
    ----------
    model, input_shape
        As for :func:`layers`.
    width
        Columns of the terminal: leave out the memory, and then the multiply-adds, if the table is
        wider.
    """
    rows = layers(model, input_shape)
    itemsize = backends.get("cpu").xp.dtype(model.dtype).itemsize
    parameters = sum(p.numel() for p in model.parameters())
    products, memory = sum(r.multiply_adds for r in rows), sum(r.memory for r in rows)
    table = [
        _HEADER,
        _cells("input", "", input_shape, None, None, math.prod(input_shape) * itemsize),
        *[_cells(*astuple(row)) for row in rows],
        _cells("total", "", (), parameters, products, memory),
    ]
    weights = f"weights {_bytes(parameters * itemsize)}"
    example = f"per example: multiply-adds {products:,}, memory {_bytes(memory)}"
    text = Summary(f"{_format(table, width)}\n{weights}; {example}")
    text.table = table
    return text


def _cells(
    path: str, kind: str, shape: Sequence[int], parameters: Any, multiply_adds: Any, memory: int
) -> list[str]:
    counts = ["" if n is None else f"{n:,}" for n in (parameters, multiply_adds)]
    return [path, kind, "×".join(map(str, shape)), *counts, _bytes(memory)]


def _bytes(count: float) -> str:
    if count < 1024:
        return f"{count:.0f} B"
    power = min(int(math.log2(count)) // 10, 3)
    return f"{count / 1024**power:.1f} {' KMG'[power]}iB"


def _format(table: list[list[str]], width: int | None) -> str:
    """Columns padded to equal widths, with rules below the header and above the last row."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    while width and sum(widths) + 2 * (len(widths) - 1) > width and len(widths) > _NEEDED:
        widths.pop()
        table = [row[:-1] for row in table]
    formats = [f"{{:{side}{width}}}" for side, width in zip(_ALIGNMENT, widths, strict=False)]
    head, *body, last = ("  ".join(formats).format(*row).rstrip() for row in table)
    rule = "─" * (sum(widths) + 2 * (len(widths) - 1))
    return "\n".join([head, rule, *body, rule, last])
