"""Predict images: the most probable classes of each, or what else the network was trained for.

xcnn predict runs/lenet5-digits-1 image.png
xcnn predict runs/lenet5-digits-1 scans/ --invert --top 1
xcnn predict runs/unet-shapes-1 photos/ --out masks/
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import tasks
from ..data import encode_image
from ..errors import ArgumentError, DataError, printable
from ..files import naming, write_atomically
from . import classifier, network
from .options import Parser, count, path, print_error, say


def add_options(parser: Parser) -> None:
    parser.add("model RUN", "run folder from xcnn train, or an ONNX file")
    parser.add("images IMAGE", "PNG, JPEG or .npy file, or a folder of them", nargs="+")
    parser.add("--top N", "number of classes to show", type=count, default=3)
    out = "folder for pictures of the predictions; default: predictions, if there are any"
    parser.add("--out DIR", out, type=path)
    classifier.add_options(parser)


def run(arguments: argparse.Namespace) -> bool:
    trainer, task, config = network.open_network(arguments)
    if len(task.input_shape) != 3:
        raise ArgumentError(f"{arguments.model} was trained on features, not on images")
    names = classifier.paths(arguments.images)
    folder = Path(arguments.out or "predictions")
    stems = _file_names(names)
    width, failed = max(map(len, names)), 0
    for name, stem in zip(names, stems, strict=True):
        try:
            pixels = task.read(name, arguments.invert, config["crop"])
        except DataError as error:
            print_error(error)
            failed += 1
            continue
        prediction = task.predict_one(trainer, pixels)
        say(f"{name:<{width}}  {printable(task.describe(prediction, arguments.top))}".rstrip())
        _write(folder / stem, task, pixels, prediction)
    if failed and len(names) > 1:
        print_error(DataError(f"{failed:,} of {len(names):,} images failed"))
    return failed > 0


def _file_names(names: Sequence[str]) -> list[str]:
    """A name without ending for the pictures of each file; those of two folders may be the same."""
    stems: dict[str, None] = {}
    for name in names:
        stem, number = Path(name).stem, 2
        while stem in stems:
            stem, number = f"{Path(name).stem}-{number}", number + 1
        stems[stem] = None
    return list(stems)


def _write(path: Path, task: tasks.Task, pixels: Any, prediction: Any) -> None:
    """Write the picture of a prediction, and what else the task writes."""
    picture = task.draw(pixels, prediction)
    files = {} if picture is None else {".png": encode_image(picture)}
    files |= task.files(prediction)
    if files:
        with naming("create", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
    for ending, content in files.items():
        write_atomically(path.with_name(path.name + ending), content)
