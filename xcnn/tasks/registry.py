"""Tasks by name."""

from __future__ import annotations

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
    if name not in extend.TASKS:
        for entry in entry_points(group=ENTRY_POINTS, name=str(name)):
            extend.register_task(entry.load())
    if name not in extend.TASKS:
        hint = did_you_mean(name, names()) or f": expected one of {', '.join(names())}"
        raise ArgumentError(f"task={show(name)} is unknown{hint}")
    return extend.TASKS[name]


def load_installed() -> None:
    """Import the tasks that installed packages add."""
    for entry in entry_points(group=ENTRY_POINTS):
        get(entry.name)


def from_settings(settings: Mapping[str, Any]) -> Task:
    """The task of :meth:`Task.settings`, which may stand among other entries.

    Settings without "task" are of classification: they are of a version before there were others.

    Raises
    ------
    ArgumentError
        An unknown task, or settings that do not fit it.
    """
    kind = get(settings.get("task", "classification"))
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
