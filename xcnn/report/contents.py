"""What a report says of a run: plain data, a dict for each section."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import __version__, metrics
from ..data import DataLoader, Subset
from ..errors import XcnnError
from ..notebook import duration
from . import architecture, examples, maps, predictions
from .outcomes import outcomes
from .run import Run

#: examples of the test data that are predicted, by default
LIMIT = 10_000
_EPOCHS = 2000  # of a longer history, so many are on the page


def measure(
    run: Run, limit: int = LIMIT, full: bool = True, before: dict[str, Any] | None = None
) -> dict[str, Any]:
    """All sections of a run; without ``full`` only those that are quick: curves and predictions.

    The predictions are those of ``before``, an earlier result, if it is given.
    """
    missing = list(run.missing)
    rows = run.rows()
    contents: dict[str, Any] = {"name": run.name, "missing": missing}
    contents |= {"predictions": None, "outcomes": None}
    contents["lower_is_better"] = run.trainer is None or run.trainer.loss.lower_is_better
    shown = None
    if run.test is not None and len(run.test.dataset):
        shown = examples.Examples(run.test)
    found: Any = None
    if before is not None:
        contents |= {name: before[name] for name in ("predictions", "outcomes")}
    elif not predictions.is_counted(run):
        if run.trainer is not None and run.task is not None and shown is not None:
            contents["outcomes"] = outcomes(run, run.trainer, run.task, shown, len(rows))
    else:
        found = predictions.predict(run, limit)
        if isinstance(found, str):
            missing.append(found)
            found = None
        elif shown is not None:
            contents["predictions"] = _predictions(found, shown, len(rows))
    contents["classes"] = _classes(run, found) if before is None else before["classes"]
    graph = _graph(run, missing) if full else None
    contents["history"] = history(rows, None if run.train is None else len(run.train.dataset))
    if full:
        contents |= _inside(run, found, shown, graph, missing)
        contents["data"] = data(run, len(contents["classes"]))
    contents["settings"] = settings(run)
    contents["overview"] = overview(run, rows, contents["history"], contents.get("architecture"))
    return contents


# -- numbers ----------------------------------------------------------------------------------


def history(rows: Sequence[Mapping[str, Any]], examples: int | None) -> dict[str, Any]:
    """The columns of the history, and which of them share a chart.

    Returns
    -------
    dict
        "columns": {name: [number or None for each epoch]}, None if it is missing, infinite or NaN;
        "charts": "name", "title" and "series" of (part, column); "bad": the columns that have
        infinite numbers or NaN; "epochs": how many there are.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    raw = {name: [row.get(name) for row in rows] for name in names}
    if examples and any(raw.get("seconds", ())):
        raw["images_per_second"] = [None if not s else examples / s for s in raw["seconds"]]
    columns = {
        name: [v if v is not None and math.isfinite(v) else None for v in values]
        for name, values in raw.items()
    }
    columns = {k: v for k, v in columns.items() if any(x is not None for x in v) or k == "epoch"}
    bad = [k for k, v in raw.items() if any(x is not None and not math.isfinite(x) for x in v)]
    return {"columns": columns, "charts": _charts(list(columns)), "bad": bad, "epochs": len(rows)}


def drawn(curves: Mapping[str, Any]) -> dict[str, Any]:
    """A history for the page: of a long one, 2000 epochs, evenly spaced."""
    count = curves["epochs"]
    at = np.linspace(0, count - 1, min(count, _EPOCHS)).round().astype(int).tolist()
    return {**curves, "columns": {k: [v[i] for i in at] for k, v in curves["columns"].items()}}


def _charts(columns: list[str]) -> list[dict[str, Any]]:
    """A chart for each quantity; train and test share one."""
    measured = [n.removeprefix("train_").removeprefix("val_") for n in columns if "_" in n]
    quantities = [n for n in dict.fromkeys(measured) if {f"train_{n}", f"val_{n}"} & {*columns}]
    charts = []
    for name in quantities:
        parts = {"train": f"train_{name}", "test": f"val_{name}"}
        series = [[part, c] for part, c in parts.items() if c in columns]
        charts.append({"name": name, "title": metrics.title(name), "series": series})
    rates = [[c, c] for c in columns if c == "lr" or c.startswith("lr_")]
    has_test = any(c.startswith("val_") for c in columns)
    others = {
        "lr": ("Learning rate", rates),
        "grad_norm": ("Gradient norm", [["train", c] for c in columns if c == "grad_norm"]),
        "images_per_second": (
            "Examples per second" + ", validation included" * has_test,
            [["train", c] for c in columns if c == "images_per_second"],
        ),
    }
    charts += [
        {"name": name, "title": title, "series": series}
        for name, (title, series) in others.items()
        if series
    ]
    known = {column for chart in charts for _, column in chart["series"]} | {"epoch", "seconds"}
    rest = [c for c in columns if c not in known]
    return charts + [{"name": c, "title": metrics.title(c), "series": [["train", c]]} for c in rest]


