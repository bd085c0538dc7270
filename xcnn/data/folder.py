"""Image folders with one subfolder per class."""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import check_path, check_texts, pair
from ..errors import DataError
from .dataset import Batch, Dataset, Subset
from .images import SKIP, check_reading, read_image, read_images, readable
from .shard_index import shards_in
from .shards import ShardFolder
from .splits import DataSplits, stratified_split, subsample

SUFFIXES = (
    *(".bmp", ".gif", ".jpeg", ".jpg", ".npy", ".pgm", ".png"),
    *(".ppm", ".tif", ".tiff", ".webp"),
)
TEST_FOLDERS = ("test", "val", "valid", "validation")


class ImageFolder(Dataset):
    """Images in ``root/CLASS/...``, decoded on demand by a pool of threads.

    Labels are the indices of the class folders in sorted order. Only paths and labels stay in
    memory. Links to files and folders are followed. Hidden files and folders (their names start
    with a dot), ``__MACOSX`` folders and files without an image suffix are ignored.

    Parameters
    ----------
    root : path
    size : int or (height, width), default 64
        Each image is resized, keeping its aspect ratio, to just cover this size, and then cropped
        at the centre.
    channels : int, default 3
        3 for colour, 1 for grey.
    classes : sequence of str, optional
        Class names in label order; by default the folder names, sorted.
    on_error : str, default "refuse"
        How to treat unreadable files: "refuse" raises an error when such a file is read; "skip"
        checks every file up front and leaves out the unreadable ones, with a warning that lists
        them.
    threads : int, optional
        Decoder threads; by default one per CPU, at most 8.
    labelled : bool, default True
        Whether the folders are classes; otherwise there are none, every label is 0, and images may
        be anywhere in ``root``.

    Attributes
    ----------
    classes : list of str
    paths : list of str
    labels : numpy.ndarray
        int64 (N,).
    shape : tuple of int
        (C, H, W) of every image.

    Raises
    ------
    DataError
        If the folder does not exist, has no classes or images, or has a class that is not in
        ``classes``; on reading, if a file is not an image, is damaged, or has more pixels than
        ``PIL.Image.MAX_IMAGE_PIXELS``.
    ArgumentError
        If another argument is invalid.

    Examples
    --------
    >>> photos = ImageFolder("photos", size=96)  # photos/cat/1.jpg, photos/dog/1.jpg, ...
    >>> x, y = photos.batch(np.arange(8))
    >>> x.shape, x.dtype.name, y.shape
    ((8, 3, 96, 96), 'uint8', (8,))
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        size: int | tuple[int, int] = 64,
        channels: int = 3,
        classes: Sequence[str] | None = None,
        on_error: str = "refuse",
        threads: int | None = None,
        labelled: bool = True,
    ) -> None:
        self.root = check_path("root", root)
        self.shape, self.threads = check_reading(channels, size, on_error, threads)
        classes = None if classes is None else check_texts("classes", classes)
        folders = _class_folders(Path(root), classes, labelled)
        self.classes = (list(folders) if classes is None else classes) if labelled else []
        files = {name: image_files(folder) for name, folder in folders.items()}
        self.paths = [path for paths in files.values() for path in paths]
        labels = [self.classes.index(name) if labelled else 0 for name in files]
        self.labels = np.repeat(np.array(labels, np.int64), [len(f) for f in files.values()])
        if on_error == "skip":
            self._drop_unreadable()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> tuple[np.ndarray, np.int64]:
        """Return one image, uint8 (C, H, W), and its label."""
        i = operator.index(index)
        return self._read(self.paths[i]), self.labels[i]

    def batch(self, indices: np.ndarray) -> Batch:
        """Read several items: uint8 (N, C, H, W) and int64 (N,)."""
        paths = [self.paths[i] for i in np.asarray(indices).tolist()]
        return read_images(self._read, paths, self.shape, self.threads), self.labels[indices]

    def _read(self, path: str) -> np.ndarray:
        try:
            return read_image(path, self.shape, crop=True)
        except DataError as error:
            advice = f"Replace or remove it, or {SKIP}"
            if not os.path.lexists(path):
                advice = "It was there when the folder was listed: put it back, or start anew"
            raise DataError(f"{error}. {advice}") from error

    def _drop_unreadable(self) -> None:
        def read(path: str) -> np.ndarray:
            return read_image(path, self.shape, crop=True)

        ok = readable(self.root, read, self.paths, self.threads)
        self.paths = [path for path, is_kept in zip(self.paths, ok, strict=True) if is_kept]
        self.labels = self.labels[ok]

    def __repr__(self) -> str:
        content = f"{len(self)} images of {len(self.classes)} classes"
        return f"ImageFolder({self.root!r}: {content} as {'×'.join(map(str, self.shape))})"


def split_folder(
    root: str | os.PathLike[str], share: float = 0.2, seed: int = 0, **settings: Any
) -> tuple[Dataset, Dataset, list[str]]:
    """Return the training split, the test split and the class names of an image folder.

    The splits are ``root/train`` and ``root/test`` (or val, valid, validation) if both exist;
    otherwise ``share`` of each class in ``root/train`` or ``root`` is held out for testing. In a
    folder of shards they are those whose names begin with ``train-`` and ``test-`` (or ``val-``,
    and so on).

    Parameters
    ----------
    root : path
    share : float, default 0.2
    seed : int, default 0
        Seed of the held-out images.
    **settings
        Arguments of :class:`ImageFolder`.

    Raises
    ------
    DataError
        As for :class:`ImageFolder`, or if there are too few images to hold one out.
    ArgumentError
        As for :class:`ImageFolder`.
    """
    train_root, test_root = split_roots(root)
    images = open_folder(train_root, **settings)
    if len(images.classes) == 1 and not settings.get("classes"):
        warnings.warn(
            f"{train_root} has only one class, {images.classes[0]!r}, so every network is always "
            "right: expected one folder of images per class",
            stacklevel=2,
        )
    if test_root is not None:
        test = open_folder(test_root, **{**settings, "classes": images.classes or None})
        return images, test, images.classes
    train = stratified_split(images.labels, share, seed)
    if train.all() or not train.any():
        raise DataError(
            f"{root} has {len(images)} images: holding out {share:g} of them leaves none for "
            "training or testing; add images, or put them into train/ and test/"
        )
    return Subset(images, train), Subset(images, ~train), images.classes


def split_roots(root: str | os.PathLike[str]) -> tuple[Path, Path | None]:
    """What :func:`open_folder` takes for training and, if there is such a split, for testing."""
    root = Path(check_path("root", root))
    names = shards_in(root)

    def is_there(split: str) -> bool:
        is_folder = not names and (root / split).is_dir()
        return is_folder or any(name.startswith(f"{split}-") for name in names)

    found = [split for split in ("train", *TEST_FOLDERS) if is_there(split)]
    if found[:1] != ["train"]:
        return root, None
    train, *tests = (root / (f"{split}-*" if names else split) for split in found)
    return train, tests[0] if tests else None


def open_folder(root: str | os.PathLike[str], **settings: Any) -> ImageFolder | ShardFolder:
    """The images of a folder: a :class:`ShardFolder` if it has shards, or an image folder."""
    root = check_path("root", root)
    is_pattern = not os.path.isdir(root) and any(sign in Path(root).name for sign in "*{")
    is_shards = is_pattern or bool(shards_in(root))
    return ShardFolder(root, **settings) if is_shards else ImageFolder(root, **settings)


def load_folder(
    root: str | os.PathLike[str],
    size: int | tuple[int, int] = 64,
    channels: int = 3,
    share: float = 0.2,
    seed: int = 0,
    limit: int | None = None,
    on_error: str = "refuse",
    labelled: bool = True,
) -> DataSplits:
    """Load an image folder as training and test splits.

    Parameters
    ----------
    root : path
        Contains one folder per class, either in ``train`` and ``test`` (or ``val``) or directly; if
        directly, ``share`` of each class is held out for testing. Or shards; see
        :class:`ShardFolder`.
    size, channels, on_error, labelled
        As for :class:`ImageFolder`.
    share : float, default 0.2
    seed : int, default 0
        Seed of the held-out images, of ``limit``, and of the sample for mean and std.
    limit : int, optional
        Keep only this many random images of each split.

    Returns
    -------
    DataSplits
        ``mean`` and ``std`` are computed from at most 2,000 training images.

    Raises
    ------
    DataError, ArgumentError
        As for :func:`split_folder`.

    Examples
    --------
    >>> from xcnn.data import DataLoader
    >>> photos = load_folder("photos", size=96)
    >>> loader = DataLoader(photos.train, 64, shuffle=True, transform=photos.normalize())
    """
    path = absolute(root)
    settings = {"size": size, "channels": channels, "on_error": on_error, "labelled": labelled}
    train, test, classes = split_folder(path, share, seed, **settings)
    shape = (channels, *pair(size, "size"))
    return limited_splits(path, train, test, classes, shape, limit, seed)


def held_out(
    root: Any, pictures: Dataset, share: float = 0.2, seed: int = 0
) -> tuple[Subset, Subset]:
    """Hold ``share`` of the pictures of a folder out for testing.

    Raises
    ------
    DataError
        There are too few.
    """
    is_train = stratified_split(np.zeros(len(pictures), int), share, seed)
    if is_train.all() or not is_train.any():
        raise DataError(
            f"{root}: {share:g} of {len(pictures)} pictures leaves none for training or testing: "
            "add some, or make train/ and test/"
        )
    return Subset(pictures, is_train), Subset(pictures, ~is_train)


def check_distinct(source: Any, *parts: Sequence[str]) -> None:
    """Refuse pictures that are listed twice, in one split or in two.

    Raises
    ------
    DataError
    """
    seen: set[str] = set()
    for path in (path for part in parts for path in part):
        if path in seen:
            raise DataError(f"{source}: {path} is listed twice: expected each picture once")
        seen.add(path)


def by_stem(paths: Sequence[str]) -> dict[str, str]:
    """Pictures by their paths without suffix, which name their annotations.

    Raises
    ------
    DataError
        Two pictures only differ in the suffix.
    """
    found: dict[str, str] = {}
    for path in paths:
        stem = os.path.splitext(path)[0]
        if stem in found:
            raise DataError(f"{found[stem]} and {path} have one name: rename one of them")
        found[stem] = path
    return found


def absolute(root: Any) -> str:
    """The absolute path of a folder of the user, in which ~ is the home folder."""
    return os.path.abspath(Path(check_path("root", root)).expanduser())


def limited_splits(
    path: str,
    train: Dataset,
    test: Dataset,
    classes: list[str],
    shape: tuple[int, ...],
    limit: int | None,
    seed: int,
) -> DataSplits:
    """At most ``limit`` random images of each split, with their mean and standard deviation."""
    train, test = subsample(train, limit, seed), subsample(test, limit, seed)
    mean, std = channel_statistics(subsample(train, 2000, seed))
    return DataSplits(path, train, test, classes, mean, std, "images", path, shape)


def channel_statistics(images: Dataset, batch_size: int = 64) -> tuple[tuple[float, ...], ...]:
    """Compute mean and standard deviation of each channel, with pixels divided by 255.

    A constant channel gets the standard deviation 1, so normalising never divides by zero.
    """
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for start in range(0, len(images), batch_size):
        x, *_ = images.batch(np.arange(start, min(start + batch_size, len(images))))
        pixels = x.astype(np.float64) / 255
        count += x[:, 0].size
        total = total + pixels.sum(axis=(0, 2, 3))
        squares = squares + (pixels**2).sum(axis=(0, 2, 3))
    mean = total / max(count, 1)
    std = np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 0))
    std[std < 1e-6] = 1
    return tuple(mean.round(4).tolist()), tuple(np.maximum(std, 1e-4).round(4).tolist())


def _class_folders(root: Path, classes: Sequence[str] | None, labelled: bool) -> dict[str, Path]:
    """Map each class name to its folder, in sorted order; without labels, "" to ``root``."""
    if not root.is_dir():
        expected = "with a folder of images per class" if labelled else "of images"
        raise DataError(f"{root} is not a folder; expected one {expected}")
    if not labelled:
        return {"": root}
    folders = {p.name: p for p in sorted(root.iterdir()) if p.is_dir() and _is_shown(p.name)}
    if not folders:
        raise DataError(f"{root} has no folders; expected one folder of images per class")
    unknown = [name for name in folders if classes is not None and name not in classes]
    if unknown:
        known = ", ".join(classes or ())
        raise DataError(f"{root} has the classes {', '.join(unknown)}, expected some of {known}")
    return folders


def image_files(folder: str | os.PathLike[str]) -> list[str]:
    """List the image files in a folder and its subfolders, sorted, without hidden ones."""
    paths = []
    visited = set()
    for root, folders, files in os.walk(check_path("folder", folder), followlinks=True):
        real = os.path.realpath(root)
        if real in visited:  # links may lead back, or to one place twice
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if _is_shown(name))
        candidates = (Path(root, name) for name in files if _is_shown(name))
        paths += [str(p) for p in candidates if p.suffix.lower() in SUFFIXES and p.is_file()]
    paths.sort()
    if not paths:
        suffixes = ", ".join(SUFFIXES)
        raise DataError(f"{folder} has no images ({suffixes}); add some, or remove the folder")
    return paths


def _is_shown(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"
