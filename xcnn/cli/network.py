"""Trained networks from run folders and ONNX files, and the metadata that describes them."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from .. import backends, data, onnx
from ..errors import ArgumentError, FileFormatError
from ..files import open_file, parse_json, read_all, reading
from ..training import Trainer
from . import sources
from .run_folder import RunFolder, damaged_entries

SUFFIX = ".onnx"
MAX_INPUT = 2**27  # numbers, 512 MiB: the largest image or batch that a file may request
MAX_NAMES = 2**20  # bytes of a list of class names
#: entries of a run's config that an ONNX file stores, as JSON in its metadata
_METADATA = ("classes", "data", "input_shape", "loss", "mean", "scale", "std")


def open_trainer(arguments: argparse.Namespace) -> tuple[Trainer, dict[str, Any]]:
    """Open ``arguments.model``, a run folder or an ONNX file, on ``arguments.device``.

    Returns
    -------
    trainer : Trainer
        For evaluation and prediction.
    config : dict
        As in the run folder; "loss" and "classes" are None if an ONNX file does not store them.

    Raises
    ------
    ArgumentError
        Not a run folder or ONNX file, or an option does not apply to it.
    FileNotFoundError, FileFormatError, UnsupportedOperatorError
        A file is missing, damaged, or has operators that xcnn does not support.
    """
    path = Path(arguments.model)
    options = {key: getattr(arguments, key, None) for key in ("mean", "std", "classes")}
    options = {key: value for key, value in options.items() if value is not None}
    if is_onnx(path):
        model = onnx.load(path)
        config = _read_metadata(path, model)
    else:
        folder = RunFolder(path)
        config = folder.load_config()
        config["crop"] = sources.is_folder(config["data"])
        model = folder.load_model()
    if config is None:
        config = {**_guess_config(path, model), **_check_options(options)}
    elif options:
        raise ArgumentError(
            f"--{next(iter(options))} is for ONNX files without metadata: {path} has its own"
        )
    model.to(backends.get(arguments.device))
    return Trainer(model, loss=config["loss"] or "mse"), config


def normalization(config: dict[str, Any]) -> data.Normalize:
    """The normalisation of the network's inputs."""
    return data.Normalize(config["mean"], config["std"], scale=config["scale"])


def is_onnx(path: Path) -> bool:
    """Whether ``path`` has the name of an ONNX file."""
    return path.suffix.lower() == SUFFIX and not path.is_dir()


def describe_inputs(model: onnx.Graph) -> str:
    """Names and shapes of the inputs, for error messages."""
    inputs = [
        f"{name} ({', '.join('?' if n is None else str(n) for n in shape or ['...'])})"
        for name, shape in model.inputs.items()
    ]
    return ", ".join(inputs) or "no inputs"


def metadata(config: dict[str, Any]) -> dict[str, str]:
    """The metadata of an exported file, as JSON values."""
    entries = {key: config[key] for key in _METADATA}
    entries["crop"] = sources.is_folder(config["data"])
    entries["data"] = Path(config["data"]).name  # without this machine's folders
    return {key: json.dumps(value) for key, value in entries.items()}


def _check_options(options: dict[str, Any]) -> dict[str, Any]:
    if len({"mean", "std"} & set(options)) == 1:
        raise ArgumentError("--mean and --std belong together: pass both")
    return {k: _read_names(v) if k == "classes" else v for k, v in options.items()}


def _read_metadata(path: Path, model: onnx.Graph) -> dict[str, Any] | None:
    """The config in a file's metadata; None if the file is not from xcnn export."""
    if not set(_METADATA) <= set(model.metadata):
        return None
    with reading(f"{path}: the metadata", "is damaged", "Export it again"):
        config = {key: parse_json(model.metadata[key]) for key in _METADATA}
        config["crop"] = parse_json(model.metadata.get("crop", "false")) is True
    wrong = damaged_entries(config)
    if wrong:
        raise FileFormatError(f"{path}: the metadata is damaged: wrong: {', '.join(wrong)}")
    shape = config["input_shape"]
    declared = [list(sizes[1:]) if sizes else None for sizes in model.inputs.values()]
    if declared != [shape] or math.prod(shape) > MAX_INPUT:
        raise FileFormatError(
            f"{path}: the metadata says images of {shape}, but the graph takes "
            f"{describe_inputs(model)}: expected the same, at most {MAX_INPUT:,} numbers"
        )
    return config


def _guess_config(path: Path, model: onnx.Graph) -> dict[str, Any]:
    """The config of an image classifier that has no metadata."""
    shapes = list(model.inputs.values())
    batch, *shape = shapes[0] if len(shapes) == 1 and shapes[0] else (None,)
    is_image = len(shape) == 3 and all(isinstance(n, int) for n in shape) and shape[0] in (1, 3)
    if not is_image or not 1 <= math.prod(shape) <= MAX_INPUT:
        raise ArgumentError(
            f"{path} takes {describe_inputs(model)}: expected one input (N, C, H, W) with 1 or 3 "
            f"channels and a fixed image size, at most {MAX_INPUT:,} numbers; use "
            "xcnn.onnx.load for other models"
        )
    if isinstance(batch, int):  # the network may require this batch size
        batch = max(1, min(batch, MAX_INPUT // math.prod(shape)))
    config = {"input_shape": list(shape), "mean": [0.0], "std": [1.0], "scale": 255, "crop": True}
    return {**config, "loss": None, "classes": None, "batch": batch or 1}


def _read_names(file: str) -> list[str]:
    what, advice = "is not a text in UTF-8", "Expected one name per line"
    with reading(f"--classes {file}", what, advice), open_file(file) as opened:
        names = read_all(opened, MAX_NAMES).decode().splitlines()
    if not any(names):
        raise ArgumentError(f"--classes {file}: expected one name per line")
    return names
