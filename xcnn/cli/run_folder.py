"""The run folder, which ``xcnn train`` writes and the other commands read."""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import json
import math
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from .. import optim, serialize, tasks
from ..errors import ArgumentError, FileFormatError, XcnnError
from ..files import MAX_JSON, open_file, read_all, read_json, reading
from ..training import callbacks, folder
from . import optimizer

_T = TypeVar("_T")

MODEL, HISTORY, CONFIG = folder.MODEL, folder.HISTORY, "config.json"
#: what ``--log`` writes; each run has the first
LOGS = {"csv": HISTORY, "json": "log.jsonl", "tensorboard": "tensorboard"}
_SAVED = (MODEL, folder.CHECKPOINTS, *LOGS.values())
#: columns that a history must have
_IN_HISTORY = ("epoch", "val_loss", "seconds")
_MAX_NUMBER = 1e30  # float32 can still normalise with this


#: by entry: a type, [type] for a non-empty list of it, a dict whose keys are the valid values, or
#: (one of these, another value)
_REQUIRED: dict[str, Any] = {
    **{"classes": ([str], []), "data": str, "input_shape": [int], "loss": str, "task": str},
    **{"mean": [float | int], "std": [float | int], "scale": float | int},
}
_OF_TRAINING: dict[str, Any] = {
    **{"model": str, "optimizer": optim.BY_NAME},
    **{"lr": float | int, "weight_decay": float | int, "warmup": int},
    **{"schedule": optimizer.SCHEDULES, "clip_norm": (float | int, None), "accumulate": int},
    **{name: ([str], []) for name in ("freeze", "lr_for", "metrics", "log")},
    **{"epochs": int, "batch_size": int, "seed": int, "augment": str, "precision": str},
    **{"checkpoint_every": str, "keep": int, "report": bool, "patience": (int, None)},
    **{"unfreeze_at": (int, None), "betas": ([float], None)},
    **dict.fromkeys(("best", "data_dir", "class_weight"), (str, None)),
    **{"ema": (float | int, None), "sync_batch_norm": bool, "compression": (str, None)},
}


