"""The data of a command: a dataset by name, or a folder of images."""

from __future__ import annotations

import argparse
import os
import zlib
from typing import Any

from .. import data
from ..data import ImageFolder, Subset, load_folder, split_folder, subsample
from ..errors import ArgumentError, did_you_mean
from .options import Parser, count


def add_data(parser: Parser, help: str, default: str | None = None) -> None:
    """Add ``--data`` and ``--data-dir``."""
    names = data.names()
    parser.add("--data NAME", help, type=_name_or_folder, default=default, suggested=names)
    add_data_dir(parser)


def add_data_dir(parser: Parser) -> None:
    """Add ``--data-dir``."""
    parser.add("--data-dir DIR", "folder to search for datasets before $XCNN_DATA and the cache")


def add_folder(parser: Parser) -> None:
    """Add the options for reading a folder of images."""
    size = "resize and centre-crop the images of a folder to N×N; default: 64"
    parser.add("--image-size N", size, type=count)
    parser.add("--grey", "convert the images of a folder to greyscale", action="store_true")
    skip = "skip files of a folder that are damaged or not images, with a warning"
    parser.add("--skip-unreadable", skip, action="store_true")


def is_folder(name: str) -> bool:
    """Whether ``--data NAME`` is a folder of images."""
    return name not in data.names()


def training_data(arguments: argparse.Namespace) -> data.DataSplits:
    """The dataset to train on.

    Raises
    ------
    ArgumentError
        An option does not apply to this kind of data.
    """
    if not is_folder(arguments.data):
        for option in ("image_size", "grey", "skip_unreadable"):
            if getattr(arguments, option):
                raise ArgumentError(
                    f"--{option.replace('_', '-')} applies to a folder of images, not to "
                    f"{arguments.data}: leave it out"
                )
        more = {"progress": not arguments.quiet, "limit": arguments.limit}
        return data.load(arguments.data, arguments.data_dir, **more)
    _refuse_data_dir(arguments.data_dir)
    return load_folder(
        arguments.data,
        size=arguments.image_size or 64,
        channels=1 if arguments.grey else 3,
        seed=arguments.seed,
        limit=arguments.limit,
        **settings(arguments),
    )


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The config entries of a folder: how to handle unreadable files."""
    on_error = "skip" if arguments.skip_unreadable else "refuse"
    return {"on_error": on_error} if is_folder(arguments.data) else {}


def folder_options(config: dict[str, Any]) -> dict[str, Any]:
    """The options with which a run read its folder of images, from its config."""
    if not is_folder(config["data"]):
        return {}
    channels, size, *_ = config["input_shape"]
    is_skipping = config.get("on_error") == "skip"
    return {"image_size": size, "grey": channels == 1, "skip_unreadable": is_skipping}


def files(dataset: data.DataSplits) -> str:
    """The number and a checksum of the names of a folder's images: they decide the order."""
    names: dict[str, None] = {}
    for part in (dataset.train, dataset.test):
        while isinstance(part, Subset):
            part = part.dataset
        if isinstance(part, ImageFolder):
            names |= dict.fromkeys(os.path.relpath(path, dataset.name) for path in part.paths)
    return f"{len(names)} (checksum {zlib.crc32(os.fsencode(chr(0).join(names))):08x})"


def test_data(arguments: argparse.Namespace, config: dict[str, Any]) -> tuple[str, Any]:
    """Test images of a run's dataset, or of ``--data`` instead, and what to call them.

    For the folder that the run was trained on, these are the images that were held out. For any
    other folder without a split, they are all images, and are called so, since an ONNX file does
    not say which images it was trained on.

    Raises
    ------
    ArgumentError
        The data does not fit the network.
    """
    name = arguments.data or config["data"]
    shape, classes = config["input_shape"], config["classes"]
    if is_folder(name):
        _refuse_data_dir(arguments.data_dir)
        split, test = _test_folder(os.path.abspath(name), config)
        return f"{name} {split}", subsample(test, arguments.limit, config.get("seed", 0))
    record = data.info(name)
    if list(record.shape) != shape or len(record.classes) != len(classes):
        raise ArgumentError(
            f"--data {name} has inputs {list(record.shape)} and {len(record.classes)} classes, but "
            f"the network takes {shape} and {len(classes)}"
        )
    return f"{name} test", data.load(name, arguments.data_dir, limit=arguments.limit).test


def _name_or_folder(text: str) -> str:
    if text in data.names() or os.path.isdir(text):
        return text
    raise argparse.ArgumentTypeError(
        f"{text!r} is neither a folder nor a dataset"
        + (did_you_mean(text, data.names()) or f" ({', '.join(data.names())})")
    )


def _test_folder(path: str, config: dict[str, Any]) -> tuple[str, Any]:
    channels, *size = config["input_shape"]
    if len(size) != 2:
        raise ArgumentError(f"{path} holds images, but the network takes {config['input_shape']}")
    settings = {"size": tuple(size), "channels": channels, "classes": config["classes"]}
    settings["on_error"] = config.get("on_error", "refuse")
    if path != config["data"] and not os.path.isdir(os.path.join(path, "train")):
        return "all images", ImageFolder(path, **settings)
    return "test", split_folder(path, seed=config.get("seed", 0), **settings)[1]


def _refuse_data_dir(data_dir: str | None) -> None:
    if data_dir:
        raise ArgumentError("--data-dir applies to named datasets, but --data is a folder: omit it")
