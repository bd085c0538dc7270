"""The settings of a training: from the options of ``xcnn train``, or from the run to resume."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import __version__, backends, data, tasks
from ..checks import check_choice
from ..data.augment import MIXTURES, recipe_names
from ..errors import ArgumentError
from ..nn import LOSSES
from ..training import Trainer
from . import optimizer, sources, weights
from .run_folder import RunFolder

SMALL = 10_000  # images; smaller datasets get more epochs by default
#: options copied to the config unchanged
_COPIED = (
    *("limit", "batch_size", "init", "new_head", "seed", "precision", "data_dir"),
    *("accumulate", "metrics", "class_weight", "ema", "patience"),
    *("checkpoint_every", "keep", "best", "log", "report", "sync_batch_norm", "compression"),
)
#: options that go with --resume, beside the files of tasks; the others are those of the run
_MAY_CHANGE = (
    *("resume", "epochs", "device", "quiet", "memory_limit", "time_limit", "data_dir", "report"),
    "distributed",
    "data",  # where the folder is now
)


#: settings that runs of older versions lack
DEFAULTS: dict[str, Any] = {
    **{"accumulate": 1, "metrics": [], "class_weight": None, "ema": None, "patience": None},
    **{"checkpoint_every": "1epoch", "keep": 3, "best": None, "data_dir": None, "log": []},
    **{"report": False, "lr_for": [], "unfreeze_at": None, "betas": None},
    **{"sync_batch_norm": False, "compression": None},
}


#: losses by their names in Keras
_OTHER_NAMES = {
    **dict.fromkeys(("mae", "mean_absolute_error"), "l1"),
    **dict.fromkeys(("mean_squared_error",), "mse"),
    **dict.fromkeys(("bce", "binary_crossentropy"), "binary_cross_entropy"),
    **dict.fromkeys(
        ("categorical_crossentropy", "sparse_categorical_crossentropy", "crossentropy"),
        "cross_entropy",
    ),
}


def may_change() -> set[str]:
    """The options that go with --resume; the others are those of the run."""
    moved = (name for task in tasks.names() for name in tasks.get(task).file_options())
    return {*_MAY_CHANGE, *moved}


def without_folders(config: dict[str, Any]) -> dict[str, Any]:
    """The settings for a page that is sent to others: names instead of this machine's paths."""
    paths = ("data", "data_dir", "init", *tasks.get(config["task"]).file_options())
    return {**config, **{k: Path(config[k]).name for k in paths if config.get(k)}}


def choose_task(arguments: argparse.Namespace) -> None:
    """Fill in the task, by the network or the data if it is not named, and what follows from it.

    Raises
    ------
    ArgumentError
        A network, data, a loss or an option that is not for the task.
    """
    name, model, source = arguments.task, arguments.model, arguments.data
    is_named = name is not None
    if name is None and source is not None and not sources.is_folder(source):
        of_data = tasks.get(data.info(source).task)
        name = of_data.name if model is None or model in of_data.networks else None
    if name is None:
        name = "classification" if model is None else tasks.of_network(model)
    task = tasks.get(name or "classification")
    arguments.task = task.name
    if model is not None and model not in task.networks:
        of_model = tasks.of_network(model)
        hint = f"it is for {of_model}" if of_model else "train it with xcnn.Trainer"
        raise ArgumentError(
            f"{model} cannot be trained for {task.name} ({hint}): choose one of "
            f"{', '.join(task.networks)}"
        )
    if source is None and not task.datasets:
        raise ArgumentError(f"{task.name} has no dataset of its own: pass --data FOLDER")
    arguments.data = source or task.datasets[0]
    if not sources.is_folder(arguments.data):
        sources.check_dataset(task, arguments.data)
    elif not is_named and task.name == "classification":
        sources.check_layout(arguments.data)
    arguments.loss = arguments.loss or next(iter(task.losses))
    known = _OTHER_NAMES.get(arguments.loss, "")
    if known in task.losses:
        raise ArgumentError(f"--loss {arguments.loss} is called {known} here")
    check_choice("--loss", arguments.loss, list(task.losses))
    _use_defaults(arguments, task.defaults)
    sources.check_names(arguments.parser, task)
    for option in sources.given_task_options(arguments):
        sources.refuse_option(option, task)
    for option, value in task_options(arguments).items():
        task.options[option].check(f"--{option.replace('_', '-')}", value)