class RunFolder:
    """The folder of one training run.

    ``model.safetensors`` and ``history.csv`` of the last finished epoch, ``config.json`` with all
    settings, and ``checkpoints/`` to resume from; see :class:`xcnn.callbacks.ModelCheckpoint`.
    """

    def __init__(self, path: Path, lock: folder.Lock | None = None, created: str = "") -> None:
        self.path = path
        self.lock = lock  # held by the training that created or resumes the run
        self.created = created  # "run" or, with the folder, "folder", if this object created it

    @classmethod
    def create(cls, out: str | None, name: str, config: dict[str, Any]) -> RunFolder:
        """Create the folder ``out``, or the first free ``runs/NAME-N``, with the config in it.

        Raises
        ------
        ArgumentError
            ``out`` already holds a run, is in use, or is a file.
        """
        files = {CONFIG: [_json(config)]}
        if out is None:
            for n in itertools.count(1):
                with contextlib.suppress(FileExistsError):
                    path = Path("runs") / f"{name}-{n}"
                    return cls(path, folder.create(path, files), "folder")
        path = Path(str(out))
        if path.exists() and not path.is_dir():
            raise ArgumentError(f"--out {out} is a file: expected a folder; choose another name")
        with contextlib.suppress(FileExistsError):
            return cls(path, folder.create(path, files), "folder")
        lock = folder.Lock(path)
        held = [name for name in (MODEL, HISTORY, CONFIG) if (path / name).exists()]
        if held:
            lock.release()
            raise ArgumentError(
                f"--out {out} already holds a run ({', '.join(held)}): go on with it by "
                f"--resume {shlex.quote(str(out))}, or choose another folder"
            )
        folder.commit(path, files)
        return cls(path, lock, "run")

    def resume(self, config: dict[str, Any]) -> None:
        """Lock the folder, and store the config with other epochs.

        Raises
        ------
        ArgumentError
            Another process trains in it, or it has nothing to resume from.
        """
        self.lock = folder.Lock(self.path)
        folder.complete(self.path)
        if (self.path / MODEL).exists() and callbacks.newest(self.path) is None:
            raise ArgumentError(
                f"{self.path} has no checkpoint to resume from: start a new run from its network "
                f"with --init {shlex.quote(str(self.path / MODEL))}"
            )
        folder.commit(self.path, {CONFIG: [_json(config)]})

    def remove_if_empty(self) -> None:
        """Remove what :meth:`create` created, if the training has saved nothing."""
        if not (self.created and self.path.is_dir()):
            return
        if not any((self.path / name).exists() for name in _SAVED):
            (self.path / CONFIG).unlink()
            if self.created == "folder":
                self.path.rmdir()

    def load_model(self) -> Any:
        """The trained network.

        Raises
        ------
        FileNotFoundError, FileFormatError
            The file is missing or damaged.
        """
        folder.complete_if_free(self.path)
        if not (self.path / MODEL).exists() and (self.path / CONFIG).exists():
            raise ArgumentError(
                f"{self.path} has no network yet: no epoch was finished; go on with: xcnn train "
                f"--resume {shlex.quote(str(self.path))}"
            )
        return serialize.load(self.path / MODEL)

    def is_training(self) -> bool:
        """Whether a process trains the run now."""
        return folder.is_locked(self.path)

    def together(self, read: Callable[[], _T]) -> _T:
        """``read()`` of several files, repeated if a training has replaced them meanwhile."""
        for _ in range(20):
            # in this order: what was replaced before is complete if nothing is being replaced now
            before, is_replacing = self._versions(), folder.is_committing(self.path)
            result = read()
            if self._versions() == before and not is_replacing:
                break
            time.sleep(0.05)
        return result

    def _versions(self) -> list[tuple[int, int] | None]:
        """Which files the network and the history are: each epoch brings new ones."""
        files = [self.path / name for name in (MODEL, HISTORY)]
        found = [file.stat() if file.exists() else None for file in files]
        return [None if s is None else (s.st_ino, s.st_mtime_ns) for s in found]

    def load_history(self) -> list[dict[str, Any]]:
        """The results of each epoch, by column; none before the first.

        Raises
        ------
        FileFormatError
            The file is damaged.
        """
        path = self.path / HISTORY
        if not path.exists():
            return []
        with reading(path, "is damaged"), open_file(path) as file:
            lines = io.StringIO(read_all(file, MAX_JSON).decode())
            rows = [
                {name: float(text) if text else None for name, text in row.items()}
                for row in csv.DictReader(lines)
            ]
            lacking = [k for k in _IN_HISTORY if any(row.get(k) is None for row in rows)]
            if lacking:
                raise ValueError(f"it lacks {', '.join(lacking)}")
            if [row["epoch"] for row in rows] != list(range(1, len(rows) + 1)):
                raise ValueError("its epochs are not numbered 1, 2, ...")
        return rows

    def is_run(self) -> bool:
        """Whether the folder holds a run, or what a damaged one has left."""
        try:
            return any((self.path / name).exists() for name in (CONFIG, MODEL, HISTORY))
        except PermissionError:
            return True

    def last_change(self) -> float:
        """When the run was written, in seconds since 1970; 0 for one that is gone since then."""
        files = [self.path / name for name in (CONFIG, MODEL, HISTORY)]
        try:
            return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)
        except PermissionError:
            return 0.0

    def state(self, config: Mapping[str, Any], history: Sequence[Mapping[str, Any]]) -> str:
        """Whether a process trains it now, or it is finished, or can be resumed."""
        if self.is_training():
            return "training"
        if history and config["patience"] is not None:
            best = best_row(history, config["best"] or "val_loss")
            if len(history) - best["epoch"] >= config["patience"]:
                return "finished"  # early
        return "finished" if len(history) >= config["epochs"] else "stopped"

    def load_config(self, defaults: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The settings the network was trained with.

        Parameters
        ----------
        defaults
            For settings that runs of older versions lack; if given, the settings that only a
            training needs are checked too.

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
        folder.complete_if_free(self.path)
        config, required = read_json(path), _REQUIRED
        if isinstance(config, dict):
            config.setdefault("task", "classification")  # of a version before there were others
            if defaults is not None:
                config |= {k: v for k, v in defaults.items() if k not in config}
                required = {**_REQUIRED, **_OF_TRAINING}
        wrong = damaged_entries(config, required)
        if wrong:
            raise FileFormatError(f"{path} is damaged: missing or wrong: {', '.join(wrong)}")
        return config


def best_row(history: Sequence[Mapping[str, Any]], column: str) -> Mapping[str, Any]:
    """The first of the best epochs by a column: a loss, or what is better if larger."""
    sign = -1 if column.endswith("loss") else 1
    known = [row for row in history if math.isfinite(row.get(column) or 0.0)]
    return max(known or history, key=lambda row: sign * (row.get(column) or 0.0))


def _json(config: dict[str, Any]) -> bytes:
    return (json.dumps(config, indent=2) + "\n").encode()


def damaged_entries(config: Any, required: Mapping[str, Any] = _REQUIRED) -> list[str]:
    """The required entries of a config that are missing or wrong; of the task's, why."""
    entries = config if isinstance(config, dict) else {}
    wrong = [key for key, kind in required.items() if not _is(entries.get(key), kind)]
    if not wrong:
        try:
            task = tasks.from_settings(entries)
        except (XcnnError, ArithmeticError, TypeError, ValueError) as error:
            return [str(error)]
        if "model" in required and entries["model"] not in task.networks:
            return ["model"]
    return wrong


def _is(value: Any, kind: Any) -> bool:
    """Whether ``value`` has a type from ``_REQUIRED``, and is finite."""
    if isinstance(kind, tuple):
        return bool(value == kind[1] or _is(value, kind[0]))
    if isinstance(kind, list):
        return isinstance(value, list) and bool(value) and all(_is(v, kind[0]) for v in value)
    if isinstance(kind, dict):
        return isinstance(value, str) and value in kind
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, kind) and (kind is str or abs(value) < _MAX_NUMBER)
