"""What a training starts from: ``xcnn train --init`` and ``--freeze``."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .. import onnx, serialize
from ..errors import ArgumentError, StateDictError
from ..nn import Module
from ..nn.module import is_count
from .deploy import is_onnx


def load_init(model: Module, path: str, new_head: bool = False) -> list[str]:
    """Copy the weights of a safetensors or ONNX file into ``model`` by their names.

    Parameters
    ----------
    model
        What :func:`xcnn.models.create` made.
    path
        A file of :func:`xcnn.save`, or of another program that names weights alike, such as
        torchvision's networks saved with ``safetensors.torch.save_file(model.state_dict(), path)``.
    new_head
        Leave out weights whose shape differs: with other classes than those of the file, the
        layers for them start anew.

    Returns
    -------
    list of str
        The names left out.

    Raises
    ------
    FileNotFoundError, FileFormatError
        The file is missing or damaged.
    StateDictError
        Lists every missing, unexpected and misshapen weight.
    """
    if Path(path).is_dir():
        raise ArgumentError(f"--init {path} is a folder; of a run, pass {path}/model.safetensors")
    own = model.state_dict()
    arrays = _read(path)
    other = [k for k in own if k in arrays and arrays[k].shape != own[k].shape]
    if new_head:
        arrays.update({k: own[k] for k in other})
    try:
        model.load_state_dict(arrays)
    except StateDictError as error:
        advice = _advice(path, own, arrays, other)
        raise StateDictError(f"--init {path}: {error}\n{advice}") from None
    return other


def _read(path: str) -> dict[str, Any]:
    """The arrays of a file by name."""
    if not is_onnx(Path(path)):
        return serialize.read(path)[0]
    graph = onnx.load(path)
    parameters = dict(graph.named_parameters())
    return {k: a for k, a in graph.state_dict().items() if k in parameters or "running_" in k}


def _advice(path: str, own: dict[str, Any], arrays: dict[str, Any], other: list[str]) -> str:
    """What to do, in a line."""
    missing, unexpected = (
        [k for k in a if k not in b and not is_count(k)] for a, b in ((own, arrays), (arrays, own))
    )
    if other and not unexpected and not missing:
        return (
            "if the file is of a network for other classes or images, --new-head starts these "
            "weights anew and takes the others from the file"
        )
    if is_onnx(Path(path)) and any("running_mean" in k for k in missing):
        return (
            "the file has no batch-norms: exporters put them into the convolutions before them; "
            "with PyTorch, export with training=torch.onnx.TrainingMode.PRESERVE, "
            "do_constant_folding=False and dynamo=False, or save the weights with safetensors"
        )
    return "the file must be of the same model: with the same names of weights"


def freeze(model: Module, patterns: Sequence[str]) -> int:
    """Train no parameter whose name matches a shell-style pattern such as ``features.*``.

    Batch-norms go on taking the mean and variance of each batch, and running averages of them, as
    in PyTorch: only their weight and bias can be frozen.

    Returns
    -------
    int
        How many numbers are frozen.

    Raises
    ------
    ArgumentError
        A pattern that matches nothing, or nothing is left to train.
    """
    parameters = dict(model.named_parameters())
    for pattern in patterns:
        found = [p for name, p in parameters.items() if fnmatchcase(name, pattern)]
        if not found:
            raise ArgumentError(
                f"--freeze {pattern!r} matches no parameter; there are: {', '.join(parameters)}"
            )
        for parameter in found:
            parameter.requires_grad = False
    frozen = [p.size for p in parameters.values() if not p.requires_grad]
    if len(frozen) == len(parameters):
        raise ArgumentError(f"--freeze {' '.join(patterns)}: nothing is left to train")
    return sum(frozen)
