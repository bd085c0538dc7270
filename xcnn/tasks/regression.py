"""Regression: numbers for each picture, or row of features."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from .. import backends, data, nn
from ..checks import check_number
from ..data import DataSplits
from ..errors import ArgumentError, printable
from ..extend import register_task
from ..tensor import Buffer, Parameter, Tensor
from .multi_label import RowTask
from .task import Exported, Task

_host = backends.get("cpu").xp


class StandardizedLoss(nn.Loss):
    """A loss of outputs that stand for standardised targets, (target - mean) / std.

    Targets, and the predictions that outputs are converted to, have the units of the data.

    Parameters
    ----------
    loss
        The loss of the standardised numbers.
    mean, std
        Of each target, (T,).
    """

    def __init__(self, loss: nn.Loss, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.loss = loss
        self.mean, self.std = (Buffer(_host.asarray(v, "float32")) for v in (mean, std))

    def forward(self, output: Any, target: Any) -> Tensor:
        output = Tensor.of(output)
        self._follow(output)
        loss: Tensor = self.loss(output, (Tensor.of(target) - self.mean) / self.std)
        return loss

    def prediction(self, output: Tensor) -> Tensor:
        self._follow(output)
        return output * self.std + self.mean

    def _follow(self, output: Tensor) -> None:
        """Move to the device and the dtype of the output."""
        if self.mean.backend is not output.backend or self.mean.dtype != output.dtype:
            self.to(output.backend, output.dtype)


@register_task
class Regression(RowTask):
    """Numbers for each example. See :class:`Task`.

    Networks learn standardised targets, so that targets of any size are learnt alike; predictions
    and metrics are in the units of the data.

    Parameters
    ----------
    classes
        Names of the numbers.
    *arguments
        More arguments of :class:`Task`.
    target_mean, target_std
        Of each number over the training data, as :meth:`of_data` finds them; default: 0 and 1.
    **settings
        As for :class:`Task`.

    Raises
    ------
    ArgumentError
        As for :class:`Task`; no names, or not one mean and one standard deviation above 0 for each.
    """

    name = "regression"
    text = "numbers for each picture"
    datasets = ("discs",)
    losses = dict.fromkeys(("mse", "l1", "huber", "smooth_l1"), "standardised values")
    measured = ("r2", "mae")
    classes_are = "numbers"
    from_data = ("target_mean", "target_std")

    def __init__(
        self,
        classes: Sequence[str] = (),
        *arguments: Any,
        target_mean: Sequence[float] | None = None,
        target_std: Sequence[float] | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(classes, *arguments, **settings)
        count = len(self.classes)
        if not count:
            raise ArgumentError("regression needs classes: pass the names of the numbers")
        low, high = -3e38, 3e38  # float32 holds them
        target_mean = [0.0] * count if target_mean is None else target_mean
        target_std = [1.0] * count if target_std is None else target_std
        self.target_mean = [check_number("target_mean", v, low, high) for v in target_mean]
        self.target_std = [check_number("target_std", v, 0, high, above=True) for v in target_std]
        for name in self.from_data:
            if (found := len(getattr(self, name))) != count:
                names = ", ".join(self.classes)
                raise ArgumentError(f"{name} has {found} numbers: expected one for each of {names}")

    @classmethod
    def load_folder(cls, root: str | os.PathLike[str], **settings: Any) -> DataSplits:
        return data.load_table_folder(root, "targets.csv", "values", **settings)

    @classmethod
    def of_data(cls, dataset: DataSplits, loss: str | None = None, **options: Any) -> Task:
        y = data.labels(dataset.train).astype("float64")
        spread = y.std(axis=0)
        found = {
            "target_mean": y.mean(axis=0).tolist(),
            "target_std": _host.where(spread > 0, spread, 1.0).tolist(),  # of a constant: any
        }
        return super().of_data(dataset, loss, **found, **options)

    def create_loss(self) -> nn.Loss:
        """The loss of standardised targets, whose predictions have the units of the data."""
        return StandardizedLoss(super().create_loss(), self.target_mean, self.target_std)

    def describe(self, prediction: Any, top: int = 3) -> str:
        """All numbers, with four digits."""
        pairs = zip(self.classes, prediction, strict=True)
        return ", ".join(f"{printable(name)} {float(value):.4g}" for name, value in pairs)

    def exported(self, model: nn.Module, postprocess: bool = False) -> Exported:
        if not postprocess:
            text = "standardised values: multiply by target_std, and add target_mean"
            return Exported(model, ("output",), text)
        to_units = nn.Linear(len(self.classes), len(self.classes))
        to_units.weight = Parameter(_host.diag(_host.asarray(self.target_std, "float32")))
        to_units.bias = Parameter(_host.asarray(self.target_mean, "float32"))
        network = nn.Sequential({"network": model, "to_units": to_units.to(model.backend)})
        return Exported(network, ("values",), "in the units of the training data")
