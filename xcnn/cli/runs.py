"""The run folder, which ``xcnn train`` writes and the other commands read."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from .. import nn, serialize
from ..errors import ArgumentError, FileFormatError
from ..files import read_json
from ..training import Epoch

MODEL, HISTORY, CONFIG = "model.safetensors", "history.csv", "config.json"
_MAX_NUMBER = 1e30  # float32 can still normalise with this


class Loss(NamedTuple):
    """A loss: the outputs of networks trained with it, and the output layer it needs, if any."""

    output: str
    layer: type[nn.Module] | None = None


#: losses for classification
LOSSES = {
    "cross_entropy": Loss("scores, softmax gives the probabilities"),
    "nll": Loss("logarithms of the probabilities", nn.LogSoftmax),
    "binary_cross_entropy": Loss("the probability of the second class", nn.Sigmoid),
    "binary_cross_entropy_with_logits": Loss("score, sigmoid gives the second class's probability"),
}


def is_binary(loss: str | None) -> bool:
    """Whether networks trained with this loss have one output for two classes."""
    return loss is not None and loss.startswith("binary")


class RunFolder:
    """``model.safetensors``, ``history.csv`` and ``config.json`` of one training run.

    Each file is written completely or not at all.
    """

    def __init__(self, path: Path, is_new: bool = False) -> None:
        self.path = path
        self.is_new = is_new
        self.epochs = 0  # number saved so far

    @classmethod
    def create(cls, out: str | None, name: str) -> RunFolder:
        """Create the folder ``out``, or the first free ``runs/NAME-N``.

        Raises
        ------
        ArgumentError
            ``out`` already holds a run, or is a file.
        """
        if out is None:
            for n in itertools.count(1):
                path = Path("runs") / f"{name}-{n}"
                with contextlib.suppress(FileExistsError):  # taken by another run
                    path.mkdir(parents=True)
                    return cls(path, is_new=True)
        path = Path(str(out))
        if path.is_file():
            raise ArgumentError(f"--out {out} is a file: expected a folder; choose another name")
        existing = [f for f in (MODEL, HISTORY, CONFIG) if (path / f).exists()]
        if existing:
            raise ArgumentError(
                f"--out {out} already holds a run ({', '.join(existing)}): choose another folder"
            )
        is_new = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        return cls(path, is_new)

    def save(self, model: nn.Module, history: Sequence[Epoch], config: dict[str, Any]) -> None:
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
        """Remove the folder if this run created it and saved nothing in it."""
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
        """The settings the network was trained with.

        Raises
        ------
        ArgumentError
            Not a run folder.
        FileFormatError
            The file is damaged.
        """
        path = self.path / CONFIG
        if not path.exists():
            raise ArgumentError(
                f"{self.path} is not a run folder: it has no {CONFIG}; train one with: xcnn train"
            )
        config = read_json(path)
        wrong = damaged_entries(config)
        if wrong:
            raise FileFormatError(f"{path} is damaged: missing or wrong: {', '.join(wrong)}")
        return config


def damaged_entries(config: Any) -> list[str]:
    """The required entries of a config that are missing or have the wrong type."""
    entries = config if isinstance(config, dict) else {}
    return [key for key, kind in _REQUIRED.items() if not _is(entries.get(key), kind)]


def _is(value: Any, kind: Any) -> bool:
    """Whether ``value`` has a type from ``_REQUIRED``, and is finite."""
    if isinstance(kind, list):
        return isinstance(value, list) and bool(value) and all(_is(v, kind[0]) for v in value)
    if isinstance(kind, dict):
        return isinstance(value, str) and value in kind
    return isinstance(value, kind) and (kind is str or abs(value) < _MAX_NUMBER)


#: by entry: a type, [type] for a non-empty list of it, or a dict whose keys are the valid values
_REQUIRED: dict[str, Any] = {
    **{"classes": [str], "data": str, "input_shape": [int], "loss": LOSSES},
    **{"mean": [float | int], "std": [float | int], "scale": float | int},
}
