"""Trained networks from run folders and ONNX files, and the metadata that describes them."""

from __future__ import annotations

import argparse
import json
import math
import warnings
from pathlib import Path
from typing import Any, NamedTuple

from .. import backends, onnx, tasks
from .. import functional as F
from ..data import DataSplits
from ..errors import ArgumentError, FileFormatError
from ..files import open_file, parse_json, read_all, reading
from ..training import Trainer
from . import sources
from .options import Parser, numbers
from .run_folder import RunFolder, damaged_entries

SUFFIX = ".onnx"
MAX_INPUT = 2**27  # numbers, 512 MiB: the largest image or batch that a file may request
MAX_NAMES = 2**20  # bytes of a list of class names
_TOLERANCE = 1e-3  # for a sum of probabilities
#: entries of metadata that every file from xcnn export has, as JSON
_METADATA = ("classes", "data", "input_shape", "loss", "mean", "scale", "std")


def add_unknown(parser: Parser) -> None:
    """Add the options for ONNX files that do not say how they were trained."""
    unknown = "for an ONNX file without metadata"
    mean = f"mean of each channel in the training; pixels are from 0 to 1; {unknown}"
    parser.add("--mean X,...", mean, type=numbers)
    parser.add("--std X,...", f"standard deviation of each channel; {unknown}", type=numbers)
    parser.add("--classes FILE", f"text file of class names, one per line; {unknown}")


class Opened(NamedTuple):
    """A trained network.

    Attributes
    ----------
    trainer : Trainer
        For evaluation and prediction.
    task : Task
        What it was trained for.
    config : dict
        As in the run folder, as far as a file has it; "crop" says whether the pictures of its
        training data kept their aspect ratio, "loss" is None if nothing says how it was trained.
    """

    trainer: Trainer
    task: tasks.Task
    config: dict[str, Any]


