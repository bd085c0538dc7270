"""The run folder: what ``xcnn train`` writes and the other commands read."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from .. import serialize
from ..errors import ArgumentError, FileFormatError
from ..nn import Module
from ..training.trainer import Epoch

#: of trainer.LOSSES, those that make sense for the classes of a data set
LOSSES = ("cross_entropy", "nll", "binary_cross_entropy", "binary_cross_entropy_with_logits")
_HUGE = 1e30  # what numbers of pixels stay below, and float32 holds
MODEL, HISTORY, CONFIG = "model.safetensors", "history.csv", "config.json"


class RunFolder:
    """``model.safetensors``, ``history.csv`` and ``config.json`` of one training.

    Each file appears complete or not at all.
    """

    def __init__(self, path: Path, is_new: bool = False) -> None:
        self.path = path
        self.is_new = is_new
        self.epochs = 0  # that the files hold completely

    @classmethod
    def create(cls, out: str | None, name: str) -> RunFolder:
        """Make the folder ``out``, or the first free ``runs/NAME-N``.

        Raises
        ------
        ArgumentError
            ``out`` already holds a run, or is a file.
        """
        if out is None:
            for n in itertools.count(1):
                path = Path("runs") / f"{name}-{n}"
                with contextlib.suppress(FileExistsError):  # made by another run, perhaps just now
                    path.mkdir(parents=True)
                    return cls(path, is_new=True)
        path = Path(str(out))
        if path.is_file():
            raise ArgumentError(f"--out {out}: this is a file, expected a folder")
        found = [f for f in (MODEL, HISTORY, CONFIG) if (path / f).exists()]
        if found:
            raise ArgumentError(
                f"--out {out}: the folder already holds a run ({', '.join(found)}); choose "
                "another or remove it"
            )
        is_new = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        return cls(path, is_new)

    def save(self, model: Module, history: Sequence[Epoch], config: dict[str, Any]) -> None:
        """Write all three files."""
        serialize.save(model, self.path / MODEL)
        table = io.StringIO()
        writer = csv.DictWriter(table, [f.name for f in fields(Epoch)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(epoch.row() for epoch in history)
        text = json.dumps(config, indent=2) + "\n"
        for name, content in ((HISTORY, table.getvalue()), (CONFIG, text)):
            serialize.write_atomically(self.path / name, content.encode())
        self.epochs = len(history)

    def remove_if_empty(self) -> None:
        """Remove the folder again if it was made for this run and nothing was saved in it."""
        if self.is_new and not any(self.path.iterdir()):
            self.path.rmdir()

    def load_model(self) -> Any:
        """The trained network.

        Raises
        ------
        FileNotFoundError, FileFormatError
            The file is missing or damaged.
        """
        return serialize.load(self.path / MODEL)

    def load_config(self) -> dict[str, Any]:
        """What the network was trained with.

        Raises
        ------
        ArgumentError
            This is no run folder.
        FileFormatError
            The file is damaged.
        """
        path = self.path / CONFIG
        if not path.exists():
            raise ArgumentError(
                f"{self.path} is not a run folder: it has no {CONFIG}; train one with: xcnn train"
            )
        try:
            config = json.loads(path.read_text())
        except ValueError as error:
            raise FileFormatError(f"{path} is damaged: {error}") from error
        found = config if isinstance(config, dict) else {}
        wrong = damaged_entries(found)
        if wrong:
            raise FileFormatError(f"{path} is damaged: missing or wrong: {', '.join(wrong)}")
        return found


def damaged_entries(config: dict[str, Any]) -> list[str]:
    """The names of what every config has that are missing or of another kind."""
    return [key for key, fits in _ENTRIES.items() if not fits(config.get(key))]


def _list_of(kind: Any) -> Callable[[Any], bool]:
    def fits(value: Any) -> bool:
        return isinstance(value, list) and bool(value) and all(isinstance(v, kind) for v in value)

    return fits


def _numbers(value: Any) -> bool:
    """Whether these are numbers to normalise with: a file may hold any, of any length."""
    return _list_of(float | int)(value) and all(_is_number(v) for v in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int) and abs(value) < _HUGE  # NaN is not


_ENTRIES: dict[str, Callable[[Any], bool]] = {
    "classes": _list_of(str),
    "data": lambda value: isinstance(value, str),
    "input_shape": _list_of(int),
    "loss": lambda value: value in LOSSES,
    "mean": _numbers,
    "std": _numbers,
    "scale": _is_number,
}
