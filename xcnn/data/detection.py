"""Datasets of pictures with boxes: COCO, Pascal VOC, and folders in one of their layouts."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import check_choice, check_path, check_texts
from ..errors import DataError
from .annotations import Picture, class_names, read_coco, read_voc, shown
from .dataset import Dataset, Subset
from .folder import absolute, check_distinct, held_out, limited_splits
from .images import (
    DECODERS,
    ON_ERROR,
    SKIP,
    check_reading,
    image_size,
    read_image,
    read_images,
)
from .splits import DataSplits

_TESTS = ("test", "val", "valid", "validation")  # in the order in which they are looked for
_ROBOFLOW = "_annotations.coco.json"
_ADVICE = f"Repair or remove it, or {SKIP}"


class DetectionDataset(Dataset):
    """Pictures with boxes, decoded on demand by a pool of threads.

    Parameters
    ----------
    source : str
        Names the data in messages.
    pictures : list of Picture or str
        Their boxes are clipped to the picture; those without area are left out. A text is what is
        wrong with one.
    files : list of str
        Those of the annotations.
    classes : list of str
        Names of the labels, from 0.
    size, channels, on_error, threads
        See :class:`CocoDetection`.
    """

    def __init__(
        self,
        source: str,
        pictures: list[Picture | str],
        files: list[str],
        classes: list[str],
        size: Any,
        channels: int,
        on_error: str,
        threads: int | None = None,
    ) -> None:
        self.shape, self.threads = check_reading(channels, size, on_error, threads)
        self.classes, self.target_paths, self._source = classes, files, source
        check = partial(_check, shape=self.shape if on_error == "skip" else None)
        checked = DECODERS.run(check, pictures, self.threads)
        problems = [found for found in checked if isinstance(found, str)]
        if problems and (on_error == "refuse" or len(problems) == len(pictures)):
            raise DataError(f"{problems[0]}. {_ADVICE}")
        if problems:
            title = f"{source}: {len(problems)} of {len(pictures)} pictures are left out:"
            warnings.warn("\n  ".join([title, *problems]), stacklevel=3)
        sizes = [found for found in checked if not isinstance(found, str)]
        pairs: Any = zip(pictures, checked, strict=True)
        kept: list[Picture] = [p for p, found in pairs if not isinstance(found, str)]
        self.paths = [picture.path for picture in kept]
        check_distinct(source, self.paths)
        self._objects, self._counts = self._prepared(kept, sizes)
        self._starts = np.cumsum(self._counts) - self._counts

    def _prepared(self, pictures: list[Picture], sizes: Any) -> tuple[dict[str, Any], np.ndarray]:
        """The objects of all pictures one after another, and how many each picture has."""
        numbers = {name: n for n, name in enumerate(self.classes)}
        things = [thing for picture in pictures for thing in picture.things]
        unknown = [(p, t) for p in pictures for t in p.things if t.label not in numbers]
        if unknown:
            picture, thing = unknown[0]
            raise DataError(
                f"{self._source}: {thing.where} of {picture.path} is of the class "
                f"{thing.label!r}: expected one of {', '.join(self.classes)}"
            )
        counts = np.array([len(picture.things) for picture in pictures], int)
        boxes = np.array([thing.box for thing in things], float).reshape(-1, 4)
        edges = np.repeat(np.array(sizes, float).reshape(-1, 2)[:, [1, 0, 1, 0]], counts, 0)
        inside = np.clip(boxes, 0, edges)
        zoom = np.array(self.shape[:0:-1] * 2) / edges  # width, height, width, height
        small = (inside * zoom).astype(np.float32)  # in which narrow ones may have no area
        has_area = (small[:, 2:] > small[:, :2]).all(axis=1)
        self._warn(~has_area, things, "without area in their picture, left out")
        is_cut = (np.abs(inside - boxes) > 1).any(axis=1)  # less is rounding
        self._warn(is_cut & has_area, things, "cut off at the edges of their picture")
        areas = (inside[:, 2:] - inside[:, :2]).prod(axis=1)
        given = np.array([np.nan if t.area is None else t.area for t in things], float)
        objects = {
            "boxes": small,
            "labels": np.array([numbers[thing.label] for thing in things], np.int64),
            "crowd": np.array([thing.crowd for thing in things], bool),
            "area": np.where(np.isnan(given), areas, given) * zoom[:, :2].prod(axis=1),
        }
        owner = np.repeat(np.arange(len(pictures)), counts)[has_area]
        objects["area"] = objects["area"].astype(np.float32)
        kept = {name: of[has_area] for name, of in objects.items()}
        return kept, np.bincount(owner, minlength=len(pictures))

    def _warn(self, which: np.ndarray, things: list[Any], text: str) -> None:
        if which.any():
            first = things[int(which.argmax())].where
            count = f"{which.sum()} of {len(things)} (the first: {first})"
            warnings.warn(f"{self._source}: boxes {text}: {count}", stacklevel=5)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Return one picture, uint8 (C, H, W), and its objects, a dict of arrays (M, ...)."""
        i = operator.index(index)
        x, y = self.batch(np.array([range(len(self))[i]]))
        return x[0], {name: of[0] for name, of in y.items()}

    def batch(self, indices: np.ndarray) -> Any:
        """Read several pictures: uint8 (N, C, H, W), and a dict of arrays (N, M, ...)."""
        indices = np.asarray(indices)
        paths = [self.paths[i] for i in indices.tolist()]
        x = read_images(self._read, paths, self.shape, self.threads)
        places = np.arange(self._counts.max(initial=0))
        is_there = places < self._counts[indices, None]
        rows = np.where(is_there, self._starts[indices, None] + places, -1)
        y = {}
        for name, of in self._objects.items():
            fill = np.full((1, *of.shape[1:]), -1 if name == "labels" else 0, of.dtype)
            y[name] = np.concatenate([of, fill])[rows]
        return x, y

    def _read(self, path: str) -> np.ndarray:
        try:
            return read_image(path, self.shape)
        except DataError as error:
            raise DataError(f"{error}. {_ADVICE}") from error

    def class_counts(self, indices: Any = slice(None)) -> np.ndarray:
        """The number of objects of each class, int64 (classes,), in all pictures or some.

        Crowds do not count.
        """
        chosen = np.zeros(len(self), bool)
        chosen[indices] = True
        counted = np.repeat(chosen, self._counts) & ~self._objects["crowd"]
        labels = self._objects["labels"][counted]
        return np.bincount(labels, minlength=len(self.classes))

    def __repr__(self) -> str:
        content = f"{len(self)} pictures, {len(self._objects['labels'])} objects"
        shape = "×".join(map(str, self.shape))
        kind = type(self).__name__
        return f"{kind}({self._source!r}: {content} of {len(self.classes)} classes as {shape})"


