"""Folders of images whose labels, values or keypoints are in a CSV file."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ..checks import check_choice, check_text
from ..errors import DataError
from .dataset import Dataset, Subset
from .folder import (
    TEST_FOLDERS,
    absolute,
    check_distinct,
    held_out,
    limited_splits,
)
from .images import ON_ERROR, image_size, readable
from .splits import DataSplits
from .tables import CSVDataset, columns

#: the columns of the image files, and of class names with this between them
_FILE, _NAMES, _SEPARATOR = "file", "labels", "|"
#: first lines of files of numbers, by kind
_EXAMPLES = {"values": "file,x,y", "keypoints": "file,nose x,nose y"}


def load_table_folder(
    root: str | os.PathLike[str],
    table: str = "labels.csv",
    kind: str = "labels",
    size: int | tuple[int, int] = 64,
    channels: int = 3,
    share: float = 0.2,
    seed: int = 0,
    limit: int | None = None,
    on_error: str = "refuse",
) -> DataSplits:
    """Load images with the targets of a CSV file, as training and test splits.

    The file has a header, a column "file" with the images, relative to its folder, and the targets
    in the others: "labels" are zeros and ones, one column for each class, or one column "labels" of
    class names with ``|`` between them; "values" are numbers; "keypoints" are two columns for each
    point, "NAME x" and "NAME y", in pixels of the file: (0, 0) is the centre of the first one, and
    a point outside of the image, such as (-1, -1), is not visible.

    Parameters
    ----------
    root : path
        Contains the CSV file, or folders ``train`` and ``test`` (or ``val``) that contain one each;
        without a test folder, ``share`` of the images is held out for testing.
    table : str, default "labels.csv"
        Name of the CSV file.
    kind : str, default "labels"
        "labels", "values" or "keypoints".
    size, channels, on_error
        As for :class:`ImageFolder`; but with keypoints, images are resized as a whole, without
        keeping the aspect ratio.
    share : float, default 0.2
    seed : int, default 0
        Seed of the held-out images, of ``limit``, and of the sample for mean and std.
    limit : int, optional
        Keep only this many random images of each split.

    Returns
    -------
    DataSplits
        The targets are float32 (N, columns), and ``classes`` are their names; of keypoints,
        (N, points, 3): x and y in pixels of the resized images, and visibility, 1 or 0.

    Raises
    ------
    DataError
        There is no such file, a column or an image is missing, or a target is not as expected; the
        message names the file and the line.
    ArgumentError
        Another argument is invalid.

    Examples
    --------
    >>> photos = load_table_folder("photos")  # photos/labels.csv: file,labels and 1.jpg,cat|dog
    >>> photos.classes
    ['cat', 'dog']
    """
    path = absolute(root)
    check_choice("on_error", on_error, ON_ERROR)
    check_text("table", table)
    is_values = check_choice("kind", kind, ("labels", *_EXAMPLES)) != "labels"
    parts = [name for name in ("train", *TEST_FOLDERS) if os.path.isfile(f"{path}/{name}/{table}")]
    has_parts = "train" in parts
    first = os.path.join(path, "train", table) if has_parts else os.path.join(path, table)
    if not os.path.isfile(first):
        example = _EXAMPLES.get(kind, "file,cat,dog")
        raise DataError(
            f"{first} is missing: expected a CSV file with a column of image files and the targets "
            f"in the others, whose first line is such as {example}"
        )
    settings = {"size": size, "channels": channels, "crop": kind != "keypoints"}
    whole = _read(first, is_values, None, settings)
    train, classes = _checked(whole, on_error), list(whole.classes or ())
    tables = [whole]
    if has_parts and len(parts) > 1:
        tables.append(_read(os.path.join(path, parts[1], table), is_values, classes, settings))
        test = _checked(tables[1], on_error)
    if kind == "keypoints":
        classes, *_ = (_place_keypoints(each, on_error) for each in tables)
    if len(tables) == 1:
        train, test = held_out(path, train, share, seed)
    check_distinct(path, *(each.paths for each in tables))
    return limited_splits(path, train, test, classes, whole.arrays[0].shape, limit, seed)


def _read(path: str, is_values: bool, classes: list[str] | None, settings: Any) -> CSVDataset:
    """The images of a file, with their targets and the names of these as ``classes``."""
    targets = [name for name in columns(path) if name != _FILE]
    if targets == [_NAMES] and not is_values:
        more: Any = {"label": _NAMES, "separator": _SEPARATOR, "classes": classes}
        return CSVDataset(path, image=_FILE, **more, **settings)
    if not targets:
        raise DataError(f"{path}, line 1: expected columns of targets after {_FILE!r}")
    table = CSVDataset(path, image=_FILE, label=classes or targets, **settings)
    table.classes = classes or targets
    y = table.arrays[1]
    wrong = np.argwhere((y != 0) & (y != 1))
    if len(wrong) and not is_values:
        row, column = wrong[0]
        raise DataError(
            f"{path}, line {table.lines[row]}: {table.classes[column]!r} is {y[row, column]:g}: "
            "expected 1 if the picture has this label, else 0"
        )
    return table


def _place_keypoints(table: CSVDataset, on_error: str) -> list[str]:
    """Turn columns x and y into keypoints of the resized images; return the names of the points."""
    names = list(table.classes or ())
    first, second = names[::2], names[1::2]
    if second != [f"{name[:-1]}y" for name in first] or not all(
        name[:-2] and name[-2] in " _.-" and name[-1] == "x" for name in first
    ):
        raise DataError(
            f"{table.path}, line 1: expected two columns for each point, such as nose x and "
            f"nose y, after {_FILE!r}, got {', '.join(names)}"
        )
    images, y = table.arrays
    target = np.array(images.shape[:0:-1], float)  # width, height
    y = y.reshape(len(table), -1, 2).astype(float)
    for n, path in enumerate(table.paths):
        try:
            size = np.array(image_size(path)[::-1])
        except DataError:
            if on_error == "refuse":
                raise
            continue  # the image is left out
        y[n] = (y[n] + 0.5) * target / size - 0.5
    seen = ((y >= -0.5) & (y < target - 0.5)).all(axis=2, keepdims=True)
    table.arrays = (images, np.concatenate([y, seen], axis=2).astype(np.float32))
    return [name[:-2] for name in first]


def _checked(table: CSVDataset, on_error: str) -> Dataset:
    """The images that exist; without those that cannot be read, if they are skipped."""
    if not table.paths:
        raise DataError(f"{table.path} lists no images")
    if on_error == "skip":
        return Subset(table, readable(table.path, table.arrays[0].__getitem__, range(len(table))))
    for file, line in zip(table.paths, table.lines, strict=True):
        if not os.path.isfile(file):
            raise DataError(f"{table.path}, line {line}: there is no file {file}")
    return table