def _use_defaults(arguments: argparse.Namespace, defaults: Mapping[str, Any]) -> None:
    """Give options that were left out the values that are better for the task."""
    arguments.betas = defaults.get("betas")
    usual = {"lr": arguments.optimizer == "adam", "schedule": not arguments.warmup}
    for name in ("augment", "lr", "schedule", "batch_size"):
        if name in defaults and name not in arguments.given and usual.get(name, True):
            setattr(arguments, name, defaults[name])


def task_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options of the task, with its defaults filled in."""
    known = tasks.get(arguments.task).options
    given = {name: getattr(arguments, name, None) for name in known}
    return {name: known[name].default if v is None else v for name, v in given.items()}


def check_options(arguments: argparse.Namespace) -> None:
    """Check the options that do not depend on the data before loading it."""
    loss, task = arguments.loss, tasks.get(arguments.task)
    if arguments.new_head and not arguments.init:
        raise ArgumentError("--new-head needs --init: pass both, or leave it out")
    given = () if arguments.distributed or arguments.config else arguments.given
    if alone := {"sync_batch_norm", "compression"}.intersection(given):
        name = min(alone).replace("_", "-")
        raise ArgumentError(f"--{name} needs --distributed: pass both, or leave it out")
    of_classes = [k for k in task.losses if k in LOSSES and LOSSES[k].target == "classes"]
    if arguments.class_weight and loss not in of_classes:
        advice = f"use {' or '.join(of_classes)}" if of_classes else f"it is not for {task.name}"
        raise ArgumentError(f"--class-weight with --loss {loss}: {advice}")
    for name in recipe_names(arguments.augment, arguments.data):
        if name in MIXTURES and loss != "cross_entropy":
            able = "cross_entropy" in task.losses
            advice = "use cross_entropy" if able else f"it is not for {task.name}"
            raise ArgumentError(
                f"--augment {name} mixes labels, which --loss {loss} does not support: {advice}"
            )


def check_best(column: str | None, trainer: Trainer) -> None:
    """Check ``--best`` by the columns that history.csv will have.

    Raises
    ------
    ArgumentError
    """
    counts = trainer.loss.target in ("classes", "binary")
    names = ["loss", *["accuracy"] * counts, *trainer.metrics]
    if column is not None:
        check_choice("--best", column, [f"{k}_{name}" for k in ("train", "val") for name in names])


def of_run(arguments: argparse.Namespace) -> dict[str, Any]:
    """The config of the run to resume; the arguments take over what it says of the data.

    Raises
    ------
    ArgumentError
        Not a run, one that is finished, or an option that a run cannot change.
    """
    allowed = may_change()
    refused = [name for name in arguments.given if name not in allowed]
    if arguments.model or refused:
        what = f"--{refused[0].replace('_', '-')}" if refused else arguments.model
        raise ArgumentError(
            f"--resume goes on with the run's own settings: leave out {what}, or start a new run"
        )
    folder = RunFolder(Path(arguments.resume))
    config = folder.load_config(DEFAULTS)
    epochs, done = arguments.epochs or config["epochs"], len(folder.load_history())
    if arguments.epochs and done > epochs:
        raise ArgumentError(
            f"--epochs {epochs}: {arguments.resume} has finished {count_epochs(done)} already; "
            "pass more"
        )
    if "data" in arguments.given:
        if not (sources.is_folder(config["data"]) and sources.is_folder(arguments.data)):
            raise ArgumentError("--data with --resume is for a folder of images that was moved")
        config["data"] = os.path.abspath(arguments.data)
    if sources.is_folder(config["data"]) and not os.path.isdir(config["data"]):
        raise ArgumentError(f"{config['data']} is gone: if it was moved, pass --data FOLDER")
    for name in tasks.get(config["task"]).file_options():
        if name in arguments.given:
            config[name] = os.path.abspath(getattr(arguments, name))
    same = ("data", "seed", "limit", "loss", "augment", "init", "new_head", "precision", "task")
    for name in same:
        setattr(arguments, name, config[name])
    if "device" not in arguments.given:
        arguments.device = config["device"]
    arguments.data_dir = arguments.data_dir or config["data_dir"]
    for name, value in sources.folder_options(config).items():
        setattr(arguments, name, value)
    device = backends.get(arguments.device).device
    changed = {"epochs": epochs, "device": device, "data_dir": arguments.data_dir}
    return {**config, **changed, "report": config["report"] or arguments.report}


def check_same_data(config: dict[str, Any], dataset: data.DataSplits) -> None:
    """Refuse to resume on data that are not those of the run."""
    change = change_of_data(config, dataset)
    if change:
        raise ArgumentError(f"{change}; start a new run")


def change_of_data(config: dict[str, Any], dataset: data.DataSplits) -> str:
    """What has changed in the data since the run began, as a sentence; else empty."""
    task = tasks.from_settings(config).on_data(dataset)
    found = {"classes": list(task.classes), "input_shape": list(task.input_shape)}
    if sources.is_folder(config["data"]):
        found["files"] = sources.files(dataset)
    for name, value in found.items():
        if value != config.get(name):
            was = config.get(name)
            return f"{config['data']} has changed since the run began: {name}: {was}, now {value}"
    return ""


def of_options(arguments: argparse.Namespace, dataset: data.DataSplits) -> dict[str, Any]:
    """All settings, with defaults filled in."""
    if len(dataset.image_shape) != 3 and arguments.model not in (None, "mlp"):
        raise ArgumentError(
            f"{arguments.model} takes images, but {dataset.name} holds features: use mlp"
        )
    kind = tasks.get(arguments.task)
    task = kind.of_data(dataset, arguments.loss, **task_options(arguments))
    epochs = arguments.epochs or _default_epochs(kind, len(dataset.train))
    return {
        "xcnn": __version__,
        "model": arguments.model or kind.default_network(dataset.kind),
        "data": dataset.name,
        **task.settings(),
        "augment": ",".join(recipe_names(arguments.augment, arguments.data)) or "none",
        **sources.settings(arguments),
        **({"files": sources.files(dataset)} if sources.is_folder(arguments.data) else {}),
        "epochs": epochs,
        **optimizer.settings(arguments, epochs),
        **weights.settings(arguments, epochs),
        "device": backends.get(arguments.device).device,
        **{key: getattr(arguments, key) for key in _COPIED},
    }


def count_epochs(count: int) -> str:
    return "1 epoch" if count == 1 else f"{count} epochs"


def _default_epochs(task: type[tasks.Task], images: int) -> int:
    return task.defaults.get("epochs", (20, 5))[images >= SMALL]


def fill_in(arguments: argparse.Namespace) -> None:
    """Give options that were left out the values that the training would use.

    The model and the epochs depend on the data, so a folder of images leaves them open.
    """
    vars(arguments).update({**optimizer.defaults(arguments), **task_options(arguments)})
    if not sources.is_folder(arguments.data):
        status = data.status(arguments.data, arguments.data_dir)
        images = min(status.counts[0], arguments.limit or status.counts[0])
        kind = data.info(arguments.data).kind
        arguments.model = arguments.model or tasks.get(arguments.task).default_network(kind)
        arguments.epochs = arguments.epochs or _default_epochs(tasks.get(arguments.task), images)
