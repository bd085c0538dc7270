"""Write an HTML page about a run, or several side by side: curves, mistakes, what it looks at.

xcnn report runs/lenet5-digits-1
xcnn report runs/one runs/two --out both.html
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from .. import backends, data
from ..data.augment import training_transform
from ..errors import FileFormatError, XcnnError
from ..report import LIMIT, Run, write
from ..training import Trainer
from . import network, sources
from .options import Parser, add_device, count, path
from .run_folder import RunFolder


def add_options(parser: Parser) -> None:
    parser.add("runs RUN", "run folder from xcnn train; several are compared", nargs="+")
    parser.add("--out FILE", "the file; default: report.html in the first run folder", type=path)
    limit = "predict at most N test examples, evenly spaced"
    parser.add("--limit N", limit, type=count, default=LIMIT)
    sources.add_data_dir(parser)
    add_device(parser)


def run(arguments: argparse.Namespace) -> None:
    backend = backends.get(arguments.device)
    runs = [open_run(Path(name), backend, arguments.data_dir) for name in arguments.runs]
    if len({run.name for run in runs}) < len(runs):
        for run, name in zip(runs, arguments.runs, strict=True):
            run.name = name
    out = arguments.out or os.path.join(arguments.runs[0], "report.html")
    write(out, *runs, limit=arguments.limit)
    print(f"{out} ({os.path.getsize(out) / 1e6:.1f} MB)")


def open_run(path: Path, backend: backends.Backend, data_dir: str | None) -> Run:
    """What there is of a run: its history, and its network and data unless they are gone."""
    folder, missing = RunFolder(path), []
    config = folder.load_config()
    trainer, dataset = None, None
    try:
        trainer = Trainer(folder.load_model().to(backend), loss=config["loss"])
    except (XcnnError, OSError) as error:
        missing.append(f"The network cannot be read: {_first_sentence(error)}")
    try:
        dataset = open_data(config, data_dir)
    except (XcnnError, OSError) as error:
        missing.append(f"The data cannot be read: {_first_sentence(error)}")
    return Run(
        os.path.basename(os.path.abspath(path)),
        trainer,
        **({} if dataset is None else loaders(config, dataset)),
        classes=config["classes"],
        history=folder.load_history(),
        settings=config,
        epochs=config.get("epochs"),
        input_shape=config["input_shape"],
        missing=missing,
    )


def _first_sentence(error: Exception) -> str:
    """What went wrong, without the list of what was tried."""
    return str(error).splitlines()[0].removesuffix(" Searched:")


def open_data(config: dict[str, Any], data_dir: str | None) -> data.DataSplits:
    """The data that a run was trained on.

    Raises
    ------
    FileFormatError
        They have other classes or another shape than those that the run was trained on.
    XcnnError, OSError
        They cannot be read.
    """
    settings = argparse.Namespace(
        data=config["data"],
        data_dir=data_dir or config.get("data_dir"),
        limit=config.get("limit"),
        seed=config.get("seed", 0),
        quiet=True,
        image_size=None,
        grey=False,
        skip_unreadable=False,
    )
    if sources.is_folder(config["data"]):
        settings.data_dir, settings.image_size = None, config["input_shape"][1]
        settings.grey = config["input_shape"][0] == 1
        settings.skip_unreadable = config.get("on_error") == "skip"
    dataset = sources.training_data(settings)
    if list(dataset.image_shape) != config["input_shape"] or dataset.classes != config["classes"]:
        raise FileFormatError(f"{config['data']} has changed since the run began")
    return dataset


def loaders(config: dict[str, Any], dataset: data.DataSplits) -> dict[str, data.DataLoader]:
    """The data as ``train``, with the run's augmentation, and ``test``."""
    augment = training_transform(config.get("augment", "none"), dataset)
    return {
        "train": data.DataLoader(dataset.train, transform=augment, seed=config.get("seed", 0)),
        "test": data.DataLoader(dataset.test, transform=network.normalization(config)),
    }
