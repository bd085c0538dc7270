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

#: results, and whether the largest is the best
_RESULTS = {
    **{"epochs": None, "accuracy": max, "best_accuracy": max, "best_epoch": None},
    **{"metric": None},
    **{"loss": min, "seconds": None, "state": None},
}
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
    names = list(dict.fromkeys(name for config in configs for name in config))
    differ = [n for n in names if len({repr(config.get(n)) for config in configs if config}) > 1]
    settings = {name: [config.get(name) for config in configs] for name in differ}
    if arguments.json:
        print(json.dumps({"settings": settings, "runs": records}, indent=2))
        return
    rows = [[name, *map(_show, values)] for name, values in settings.items()]
    rows += [[""] * (len(found) + 1)] * bool(rows)
    known = [name for name in _RESULTS if any(record.get(name) is not None for record in records)]
    rows += [[_TITLES.get(name, name), *_results(name, records)] for name in known]
    _print([["", *(record["name"] for record in records)], *rows])


def _config(folder: RunFolder) -> dict[str, Any]:
    """The settings of a run, but what follows from its data; none of a damaged one."""
    try:
        config = folder.load_config(DEFAULTS)
    except (XcnnError, OSError):
        return {}
    of_data = (*_OF_THE_DATA, *tasks.get(config["task"]).from_data)
    return {k: v for k, v in config.items() if k not in of_data}


def _show(value: Any) -> str:
    if isinstance(value, list):
        value = ",".join(map(str, value))
        value = value if len(value) < 30 else f"{value[:26]}..."
    return "-" if value in (None, "") else str(value)


def _results(name: str, records: Sequence[dict[str, Any]]) -> list[str]:
    """A row of results, the best with a star."""
    values = [record.get(name) for record in records]
    known = [value for value in values if value is not None]
    choose = _RESULTS[name]
    best = choose(known) if choose and len(set(known)) > 1 else None
    texts = ["-" if value is None else runs.format_value(name, value) for value in values]
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
