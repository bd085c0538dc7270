"""Tasks by name."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any

from .. import extend
from ..errors import ArgumentError, did_you_mean, show
from .task import Task

#: the group of entry points by which an installed package adds tasks
ENTRY_POINTS = "xcnn.tasks"
#: a network that several tasks train is trained for the first of them
_ORDER = (
    *("classification", "multi-label", "regression", "segmentation", "detection", "keypoints"),
    *("super-resolution", "style-transfer", "autoencoder", "denoising", "vae", "gan"),
)


def names() -> list[str]:
    """Return the names of all tasks: those of xcnn, then others in the order they were added."""
    return list(dict.fromkeys([*(name for name in _ORDER if name in extend.TASKS), *extend.TASKS]))


def get(name: str) -> type[Task]:
    """Return the class of a task.

    An installed package adds tasks to the command line by the entry points ``xcnn.tasks``, whose
    names are those of its tasks: they are imported when asked for.

    Raises
    ------
    ArgumentError
        An unknown name.
    """
    if not isinstance(name, str):
        raise ArgumentError(f"task={show(name)}: expected a str")
    if name not in extend.TASKS:
        for entry in entry_points(group=ENTRY_POINTS, name=name):
            _load(entry)
    if name not in extend.TASKS:
        hint = did_you_mean(name, names()) or f": expected one of {', '.join(names())}"
        raise ArgumentError(f"task={show(name)} is unknown{hint}")
    return extend.TASKS[name]


def _load(entry: Any) -> None:
    """Import the task of an entry point.

    Raises
    ------
    ArgumentError
        It cannot be imported or registered, or has another name than the entry point.
    """
    try:
        kind = entry.load()
        if getattr(kind, "name", None) != entry.name:
            raise ArgumentError(f"the name of its task is {show(getattr(kind, 'name', None))}")
        extend.register_task(kind)
    except Exception as error:
        package = getattr(entry, "dist", None)
        of = f" of the package {package.name}" if package else ""
        raise ArgumentError(
            f"task={show(entry.name)}: the entry point {entry.name} = {entry.value}{of} cannot be "
            f"used: {type(error).__name__}: {error}"
        ) from error


def load_installed() -> None:
    """Import the tasks that installed packages add; those that cannot be used cause a warning."""
    for entry in entry_points(group=ENTRY_POINTS):
        if entry.name not in extend.TASKS:
            try:
                _load(entry)
            except ArgumentError as error:
                warnings.warn(str(error), stacklevel=2)


def from_settings(settings: Mapping[str, Any]) -> Task:
    """The task of :meth:`Task.settings`, which may stand among other entries.

    Settings without "task" are of classification: they are of a version before there were others.

    Raises
    ------
    ArgumentError
        An unknown task, or settings that do not fit it.
    """
    kind = get(settings.get("task", "classification"))
    lacking = [name for name in kind.from_data if name not in settings]
    if lacking:
        raise ArgumentError(f"the settings of {kind.name} lack {', '.join(lacking)}")
    names = ["classes", "input_shape", "mean", "std", "scale", "loss"]
    names += [*kind.options, *kind.from_data]
    return kind(**{name: settings[name] for name in names if name in settings})


def create(name: str, **settings: Any) -> Task:
    """Create a task by name.

    Parameters
    ----------
    name
        One of :func:`names`.
    **settings
        Arguments of its class, see :class:`Task`.

    Raises
    ------
    ArgumentError
        An unknown name, or a setting that the task does not take.
    """
    return get(name)(**settings)


def of_network(network: str) -> str | None:
    """The name of the first task that trains a network of this name; None if there is none."""
    return next((name for name in names() if network in get(name).networks), None)
