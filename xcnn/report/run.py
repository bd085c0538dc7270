"""What a report is made of."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..checks import check_list, check_text
from ..data import ArrayDataset, DataLoader, Dataset, IterableDataset
from ..errors import ArgumentError, show
from ..tasks import Task
from ..training import Trainer


@dataclass
class Run:
    """One training in a report. All but the name may be left out: the report shows what there is.

    Attributes
    ----------
    name : str
    trainer : Trainer or None
        Its model, loss and, by default, history.
    test : DataLoader, Dataset, or (x, y); or None
        What to predict, with the transform of a loader; read by index, so not an iterable.
    train : DataLoader, Dataset, or (x, y); or None
        What it was trained on, to be shown; the transform of a loader is its augmentation. By
        default what the trainer was last fitted to.
    classes : sequence of str or None
        Names of the classes, one for each output of the network; default: those of ``task``, or
        their numbers.
    history : sequence of dict or None
        A row for each epoch, as :meth:`xcnn.Epoch.row`; default: that of the trainer.
    settings : dict
        Shown as a table.
    epochs : int or None
        How many there should be, if the history may have fewer.
    state : str
        What the report says of a run with fewer epochs.
    input_shape : tuple of int or None
        Shape of an example, (C, H, W); default: as in ``test``.
    task : Task or None
        What the network was trained for, of :mod:`xcnn.tasks`: how to show its predictions, unless
        they are one class for each example.
    missing : sequence of str
        What cannot be shown, and why: sentences for the reader.

    Raises
    ------
    ArgumentError
        An argument has another type, the history holds something else than numbers, or the data
        have no index.
    """

    name: str
    trainer: Trainer | None = None
    test: Any = None
    train: Any = None
    classes: Sequence[str] | None = None
    history: Sequence[Mapping[str, Any]] | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    state: str = "not finished"
    input_shape: Sequence[int] | None = None
    task: Task | None = None
    missing: Sequence[str] = ()

    def __post_init__(self) -> None:
        check_text("name", self.name)
        if self.task is not None:
            if not isinstance(self.task, Task):
                raise ArgumentError(
                    f"task is {type(self.task).__name__}: expected a xcnn.tasks.Task"
                )
            self.classes = self.task.classes if self.classes is None else self.classes
        if self.classes is not None:
            array = getattr(self.classes, "tolist", None)
            names = check_list("classes", array() if array else self.classes, "names")
            self.classes = list(map(str, names))
        if not isinstance(self.settings, Mapping):
            raise ArgumentError(f"settings is {type(self.settings).__name__}: expected a dict")
        if self.history is not None:
            rows = check_list("history", self.history, "dicts")
            self.history = [_numbers(row, number) for number, row in enumerate(rows, 1)]
        trainer = self.trainer
        if trainer is not None and not isinstance(trainer, Trainer):
            raise ArgumentError(f"trainer is {type(trainer).__name__}: expected a xcnn.Trainer")
        if self.train is None and trainer is not None:
            self.train = trainer.loader
            if self.train is not None and isinstance(self.train.dataset, IterableDataset):
                self.train = None  # cannot be shown, but was not passed either
        self.test, self.train = _as_loader("test", self.test), _as_loader("train", self.train)

    def rows(self) -> list[dict[str, Any]]:
        """The history, a dict for each epoch."""
        rows: Iterable[Mapping[str, Any]] = self.history or ()
        if self.history is None and self.trainer is not None:
            rows = (epoch.row() for epoch in self.trainer.history)
        return [{"epoch": number, **row} for number, row in enumerate(rows, 1)]


def _numbers(row: Any, number: int) -> dict[str, float | None]:
    """A row of a history with numbers, None for what is missing."""
    if not isinstance(row, Mapping):
        raise ArgumentError(
            f"row {number} of history is {type(row).__name__}: expected a dict, as of Epoch.row()"
        )
    result: dict[str, float | None] = {}
    for name, value in row.items():
        try:
            result[str(name)] = None if value is None or value == "" else float(value)
        except (TypeError, ValueError, OverflowError):
            raise ArgumentError(
                f"row {number} of history has {name}={show(value)}: expected a number"
            ) from None
    epoch = result.get("epoch", number)
    if epoch is None or not math.isfinite(epoch):
        raise ArgumentError(f"row {number} of history has epoch={epoch}: expected its number")
    return result


def _as_loader(name: str, data: Any) -> DataLoader | None:
    """``data`` as a loader in the order of the data, with the transform of the loader given."""
    if data is None:
        return None
    is_loader = isinstance(data, DataLoader)
    source = data.dataset if is_loader else data
    if isinstance(source, tuple) and not isinstance(source, Dataset):
        source = ArrayDataset(*source)
    transform = data.transform if is_loader else None
    loader = DataLoader(source, batch_size=256, transform=transform, prefetch=0)
    if isinstance(loader.dataset, IterableDataset):
        raise ArgumentError(
            f"{name} is an iterable: expected data that are read by index, such as (x, y) or a "
            "Dataset"
        )
    return loader
