"""Predict the most probable classes of images, one line per image.

xcnn predict runs/lenet5-digits-1 image.png
xcnn predict runs/lenet5-digits-1 scans/ --invert --top 1
"""

from __future__ import annotations

import argparse
from typing import Any

from ..errors import DataError, printable
from . import classifier
from .classifier import Classifier
from .options import Parser, count, print_error, say


def add_options(parser: Parser) -> None:
    parser.add("model RUN", "run folder from xcnn train, or an ONNX file")
    parser.add("images IMAGE", "PNG, JPEG or .npy file, or a folder of them", nargs="+")
    parser.add("--top N", "number of classes to show", type=count, default=3)
    classifier.add_options(parser)


def run(arguments: argparse.Namespace) -> bool:
    opened = Classifier(arguments)
    names = classifier.paths(arguments.images)
    width, failed = max(map(len, names)), 0
    for name in names:
        try:
            pixels = opened.read(name)
        except DataError as error:
            print_error(error)
            failed += 1
            continue
        probabilities = opened.probabilities(pixels)
        ranking = _ranking(probabilities, opened.classes, arguments.top)
        say(f"{name:<{width}}  {ranking}")
    if failed and len(names) > 1:
        print_error(DataError(f"{failed:,} of {len(names):,} images failed"))
    return failed > 0


def _ranking(probabilities: Any, classes: list[str], top: int) -> str:
    probabilities = classifier.of_each_class(probabilities)
    order = sorted(range(len(classes)), key=lambda i: -probabilities[i])[:top]
    return "  ".join(f"{printable(classes[i])} {probabilities[i]:.2%}" for i in order)