def best_epoch(columns: Mapping[str, Sequence[Any]]) -> tuple[str, int] | None:
    """The column that decides, and the position of its best number; None: there are none."""
    for name in ("val_accuracy", "val_loss", "train_accuracy", "train_loss"):
        values = [math.nan if v is None else v for v in columns.get(name, ())]
        if not np.isnan(values).all():
            choose = np.nanargmin if name.endswith("loss") else np.nanargmax
            return name, int(choose(values))
    return None


def overview(
    run: Run,
    rows: Sequence[Mapping[str, Any]],
    curves: Mapping[str, Any],
    graph: Mapping[str, Any] | None,
) -> list[dict[str, str]]:
    """The numbers at the top: "label", "value" and a "note"."""
    columns = curves["columns"]
    tiles: list[dict[str, str]] = []

    def add(label: str, value: str, note: str = "") -> None:
        tiles.append({"label": label, "value": value, "note": note})

    is_ranked = run.trainer is None or run.trainer.loss.lower_is_better
    for quantity in ("accuracy", "loss"):
        for part, name in (("Test", f"val_{quantity}"), ("Train", f"train_{quantity}")):
            if rows and rows[-1].get(name) is not None:
                value, note = _result(name, rows[-1][name], columns)
                add(f"{part} {quantity}", value, note if is_ranked or quantity != "loss" else "")
                break
    measured = () if run.task is None else run.task.measured
    for quantity in (m if isinstance(m, str) else m.name for m in measured):
        for part, name in (("Test", f"val_{quantity}"), ("Train", f"train_{quantity}")):
            if rows and rows[-1].get(name) is not None:
                add(f"{part} {metrics.title(quantity)}", f"{rows[-1][name]:.4f}")
                break
    planned = run.epochs or len(rows)
    done = f"{len(rows)} of {planned}" if planned != len(rows) else str(len(rows))
    add("Epochs", done, "" if planned == len(rows) else run.state)
    seconds = [s for s in columns.get("seconds", ()) if s is not None]
    if seconds:
        add("Time", duration(sum(seconds)), f"{duration(sum(seconds) / len(seconds))} per epoch")
    if graph is not None:
        products = f"{compact(graph['multiply_adds'])} multiply-adds per example"
        add("Parameters", f"{graph['parameters']:,}", products)
    if run.trainer is not None:
        add("Device", run.settings.get("device", run.trainer.model.device), platform.machine())
    return tiles


def _result(name: str, last: float, columns: Mapping[str, Sequence[Any]]) -> tuple[str, str]:
    """A number after the last epoch, and the best one if it looks better."""
    is_loss = name.endswith("loss")
    known = [(v, at) for at, v in enumerate(columns.get(name, ())) if v is not None]
    text = (f"{last:.4f}" if is_loss else f"{last:.2%}") if math.isfinite(last) else "NaN"
    text = "infinite" if math.isinf(last) else text
    if not known:
        return text, "no epoch has a finite number"
    value, at = min(known, key=lambda pair: (pair[0] if is_loss else -pair[0], pair[1]))
    best = f"{value:.4f}" if is_loss else f"{value:.2%}"
    if best == text:
        return text, "the lowest of all epochs" if is_loss else "after the last epoch"
    when = f"{'lowest' if is_loss else 'best'} {best} in epoch {columns['epoch'][at]:.0f}"
    return text, when if math.isfinite(last) else f"after the last epoch; {when}"


def compact(count: float) -> str:
    """A number with three digits: 421 thousand, 41.5 million, 4.1 billion."""
    for size, name in ((1e9, " billion"), (1e6, " million"), (1e3, " thousand")):
        if count >= size:
            return f"{count / size:.3g}{name}"
    return f"{count:g}"


def settings(run: Run) -> list[list[str]]:
    """Names and values of all settings, and the versions of what computed them."""
    values = {name: _text(value) for name, value in run.settings.items()}
    if run.trainer is not None:
        trainer = run.trainer
        values.setdefault("model", type(trainer.model).__name__)
        values.setdefault("loss", type(trainer.loss).__name__)
        values.setdefault("precision", trainer.precision)
        values.setdefault("device", trainer.model.device)
        if trainer.optimizer is not None:
            values.setdefault("optimizer", type(trainer.optimizer).__name__)
    versions = {
        "report written with": f"xcnn {__version__}, Python {platform.python_version()}, "
        f"NumPy {np.__version__}, on {platform.system()} {platform.machine()}",
    }
    return [[name, value] for name, value in {**values, **versions}.items()]


def _text(value: Any) -> str:
    """A setting as text, long lists shortened."""
    if isinstance(value, list | tuple):
        texts = list(map(_text, value))
        more = f", ... ({len(texts)} in all)" if len(texts) > 20 else ""
        return ", ".join(texts[:20]) + more if texts else "none"
    if value is None:
        return "none"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


# -- predictions --------------------------------------------------------------------------------


