"""``xcnn evaluate`` and ``xcnn predict``: a trained network at work."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path
from typing import Any

from .. import backends, data
from .. import functional as F
from ..data.images import read_image
from ..errors import ArgumentError, FileFormatError, printable
from ..training.trainer import Trainer
from . import sources
from .deploy import is_onnx, open_model

_TOLERANCE = 1e-3  # of a sum of probabilities


def evaluate(arguments: argparse.Namespace) -> int:
    """Loss and accuracy on the test part of a data set."""
    trainer, config = _open(arguments)
    if config["loss"] is None:
        raise ArgumentError(
            f"{arguments.model} was not written by xcnn export: its pixels, classes and loss are "
            "not known; use xcnn.onnx.load and xcnn.Trainer"
        )
    if is_onnx(Path(arguments.model)) and not arguments.data and config["data"] not in data.names():
        raise ArgumentError(
            f"{arguments.model} was trained on {config['data']!r}, no data set of xcnn's: say "
            "where the pictures are, with --data"
        )
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
        raise ArgumentError(f"{arguments.model} was trained on features, not on images")
    normalize, batch = _normalize(config), config.get("batch", 1)
    if config["loss"] is None and arguments.mean is None:
        warnings.warn(
            f"{arguments.model} does not say how its pixels were normalised: they are taken from 0 "
            "to 1; pass --mean and --std as it was trained with",
            stacklevel=1,
        )
    width = max(len(name) for name in arguments.images)
    for name in arguments.images:
        pixels = read_image(Path(name), shape, arguments.invert, crop=config["crop"])
        x = normalize(pixels[None]).repeat(batch, axis=0)  # a file may be of one batch size
        probabilities = _probabilities(arguments.model, trainer.predict(x, batch)[0], config)
        _check_outputs(arguments.model, probabilities, config)
        print(f"{name:<{width}}  {_ranking(probabilities, config['classes'], arguments.top)}")
    return 0


def _open(arguments: argparse.Namespace) -> tuple[Trainer, dict[str, Any]]:
    model, config = open_model(arguments)
    model.to(backends.get(arguments.device))
    return Trainer(model, loss=config["loss"] or "mse"), config


def _normalize(config: dict[str, Any]) -> data.Normalize:
    return data.Normalize(config["mean"], config["std"], scale=config["scale"])


def _probabilities(name: str, outputs: Any, config: dict[str, Any]) -> Any:
    """What the network gave; of a network of unknown loss, softmax unless it has that already."""
    if config["loss"] is not None:
        return outputs
    if outputs.shape != (outputs.size, *(1,) * (outputs.ndim - 1)):  # some have (classes, 1, 1)
        raise ArgumentError(
            f"{name} gives {outputs.shape} numbers per image: expected one for each class; use "
            "xcnn.onnx.load for networks that are no classifiers"
        )
    outputs = outputs.reshape(-1)
    is_done = outputs.min() >= 0 and abs(outputs.sum() - 1) < _TOLERANCE
    return outputs if is_done else F.softmax(outputs[None]).numpy()[0]


def _check_outputs(name: str, probabilities: Any, config: dict[str, Any]) -> None:
    if config["classes"] is None:
        config["classes"] = [str(i) for i in range(len(probabilities))]
    is_binary = (config["loss"] or "").startswith("binary")
    expected = 1 if is_binary else len(config["classes"])
    if probabilities.shape != (expected,):
        raise FileFormatError(
            f"{name}: the network gives {probabilities.shape} numbers per image, but "
            f"{len(config['classes'])} classes are named{_with_loss(config)}: they do not belong "
            "together"
        )


def _with_loss(config: dict[str, Any]) -> str:
    return f", with loss {config['loss']}" if config["loss"] else ""


def _ranking(probabilities: Any, classes: list[str], top: int) -> str:
    if len(probabilities) == 1:  # a binary loss: the probability of the second class
        probabilities = [1 - probabilities[0], probabilities[0]]
    order = sorted(range(len(classes)), key=lambda i: -probabilities[i])[:top]
    return "  ".join(f"{printable(classes[i])} {probabilities[i]:.2%}" for i in order)
