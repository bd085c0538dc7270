"""The data of a command: a dataset by name, or a folder of images; and the task they are for."""

from __future__ import annotations

import argparse
import os
import zlib
from pathlib import Path
from typing import Any

from .. import data, tasks
from ..data import Subset, subsample
from ..errors import ArgumentError, did_you_mean
from .options import Parser, count

TASK = "task"  # the title of the options of tasks
#: what a folder for a task has
_LAYOUTS = {
    **{"labels.csv": "multi-label", "targets.csv": "regression", "keypoints.csv": "keypoints"},
    **{"masks": "segmentation", "annotations/trainval.txt": "segmentation"},
    **dict.fromkeys(
        ("annotations/instances_*.json", "*annotations*.json", "*coco*.json", "Annotations"),
        "detection",
    ),
}


def add_data(parser: Parser, help: str, default: str | None = None) -> None:
    """Add ``--data`` and ``--data-dir``."""
    names = data.names()
    parser.add("--data NAME", help, type=name_or_folder, default=default, suggested=names)
    add_data_dir(parser)


def add_data_dir(parser: Parser) -> None:
    """Add ``--data-dir``."""
    parser.add("--data-dir DIR", "folder to search for datasets before $XCNN_DATA and the cache")


def add_task_options(parser: Parser, command: str | None = None) -> None:
    """Add the options of the tasks, or those that this command has too, which has its own already.

    One that is called like an option of the command is left out.
    """
    parser.section(TASK)
    taken = {action.dest for _, actions in parser.sections() for action in actions}
    kinds = {name: tasks.get(name) for name in tasks.names()}
    for key in dict.fromkeys(key for kind in kinds.values() for key in kind.options):
        used = {n: k.options[key] for n, k in kinds.items() if key in k.options}
        option = next(iter(used.values()))
        if key in taken or (command and command not in option.used_by):
            continue
        text = f"{option.text}; for {', '.join(used)}"
        if command:
            text += "; default: that of the training"
        elif option.default not in (None, "") and not isinstance(option.default, bool):
            text += f"; default: {option.default}"
        name, is_flag = f"--{key.replace('_', '-')}", option.kind is bool
        settings = {"action": "store_true"} if is_flag else {"type": option.type}
        name += "" if is_flag else f" {option.metavar}"
        parser.add(name, text.replace("%", "%%"), values=option.kind, default=None, **settings)


def check_names(parser: Parser, task: type[tasks.Task]) -> None:
    """Refuse a task with an option that ``xcnn train`` has, or another task in another type.

    Raises
    ------
    ArgumentError
    """
    for title, actions in parser.sections():
        for action in actions:
            option, is_own = task.options.get(action.dest), title != TASK or action.dest == "task"
            kind = getattr(action, "values", None)
            if option is not None and (is_own or kind is not option.kind):
                owner = "xcnn train" if is_own else "another task"
                raise ArgumentError(
                    f"{task.name} has an option {action.dest}, which is one of {owner} already: "
                    "rename it"
                )


def given_task_options(arguments: argparse.Namespace) -> list[str]:
    """The options of :func:`add_task_options` that a command was called with."""
    known = [a.dest for title, group in arguments.parser.sections() if title == TASK for a in group]
    return [name for name in known if name in arguments.given and name != "task"]


def refuse_option(name: str, task: type[tasks.Task]) -> None:
    """Refuse an option that another task has.

    Raises
    ------
    ArgumentError
    """
    if name in task.options:
        return
    users = ", ".join(n for n in tasks.names() if name in tasks.get(n).options)
    own = ", ".join(f"--{key.replace('_', '-')}" for key in task.options)
    advice = f"its options are {own}" if own else "leave it out"
    option = f"--{name.replace('_', '-')}"
    raise ArgumentError(f"{option} is for {users}, not for {task.name}: {advice}")


def add_folder(parser: Parser) -> None:
    """Add the options for reading a folder of images."""
    size = "resize the images of a folder to N×N; default: that of the task, such as 64"
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
    task = tasks.get(arguments.task)
    side = arguments.image_size or task.image_size
    return task.load_folder(
        os.path.abspath(arguments.data),
        size=(side, side),
        channels=1 if arguments.grey else 3,
        seed=arguments.seed,
        limit=arguments.limit,
        on_error=_on_error(arguments),
    )


def settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """The config entries of a folder, which its data are read with again."""
    if not is_folder(arguments.data):
        return {}
    side = arguments.image_size or tasks.get(arguments.task).image_size
    return {"on_error": _on_error(arguments), "image_size": side}


def _on_error(arguments: argparse.Namespace) -> str:
    """How to handle unreadable files."""
    return "skip" if arguments.skip_unreadable else "refuse"


def folder_options(config: dict[str, Any]) -> dict[str, Any]:
    """The options with which a run read its folder of images, from its config."""
    if "data" not in config or not is_folder(config["data"]):
        return {}
    channels, *sides = config["input_shape"]
    size = config.get("image_size") or sides[0]
    is_skipping = config.get("on_error") == "skip"
    return {"image_size": size, "grey": channels == 1, "skip_unreadable": is_skipping}


def files(dataset: data.DataSplits) -> str:
    """The number and a checksum of the names of a folder's images: they decide the order.

    The names and sizes of other files with targets count in the checksum too.
    """
    names: dict[str, None] = {}
    targets: dict[str, None] = {}
    for part in (dataset.train, dataset.test):
        while isinstance(part, Subset):
            part = part.dataset
        paths = getattr(part, "paths", ())
        names |= dict.fromkeys(os.path.relpath(path, dataset.name) for path in paths)
        for path in getattr(part, "target_paths", ()):
            targets[f"{os.path.relpath(path, dataset.name)} {os.path.getsize(path)}"] = None
    checked = os.fsencode(chr(0).join([*names, *targets]))
    return f"{len(names)} (checksum {zlib.crc32(checked):08x})"


def test_data(
    arguments: argparse.Namespace, task: tasks.Task, config: dict[str, Any]
) -> tuple[str, Any]:
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
    if is_folder(name):
        _refuse_data_dir(arguments.data_dir)
        if len(task.input_shape) != 3:
            raise ArgumentError(f"{name} holds images, but the network takes {task.input_shape}")
        options = {"image_size": None, "grey": False, **folder_options(config)}
        root, seed = os.path.abspath(name), config.get("seed", 0)
        size = (options["image_size"],) * 2 if options["image_size"] else task.input_shape[1:]
        settings = {"size": size, "channels": task.input_shape[0], "seed": seed}
        settings["on_error"] = config.get("on_error", "refuse")
        split, test = task.test_folder(root, root == config.get("data"), **settings)
        return f"{name} {split}", subsample(test, arguments.limit, seed)
    check_dataset(type(task), name)
    dataset = data.load(name, arguments.data_dir, limit=arguments.limit)
    other = task.on_data(dataset)
    if other.input_shape != task.input_shape or len(other.classes) != len(task.classes):
        raise ArgumentError(
            f"--data {name} has inputs {list(other.input_shape)} and {len(other.classes)} classes, "
            f"but the network takes {list(task.input_shape)} and {len(task.classes)}"
        )
    return f"{name} test", dataset.test


def check_dataset(task: type[tasks.Task], name: str) -> None:
    """Refuse a named dataset that a task cannot be trained on.

    Raises
    ------
    ArgumentError
    """
    if name not in task.datasets:
        raise ArgumentError(
            f"--data {name} is for {data.info(name).task}, not for {task.name}: choose "
            f"{' or '.join(task.datasets)}, or a folder"
        )


def check_layout(folder: str, option: str = "--data ") -> None:
    """Refuse a folder for classification that is laid out for another task.

    Raises
    ------
    ArgumentError
    """
    for root in (Path(folder), Path(folder, "train")):
        for pattern, task in _LAYOUTS.items():
            found = next(root.glob(pattern), None)
            if found is not None and (found.name != "masks" or (root / "images").is_dir()):
                advice = f"pass --task {task}, or --task classification if its folders are classes"
                if not option:
                    advice = "shards hold images with a class each"
                found = found.relative_to(folder)
                raise ArgumentError(f"{option}{folder} has {found}, which is for {task}: {advice}")


def name_or_folder(text: str) -> str:
    """The name of a dataset, or a folder."""
    if text in data.names() or os.path.isdir(text):
        return text
    raise argparse.ArgumentTypeError(
        f"{text!r} is neither a folder nor a dataset"
        + (did_you_mean(text, data.names()) or f" ({', '.join(data.names())})")
    )


def _refuse_data_dir(data_dir: str | None) -> None:
    if data_dir:
        raise ArgumentError("--data-dir applies to named datasets, but --data is a folder: omit it")
