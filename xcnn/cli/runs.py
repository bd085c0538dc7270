"""List the runs in a folder with their results and states.

xcnn runs
xcnn runs --sort accuracy
xcnn runs experiments/ --json
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import metrics, tasks
from ..errors import ArgumentError, XcnnError
from ..notebook import duration
from .config import DEFAULTS
from .options import Parser, print_table, say
from .run_folder import RunFolder, best_row

#: title and, for a narrow terminal, rank of each column
_COLUMNS = {
    **{"name": ("name", 0), "model": ("model", 7), "data": ("data", 6), "epochs": ("epochs", 3)},
    **{"accuracy": ("test acc", 1), "best_accuracy": ("best acc", 4)},
    **{
        "metric": ("test metric", 2),
        "loss": ("test loss", 5),
        "seconds": ("time", 8),
        "state": ("state", 2),
    },
}

_OPTIONAL = ("accuracy", "best_accuracy", "metric")


def add_options(parser: Parser) -> None:
    parser.add("folder FOLDER", "folder of run folders", nargs="?", default="runs")
    order = "order by this column, the largest last; default: by the time of the last change"
    parser.add("--sort COLUMN", order, choices=list(_COLUMNS))
    add_json(parser)


def add_json(parser: Parser) -> None:
    """Add ``--json``."""
    parser.add("--json", "print JSON, with all numbers in full", action="store_true")


def run(arguments: argparse.Namespace) -> None:
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise ArgumentError(f"there is no folder {folder}: train a network with: xcnn train")
    found = [RunFolder(path) for path in folder.iterdir()]
    runs = [r for r in found if r.is_run()] or [r for r in [RunFolder(folder)] if r.is_run()]
    runs.sort(key=RunFolder.last_change)
    records = [describe(run) for run in runs]
    if arguments.sort:
        records.sort(key=lambda record: _order(record[arguments.sort]))
    if arguments.json:
        print(json.dumps(records, indent=2))
    elif records:
        known = {n for n in _COLUMNS if any(r[n] is not None for r in records)}
        shown = [n for n in _COLUMNS if n in known or n not in _OPTIONAL]
        rows = [[cell(name, record) for name in shown] for record in records]
        titles, ranks = zip(*(_COLUMNS[name] for name in shown), strict=True)
        print_table([titles, *rows], ranks, left=3)
        for record in records:
            if "error" in record:
                say(f"{record['name']}: {record['error']}")
    else:
        say(f"there are no runs in {folder}; train a network with: xcnn train")


def describe(run: RunFolder) -> dict[str, Any]:
    """The results of a run; None where there are none, as for one that is damaged."""
    record: dict[str, Any] = dict.fromkeys(_COLUMNS)
    record |= {"path": str(run.path), "name": run.path.resolve().name}
    try:
        config, history = run.load_config(DEFAULTS), run.load_history()
    except (XcnnError, OSError) as error:
        return {**record, "state": "damaged", "error": str(error)}
    record |= {"model": config["model"], "data": Path(config["data"]).name}
    record |= {"epochs": len(history), "planned_epochs": config["epochs"]}
    record["state"] = run.state(config, history)
    if history:
        last = history[-1]
        record |= {"accuracy": last.get("val_accuracy"), "loss": last["val_loss"]}
        if record["accuracy"] is not None:
            best = best_row(history, "val_accuracy")
            record |= {"best_accuracy": best["val_accuracy"], "best_epoch": int(best["epoch"])}
        for name in tasks.get(config["task"]).measured[:1]:
            if name not in metrics.names():  # a term of the loss, which is listed anyway
                continue
            if last.get(f"val_{name}") is not None:
                record["metric"] = f"{metrics.title(name)} {last[f'val_{name}']:.4f}"
        record["seconds"] = sum(row["seconds"] for row in history)
    is_number = {k: not isinstance(v, float) or math.isfinite(v) for k, v in record.items()}
    return {k: v if is_number[k] else None for k, v in record.items()}  # JSON has no NaN


def _order(value: Any) -> tuple[bool, Any]:
    return (value is not None, value)


def cell(name: str, record: Mapping[str, Any]) -> str:
    """A result of a run as text."""
    value = record[name]
    if value is None:
        return "-"
    if name == "epochs":
        return f"{value}/{record['planned_epochs']}"
    if name == "seconds":
        return duration(value)
    if name.endswith("accuracy"):
        return f"{value:.2%}"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
