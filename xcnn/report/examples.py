"""Examples of the data as pictures: thumbnails, balance of the classes, augmentation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Array
from ..data import BatchTransform, Compose, DataLoader, Normalize, arrays_of, labels
from ..data.augment import Augmentation, Mixing, WithTarget
from ..errors import DataError
from .pictures import photo

THUMBNAIL = 64  # pixels in height and width, at most
#: examples of a class, and classes that have some
PER_CLASS, MAX_CLASSES = 8, 20
#: pictures that are augmented, and how often each
AUGMENTED, VARIANTS = 6, 5
_SAMPLE = 256  # examples whose values decide what is black and what is white


class Examples:
    """Reads examples of a dataset, and shows them if they are pictures.

    Parameters
    ----------
    loader
        The data; its transform is not applied.

    Attributes
    ----------
    are_pictures : bool
        Whether they are (C, H, W) with 1 or 3 channels.
    numbers : int
        In each thumbnail.
    bounds : tuple of float
        Values that are black and white: of bytes 0 and 255, of numbers within 0 and 1 those, else
        the smallest and the largest of some examples.
    """

    def __init__(self, loader: DataLoader) -> None:
        self.dataset: Any = loader.dataset
        count = len(self.dataset)
        x = self.read([0]) if count else np.zeros((0, 0))
        self.are_pictures = x.ndim == 4 and x.shape[1] in (1, 3) and x.size > 0
        if self.are_pictures and x.dtype != np.uint8:
            x = self.read(np.linspace(0, count - 1, min(count, _SAMPLE)).round())
        self.bounds = _bounds(x)
        self.numbers = 1
        if self.are_pictures:
            self.numbers = int(np.prod([min(n, THUMBNAIL) for n in x.shape[2:]]) * x.shape[1])

    def read(self, indices: Any) -> Array:
        """The first array of examples, as they are stored."""
        return np.asarray(arrays_of(self.dataset.batch(np.asarray(indices, np.int64)))[0])

    def show(self, indices: Sequence[int], size: int = THUMBNAIL) -> list[dict[str, Any]]:
        """For each example its picture or its first values, and the name of its file."""
        if not len(indices):
            return []
        x, paths = self.read(indices), _paths(self.dataset, indices)
        result = []
        for values, path in zip(x, paths, strict=True):
            example: dict[str, Any] = {} if path is None else {"file": path}
            if self.are_pictures:
                example["picture"] = photo(values, self.bounds, size)
            elif values.ndim == 1:
                example["values"] = [f"{v:.4g}" for v in values[:8].tolist()]
            result.append(example)
        return result


def _bounds(x: Array) -> tuple[float, float]:
    if x.dtype == np.uint8:
        return 0.0, 255.0
    finite = x[np.isfinite(x)] if x.dtype.kind == "f" else x
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    return (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)


def _paths(dataset: Any, indices: Sequence[int]) -> list[str | None]:
    """The files of examples, relative to the folder of the data or only names; None: no files."""
    at = np.asarray(indices, np.int64)
    while hasattr(dataset, "dataset") and hasattr(dataset, "indices"):  # Subset, also PyTorch's
        at, dataset = np.asarray(dataset.indices)[at], dataset.dataset
    paths = getattr(dataset, "paths", None)
    if paths is None or len(paths) != len(dataset):  # none, or not one for each example
        return [None] * len(at)
    root = getattr(dataset, "root", None)
    return [_without_machine(str(paths[i]), root) for i in at.tolist()]


def _without_machine(path: str, root: Any) -> str:
    """A file relative to a folder; only its name if it is not in there: nothing of the machine."""
    inside = os.path.relpath(path, root) if root else os.pardir
    return os.path.basename(path) if inside.startswith(os.pardir) else inside


def class_labels(loader: DataLoader | None, classes: int) -> Array | None:
    """The labels of all examples, int (N,); None if they are not one class per example."""
    if loader is None:
        return None
    try:
        found = labels(loader.dataset)
    except DataError:
        return None
    if found.ndim == 2 and found.shape[1] == classes:
        if not np.allclose(found.sum(axis=1), 1):  # several labels, or values
            return None
        found = found.argmax(axis=1)
    found = found.reshape(-1) if found.size == len(found) else found
    is_whole = found.ndim == 1 and found.dtype.kind in "biuf"
    if not is_whole or not np.all(found == np.floor(found)) or found.max(initial=0) >= classes:
        return None
    return found.astype(np.int64)


def _members(loader: DataLoader | None, classes: int) -> Array | None:
    """Which examples belong to which class, bool (N, classes), to several or none too; or None."""
    found = class_labels(loader, classes)
    if found is not None:
        return np.asarray(found[:, None] == np.arange(classes))
    try:
        rows = labels(loader.dataset) if loader is not None else np.zeros(0)
    except DataError:
        return None
    are_labels = rows.ndim == 2 and rows.shape[1] == classes and np.all((rows == 0) | (rows == 1))
    return np.asarray(rows == 1) if are_labels else None


def balance(loaders: dict[str, DataLoader | None], classes: int) -> dict[str, list[int]]:
    """How many examples of each class there are, by the name of the part."""
    found = {name: _members(loader, classes) for name, loader in loaders.items()}
    return {k: members.sum(axis=0).tolist() for k, members in found.items() if members is not None}


def of_classes(loader: DataLoader, classes: int) -> list[dict[str, Any]]:
    """The first examples of the first classes, as pictures."""
    examples, found = Examples(loader), _members(loader, classes)
    if found is None or not examples.are_pictures:
        return []
    result = []
    for number in range(min(classes, MAX_CLASSES)):
        at = np.flatnonzero(found[:, number])[:PER_CLASS]
        result.append({"class": number, "examples": examples.show(at.tolist())})
    return result


def augmented(loader: DataLoader) -> list[dict[str, Any]]:
    """Pictures before, and several times after the augmentation of a loader; [] without one."""
    examples, transform = Examples(loader), _without_normalization(loader.transform)
    if transform is None or not examples.are_pictures:
        return []
    count = len(examples.dataset)
    at = np.unique(np.linspace(0, count - 1, min(AUGMENTED, count)).round().astype(np.int64))
    batch = examples.dataset.batch(at)
    drawn = DataLoader(batch, batch_size=len(at), transform=transform, prefetch=0)
    after = [np.asarray(next(iter(drawn))[0]) for _ in range(VARIANTS)]
    is_scaled = any(map(_is_normalization, _parts(loader.transform)))
    bounds = (0.0, 1.0) if is_scaled else examples.bounds
    return [
        {
            "before": before["picture"],
            "after": [photo(x[number], bounds, THUMBNAIL) for x in after],
        }
        for number, before in enumerate(examples.show(at.tolist()))
    ]


def _parts(transform: Any) -> list[Any]:
    if isinstance(transform, Compose):
        return [part for inner in transform.transforms for part in _parts(inner)]
    return [] if transform is None else [transform]


def _is_normalization(transform: Any) -> bool:
    return isinstance(transform, Normalize)


def _sets_target(transform: Any) -> bool:
    """Whether a step of a task only puts other targets in place of the labels."""
    return isinstance(transform, BatchTransform) and not isinstance(
        transform, Augmentation | Mixing | WithTarget
    )


def _without_normalization(transform: Any) -> Compose | None:
    """The transform with pixels that stay between 0 and 1; None if nothing else is left."""
    parts = [t for t in _parts(transform) if not _sets_target(t)]
    if all(map(_is_normalization, parts)):
        return None
    return Compose(
        [Normalize(0.0, 1.0, scale=t.scale) if _is_normalization(t) else t for t in parts]
    )