class CocoDetection(DetectionDataset):
    """Pictures and boxes of a COCO annotation file. Only the annotations stay in memory.

    Items are (x, y): x is uint8 (C, H, W), y a dict of arrays whose first axis is as long as for
    the picture with the most objects:

    - "boxes", float32 (M, 4): x1, y1, x2, y2 in pixels of x;
    - "labels", int64 (M,): the index of the class; -1 where there is no object;
    - "crowd", bool (M,): a region with many objects ("iscrowd");
    - "area", float32 (M,): in pixels of x.

    Pictures without objects are kept. Boxes are clipped to the picture, those without area are left
    out; a warning says how many.

    Parameters
    ----------
    root : path
        The folder that the names of the pictures are relative to.
    annFile : path
        The JSON file.
    size : int or (height, width), default 64
        Each picture is resized to it without keeping its aspect ratio, and its boxes with it.
    channels : int, default 3
        3 for colour, 1 for grey.
    classes : sequence of str, optional
        Names of the categories in label order; by default those of the file, by their ids.
    on_error : str, default "refuse"
        How to treat pictures that are missing, unreadable or not of the size that the annotations
        say: "refuse" raises an error, "skip" leaves them out, with a warning that lists them.
    threads : int, optional
        Decoder threads; by default one per CPU, at most 8.

    Attributes
    ----------
    classes : list of str
    paths : list of str
    shape : tuple of int
        (C, H, W) of every picture.

    Raises
    ------
    DataError
        A file that cannot be read, is not in COCO's format or contradicts itself: an unknown
        category or image, an id or a file that occurs twice, a box that is not four numbers.
    ArgumentError
        Another argument is invalid.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        annFile: str | os.PathLike[str],
        size: int | tuple[int, int] = 64,
        channels: int = 3,
        classes: Sequence[str] | None = None,
        on_error: str = "refuse",
        threads: int | None = None,
    ) -> None:
        file = check_path("annFile", annFile)
        self.root = check_path("root", root)
        pictures, names = read_coco(self.root, file)
        names = names if classes is None else check_texts("classes", classes)
        super().__init__(file, [*pictures], [file], names, size, channels, on_error, threads)


class VOCDetection(DetectionDataset):
    """Pictures and boxes of a folder as in Pascal VOC: ``JPEGImages`` and ``Annotations/*.xml``.

    Items are those of :class:`CocoDetection`; objects marked as difficult have "crowd".

    Parameters
    ----------
    root : path
        Contains the two folders.
    image_set : str, optional
        Only the pictures listed in ``ImageSets/Main/IMAGE_SET.txt``, such as "train".
    size, channels, on_error, threads
        As for :class:`CocoDetection`.
    classes : sequence of str, optional
        Names in label order; by default those of the objects, sorted.

    Raises
    ------
    DataError, ArgumentError
        As for :class:`CocoDetection`.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        image_set: str | None = None,
        size: int | tuple[int, int] = 64,
        channels: int = 3,
        classes: Sequence[str] | None = None,
        on_error: str = "refuse",
        threads: int | None = None,
    ) -> None:
        folder = check_path("root", root)
        pictures, files = _voc(folder, image_set, on_error)
        names = class_names(pictures) if classes is None else check_texts("classes", classes)
        source = _source(folder, image_set)
        super().__init__(source, pictures, files, names, size, channels, on_error, threads)


def load_boxes(
    root: str | os.PathLike[str],
    size: int | tuple[int, int] = 64,
    channels: int = 3,
    share: float = 0.2,
    seed: int = 0,
    limit: int | None = None,
    on_error: str = "refuse",
) -> DataSplits:
    """Load a folder of pictures with boxes as training and test splits.

    These layouts are known (test may be called val, valid or validation); without a test split,
    ``share`` of the pictures is held out:

    - COCO: ``annotations/instances_train.json`` and ``..._test.json`` (or with a year at the end),
      the pictures in ``train`` and ``test`` or in ``images``;
    - Roboflow: ``train/_annotations.coco.json`` and ``test/_annotations.coco.json`` next to the
      pictures;
    - one JSON file in COCO's format in the folder, the pictures next to it or in ``images``;
    - Pascal VOC: ``JPEGImages``, ``Annotations``, and perhaps ``ImageSets/Main/train.txt`` and
      ``test.txt``.

    Parameters
    ----------
    root : path
    size, channels, on_error
        As for :class:`CocoDetection`.
    share : float, default 0.2
    seed : int, default 0
        Seed of the held-out pictures, of ``limit``, and of the sample for mean and std.
    limit : int, optional
        Keep only this many random pictures of each split.

    Returns
    -------
    DataSplits
        A class without objects in a split causes a warning, as does a test split without any.
        ``mean`` and ``std`` are computed from at most 2,000 training pictures.

    Raises
    ------
    DataError
        The folder has none of these layouts, no objects to learn or too few pictures, or as for
        :class:`CocoDetection`.
    ArgumentError
        Another argument is invalid.
    """
    path = Path(absolute(root))
    settings = {"size": size, "channels": channels, "on_error": on_error}
    splits = _coco_splits(path, settings) or _voc_splits(path, settings)
    if not splits:
        raise DataError(
            f"{path} has no annotations of boxes in a known layout: expected train/{_ROBOFLOW}, "
            "annotations/instances_train.json, one JSON file in COCO's format, or Pascal VOC's "
            "folders Annotations and JPEGImages"
        )
    whole = splits[0]
    train, test = splits if len(splits) == 2 else held_out(path, whole, share, seed)
    check_distinct(path, *(part.paths for part in splits))
    for name, part in (("training", train), ("test", test)):
        source: Any = part.dataset if isinstance(part, Subset) else part
        counts = source.class_counts(part.indices if isinstance(part, Subset) else slice(None))
        missing = [c for c, n in zip(whole.classes, counts, strict=True) if not n]
        if len(missing) < len(whole.classes) and missing:
            warnings.warn(f"{path}: no {', '.join(missing)} in the {name} pictures", stacklevel=2)
        elif missing or not whole.classes:
            text = f"{path}: the {name} pictures have no objects, not counting crowds"
            if part is train:
                raise DataError(f"{text}: expected annotations with boxes")
            warnings.warn(f"{text}, so nothing can be measured", stacklevel=2)
    return limited_splits(str(path), train, test, whole.classes, whole.shape, limit, seed)


def _coco_splits(root: Path, settings: dict[str, Any]) -> list[Any]:
    """The training split and, if there is one, the test split; none without JSON files."""
    train = _coco_file(root, "train")
    test = next(filter(None, (_coco_file(root, name) for name in _TESTS)), None)
    files = [train, test] if train and test else [train] if train else shown(root, "*.json")
    if not train and len(files) > 1:
        names = ", ".join(file.name for file in files)
        raise DataError(f"{root} has several JSON files, {names}: expected one, or {_ROBOFLOW}")
    splits: list[Any] = []
    for file in files:
        classes = splits[0].classes if splits else None
        splits.append(CocoDetection(_pictures_of(root, file), file, classes=classes, **settings))
    return splits


def _coco_file(root: Path, name: str) -> Path | None:
    patterns = (f"annotations/instances_{name}*.json", f"annotations/{name}*.json")
    for found in (*(shown(root, pattern) for pattern in patterns), [root / name / _ROBOFLOW]):
        files = [file for file in found if file.is_file()]
        if len(files) > 1:
            names = ", ".join(file.name for file in files)
            raise DataError(f"{root} has several files for one split, {names}: keep one")
        if files:
            return files[0]
    return None


def _pictures_of(root: Path, file: Path) -> Path:
    """The folder with the pictures of an annotation file."""
    if file.name == _ROBOFLOW:
        return file.parent
    name = file.stem.removeprefix("instances_")
    places = root / name, root / "images" / name, root / "images"
    return next((place for place in places if place.is_dir()), root)


def _voc_splits(root: Path, settings: dict[str, Any]) -> list[Any]:
    """The training split and, if there is one, the test split; none without its folders."""
    homes = (root, *sorted(root.glob("VOCdevkit/VOC*")))
    home = next((home for home in homes if (home / "Annotations").is_dir()), None)
    if home is None:
        return []
    listed = {file.stem for file in (home / "ImageSets" / "Main").glob("*.txt")}
    train = next((name for name in ("train", "trainval") if name in listed), None)
    test = next((name for name in _TESTS if train and name in listed), None)
    names = [train, test] if test else [train]
    parts = [_voc(home, name, settings["on_error"]) for name in names]
    classes = class_names([picture for part, _ in parts for picture in part])
    named = zip(names, parts, strict=True)
    return [DetectionDataset(_source(home, n), *part, classes, **settings) for n, part in named]


def _voc(root: Any, image_set: str | None, on_error: str) -> tuple[list[Picture | str], list[str]]:
    """What :func:`read_voc` returns; with "refuse", all pictures are right."""
    pictures, files = read_voc(root, image_set)
    problem = next((picture for picture in pictures if isinstance(picture, str)), None)
    if problem and check_choice("on_error", on_error, ON_ERROR) == "refuse":
        raise DataError(f"{problem}. {_ADVICE}")
    return pictures, files


def _source(root: Any, image_set: str | None) -> str:
    return f"{root} ({image_set})" if image_set else f"{root}"


def _check(picture: Picture | str, shape: Any) -> tuple[int, int] | str:
    """(height, width) of a picture's file, or what is wrong with it; with a shape, all is read."""
    if isinstance(picture, str):
        return picture
    try:
        size = image_size(picture.path)
        if shape is not None:
            read_image(picture.path, shape)
    except DataError as error:
        return str(error)
    if picture.size in (None, size):
        return size
    (height, width), (rows, columns) = size, picture.size or size
    return (
        f"{picture.path} has {width}×{height} pixels, but its annotations are for {columns}×{rows}"
    )
