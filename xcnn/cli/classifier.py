"""A trained classifier of pictures, as the commands that look at pictures use it."""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path
from typing import Any

from .. import backends, nn, onnx
from .. import functional as F
from ..data import image_files, read_image
from ..errors import ArgumentError, FileFormatError
from . import network
from .options import Parser, add_device, numbers
from .run_folder import is_binary

_TOLERANCE = 1e-3  # for a sum of probabilities


def add_options(parser: Parser) -> None:
    """Add how to read pictures, and what an ONNX file may not say."""
    invert = "invert the images, for dark strokes on a light background"
    parser.add("--invert", invert, action="store_true")
    unknown = "for an ONNX file without metadata"
    mean = f"mean of each channel of the training data, with pixels from 0 to 1; {unknown}"
    parser.add("--mean X,...", mean, type=numbers)
    parser.add("--std X,...", f"standard deviation of each channel; {unknown}", type=numbers)
    parser.add("--classes FILE", f"text file of class names, one per line; {unknown}")
    add_device(parser)


def paths(given: list[str]) -> list[str]:
    """The files in what was given, files and folders."""
    return [
        str(name)
        for path in given
        for name in (image_files(Path(path)) if os.path.isdir(path) else [path])
    ]


def of_each_class(probabilities: Any) -> list[float]:
    """Probabilities (C,) as numbers; of a binary loss, (1,), which has that of the second class."""
    found = [float(p) for p in probabilities]
    return [1 - found[0], found[0]] if len(found) == 1 else found


class Classifier:
    """A network from a run folder or an ONNX file.

    Attributes
    ----------
    name : as given
    trainer : Trainer
    config : dict, as in the run folder
    shape : (C, H, W)
    normalize : Normalize
    classes : list of str, numbers if nothing names them
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.name = arguments.model
        self.trainer, self.config = network.open_trainer(arguments)
        self.shape: Any = tuple(self.config["input_shape"])
        if len(self.shape) != 3:
            raise ArgumentError(f"{self.name} was trained on features, not on images")
        self.invert = arguments.invert
        self.normalize = network.normalization(self.config)
        if self.config["loss"] is None and arguments.mean is None:
            warnings.warn(
                f"{self.name} does not say how its inputs are normalised: assuming pixels from 0 "
                "to 1; pass the --mean and --std that it was trained with",
                stacklevel=1,
            )

    @property
    def classes(self) -> Any:
        if self.config["classes"] is None:  # a prediction counts them
            self.probabilities(backends.get("cpu").xp.zeros(self.shape, "uint8"))
        return self.config["classes"]

    @property
    def network(self) -> nn.Module:
        """The network as it is in the file."""
        return self.trainer.model

    def explained_network(self) -> nn.Module:
        """The network with one score for each class, and for any number of pictures."""
        if isinstance(self.network, onnx.Graph):
            for name, declared in self.network.inputs.items():
                self.network.inputs[name] = (None, *declared[1:])
        return _BothClasses(self.network) if is_binary(self.config["loss"]) else self.network

    def read(self, name: str) -> Any:
        """The pixels of a file, uint8 (C, H, W)."""
        return read_image(Path(name), self.shape, self.invert, crop=self.config["crop"])

    def probabilities(self, pixels: Any) -> Any:
        """The probabilities of the classes (C,) of a picture (C, H, W); of a binary loss (1,)."""
        batch = self.config.get("batch", 1)
        x = self.normalize(pixels[None]).repeat(batch, axis=0)
        found = self._probabilities(self.trainer.predict(x, batch)[0])
        self._check_outputs(found)
        return found

    def _probabilities(self, outputs: Any) -> Any:
        """Apply softmax to the outputs of a network of unknown loss, unless they sum to 1."""
        if self.config["loss"] is not None:
            return outputs
        if outputs.shape != (outputs.size, *(1,) * (outputs.ndim - 1)):  # may be (classes, 1, 1)
            raise ArgumentError(
                f"{self.name} outputs {outputs.shape} numbers per image: expected one for each "
                "class; use xcnn.onnx.load for networks that are not classifiers"
            )
        outputs = outputs.reshape(-1)
        is_normalized = outputs.min() >= 0 and abs(outputs.sum() - 1) < _TOLERANCE
        return outputs if is_normalized else F.softmax(outputs[None]).numpy()[0]

    def _check_outputs(self, probabilities: Any) -> None:
        if self.config["classes"] is None:
            self.config["classes"] = [str(i) for i in range(len(probabilities))]
        loss, classes = self.config["loss"], len(self.config["classes"])
        if probabilities.shape != (1 if is_binary(loss) else classes,):
            with_loss = f" with loss {loss}" if loss else ""
            raise FileFormatError(
                f"{self.name}: the network outputs {probabilities.shape} numbers per image, which "
                f"does not fit {classes} classes{with_loss}"
            )


class _BothClasses(nn.Module):
    """A score for each of two classes, from a network that has one for the second."""

    def __init__(self, inner: nn.Module) -> None:
        self.inner = inner

    def forward(self, x: Any) -> Any:
        score = F.reshape(self.inner(x), (len(x), 1))
        return F.concat([-score, score], 1)
