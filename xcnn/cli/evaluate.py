"""Measure the loss and accuracy of a trained network on test images.

xcnn evaluate runs/lenet5-digits-1
xcnn evaluate model.onnx --data mnist
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import data
from ..errors import ArgumentError
from . import network, sources
from .options import Parser, add_device, count, say


def add_options(parser: Parser) -> None:
    parser.add("model RUN", "run folder from xcnn train, or ONNX file from xcnn export")
    sources.add_data(parser, "another dataset of the same shape and classes, or a folder of images")
    add_device(parser)
    parser.add("--batch-size N", "images at a time", type=count, default=256)
    parser.add("--limit N", "use only the first N test images", type=count)


def run(arguments: argparse.Namespace) -> None:
    trainer, config = network.open_trainer(arguments)
    if config["loss"] is None:
        raise ArgumentError(
            f"{arguments.model} was not written by xcnn export: its normalisation, classes and "
            "loss are unknown; use xcnn.onnx.load and xcnn.Trainer"
        )
    is_file = network.is_onnx(Path(arguments.model))
    if is_file and not arguments.data and sources.is_folder(config["data"]):
        raise ArgumentError(
            f"{arguments.model} was trained on {config['data']!r}, which is not the name of a "
            "dataset: pass the folder of images as --data"
        )
    title, test = sources.test_data(arguments, config)
    transform = network.normalization(config)
    loader = data.DataLoader(test, batch_size=arguments.batch_size, transform=transform)
    result = trainer.evaluate(loader)
    accuracy, total = result["accuracy"] or 0.0, len(test)
    say(
        f"{title}: accuracy {accuracy:.2%} ({round(accuracy * total):,} of {total:,}), "
        f"loss {result['loss']:.4f}"
    )
