"""Multi-label classification: any number of classes for each picture."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from .. import data, nn
from ..arrays import Array
from ..data import DataSplits
from ..errors import ArgumentError, FileFormatError, printable
from ..extend import register_task
from ..training import Trainer
from .classification import Classification
from .task import Exported, Option, Task


class RowTask(Task):
    """Base of the tasks whose targets are rows of numbers, (N, classes)."""

    networks = ("resnet20", *(n for n in Classification.networks if n != "resnet20"))

    @classmethod
    def default_network(cls, kind: str) -> str:
        return "resnet20" if kind == "images" else "mlp"

    @classmethod
    def of_data(cls, dataset: DataSplits, loss: str | None = None, **options: Any) -> Task:
        y, count = data.labels(dataset.train), len(dataset.classes)
        if y.ndim != 2 or y.shape[1] != count:
            raise ArgumentError(
                f"{cls.name} needs a row of {count} numbers for each example, but the targets of "
                f"{dataset.name} have shape {y.shape}: use data for {cls.name}"
            )
        return super().of_data(dataset, loss, **options)

    def predict(self, trainer: Trainer, x: Array) -> list[Any]:
        found, count = trainer.predict(x), len(self.classes)
        if found.shape[1:] != (count,):
            raise FileFormatError(
                f"the network outputs {found.shape[1:]} numbers per image, expected {count}: "
                f"{', '.join(self.classes)}"
            )
        return list(found)


@register_task
class MultiLabel(RowTask):
    """Any number of classes for each example. See :class:`Task`.

    Parameters
    ----------
    threshold
        The probability from which a label is predicted.
    **settings
        As for :class:`Task`.

    Raises
    ------
    ArgumentError
        As for :class:`Task`; ``threshold`` is not between 0 and 1.
    """

    name = "multi-label"
    text = "any number of classes for each picture"
    datasets = ("symbols",)
    losses = {
        "binary_cross_entropy_with_logits": "scores, sigmoid gives the probability of each label",
        "focal": "scores, sigmoid gives the probability of each label",
    }
    measured = ("average_precision",)
    options = {
        "threshold": Option(
            float,
            0.5,
            "probability from which a label is predicted",
            low=0,
            high=1,
            used_by=("predict", "evaluate"),
        )
    }
    has_labels = True
    threshold: float

    @classmethod
    def load_folder(cls, root: str | os.PathLike[str], **settings: Any) -> DataSplits:
        return data.load_table_folder(root, "labels.csv", "labels", **settings)

    def create_loss(self) -> nn.Loss:
        """The loss, whose accuracy counts the labels that the threshold decides."""
        loss, p = super().create_loss(), self.threshold
        odds = p / (1 - p) if p < 1 else math.inf
        vars(loss)["threshold"] = math.log(odds) if odds > 0 else -math.inf
        return loss

    def result(self, values: Mapping[str, Any], count: int) -> str:
        accuracy = values["accuracy"] or 0.0
        right = f"{accuracy:.2%} of the labels right"
        return f"mean average precision {values['average_precision']:.4f}, {right}"

    def describe(self, prediction: Any, top: int = 3) -> str:
        """The labels whose probability is above the threshold, the most probable ones first."""
        pairs = zip(prediction, self.classes, strict=True)
        found = sorted((-float(p), c) for p, c in pairs if p > self.threshold)
        return "  ".join(f"{printable(name)} {-p:.2%}" for p, name in found) or "no label"

    def compare(self, prediction: Any, target: Any) -> str:
        found = self.describe(prediction).replace("  ", ", ")
        if all((prediction > self.threshold) == (target > 0.5)):
            return f"✓ {found}"
        wanted = [printable(name) for name, y in zip(self.classes, target, strict=True) if y > 0.5]
        return f"✗ {found}; is: {', '.join(wanted) or 'no label'}"

    def exported(self, model: nn.Module, postprocess: bool = False) -> Exported:
        if not postprocess:
            return super().exported(model)
        network = nn.Sequential({"network": model, "sigmoid": nn.Sigmoid()})
        return Exported(network, ("probabilities",), "the probability of each label")
