"""Predict images: the most probable classes of each, or what else the network was trained for.

xcnn predict runs/lenet5-digits-1 image.png
xcnn predict runs/lenet5-digits-1 scans/ --invert --top 1
xcnn predict runs/unet-shapes-1 photos/ --out masks/
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from .. import tasks
from ..data import encode_image
from ..errors import ArgumentError, DataError, ShapeError, printable
from ..files import naming, write_atomically
from . import classifier, network, sources
from .options import Parser, count, path, print_error, say


def add_options(parser: Parser) -> None:
    parser.add("model RUN", "run folder from xcnn train, or an ONNX file")
    parser.add("images IMAGE", "PNG, JPEG or .npy file, or a folder of them", nargs="+")
    parser.add("--top N", "number of classes to show", type=count, default=3)
    out = "folder for pictures, if any; default: predictions/RUN"
    parser.add("--out DIR", out, type=path)
    classifier.add_options(parser)
    sources.add_task_options(parser, "predict")


def run(arguments: argparse.Namespace) -> bool:
    trainer, task, config = network.open_network(arguments)
    if len(task.input_shape) != 3:
        raise ArgumentError(f"{arguments.model} was trained on features, not on images")
    names = classifier.paths(arguments.images)
    model = Path(os.path.abspath(arguments.model))
    folder = Path(arguments.out or Path("predictions", model.name.removesuffix(network.SUFFIX)))
    kind = type(task)
    writes = kind.draw is not tasks.Task.draw or kind.files is not tasks.Task.files
    if arguments.out and not writes:
        warnings.warn(f"--out is not used: {task.name} predicts no pictures", stacklevel=1)
    stems, inputs = _file_names(names), _identities(names)
    if writes:
        for stem in stems:
            _refuse_input(folder / f"{stem}.png", inputs)
    width, failed, written = max(len(printable(name)) for name in names), 0, 0
    for name, stem in zip(names, stems, strict=True):
        pixels = None
        try:
            pixels = task.read(name, arguments.invert, config["crop"])
            prediction = task.predict_one(trainer, pixels)
        except (DataError, ShapeError) as error:
            if pixels is not None and len(names) == 1:  # perhaps it is not due to the picture
                raise
            print_error(error if name in str(error) else DataError(f"{name}: {error}"))
            failed += 1
            continue
        text = printable(task.describe(prediction, arguments.top))
        say(f"{printable(name):<{width}}  {text}".rstrip())
        written += _write(folder / stem, task, pixels, prediction, inputs)
    if written:
        say(f"wrote {written:,} file{'s' * (written != 1)} to {folder}")
    if failed and len(names) > 1:
        print_error(DataError(f"{failed:,} of {len(names):,} images failed"))
    return failed > 0


def _identities(names: Sequence[str]) -> set[tuple[int, int]]:
    """Which files these are, whatever they are called."""
    found = (os.stat(name) for name in names if os.path.exists(name))
    return {(each.st_dev, each.st_ino) for each in found}


def _refuse_input(path: Path, inputs: Collection[tuple[int, int]]) -> None:
    """Refuse to write a file that is predicted."""
    if inputs and path.exists() and not _identities([str(path)]).isdisjoint(inputs):
        raise ArgumentError(f"{path} is one of the images to predict: choose another --out")


def _file_names(names: Sequence[str]) -> list[str]:
    """A name without ending for the pictures of each file; those of two folders may be the same."""
    stems: dict[str, None] = {}
    for name in names:
        stem, number = Path(name).stem, 2
        while stem in stems:
            stem, number = f"{Path(name).stem}-{number}", number + 1
        stems[stem] = None
    return list(stems)


def _write(
    path: Path,
    task: tasks.Task,
    pixels: Any,
    prediction: Any,
    inputs: Collection[tuple[int, int]],
) -> int:
    """Write the picture of a prediction, and what else the task writes; returns how many files."""
    picture = task.draw(pixels, prediction)
    files = {} if picture is None else {".png": encode_image(picture)}
    files |= task.files(prediction)
    if files:
        with naming("create", path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
    for ending, content in files.items():
        file = path.with_name(path.name + ending)
        _refuse_input(file, inputs)
        write_atomically(file, content)
    return len(files)
