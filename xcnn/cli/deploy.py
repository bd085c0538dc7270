"""``xcnn export``, and trained networks wherever they are kept: run folders and ONNX files."""

from __future__ import annotations

import argparse
import json
import warnings
from pathlib import Path
from typing import Any

from .. import backends, onnx
from ..errors import ArgumentError, FileFormatError
from ..nn import Module
from . import sources
from .runs import RunFolder, damaged_entries

_SUFFIX = ".onnx"
#: what an ONNX file keeps of a run's config, as JSON in its metadata
_KEPT = ("classes", "data", "input_shape", "loss", "mean", "scale", "std")


def export(arguments: argparse.Namespace) -> int:
    """Write the network of a run to an ONNX file."""
    folder, path = RunFolder(Path(arguments.folder)), Path(arguments.file)
    if path.suffix != _SUFFIX:
        raise ArgumentError(f"{path}: the file to write is to end in {_SUFFIX}")
    config, model = folder.load_config(), folder.load_model()
    example = backends.get("cpu").xp.zeros((2, *config["input_shape"]), "float32")
    onnx.export(model, example, path, metadata=_metadata(config))
    print(_report(path, model, config))
    return 0


def _metadata(config: dict[str, Any]) -> dict[str, str]:
    """What somebody needs to know who uses the file: readable by any tool."""
    kept = {key: config[key] for key in _KEPT}
    kept["crop"] = sources.is_folder(config["data"])  # pictures: the middle is taken
    kept["data"] = Path(config["data"]).name  # not where it lies on this machine
    return {key: json.dumps(value) for key, value in kept.items()}


def _report(path: Path, model: Module, config: dict[str, Any]) -> str:
    graph = onnx.load(path)
    ((name, shape),) = graph.inputs.items()
    count = sum(p.size for p in model.parameters())
    numbers = [", ".join(f"{v:.4g}" for v in config[key]) for key in ("mean", "std")]
    return (
        f"{path}: {count:,} parameters, {path.stat().st_size / 1024:,.0f} KiB\n"
        f"  {name}: float32 ({', '.join(str(n) for n in shape)}), "
        f"(x / {config['scale']:g} - mean) / std with mean {numbers[0]}, std {numbers[1]}\n"
        f"  {graph.output_names[0]}: {_MEANING[config['loss']]}; {len(config['classes'])} classes"
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
    if path.suffix == _SUFFIX and not path.is_dir():
        model = onnx.load(path)
        for name, shape in model.inputs.items():  # some are written for one batch size
            model.inputs[name] = (None, *shape[1:]) if shape else shape
        return model, _config(path, model, arguments)
    for option in ("mean", "std", "classes"):
        if getattr(arguments, option, None) is not None:
            raise ArgumentError(f"--{option} is for ONNX files; a run has its own")
    folder = RunFolder(path)
    config = folder.load_config()
    return folder.load_model(), {**config, "crop": sources.is_folder(config["data"])}


def _config(path: Path, model: onnx.Graph, arguments: argparse.Namespace) -> dict[str, Any]:
    """From the file's metadata if ``xcnn export`` wrote it, else from the options."""
    config = _read_metadata(path, model.metadata) or _unknown(path, model)
    options = {key: getattr(arguments, key, None) for key in ("mean", "std", "classes")}
    if "data" not in config and options["mean"] is None and options["std"] is None:
        warnings.warn(
            f"{path} does not say how its pixels were normalised: they are taken from 0 to 1; pass "
            "--mean and --std as it was trained with",
            stacklevel=2,
        )
    if options["classes"] is not None:
        options["classes"] = _read_names(options["classes"])
    return {**config, **{k: v for k, v in options.items() if v is not None}}


def _read_metadata(path: Path, metadata: dict[str, str]) -> dict[str, Any] | None:
    if not set(_KEPT) <= set(metadata):
        return None
    try:
        config = {key: json.loads(metadata[key]) for key in (*_KEPT, "crop") if key in metadata}
    except ValueError as error:
        raise FileFormatError(f"{path}: the metadata is damaged: {error}") from error
    wrong = damaged_entries(config)
    if wrong:
        raise FileFormatError(f"{path}: the metadata is damaged: wrong: {', '.join(wrong)}")
    return config


def _unknown(path: Path, model: onnx.Graph) -> dict[str, Any]:
    """What the graph alone tells."""
    shapes = list(model.inputs.values())
    shape = shapes[0][1:] if len(shapes) == 1 and shapes[0] else ()
    if len(shape) != 3 or not all(isinstance(n, int) for n in shape):
        raise ArgumentError(
            f"{path} takes {model.inputs}: expected one input (N, C, H, W) of fixed C, H and W; "
            "use xcnn.onnx.load for other models"
        )
    return {
        "input_shape": list(shape),
        "mean": [0.0],
        "std": [1.0],
        "scale": 255,
        "loss": None,
        "classes": None,
        "crop": True,
    }


def _read_names(file: str) -> list[str]:
    names = Path(file).read_text(encoding="utf-8").splitlines()
    if not any(names):
        raise ArgumentError(f"--classes {file}: expected a name in each line")
    return names
