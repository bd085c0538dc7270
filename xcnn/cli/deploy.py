"""``xcnn export``, and trained networks wherever they are kept: run folders and ONNX files."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any

from .. import backends, onnx
from ..errors import ArgumentError, FileFormatError
from ..nn import Module
from . import sources
from .runs import RunFolder, damaged_entries

_SUFFIX = ".onnx"
LARGEST = 2**27  # numbers of a batch of images: 512 MiB
#: what an ONNX file keeps of a run's config, as JSON in its metadata
_KEPT = ("classes", "data", "input_shape", "loss", "mean", "scale", "std")


def export(arguments: argparse.Namespace) -> int:
    """Write the network of a run to an ONNX file."""
    folder, path = RunFolder(Path(arguments.folder)), Path(arguments.file)
    if path.suffix.lower() != _SUFFIX:
        raise ArgumentError(f"{path}: the file to write is to end in {_SUFFIX}")
    config, model = folder.load_config(), folder.load_model()
    example = backends.get("cpu").xp.zeros((2, *config["input_shape"]), "float32")
    metadata = _metadata(config)
    onnx.export(model, example, path, input_names="input", output_names="output", metadata=metadata)
    print(_report(path, model, config))
    return 0


def _metadata(config: dict[str, Any]) -> dict[str, str]:
    """What somebody needs to know who uses the file: readable by any tool."""
    kept = {key: config[key] for key in _KEPT}
    kept["crop"] = sources.is_folder(config["data"])  # pictures: the middle is taken
    kept["data"] = Path(config["data"]).name  # not where it lies on this machine
    return {key: json.dumps(value) for key, value in kept.items()}


def _report(path: Path, model: Module, config: dict[str, Any]) -> str:
    shape = ", ".join(["batch", *map(str, config["input_shape"])])
    count = sum(p.size for p in model.parameters())
    numbers = [", ".join(f"{v:.4g}" for v in config[key]) for key in ("mean", "std")]
    return (
        f"{path}: {count:,} parameters, {path.stat().st_size / 1024:,.0f} KiB\n"
        f"  input: float32 ({shape}), "
        f"(x / {config['scale']:g} - mean) / std with mean {numbers[0]}, std {numbers[1]}\n"
        f"  output: {_MEANING[config['loss']]}; {len(config['classes'])} classes"
    )


#: what the numbers of the output are
_MEANING = {
    "cross_entropy": "scores, softmax gives the probabilities",
    "nll": "logarithms of the probabilities",
    "binary_cross_entropy": "the probability of the second class",
    "binary_cross_entropy_with_logits": "a score, sigmoid gives the second class's probability",
}


def open_model(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """The network of a run folder or an ONNX file, and what is known about it.

    Raises
    ------
    ArgumentError
        Neither of them.
    FileNotFoundError, FileFormatError, UnsupportedOperatorError
        A file is missing, damaged, or uses what xcnn does not compute.
    """
    path = Path(arguments.model)
    given = {key: getattr(arguments, key, None) for key in ("mean", "std", "classes")}
    given = {key: value for key, value in given.items() if value is not None}
    if not is_onnx(path):
        _refuse(given, f"{path} is a run, which has its own")
        folder = RunFolder(path)
        config = folder.load_config()
        return folder.load_model(), {**config, "crop": sources.is_folder(config["data"])}
    model = onnx.load(path)
    known = _read_metadata(path, model.metadata)
    if known is not None:
        _refuse(given, f"{path} has its own")
        _check_inputs(path, model, known["input_shape"])
        return model, known
    return model, {**_unknown(path, model), **_options(given)}


def is_onnx(path: Path) -> bool:
    """Whether this is, or would be, an ONNX file."""
    return path.suffix.lower() == _SUFFIX and not path.is_dir()


def read_onnx(path: str) -> onnx.Graph:
    """The network of an ONNX file, for batches of any size, also where the file says of which."""
    model = onnx.load(path)
    for name, shape in model.inputs.items():
        model.inputs[name] = (None, *shape[1:]) if shape else shape
    return model


def describe_inputs(model: onnx.Graph) -> str:
    """The inputs with their shapes, for a text."""
    found = [
        f"{name} ({', '.join('?' if n is None else str(n) for n in shape or ['...'])})"
        for name, shape in model.inputs.items()
    ]
    return ", ".join(found) or "no inputs"


def _refuse(given: dict[str, Any], why: str) -> None:
    for option in given:
        raise ArgumentError(f"--{option} is for ONNX files that do not say: {why}")


def _options(given: dict[str, Any]) -> dict[str, Any]:
    """What the user says about a file."""
    if len({"mean", "std"} & set(given)) == 1:
        raise ArgumentError("--mean and --std belong together: pass both")
    return {k: _read_names(v) if k == "classes" else v for k, v in given.items()}


def _read_metadata(path: Path, metadata: dict[str, str]) -> dict[str, Any] | None:
    if not set(_KEPT) <= set(metadata):
        return None
    try:
        config = {key: json.loads(metadata[key]) for key in _KEPT}
        config["crop"] = json.loads(metadata.get("crop", "false")) is True
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: the metadata is damaged: {error}") from error
    wrong = damaged_entries(config)
    if wrong:
        raise FileFormatError(f"{path}: the metadata is damaged: wrong: {', '.join(wrong)}")
    return config


def _check_inputs(path: Path, model: onnx.Graph, input_shape: list[int]) -> None:
    """The metadata is that of the graph beside it."""
    declared = [list(shape[1:]) if shape else None for shape in model.inputs.values()]
    if declared != [input_shape] or math.prod(input_shape) > LARGEST:
        raise FileFormatError(
            f"{path}: the metadata says images of {input_shape}, the graph takes "
            f"{describe_inputs(model)}: expected the same, of at most {LARGEST:,} numbers"
        )


def _unknown(path: Path, model: onnx.Graph) -> dict[str, Any]:
    """What the graph alone tells."""
    shapes = list(model.inputs.values())
    batch, *shape = shapes[0] if len(shapes) == 1 and shapes[0] else (None,)
    is_image = len(shape) == 3 and all(isinstance(n, int) for n in shape) and shape[0] in (1, 3)
    if not is_image or not 1 <= math.prod(shape) <= LARGEST:
        raise ArgumentError(
            f"{path} takes {describe_inputs(model)}: expected one input (N, C, H, W) with 1 or 3 "
            f"channels first and a fixed size of the image, at most {LARGEST:,} numbers; use "
            "xcnn.onnx.load for other models"
        )
    return {
        "input_shape": list(shape),
        "mean": [0.0],
        "std": [1.0],
        "scale": 255,
        "loss": None,
        "classes": None,
        "batch": _batch(batch, math.prod(shape)),
        "crop": True,
    }


def _batch(declared: Any, size: int) -> int:
    """How many images the network takes at once, where it takes as many only."""
    return max(1, min(declared, LARGEST // size)) if isinstance(declared, int) else 1


def _read_names(file: str) -> list[str]:
    names = Path(file).read_text(encoding="utf-8").splitlines()
    if not any(names):
        raise ArgumentError(f"--classes {file}: expected a name in each line")
    return names
