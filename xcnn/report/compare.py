"""Several runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import metrics
from .contents import best_epoch

_RESULTS: dict[str, tuple[str, Any]] = {
    "val_accuracy": ("Test accuracy", max),
    "val_loss": ("Test loss", min),
    "train_accuracy": ("Train accuracy", max),
    "train_loss": ("Train loss", min),
    "seconds": ("Seconds per epoch", min),
}


def comparison(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Results of runs, their settings that differ, and the difference of two confusion matrices.

    Nothing is the best of runs for several tasks, and no loss of runs with several losses.

    Returns
    -------
    dict
        "results": rows with a "name", "values" and positions of the "best"; "settings": rows with a
        "name" and "values", None where a run has no such setting; "difference": the second matrix
        minus the first, of two runs with the same classes, else None.
    """
    return {
        "results": _results(runs),
        "settings": _settings(runs),
        "difference": _difference(runs),
    }


def _results(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    rows = []
    columns = [run["history"]["columns"] for run in runs]
    tables = [dict(run["settings"]) for run in runs]
    is_one = {key: len({table.get(key) for table in tables}) == 1 for key in ("task", "loss")}
    is_one["loss"] &= is_one["task"] and all(run["lower_is_better"] for run in runs)
    for name, (title, choose) in _RESULTS.items():
        if not is_one["loss" if name.endswith("loss") else "task"]:
            choose = None
        of_columns = _mean if name == "seconds" else _last
        values = [of_columns(of_run.get(name)) for of_run in columns]
        rows.append(_row(title, values, choose, "percent" if "accuracy" in name else "number"))
    known = {n: None for of_run in columns for n in of_run if n.startswith("val_")}
    for name in [n for n in known if n not in _RESULTS]:
        values = [_last(of_run.get(name)) for of_run in columns]
        rows.append(_row(f"Test {metrics.title(name[4:])}", values, None, "number"))
    epochs = [best_epoch(of_run) for of_run in columns]
    numbers = [
        c["epoch"][e[1]] if e and (run["lower_is_better"] or not e[0].endswith("loss")) else None
        for c, e, run in zip(columns, epochs, runs, strict=True)
    ]
    rows.append(_row("Best epoch", numbers, None, "integer"))
    parameters = [run.get("architecture", {}).get("parameters") for run in runs]
    rows.append(_row("Parameters", parameters, None, "integer"))
    products = [run.get("architecture", {}).get("multiply_adds") for run in runs]
    rows.append(_row("Multiply-adds per example", products, None, "integer"))
    return [row for row in rows if any(v is not None for v in row["values"])]


def _last(values: Sequence[Any] | None) -> Any:
    return values[-1] if values else None


def _mean(values: Sequence[Any] | None) -> float | None:
    known = [v for v in values or () if v is not None]
    return sum(known) / len(known) if known else None


def _row(name: str, values: list[Any], choose: Any, kind: str) -> dict[str, Any]:
    known = [v for v in values if v is not None]
    best = [i for i, v in enumerate(values) if v == choose(known)] if choose and known else []
    return {"name": name, "values": values, "kind": kind, "best": best if len(known) > 1 else []}


def _settings(runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    tables = [dict(run["settings"]) for run in runs]
    names = dict.fromkeys(name for table in tables for name in table)
    rows = [{"name": name, "values": [table.get(name) for table in tables]} for name in names]
    return [row for row in rows if len(set(row["values"])) > 1]


def _difference(runs: Sequence[dict[str, Any]]) -> list[list[int]] | None:
    if len(runs) != 2 or runs[0]["classes"] != runs[1]["classes"]:
        return None
    found = [run["predictions"] for run in runs]
    if not all(found) or found[0]["used"] != found[1]["used"]:
        return None
    first, second = (of_run["confusion"]["matrix"] for of_run in found)
    if first is None or second is None:
        return None
    pairs = zip(first, second, strict=True)
    return [[b - a for a, b in zip(old, new, strict=True)] for old, new in pairs]
