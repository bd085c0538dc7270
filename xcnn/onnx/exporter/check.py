"""Verifying that an exported model computes the same as the original."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ... import nn
from ...errors import ExportError, XcnnError
from ...tensor import Tensor
from ..importer import build
from .record import outputs_of, roles

#: by dtype, relative to the largest value
_TOLERANCES = {"float16": 2e-2, "float32": 1e-3, "float64": 1e-5}
_HINT = (
    "Tracing records only calls to xcnn.functional: look for values read from Tensors (.item(), "
    ".numpy(), .data), Python branches that depend on data, random numbers, and hard-coded batch "
    "sizes (dynamic_batch=False keeps the example's); check=False skips this check"
)


def compare(
    proto: Any, folder: Path | None, model: nn.Module, example: list[Tensor], batch: int | None
) -> None:
    """Compare the exported model with the original on random inputs.

    Parameters
    ----------
    proto, folder
        The exported model, and the folder with its external data, if any.
    example
        The inputs it was exported with.
    batch
        The example's batch size, to test with a different one; None: keep it.

    Raises
    ------
    ExportError
        The outputs differ, or a model does not run on these inputs.
    """
    # random values for a setting, such as a shape, may be invalid
    is_setting = roles(proto.graph.node, "static")
    inputs = [
        x if is_setting.get(declared.name) == {True} else _random(x, batch, seed)
        for seed, (x, declared) in enumerate(zip(example, proto.graph.input, strict=True))
    ]
    with np.errstate(all="ignore"):  # such as logarithms of negative numbers, NaN on both sides
        expected = _run_original(model, inputs, batch)
        actual = _run_exported(proto, folder, model.device, inputs)
    for number, (y, wanted) in enumerate(zip(actual, expected, strict=True)):
        _check_output(number, y.numpy(), wanted.numpy())


def _run_original(model: nn.Module, inputs: list[Tensor], batch: int | None) -> list[Tensor]:
    try:
        with nn.evaluating(model):
            return outputs_of(model(*inputs))
    except (XcnnError, ValueError) as error:
        what, fix = "values other than the example's", "check=False skips this check"
        if batch is not None:
            what = f"a batch of {batch + 1}"
            fix = "pass dynamic_batch=False if the batch size is fixed"
        raise ExportError(f"the model does not accept {what} ({error}); {fix}") from error


def _run_exported(
    proto: Any, folder: Path | None, device: str, inputs: list[Tensor]
) -> list[Tensor]:
    try:
        graph = build(proto, folder).to(device)
        with nn.evaluating(graph):
            return outputs_of(graph(*inputs))
    except XcnnError as error:
        batch = f" with a batch of {len(inputs[0])}" if inputs and inputs[0].ndim else ""
        text = str(error).rstrip(".")
        raise ExportError(f"the exported model does not run{batch}: {text}. {_HINT}") from error


def _random(x: Tensor, batch: int | None, seed: int) -> Tensor:
    """Random samples of the example's values, so that they stay in range.

    Standard normal numbers if all values are equal; integers, such as indices, repeat in order.
    """
    shape = list(x.shape)
    if batch is not None and shape and shape[0] == batch:
        shape[0] += 1
    values, random = x.numpy(), np.random.default_rng(seed)
    if x.dtype.kind != "f" or not shape:
        array = np.resize(values, shape)
    elif values.min(initial=np.inf) < values.max(initial=-np.inf):
        array = np.resize(random.permutation(values.reshape(-1)), shape)  # few ties
    else:
        array = random.standard_normal(shape)
    return Tensor(x.backend.asarray(array.astype(str(x.dtype))))


def _check_output(number: int, y: Any, expected: Any) -> None:
    if y.shape != expected.shape or y.dtype != expected.dtype:
        raise ExportError(
            f"output {number} of the exported model is {y.dtype} {y.shape}, but that of the model "
            f"is {expected.dtype} {expected.shape}. {_HINT}"
        )
    finite = np.abs(expected[np.isfinite(expected)])
    tolerance = _TOLERANCES.get(str(y.dtype), 0) * (1 + finite.max(initial=0))
    if not np.allclose(y, expected, rtol=0, atol=tolerance, equal_nan=True):
        differences = np.abs(y.astype(float) - expected.astype(float))
        largest = differences.max(initial=0, where=np.isfinite(differences))
        raise ExportError(
            f"output {number} of the exported model differs from the model's by up to "
            f"{largest:.3g} on random inputs. {_HINT}"
        )
