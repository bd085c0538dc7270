"""A trained classifier of pictures, as the commands that look at pictures use it."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from .. import backends, nn, onnx, tasks
from .. import functional as F
from ..data import image_files
from ..errors import ArgumentError
from . import network
from .options import Parser, add_device


def add_options(parser: Parser) -> None:
    """Add how to read pictures, and what an ONNX file may not say."""
    invert = "invert the images, for dark strokes on a light background"
    parser.add("--invert", invert, action="store_true")
    network.add_unknown(parser)
    add_device(parser)


def paths(given: list[str]) -> list[str]:
    """The files in what was given, files and folders."""
    return [
        str(name)
        for path in given
        for name in (image_files(Path(path)) if os.path.isdir(path) else [path])
    ]


class Classifier:
    """A network that classifies pictures, from a run folder or an ONNX file.

    Attributes
    ----------
    name : as given
    trainer : Trainer
    task : Classification
    config : dict, as in the run folder
    shape : (C, H, W)
    normalize : Normalize
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.name = arguments.model
        self.trainer, task, self.config = network.open_network(arguments)
        if not isinstance(task, tasks.Classification):
            raise ArgumentError(
                f"{self.name} was trained for {task.name}, but this command is for classification: "
                "xcnn report and xcnn predict show what it predicts"
            )
        self.task, self.shape, self.normalize = task, task.input_shape, task.normalize
        if len(self.shape) != 3:
            raise ArgumentError(f"{self.name} was trained on features, not on images")
        self.invert = arguments.invert

    @property
    def classes(self) -> list[str]:
        """Names, or numbers if nothing names them."""
        self.count_classes()
        return self.task.classes

    def count_classes(self) -> None:
        """Name the classes of the task by their numbers if nothing names them."""
        if not self.task.classes:  # a prediction counts them
            self.probabilities(backends.get("cpu").xp.zeros(self.shape, "uint8"))

    @property
    def network(self) -> nn.Module:
        """The network as it is in the file."""
        return self.trainer.model

    def explained_network(self) -> nn.Module:
        """The network with one score for each class, and for any number of pictures."""
        if isinstance(self.network, onnx.Graph):
            for name, declared in self.network.inputs.items():
                self.network.inputs[name] = (None, *declared[1:])
        is_binary = self.trainer.loss.target == "binary"
        return _BothClasses(self.network) if is_binary else self.network

    def read(self, name: str) -> Any:
        """The pixels of a file, uint8 (C, H, W)."""
        return self.task.read(name, self.invert, self.config["crop"])

    def probabilities(self, pixels: Any) -> Any:
        """The probabilities of the classes (C,) of a picture (C, H, W); of a binary loss (1,)."""
        return self.task.predict_one(self.trainer, pixels)


class _BothClasses(nn.Module):
    """A score for each of two classes, from a network that has one for the second."""

    def __init__(self, inner: nn.Module) -> None:
        self.inner = inner

    def forward(self, x: Any) -> Any:
        score = F.reshape(self.inner(x), (len(x), 1))
        return F.concat([-score, score], 1)
