"""Predict the most probable classes of images, one line per image.

xcnn predict runs/lenet5-digits-1 image.png
xcnn predict runs/lenet5-digits-1 scans/ --invert --top 1
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path
from typing import Any

from .. import functional as F
from ..data import image_files, read_image
from ..errors import ArgumentError, DataError, FileFormatError, printable
from . import network
from .options import Parser, add_device, count, numbers, print_error
from .run_folder import is_binary

_TOLERANCE = 1e-3  # for a sum of probabilities


def add_options(parser: Parser) -> None:
    parser.add("model RUN", "run folder from xcnn train, or an ONNX file")
    parser.add("images IMAGE", "PNG, JPEG or .npy file, or a folder of them", nargs="+")
    invert = "invert the images, for dark strokes on a light background"
    parser.add("--invert", invert, action="store_true")
    parser.add("--top N", "number of classes to show", type=count, default=3)
    unknown = "for an ONNX file without metadata"
    mean = f"mean of each channel of the training data, with pixels from 0 to 1; {unknown}"
    parser.add("--mean X,...", mean, type=numbers)
    parser.add("--std X,...", f"standard deviation of each channel; {unknown}", type=numbers)
    parser.add("--classes FILE", f"text file of class names, one per line; {unknown}")
    add_device(parser)


def run(arguments: argparse.Namespace) -> bool:
    trainer, config = network.open_trainer(arguments)
    shape = tuple(config["input_shape"])
    if len(shape) != 3:
        raise ArgumentError(f"{arguments.model} was trained on features, not on images")
    normalize, batch = network.normalization(config), config.get("batch", 1)
    if config["loss"] is None and arguments.mean is None:
        warnings.warn(
            f"{arguments.model} does not say how its inputs are normalised: assuming pixels from 0 "
            "to 1; pass the --mean and --std that it was trained with",
            stacklevel=1,
        )
    names = [
        name
        for given in arguments.images
        for name in (image_files(Path(given)) if os.path.isdir(given) else [given])
    ]
    width, failed = max(map(len, names)), 0
    for name in names:
        try:
            pixels = read_image(Path(name), shape, arguments.invert, crop=config["crop"])
        except DataError as error:
            print_error(error)
            failed += 1
            continue
        x = normalize(pixels[None]).repeat(batch, axis=0)
        probabilities = _probabilities(arguments.model, trainer.predict(x, batch)[0], config)
        _check_outputs(arguments.model, probabilities, config)
        ranking = _ranking(probabilities, config["classes"], arguments.top)
        print(f"{printable(name):<{width}}  {ranking}")
    if failed and len(names) > 1:
        print_error(DataError(f"{failed:,} of {len(names):,} images failed"))
    return failed > 0


def _probabilities(name: str, outputs: Any, config: dict[str, Any]) -> Any:
    """Apply softmax to the outputs of a network whose loss is unknown, unless they sum to 1."""
    if config["loss"] is not None:
        return outputs
    if outputs.shape != (outputs.size, *(1,) * (outputs.ndim - 1)):  # may be (classes, 1, 1)
        raise ArgumentError(
            f"{name} outputs {outputs.shape} numbers per image: expected one for each class; use "
            "xcnn.onnx.load for networks that are not classifiers"
        )
    outputs = outputs.reshape(-1)
    is_normalized = outputs.min() >= 0 and abs(outputs.sum() - 1) < _TOLERANCE
    return outputs if is_normalized else F.softmax(outputs[None]).numpy()[0]


def _check_outputs(name: str, probabilities: Any, config: dict[str, Any]) -> None:
    if config["classes"] is None:
        config["classes"] = [str(i) for i in range(len(probabilities))]
    loss, classes = config["loss"], len(config["classes"])
    if probabilities.shape != (1 if is_binary(loss) else classes,):
        with_loss = f" with loss {loss}" if loss else ""
        raise FileFormatError(
            f"{name}: the network outputs {probabilities.shape} numbers per image, which does not "
            f"fit {classes} classes{with_loss}"
        )


def _ranking(probabilities: Any, classes: list[str], top: int) -> str:
    if len(probabilities) == 1:  # binary loss: the probability of the second class
        probabilities = [1 - probabilities[0], probabilities[0]]
    order = sorted(range(len(classes)), key=lambda i: -probabilities[i])[:top]
    return "  ".join(f"{printable(classes[i])} {probabilities[i]:.2%}" for i in order)
