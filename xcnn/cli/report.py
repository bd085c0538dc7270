"""Write an HTML page about a run, or several side by side: curves, mistakes, what it looks at.

xcnn report runs/lenet5-digits-1
xcnn report runs/one runs/two --out both.html
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from .. import backends, tasks
from ..data import DataLoader, DataSplits
from ..errors import ArgumentError, FileFormatError, XcnnError
from ..report import LIMIT, Run, write
from ..training import Trainer
from . import sources
from .config import DEFAULTS, change_of_data, without_folders
from .options import Parser, add_device, complain, count, path, say
from .run_folder import RunFolder

#: what a report says of runs with fewer epochs than planned
_STATES = {"training": "still training", "finished": "stopped early", "stopped": "not finished"}


def add_options(parser: Parser) -> None:
    parser.add("runs RUN", "run folder from xcnn train; several are compared", nargs="+")
    parser.add("--out FILE", "the file; default: report.html in the first run folder", type=path)
    limit = "predict at most N test examples, evenly spaced"
    parser.add("--limit N", limit, type=count, default=LIMIT)
    moved = "of runs on a folder of images: where it is now"
    parser.add("--data FOLDER", moved, type=path)
    sources.add_data_dir(parser)
    add_device(parser)


def run(arguments: argparse.Namespace) -> None:
    backend = backends.get(arguments.device)
    first = RunFolder(Path(arguments.runs[0]))
    if arguments.out is None and first.load_config().get("report") and first.is_training():
        raise ArgumentError(
            f"{first.path} is being trained, which writes report.html by itself: choose another "
            "file with --out"
        )
    places = {"data": arguments.data, "data_dir": arguments.data_dir}
    runs = [open_run(Path(name), backend, **places) for name in arguments.runs]
    if len({run.name for run in runs}) < len(runs):
        for run, name in zip(runs, arguments.runs, strict=True):
            run.name = name
    out = arguments.out or os.path.join(arguments.runs[0], "report.html")
    write(out, *runs, limit=arguments.limit)
    for run in runs:
        complain("".join(f"xcnn: warning: {run.name}: {text}\n" for text in run.missing))
    say(f"{out} ({os.path.getsize(out) / 1e6:.1f} MB)")


def open_run(
    path: Path, backend: backends.Backend, data: str | None = None, data_dir: str | None = None
) -> Run:
    """What there is of a run: its history, and its network and data unless they are gone."""
    folder, missing = RunFolder(path), []
    config, history, model = folder.together(lambda: _saved(folder))
    if data is not None:
        if not sources.is_folder(config["data"]):
            raise ArgumentError(f"--data is for runs on a folder of images, not {config['data']}")
        config["data"] = os.path.abspath(data)
    trainer, dataset, task = None, None, tasks.from_settings(config)
    state = folder.state({**DEFAULTS, "epochs": len(history), **config}, history)
    if state == "training":
        missing.append(f"The training still runs: this is its state after epoch {len(history)}.")
    if isinstance(model, Exception):
        missing.append(f"The network cannot be read: {_first_sentence(model, path)}")
    else:
        trainer = Trainer(model.to(backend), loss=task.create_loss(), metrics=task.measured)
    try:
        dataset = open_data(config, data_dir)
    except (XcnnError, OSError) as error:
        places = config["data"], data_dir, config.get("data_dir")
        missing.append(f"The data are not shown: {_first_sentence(error, *places)}")
    parts: dict[str, Any] = {} if dataset is None else loaders(config, dataset)
    return Run(
        os.path.basename(os.path.abspath(path)),
        trainer,
        **parts,
        task=task,
        history=history,
        settings=without_folders(config),
        epochs=config.get("epochs"),
        state=_STATES[state],
        input_shape=config["input_shape"],
        missing=missing,
    )


def _saved(folder: RunFolder) -> tuple[dict[str, Any], list[dict[str, Any]], Any]:
    """The settings, the history and the network of a run, or why the network cannot be read."""
    config, history = folder.load_config(), folder.load_history()
    try:
        return config, history, folder.load_model()
    except (XcnnError, OSError) as error:
        return config, history, error


def _first_sentence(error: Exception, *folders: Any) -> str:
    """What went wrong, without the list of what was tried; names instead of these folders."""
    text = str(error).splitlines()[0].removesuffix(" Searched:")
    for folder in filter(None, map(str, folders)):
        text = text.replace(folder, os.path.basename(os.path.abspath(folder)))
    return text


def open_data(config: dict[str, Any], data_dir: str | None) -> DataSplits:
    """The data that a run was trained on.

    Raises
    ------
    FileFormatError
        They have changed since the run began.
    XcnnError, OSError
        They cannot be read.
    """
    settings: dict[str, Any] = {
        **{"data": config["data"], "data_dir": data_dir or config.get("data_dir")},
        **{"limit": config.get("limit"), "seed": config.get("seed", 0), "quiet": True},
        **{"image_size": None, "grey": False, "skip_unreadable": False, "task": config["task"]},
    }
    if sources.is_folder(config["data"]):
        settings |= {**sources.folder_options(config), "data_dir": None}
    dataset = sources.training_data(argparse.Namespace(**settings))
    change = change_of_data(config, dataset)
    if change:  # what was held out for testing may be others now
        raise FileFormatError(change)
    return dataset


def loaders(config: dict[str, Any], dataset: DataSplits) -> dict[str, DataLoader]:
    """The data as ``train``, with the run's augmentation, and ``test``."""
    task = tasks.from_settings(config)
    augment = task.transform(config.get("augment", "none"))
    return {
        "train": DataLoader(dataset.train, transform=augment, seed=config.get("seed", 0)),
        "test": DataLoader(dataset.test, transform=task.transform()),
    }