def open_network(arguments: argparse.Namespace) -> Opened:
    """Open ``arguments.model``, a run folder or an ONNX file, on ``arguments.device``.

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
        config["crop"] = _crops(config)
        model = folder.load_model()
    if config is not None and options:
        raise ArgumentError(
            f"--{next(iter(options))} is for ONNX files without metadata: {path} has its own"
        )
    model.to(backends.get(arguments.device))
    if config is None:
        if "mean" not in options:
            warnings.warn(
                f"{path} does not say how its inputs are normalised: assuming pixels from 0 "
                "to 1; pass the --mean and --std that it was trained with",
                stacklevel=1,
            )
        guessed = _guess_task(path, model, _check_options(options))
        config = {"crop": True, "loss": None, "task": guessed.name}
        return Opened(Trainer(model, loss="mse"), guessed, config)
    for name in sources.given_task_options(arguments):
        sources.refuse_option(name, tasks.get(config["task"]))
        config[name] = getattr(arguments, name)
    task = tasks.from_settings(config)
    if config.get("postprocessed"):  # there is nothing to convert
        return Opened(Trainer(model, loss="mse"), task, config)
    return Opened(Trainer(model, loss=task.create_loss(), metrics=task.measured), task, config)


class _Unknown(tasks.Classification):
    """A classifier that does not say how it was trained, nor always what its classes are called."""

    has_labels = False  # a prediction counts them

    def __init__(self, path: Path, batch: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.path, self.batch = path, batch

    def on_data(self, dataset: DataSplits) -> tasks.Task:
        return tasks.Classification.of_data(dataset)

    def predict_one(self, trainer: Trainer, pixels: Any) -> Any:
        x = self.normalize(pixels[None]).repeat(self.batch, axis=0)
        outputs = trainer.predict(x, self.batch)[0]
        if outputs.shape != (outputs.size, *(1,) * (outputs.ndim - 1)):  # may be (classes, 1, 1)
            raise ArgumentError(
                f"{self.path} outputs {outputs.shape} numbers per image: expected one for each "
                "class; use xcnn.onnx.load for networks that are not classifiers"
            )
        outputs = outputs.reshape(-1)
        self.classes = self.classes or [str(i) for i in range(len(outputs))]
        if len(outputs) != len(self.classes):
            raise FileFormatError(
                f"{self.path}: the network outputs {outputs.shape} numbers per image, which "
                f"does not fit {len(self.classes)} classes"
            )
        is_normalized = outputs.min() >= 0 and abs(outputs.sum() - 1) < _TOLERANCE
        return outputs if is_normalized else F.softmax(outputs[None]).numpy()[0]


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


def metadata(config: dict[str, Any], **more: Any) -> dict[str, str]:
    """The metadata of an exported file, as JSON values."""
    task = tasks.from_settings(config)
    entries = {**task.settings(), **more, "data": config["data"]}
    if task.crops and len(task.input_shape) == 3:
        entries["crop"] = _crops(config)
    for key, value in entries.items():
        if isinstance(value, str) and Path(value).is_absolute():
            entries[key] = Path(value).name  # without this machine's folders
    return {key: json.dumps(value) for key, value in entries.items()}


def _crops(config: dict[str, Any]) -> bool:
    """Whether the pictures of the training data kept their aspect ratio."""
    return tasks.get(config["task"]).crops and sources.is_folder(config["data"])


def _check_options(options: dict[str, Any]) -> dict[str, Any]:
    if len({"mean", "std"} & set(options)) == 1:
        raise ArgumentError("--mean and --std belong together: pass both")
    return {k: _read_names(v) if k == "classes" else v for k, v in options.items()}


def _read_metadata(path: Path, model: onnx.Graph) -> dict[str, Any] | None:
    """The config in a file's metadata; None if the file is not from xcnn export."""
    if not set(_METADATA) <= set(model.metadata):
        return None
    with reading(f"{path}: the metadata", "is damaged", "Export it again"):
        name = parse_json(model.metadata.get("task", '"classification"'))
        kind = tasks.get(name)
        names = (*_METADATA, "crop", "postprocessed", "is_part", *kind.options, *kind.from_data)
        config = {k: parse_json(model.metadata[k]) for k in names if k in model.metadata}
        config |= {"task": name, "crop": config.get("crop") is True}
    wrong = damaged_entries(config)
    if wrong:
        raise FileFormatError(f"{path}: the metadata is damaged: wrong: {', '.join(wrong)}")
    if config.get("is_part"):
        raise ArgumentError(
            f"{path} has the part of a network for {name} that takes {describe_inputs(model)}, "
            "not pictures: use xcnn.onnx.load, onnxruntime, or the run that it is from"
        )
    shape = config["input_shape"]
    declared = [list(sizes[1:]) if sizes else None for sizes in model.inputs.values()]
    any_size = [*shape[:1], "height", "width"]
    if declared not in ([shape], [any_size]) or math.prod(shape) > MAX_INPUT:
        raise FileFormatError(
            f"{path}: the metadata says images of {shape}, but the graph takes "
            f"{describe_inputs(model)}: expected the same, at most {MAX_INPUT:,} numbers"
        )
    return config


def _guess_task(path: Path, model: onnx.Graph, given: dict[str, Any]) -> _Unknown:
    """An image classifier that has no metadata."""
    shapes = list(model.inputs.values())
    batch, *shape = shapes[0] if len(shapes) == 1 and shapes[0] else (None,)
    is_image = len(shape) == 3 and all(isinstance(n, int) for n in shape) and shape[0] in (1, 3)
    if not is_image or not 1 <= math.prod(shape) <= MAX_INPUT:
        raise ArgumentError(
            f"{path} takes {describe_inputs(model)}: expected one input (N, C, H, W) with 1 or 3 "
            f"channels and a fixed image size, at most {MAX_INPUT:,} numbers; use "
            "xcnn.onnx.load for other models"
        )
    # the network may require this batch size
    batch = max(1, min(batch, MAX_INPUT // math.prod(shape))) if isinstance(batch, int) else 1
    return _Unknown(path, batch, input_shape=shape, **given)


def _read_names(file: str) -> list[str]:
    what, advice = "is not a text in UTF-8", "Expected one name per line"
    with reading(f"--classes {file}", what, advice), open_file(file) as opened:
        names = read_all(opened, MAX_NAMES).decode().splitlines()
    if not any(names):
        raise ArgumentError(f"--classes {file}: expected one name per line")
    return names