def _predictions(
    found: predictions.Predictions, shown: examples.Examples, epoch: int
) -> dict[str, Any]:
    """Confusion matrix, lists of examples, numbers of each class, and the examples they name."""
    table = predictions.confusion(found, shown.numbers)
    lists = predictions.lists(found)
    wanted = [at for cell in table["cells"] for at in cell["examples"]]
    wanted += [at for each in lists.values() for at in each]
    described = predictions.shown(found, wanted)
    pictures = shown.show([example["index"] for example in described.values()])
    for example, picture in zip(described.values(), pictures, strict=True):
        example |= picture
    right = int((found.predicted == found.labels).sum())
    return {
        "epoch": epoch,
        "used": len(found.labels),
        "total": found.total,
        "invalid": found.invalid,
        "right": right,
        "confusion": table,
        "lists": lists,
        "per_class": predictions.per_class(found),
        "examples": described,
    }


def _classes(run: Run, found: Any) -> list[str]:
    if found is not None:
        return found.classes
    return list(map(str, run.classes or ()))


# -- the network and the data ----------------------------------------------------------------------


def _graph(run: Run, missing: list[str]) -> architecture.Graph | None:
    """The traced network, if there is one and the shape of its input is known."""
    if run.trainer is None:
        return None
    shape = run.input_shape
    for loader in (run.test, run.train):
        if shape is None and loader is not None and len(loader.dataset):
            x = inputs(loader, [0])
            shape = None if x is None else x.shape[1:]
    if shape is None:
        missing.append("The network takes no single array of a known shape: there is no graph.")
        return None
    try:
        return architecture.trace(run.trainer.model, shape)
    except XcnnError as error:
        missing.append(f"The network does not take inputs of shape {tuple(shape)}: {error}")
        return None


def _inside(
    run: Run,
    found: Any,
    shown: examples.Examples | None,
    graph: architecture.Graph | None,
    missing: list[str],
) -> dict[str, Any]:
    """Architecture, filters, layers, and explained pictures."""
    if run.trainer is None:
        return {}
    model = run.trainer.model
    result: dict[str, Any] = {"filters": maps.filters(model)}
    result["has_one_output"] = run.trainer.loss.target == "binary"
    if graph is not None:
        result["architecture"] = architecture.architecture(model, graph)
    products = 0 if graph is None else graph.multiply_adds
    some = None
    if run.test is not None and len(run.test.dataset):
        count = len(run.test.dataset)
        used = min(count, maps.how_many(products, passes=2, least=16, most=256))
        some = inputs(run.test, np.linspace(0, count - 1, used).round())
    result["layers"] = maps.layers(model, some)
    if graph is None or shown is None or not shown.are_pictures or found is None:
        return result
    chosen = _chosen(predictions.lists(found), maps.how_many(products, maps.PASSES, 1, 6))
    if chosen:
        indices = found.indices[[at for _, at in chosen]]
        raw = shown.read(indices)
        x = inputs(run.test, indices)
        explained, failed = maps.explained(model, x, raw, shown.bounds, graph)
        missing += failed
        if explained:
            described = predictions.shown(found, [at for _, at in chosen])
            larger = shown.show(indices.tolist(), maps.SIZE)
            result["explained"] = [
                {"why": why, **described[at], **picture, **of_picture}
                for (why, at), picture, of_picture in zip(chosen, larger, explained, strict=True)
            ]
    return result


def _chosen(lists: Mapping[str, Sequence[int]], count: int) -> list[tuple[str, int]]:
    """Why and which examples are explained: mistakes, uncertain and confident ones in turn."""
    names = {"mistakes": "Mistake", "uncertain": "Uncertain", "confident": "Confident"}
    turns = [(names[k], at) for rank in range(count) for k in names for at in lists[k][rank:][:1]]
    first = dict(reversed([(at, why) for why, at in turns]))
    chosen = [(first[at], at) for at in dict.fromkeys(at for _, at in turns)][:count]
    return sorted(chosen, key=lambda pair: list(names.values()).index(pair[0]))


def inputs(loader: DataLoader, indices: Any) -> Any:
    """Examples as the network takes them, a NumPy array; None if they are several arrays."""
    part = Subset(loader.dataset, np.asarray(indices, np.int64))
    batches = DataLoader(part, len(part), transform=loader.transform, prefetch=0)
    batch = next(iter(batches))
    x = batch[0] if isinstance(batch, tuple) else batch
    return None if isinstance(x, tuple | Mapping) else np.asarray(x)


def data(run: Run, classes: int) -> dict[str, Any]:
    """Numbers of examples of each class, some of them, and what augmentation makes of them."""
    loaders = {"train": run.train, "test": run.test}
    sizes = {name: len(part.dataset) for name, part in loaders.items() if part is not None}
    source = run.train if run.train is not None else run.test
    result: dict[str, Any] = {"sizes": sizes, "balance": {}, "examples": [], "augmented": []}
    if classes:
        result["balance"] = examples.balance(loaders, classes)
    if source is not None and len(source.dataset):
        result["examples"] = examples.of_classes(source, classes) if classes else []
        result["from"] = "train" if run.train is not None else "test"
    if run.train is not None and len(run.train.dataset):
        result["augmented"] = examples.augmented(run.train)
    return result
