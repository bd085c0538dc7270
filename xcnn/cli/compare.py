"""Compare runs: the settings that differ, and the results side by side.

xcnn compare runs/lenet5-digits-1 runs/lenet5-digits-2
xcnn compare runs/* --json
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import tasks
from ..errors import ArgumentError, XcnnError
from ..notebook import terminal_width
from . import runs
from .config import DEFAULTS
from .options import Parser, print_table
from .run_folder import RunFolder

_RESULTS = (
    *("epochs", "accuracy", "best_accuracy", "best_epoch"),
    *("metric", "loss", "seconds", "state"),
)
_OF_THE_DATA = ("classes", "mean", "std", "scale", "files", "on_error", "data_dir", "xcnn")
_TITLES = {
    **{
        "accuracy": "test accuracy",
        "best_accuracy": "best accuracy",
        "best_epoch": "epoch of the best",
    },
    **{"metric": "test metric", "loss": "test loss", "seconds": "time"},
}


def add_options(parser: Parser) -> None:
    parser.add("runs RUN", "run folders; those that are no runs are left out", nargs="+")
    runs.add_json(parser)


def run(arguments: argparse.Namespace) -> None:
    found = [RunFolder(Path(name)) for name in arguments.runs]
    found = [folder for folder in found if folder.is_run()]
    if not found:
        raise ArgumentError(f"{' '.join(arguments.runs)}: expected run folders of xcnn train")
    records, configs = [runs.describe(folder) for folder in found], [_config(f) for f in found]
    names = list(dict.fromkeys(name for config in configs for name in _own(config)))
    differ = [n for n in names if len({repr(config.get(n)) for config in configs if config}) > 1]
    settings = {name: [config.get(name) for config in configs] for name in differ}
    if arguments.json:
        print(json.dumps({"settings": settings, "runs": records}, indent=2))
        return
    settings.pop("epochs", None)  # among the results
    rows = [[name, *map(_show, values)] for name, values in settings.items()]
    rows += [[""] * (len(found) + 1)] * bool(rows)
    known = [name for name in _RESULTS if any(record.get(name) is not None for record in records)]
    chosen = _chosen(configs)
    rows += [[_TITLES.get(n, n), *_results(n, records, chosen.get(n))] for n in known]
    _print([["", *(record["name"] for record in records)], *rows])


def _config(folder: RunFolder) -> dict[str, Any]:
    """The settings of a run; none of a damaged one."""
    try:
        return folder.load_config(DEFAULTS)
    except (XcnnError, OSError):
        return {}


def _own(config: dict[str, Any]) -> list[str]:
    """The names of settings, but what follows from the data."""
    of_data = {*_OF_THE_DATA, *(tasks.get(config["task"]).from_data if config else ())}
    return [name for name in config if name not in of_data]


def _show(value: Any) -> str:
    if isinstance(value, list):
        value = ",".join(map(str, value))
        value = value if len(value) < 30 else f"{value[:26]}..."
    return "-" if value in (None, "") else str(value)


def _chosen(configs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How the best of some results is found, if they can be compared: of one task, and one loss."""
    known = [tasks.from_settings(config).create_loss() for config in configs if config]
    kinds = {config["task"] for config in configs if config}
    if len(kinds) != 1:
        return {}
    losses = {config["loss"] for config in configs if config}
    is_one = len(losses) == 1 and all(loss.lower_is_better for loss in known)
    return {"accuracy": max, "best_accuracy": max, **({"loss": min} if is_one else {})}


def _results(name: str, records: Sequence[dict[str, Any]], choose: Any) -> list[str]:
    """A row of results; with a way to choose, the best with a star."""
    values = [record.get(name) for record in records]
    known = [value for value in values if value is not None]
    best = choose(known) if choose and len(set(known)) > 1 else None
    texts = [runs.cell(name, record) for record in records]
    marks = ["*" if best is not None and value == best else " " * bool(choose) for value in values]
    return [text + mark for text, mark in zip(texts, marks, strict=True)]


def _print(rows: list[list[str]]) -> None:
    """Print the names of the rows and as many runs as fit beside them, then the other runs."""
    names, *widths = [max(map(len, column)) + 2 for column in zip(*rows, strict=True)]
    width, start = terminal_width(sys.stdout), 0
    while start < len(widths):
        end = start + 1
        while end < len(widths) and (width is None or names + sum(widths[start : end + 1]) < width):
            end += 1
        if start:
            print()
        print_table([[row[0], *row[start + 1 : end + 1]] for row in rows])
        start = end
