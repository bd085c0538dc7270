"""Export a trained network as an ONNX file.

xcnn export runs/lenet5-digits-1 model.onnx
xcnn export runs/lenet5-digits-1 /tmp/digits.onnx
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import backends, nn, onnx
from ..errors import ArgumentError
from . import network
from .options import Parser, say
from .run_folder import LOSSES, RunFolder


def add_options(parser: Parser) -> None:
    parser.add("folder RUN", "run folder from xcnn train")
    parser.add("file FILE", "file to write, such as model.onnx")


def run(arguments: argparse.Namespace) -> None:
    folder, path = RunFolder(Path(arguments.folder)), Path(arguments.file)
    if path.suffix.lower() != network.SUFFIX:
        raise ArgumentError(f"{path}: expected a file name that ends in {network.SUFFIX}")
    config, model = folder.load_config(), folder.load_model()
    example = backends.get("cpu").xp.zeros((2, *config["input_shape"]), "float32")
    metadata = network.metadata(config)
    onnx.export(model, example, path, input_names="input", output_names="output", metadata=metadata)
    say(_describe(path, model, config))


def _describe(path: Path, model: nn.Module, config: dict[str, Any]) -> str:
    shape = ", ".join(["batch", *map(str, config["input_shape"])])
    count = sum(p.numel() for p in model.parameters())
    mean, std = (", ".join(f"{v:.4g}" for v in config[key]) for key in ("mean", "std"))
    return (
        f"{path}: {count:,} parameters, {path.stat().st_size / 1024:,.0f} KiB\n"
        f"  input: float32 ({shape}), "
        f"(x / {config['scale']:g} - mean) / std with mean {mean}, std {std}\n"
        f"  output: {LOSSES[config['loss']].output}; {len(config['classes'])} classes"
    )
