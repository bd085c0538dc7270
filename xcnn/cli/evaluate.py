"""Measure the loss and accuracy of a trained network, or what else its task measures.

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
    sources.add_data(
        parser, "another dataset with such inputs, or a folder; default: the one of the training"
    )
    add_device(parser)
    parser.add("--batch-size N", "images at a time", type=count, default=256)
    parser.add("--limit N", "use only the first N test images", type=count)
    sources.add_task_options(parser, "evaluate")


def run(arguments: argparse.Namespace) -> None:
    trainer, task, config = network.open_network(arguments)
    if config["loss"] is None:
        raise ArgumentError(
            f"{arguments.model} was not written by xcnn export: its normalisation, classes and "
            "loss are unknown; use xcnn.onnx.load and xcnn.Trainer"
        )
    if config.get("postprocessed"):
        raise ArgumentError(
            f"{arguments.model} computes predictions, from which the loss cannot be measured: "
            "export it without --postprocess, or evaluate the run"
        )
    is_file = network.is_onnx(Path(arguments.model))
    if is_file and not arguments.data and sources.is_folder(config["data"]):
        raise ArgumentError(
            f"{arguments.model} was trained on {config['data']!r}, which is not the name of a "
            "dataset: pass the folder of images as --data"
        )
    title, test = sources.test_data(arguments, task, config)
    loader = data.DataLoader(test, batch_size=arguments.batch_size, transform=task.transform())
    values = trainer.evaluate(loader)
    say(f"{title}: {task.result(values, len(test))}, loss {values['loss']:.4f}")
