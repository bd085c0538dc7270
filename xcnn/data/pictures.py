"""Folders of pictures without classes: the target of a picture is the picture."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..checks import check_path, pair
from ..errors import DataError
from .dataset import ArrayDataset, Batch, Dataset, Subset
from .folder import TEST_FOLDERS, ImageFolder, channel_statistics, image_files
from .images import DECODERS, read_image
from .splits import DataSplits, stratified_split, subsample

#: of a split, and of a picture in it
_MOST_CROPS, _CROPS_EACH = 8192, 64


class PictureFolder(ImageFolder):
    """Pictures anywhere in ``root``, decoded on demand: items (x, x), uint8 (C, H, W) twice.

    Parameters, attributes and errors are those of :class:`ImageFolder`, but there are no classes.

    Examples
    --------
    >>> x, y = PictureFolder("photos", size=96)[0]
    >>> x is y, x.shape
    (True, (3, 96, 96))
    """

    def _list(self, classes: Sequence[str] | None) -> None:
        if not Path(self.root).is_dir():
            raise DataError(f"{self.root} is not a folder; expected one with pictures")
        self.classes, self.paths = [], image_files(self.root)
        self.labels = np.zeros(len(self.paths), np.int64)

    def __getitem__(self, index: Any) -> Any:
        x, _ = super().__getitem__(index)
        return x, x

    def batch(self, indices: np.ndarray) -> Batch:
        """Read several pictures, uint8 (N, C, H, W) twice."""
        x, _ = super().batch(indices)
        return x, x

    def crops(self, indices: np.ndarray, seed: int = 0) -> ArrayDataset:
        """Cut pictures into crops of the size (H, W) at their own resolution.

        Parameters
        ----------
        indices
            Of the pictures, integers (N,).
        seed
            Which crops are chosen of pictures with more than 64, or of more than 8,192 in all.

        Raises
        ------
        DataError
            A picture cannot be read, or is smaller than a crop.
        """
        each = min(_CROPS_EACH, max(1, _MOST_CROPS // max(1, len(indices))))
        parts: list[Any] = [None] * len(indices)

        def fill(n: int) -> None:
            rng = np.random.Generator(np.random.PCG64([seed, n]))
            parts[n] = _cut(self.paths[indices[n]], self.shape, each, rng)

        DECODERS.run(fill, range(len(indices)), self.threads)
        x = np.concatenate([np.empty((0, *self.shape), np.uint8), *parts])
        return ArrayDataset(x, x)


def load_pictures(
    root: str | os.PathLike[str],
    size: int | tuple[int, int] = 64,
    channels: int = 3,
    share: float = 0.2,
    seed: int = 0,
    limit: int | None = None,
    on_error: str = "refuse",
    crops: bool = False,
) -> DataSplits:
    """Load a folder of pictures without classes as training and test splits of (x, x).

    Parameters
    ----------
    root : path
        Has the pictures in ``train`` and ``test`` (or ``val``); or anywhere, and then ``share`` of
        them is held out for testing.
    size, channels, on_error
        As for :class:`ImageFolder`.
    share : float, default 0.2
    seed : int, default 0
        Seed of the held-out pictures, of the crops and of ``limit``.
    limit : int, optional
        Keep only this many of each split.
    crops : bool, default False
        Whether the items are crops of ``size`` at the resolution of the files, at most 64 of each,
        held in memory; else they are whole pictures, resized and cropped to ``size``.

    Raises
    ------
    DataError, ArgumentError
        As for :class:`ImageFolder`; also if there are too few pictures to hold one out, or one is
        smaller than a crop.
    """
    path = os.path.abspath(Path(check_path("root", root)).expanduser())
    settings: Any = {"size": size, "channels": channels, "on_error": on_error}
    train_root = Path(path, "train") if Path(path, "train").is_dir() else Path(path)
    tests = [Path(path, n) for n in TEST_FOLDERS if Path(path, n).is_dir()]
    train = test = PictureFolder(train_root, **settings)
    kept = np.ones(len(train), bool)
    if train_root != Path(path) and tests:
        test = PictureFolder(tests[0], **settings)
        held = np.ones(len(test), bool)
    else:
        kept = stratified_split(train.labels, share, seed)
        held = ~kept
    if not (kept.any() and held.any()):
        raise DataError(
            f"{path} has {len(train)} picture{'s' * (len(train) != 1)}: holding out {share:g} of "
            "them leaves none for training or testing; add some, or put them into train/ and test/"
        )
    splits: list[Dataset] = [Subset(train, kept), Subset(test, held)]
    if crops:
        pairs = ((train, kept), (test, held))
        splits = [folder.crops(np.flatnonzero(mask), seed) for folder, mask in pairs]
    splits = [subsample(split, limit, seed) for split in splits]
    mean, std = channel_statistics(subsample(splits[0], 2000, seed))
    shape = (channels, *pair(size, "size"))
    return DataSplits(path, *splits, [], mean, std, "images", path, shape)


def _cut(
    path: str, shape: tuple[int, ...], most: int, rng: np.random.Generator
) -> np.ndarray:
    """Crops of a picture, side by side, in an order drawn with ``rng``: at most ``most``."""
    channels, height, width = shape
    picture = read_image(path, (channels, None, None))
    rows, columns = picture.shape[1] // height, picture.shape[2] // width
    if not rows * columns:
        raise DataError(
            f"{path} has {picture.shape[2]}×{picture.shape[1]} pixels, fewer than a crop of "
            f"{width}×{height}: choose a smaller size (--image-size), or leave the picture out"
        )
    chosen = rng.permutation(rows * columns)[:most]
    corners = [(n // columns * height, n % columns * width) for n in chosen]
    return np.stack([picture[:, y : y + height, x : x + width] for y, x in corners])
