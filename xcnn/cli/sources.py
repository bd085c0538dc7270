"""The data that a command works on: a data set by its name, or a folder of pictures."""

from __future__ import annotations

import argparse
import os
from typing import Any

from .. import data
from ..data import ImageFolder, split_folder, subsample
from ..errors import ArgumentError


def is_folder(name: str) -> bool:
    """Whether ``--data NAME`` is a folder of pictures."""
    return name not in data.names()


def name_or_folder(text: str) -> str:
    """What ``--data`` takes."""
    if text in data.names() or os.path.isdir(text):
        return text
    raise argparse.ArgumentTypeError(
        f"invalid choice: {text!r} (choose from {', '.join(data.names())}, or a folder of pictures)"
    )


def for_training(arguments: argparse.Namespace) -> data.DataSplits:
    """The data set to train on.

    Raises
    ------
    ArgumentError
        An option that belongs to the other kind of data.
    """
    if not is_folder(arguments.data):
        for option in ("image_size", "grey", "skip_unreadable"):
            if getattr(arguments, option):
                raise ArgumentError(
                    f"--{option.replace('_', '-')} is for a folder of pictures, not for "
                    f"{arguments.data}: leave it out"
                )
        return data.load(
            arguments.data, arguments.data_dir, progress=not arguments.quiet, limit=arguments.limit
        )
    _refuse_data_dir(arguments.data_dir)
    return data.load_folder(
        arguments.data,
        size=arguments.image_size or 64,
        channels=1 if arguments.grey else 3,
        seed=arguments.seed,
        limit=arguments.limit,
        on_error=on_error(arguments),
    )


def on_error(arguments: argparse.Namespace) -> str:
    """What :class:`~xcnn.data.ImageFolder` does with unreadable files."""
    return "skip" if arguments.skip_unreadable else "refuse"


def for_evaluation(arguments: argparse.Namespace, config: dict[str, Any]) -> tuple[str, Any]:
    """Name and test part of the data set of a run, or of ``--data`` in its place.

    Of the folder that the run was trained on without a test folder, what was held out then; of
    another one, all.

    Raises
    ------
    ArgumentError
        Data that the network does not fit.
    """
    name = arguments.data or config["data"]
    shape, classes = config["input_shape"], config["classes"]
    if is_folder(name):
        _refuse_data_dir(arguments.data_dir)
        part = _test_part(os.path.abspath(name), config)
        return name, subsample(part, arguments.limit, config.get("seed", 0))
    record = data.info(name)
    if list(record.shape) != shape or len(record.classes) != len(classes):
        raise ArgumentError(
            f"--data {name} has inputs {list(record.shape)} and {len(record.classes)} classes, the "
            f"network takes {shape} and {len(classes)}"
        )
    return name, data.load(name, arguments.data_dir, limit=arguments.limit).test


def _test_part(path: str, config: dict[str, Any]) -> Any:
    channels, *size = config["input_shape"]
    if len(size) != 2:
        raise ArgumentError(f"{path} holds pictures, the network takes {config['input_shape']}")
    settings = {
        "size": tuple(size),
        "channels": channels,
        "classes": config["classes"],
        "on_error": config.get("on_error", "refuse"),
    }
    if path != config["data"] and not os.path.isdir(os.path.join(path, "train")):
        return ImageFolder(path, **settings)
    return split_folder(path, seed=config.get("seed", 0), **settings)[1]


def _refuse_data_dir(data_dir: str | None) -> None:
    if data_dir:
        raise ArgumentError("--data-dir is for data sets by name; --data is a folder itself")
