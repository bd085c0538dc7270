"""Classification: one class for each picture, or row of features."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .. import data, models, nn
from ..arrays import Array
from ..data import DataSplits
from ..errors import ArgumentError, FileFormatError, printable
from ..extend import register_task
from ..training import Trainer
from .task import Task

#: output layers of the losses that need one
_LAYERS: dict[str, type[nn.Module]] = {
    "nll": nn.LogSoftmax,
    "binary_cross_entropy": nn.Sigmoid,
}


@register_task
class Classification(Task):
    """One class of several for each example. See :class:`Task`."""

    name = "classification"
    text = "one class for each picture"
    networks = ("lenet5", "mlp", *(n for n in models.classifiers() if n not in ("lenet5", "mlp")))
    datasets = tuple(n for n in data.names() if data.info(n).task == "classification")
    losses = {
        "cross_entropy": "scores, softmax gives the probabilities",
        "nll": "logarithms of the probabilities",
        "binary_cross_entropy": "the probability of the second class",
        "binary_cross_entropy_with_logits": "score, sigmoid gives the second class's probability",
    }
    has_labels = counts_confusions = True

    @classmethod
    def load_folder(cls, root: str | os.PathLike[str], **settings: Any) -> DataSplits:
        return data.load_folder(root, **settings)

    def test_folder(
        self, root: str | os.PathLike[str], is_own: bool, **settings: Any
    ) -> tuple[str, data.Dataset]:
        settings["classes"] = self.classes
        if is_own or data.split_roots(root)[0] != Path(root):
            return "test", data.split_folder(root, **settings)[1]
        settings.pop("seed")
        return "all images", data.open_folder(root, **settings)

    @classmethod
    def of_data(cls, dataset: DataSplits, loss: str | None = None, **options: Any) -> Task:
        if is_binary(loss) and len(dataset.classes) != 2:
            raise ArgumentError(
                f"--loss {loss} needs two classes, but {dataset.name} has {len(dataset.classes)}: "
                "use cross_entropy or nll"
            )
        return super().of_data(dataset, loss, **options)

    @classmethod
    def default_network(cls, kind: str) -> str:
        return "lenet5" if kind == "images" else "mlp"

    def create_network(self, network: str) -> nn.Module:
        model: nn.Module = models.create(
            network,
            num_classes=1 if is_binary(self.loss) else len(self.classes),
            input_shape=self.input_shape,
        )
        return model

    def with_output(self, model: nn.Module) -> nn.Module:
        if self.loss not in _LAYERS:
            return model
        layers = model if isinstance(model, nn.Sequential) else nn.Sequential({"network": model})
        return layers.append(_LAYERS[self.loss]())

    def result(self, values: Mapping[str, Any], count: int) -> str:
        accuracy = values["accuracy"] or 0.0
        return f"accuracy {accuracy:.2%} ({round(accuracy * count):,} of {count:,})"

    def predict(self, trainer: Trainer, x: Array) -> list[Any]:
        found, count = trainer.predict(x), len(self.classes)
        if found.shape[1:] != (1 if is_binary(self.loss) else count,):
            raise FileFormatError(
                f"the network outputs {found.shape[1:]} numbers per image, which does not fit "
                f"{count} classes with loss {self.loss}"
            )
        return list(found)

    def truth(self, y: Any) -> list[Any]:
        return [[float(label == n) for n in range(len(self.classes))] for label in y]

    def describe(self, prediction: Any, top: int = 3) -> str:
        probabilities = of_each_class(prediction)
        order = sorted(range(len(self.classes)), key=lambda i: -probabilities[i])[:top]
        return "  ".join(f"{printable(self.classes[i])} {probabilities[i]:.2%}" for i in order)


def is_binary(loss: str | None) -> bool:
    """Whether networks trained with this loss have one output for two classes."""
    return loss is not None and loss.startswith("binary")


def of_each_class(probabilities: Array | Sequence[float]) -> list[float]:
    """Probabilities (C,) as numbers; of a binary loss, (1,), which has that of the second class."""
    found = [float(p) for p in probabilities]
    return [1 - found[0], found[0]] if len(found) == 1 else found
