"""Initial and frozen weights: ``xcnn train --init`` and ``--freeze``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import models, onnx
from ..errors import ArgumentError, StateDictError
from ..nn import Module, matching_parameters
from .network import is_onnx
from .options import Parser, count
from .run_folder import RunFolder


def add_options(parser: Parser) -> None:
    """Add ``--init``, ``--new-head``, ``--freeze`` and ``--unfreeze-at``."""
    parser.section("initial and frozen weights")
    init = (
        "start from weights, by name: a run folder, a safetensors, PyTorch or ONNX file, or a URL"
    )
    parser.add("--init RUN", init)
    head = "keep random weights in the last layer, and where those of --init have other shapes"
    parser.add("--new-head", head, action="store_true")
    freeze = (
        "do not train parameters whose names match, such as 'features.*'; can be repeated; batch "
        "norms still update their running statistics"
    )
    parser.add("--freeze PATTERN", freeze, action="append", values=list)
    later = "train what --freeze names too, from epoch N on"
    parser.add("--unfreeze-at N", later, type=count)


def settings(arguments: argparse.Namespace, epochs: int) -> dict[str, Any]:
    """The config entries of ``--freeze`` and ``--unfreeze-at``.

    Raises
    ------
    ArgumentError
        ``--unfreeze-at`` without ``--freeze``, or not from the second to the last epoch.
    """
    first, frozen = arguments.unfreeze_at, arguments.freeze or []
    if first is not None and not frozen:
        raise ArgumentError(f"--unfreeze-at {first} needs --freeze: pass both, or leave it out")
    if first is not None and not 1 < first <= epochs:
        raise ArgumentError(f"--unfreeze-at {first}: expected 2 to {epochs}, the number of epochs")
    return {"freeze": frozen, "unfreeze_at": first}


def load_init(model: Module, path: str, new_head: bool = False) -> list[str]:
    """Copy the weights of a run or a file into ``model``, by name.

    Parameters
    ----------
    model
        From :func:`xcnn.models.create`.
    path
        A run folder; a file written by :func:`xcnn.save`, or by another library with the same
        names, such as torchvision's; or a URL, as ``weights`` of :func:`xcnn.models.create`.
    new_head
        Keep the model's weights where the file's have another shape, such as the last layer's for
        another number of classes; and those of the last layer in any case.

    Returns
    -------
    list of str
        Names of the weights that were not loaded.

    Raises
    ------
    FileNotFoundError, FileFormatError
        The file is missing or damaged.
    StateDictError
        Weights are missing, unexpected or of the wrong shape; the message lists them.
    """
    state, folder = model.state_dict(), RunFolder(Path(path))
    if Path(path).is_dir() and not folder.is_run():
        raise ArgumentError(f"--init {path} is a folder, but not of a run: expected one, or a file")
    arrays = folder.load_model().state_dict() if folder.is_run() else _read(path, model)
    misshapen = [k for k in state if k in arrays and arrays[k].shape != state[k].shape]
    if new_head:
        misshapen += [] if _has_head(model, misshapen) else _last_layer(model)
        arrays.update({k: state[k] for k in misshapen})
    try:
        model.load_state_dict(arrays)
    except StateDictError as error:
        advice = _advice(path, model, arrays, misshapen)
        raise StateDictError(f"--init {path}: {error}\n{advice}") from None
    return misshapen


def _has_head(model: Module, names: Sequence[str]) -> bool:
    """Whether one of the weights is in the last part of the model: it may have several outputs."""
    part = [name.partition(".")[0] for name, _ in model.named_parameters()][-1]
    return any(name.partition(".")[0] == part for name in names)


def _last_layer(model: Module) -> list[str]:
    """The names of the last layer's parameters."""
    names = [name for name, _ in model.named_parameters()]
    layer = names[-1].rpartition(".")[0]
    return [name for name in names if name.rpartition(".")[0] == layer]


def _read(path: str, model: Module) -> dict[str, Any]:
    """The arrays of a file, by name."""
    if not is_onnx(Path(path)):
        return models.read_weights(model, path)
    graph = onnx.load(path)
    parameters = dict(graph.named_parameters())
    return {k: a for k, a in graph.state_dict().items() if k in parameters or "running_" in k}


def _advice(path: str, model: Module, arrays: dict[str, Any], misshapen: list[str]) -> str:
    """A one-line hint for weights that do not fit."""
    state = model.state_dict()
    has_all = all(name in arrays for name, _ in model.named_parameters())
    if misshapen and has_all and state.keys() >= arrays.keys():
        return (
            "if the file is for other classes or images, --new-head keeps random weights for these "
            "and loads the others"
        )
    no_norms = not any("running_mean" in k for k in arrays)
    if is_onnx(Path(path)) and no_norms and any("running_mean" in k for k in state):
        return (
            "the file has no batch norms: exporters fold them into the preceding convolutions; "
            "with PyTorch, export with training=torch.onnx.TrainingMode.PRESERVE, "
            "do_constant_folding=False and dynamo=False, or save the weights with safetensors"
        )
    return "the file must be for the same model, with the same weight names"


def freeze(model: Module, patterns: Sequence[str]) -> None:
    """Exclude parameters whose names match a pattern such as ``features.*`` from training.

    As in PyTorch, only the weight and bias of a batch norm can be frozen: it still normalises with
    the statistics of each batch and updates its running statistics.

    Raises
    ------
    ArgumentError
        A pattern matches nothing, or everything is frozen.
    """
    for parameter in matching_parameters(model, patterns, "--freeze").values():
        parameter.requires_grad = False
    if not any(p.requires_grad for p in model.parameters()):
        raise ArgumentError(f"--freeze {' '.join(patterns)}: nothing is left to train")
