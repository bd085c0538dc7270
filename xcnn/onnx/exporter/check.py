"""Whether an exported model computes what the model does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ... import nn
from ...errors import ExportError, XcnnError
from ...nn.module import evaluating
from ...tensor import Tensor
from ..importer.load import build
from ..importer.node import OPERATORS
from .record import outputs_of

#: of the largest number
_TOLERANCES = {"float16": 2e-2, "float32": 1e-3, "float64": 1e-5}
_UNSEEN = (
    "Tracing sees calls of xcnn.functional only: look for values taken out of Tensors (.item(), "
    ".numpy(), .data), Python branches that depend on the data, random numbers, and batch sizes "
    "written down as numbers (dynamic_batch=False keeps the example's); check=False writes the "
    "file all the same"
)


def compare(
    proto: Any, folder: Path | None, model: nn.Module, example: list[Tensor], batch: int | None
) -> None:
    """Run the exported model and the model itself on random inputs.

    Parameters
    ----------
    proto, folder
        The exported model, and where its weights lie if they are not in it.
    example
        The inputs that the model was exported with.
    batch
        Their batch size, if another one is to be tried.

    Raises
    ------
    ExportError
        They differ, or the model does not take another batch size.
    """
    settings = _settings(proto)
    inputs = [
        x if proto.graph.input[number].name in settings else _random(x, batch, number)
        for number, x in enumerate(example)
    ]
    with np.errstate(all="ignore"):  # logarithms of negative numbers are NaN on both sides
        expected = _expected(model, inputs, batch)
        found = _found(proto, folder, model.device, inputs)
    for number, (y, wanted) in enumerate(zip(found, expected, strict=True)):
        _check_output(number, y.numpy(), wanted.numpy())


def _settings(proto: Any) -> set[str]:
    """Values that all nodes take as a setting, such as a shape: others may not be possible."""
    uses: dict[str, set[bool]] = {}
    for node in proto.graph.node:
        operator = OPERATORS.get((node.domain, node.op_type))
        for number, name in enumerate(node.input):
            uses.setdefault(name, set()).add(operator is not None and number in operator.static)
    return {name for name, are_settings in uses.items() if are_settings == {True}}


def _expected(model: nn.Module, inputs: list[Tensor], batch: int | None) -> list[Tensor]:
    try:
        with evaluating(model):
            return outputs_of(model(*inputs))
    except (XcnnError, ValueError) as error:
        what, how = "other numbers than the example's", "check=False writes the file all the same"
        if batch is not None:
            what = f"a batch of {batch + 1}"
            how = "say dynamic_batch=False if it is made for one size"
        raise ExportError(f"the model does not take {what} ({error}); {how}") from error


def _found(proto: Any, folder: Path | None, device: str, inputs: list[Tensor]) -> list[Tensor]:
    try:
        graph = build(proto, folder).to(device)
        with evaluating(graph):
            return outputs_of(graph(*inputs))
    except XcnnError as error:
        sizes = f" with a batch of {len(inputs[0])}" if inputs and inputs[0].ndim else ""
        told = str(error).rstrip(".")
        raise ExportError(f"the exported model does not run{sizes}: {told}. {_UNSEEN}") from error


def _random(x: Tensor, batch: int | None, seed: int) -> Tensor:
    """Numbers from the example in random places, so that they stay in its range; normal ones where
    it has but one. What are no floats, such as indices, are repeated.
    """
    shape = list(x.shape)
    if batch is not None and shape and shape[0] == batch:
        shape[0] += 1
    values, random = x.numpy(), np.random.default_rng(seed)
    if x.dtype.kind != "f" or not shape:
        numbers = np.resize(values, shape)
    elif values.min(initial=np.inf) < values.max(initial=-np.inf):
        numbers = random.choice(values.reshape(-1), shape)
    else:
        numbers = random.standard_normal(shape)
    return Tensor(x.backend.asarray(numbers.astype(str(x.dtype))))


def _check_output(number: int, y: Any, expected: Any) -> None:
    if y.shape != expected.shape or y.dtype != expected.dtype:
        raise ExportError(
            f"output {number} of the exported model is {y.dtype} {y.shape}, the model's "
            f"{expected.dtype} {expected.shape}. {_UNSEEN}"
        )
    finite = np.abs(expected[np.isfinite(expected)])
    allowed = _TOLERANCES.get(str(y.dtype), 0) * (1 + finite.max(initial=0))
    if not np.allclose(y, expected, rtol=0, atol=allowed, equal_nan=True):
        differences = np.abs(y.astype(float) - expected.astype(float))
        largest = differences.max(initial=0, where=np.isfinite(differences))
        raise ExportError(
            f"output {number} of the exported model differs from the model's by up to "
            f"{largest:.3g} on random inputs. {_UNSEEN}"
        )
