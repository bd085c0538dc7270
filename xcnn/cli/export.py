"""Export a trained network as an ONNX file.

xcnn export runs/lenet5-digits-1 model.onnx
xcnn export runs/unet-shapes-1 shapes.onnx --postprocess
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import backends, onnx, tasks
from ..errors import ArgumentError
from . import network
from .options import Parser, say
from .run_folder import RunFolder


def add_options(parser: Parser) -> None:
    parser.add("folder RUN", "run folder from xcnn train")
    parser.add("file FILE", "file to write, such as model.onnx")
    inside = "let the file compute predictions, such as boxes after NMS, not the network's outputs"
    parser.add("--postprocess", inside, action="store_true")


def run(arguments: argparse.Namespace) -> None:
    folder, path = RunFolder(Path(arguments.folder)), Path(arguments.file)
    if path.suffix.lower() != network.SUFFIX:
        raise ArgumentError(f"{path}: expected a file name that ends in {network.SUFFIX}")
    config, model = folder.load_config(), folder.load_model()
    task = tasks.from_settings(config)
    exported = task.exported(model, arguments.postprocess)
    shape = exported.input_shape or config["input_shape"]
    example = backends.get("cpu").xp.zeros((2, *shape), "float32")
    more = {"outputs": exported.text, "postprocessed": arguments.postprocess}
    more["is_part"] = exported.input_shape is not None
    metadata = network.metadata(config, **more)
    names: dict[str, Any] = {"input_names": "input", "output_names": list(exported.outputs)}
    names["dynamic_size"] = exported.any_size
    onnx.export(exported.model, example, path, **names, metadata=metadata)
    say(_describe(path, exported, task, config))


def _describe(
    path: Path, exported: tasks.Exported, task: tasks.Task, config: dict[str, Any]
) -> str:
    channels, *sides = exported.input_shape or config["input_shape"]
    sides = ["height", "width"] if exported.any_size else sides
    shape = ", ".join(["batch", *map(str, [channels, *sides])])
    count = sum(p.numel() for p in exported.model.parameters())
    count_classes, noun = len(task.classes), task.classes_are
    noun = noun.removesuffix("s") if count_classes == 1 else noun
    classes = f"; {count_classes} {noun}" if count_classes else ""
    mean, std = (", ".join(f"{v:.4g}" for v in config[key]) for key in ("mean", "std"))
    scaled = f", (x / {config['scale']:g} - mean) / std with mean {mean}, std {std}"
    return (
        f"{path}: {count:,} parameters, {path.stat().st_size / 1024:,.0f} KiB\n"
        f"  input: float32 ({shape}){'' if exported.input_shape else scaled}\n"
        f"  {', '.join(exported.outputs)}: {exported.text}{classes}"
    )
