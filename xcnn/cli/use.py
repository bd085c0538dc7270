"""``xcnn evaluate`` and ``xcnn predict``: a trained network at work."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import backends, data, optim
from ..data.images import read_image
from ..errors import ArgumentError, FileFormatError
from ..trainer import Trainer
from . import sources
from .runs import CONFIG, RunFolder


def evaluate(arguments: argparse.Namespace) -> int:
    """Loss and accuracy on the test part of a data set."""
    trainer, config = _open(arguments)
    name, part = sources.for_evaluation(arguments, config)
    loader = data.DataLoader(part, batch_size=arguments.batch_size, transform=_normalize(config))
    found = trainer.evaluate(loader)
    count = len(part)
    right = round((found["accuracy"] or 0.0) * count)
    print(
        f"{name} test: accuracy {found['accuracy']:.2%} ({right:,} of {count:,}), "
        f"loss {found['loss']:.4f}"
    )
    return 0


def predict(arguments: argparse.Namespace) -> int:
    """The most probable classes of each image, a line per image."""
    trainer, config = _open(arguments)
    shape = tuple(config["input_shape"])
    if len(shape) != 3:
        raise ArgumentError(f"{arguments.folder} was trained on features, not on images")
    normalize, is_folder = _normalize(config), sources.is_folder(config["data"])
    width = max(len(name) for name in arguments.images)
    for name in arguments.images:
        pixels = read_image(Path(name), shape, arguments.invert, crop=is_folder)
        probabilities = trainer.predict(normalize(pixels[None]))[0]
        _check_outputs(probabilities, config)
        print(f"{name:<{width}}  {_ranking(probabilities, config['classes'], arguments.top)}")
    return 0


def _open(arguments: argparse.Namespace) -> tuple[Trainer, dict[str, Any]]:
    folder = RunFolder(Path(arguments.folder))
    config = folder.load_config()
    model = folder.load_model().to(backends.get(arguments.device))
    return Trainer(model, optim.SGD(model.parameters()), config["loss"]), config


def _normalize(config: dict[str, Any]) -> data.Normalize:
    return data.Normalize(config["mean"], config["std"], scale=config["scale"])


def _check_outputs(probabilities: Any, config: dict[str, Any]) -> None:
    expected = 1 if config["loss"].startswith("binary") else len(config["classes"])
    if probabilities.shape != (expected,):
        raise FileFormatError(
            f"the network gives {probabilities.shape} numbers per image, its {CONFIG} names "
            f"{len(config['classes'])} classes with loss {config['loss']}: they are not of one run"
        )


def _ranking(probabilities: Any, classes: list[str], top: int) -> str:
    if len(probabilities) == 1:  # a binary loss: the probability of the second class
        probabilities = [1 - probabilities[0], probabilities[0]]
    order = sorted(range(len(classes)), key=lambda i: -probabilities[i])[:top]
    return "  ".join(f"{classes[i]} {probabilities[i]:.2%}" for i in order)
