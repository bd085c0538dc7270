"""Crops of the pictures of a folder, at their own resolution."""

from __future__ import annotations

import os

import numpy as np

from ..checks import pair
from ..errors import DataError
from .dataset import ArrayDataset, Dataset, Subset
from .folder import ImageFolder, absolute, channel_statistics, split_folder
from .images import DECODERS, read_image
from .splits import DataSplits, subsample

#: of a picture, and of a split
_EACH, _MOST = 64, 8192


class Crops(ArrayDataset):
    """Crops of pictures side by side, held in memory: items (x, x), uint8 (C, H, W) twice.

    Of a picture, 64 are kept at most, and fewer if that is more than 8,192 in all.

    Parameters
    ----------
    pictures : ImageFolder or Subset of one
        Its size is that of the crops.
    seed : int, default 0
        Chooses which crops are kept.

    Attributes
    ----------
    paths : list of str
        The file of each crop.
    root : str
        Their folder.

    Raises
    ------
    DataError
        There are no pictures; one cannot be read, or is smaller than a crop.
    """

    def __init__(self, pictures: Dataset, seed: int = 0) -> None:
        folder, indices = pictures, np.arange(len(pictures) if isinstance(pictures, Dataset) else 0)
        if isinstance(pictures, Subset):
            folder, indices = pictures.dataset, pictures.indices
        if not isinstance(folder, ImageFolder) or not len(indices):
            raise DataError(f"Crops are cut from an ImageFolder with images, got {pictures!r}")
        shape = folder.shape
        files = [folder.paths[i] for i in indices]
        most = min(_EACH, max(1, _MOST // len(indices)))
        parts: list[np.ndarray] = [np.empty(0)] * len(indices)

        def fill(n: int) -> None:
            rng = np.random.Generator(np.random.PCG64([seed, n]))
            parts[n] = _cut(files[n], shape, most, rng)

        DECODERS.run(fill, range(len(indices)), folder.threads)
        x = np.concatenate(parts)
        self.root = folder.root
        self.paths = [file for file, part in zip(files, parts, strict=True) for _ in part]
        super().__init__(x, x)


def load_crops(
    root: str | os.PathLike[str],
    size: int | tuple[int, int] = 96,
    channels: int = 3,
    share: float = 0.2,
    seed: int = 0,
    limit: int | None = None,
    on_error: str = "refuse",
) -> DataSplits:
    """Load crops of the pictures of a folder as training and test splits of (x, x).

    Parameters
    ----------
    root : path
        Has the pictures in ``train`` and ``test`` (or ``val``), or anywhere: then ``share`` of them
        is held out for testing, with all their crops.
    size, channels, on_error
        As for :class:`ImageFolder`.
    share : float, default 0.2
    seed : int, default 0
        Seed of the held-out pictures, of the crops and of ``limit``.
    limit : int, optional
        Keep only this many random crops of each split.

    Raises
    ------
    DataError, ArgumentError
        As for :class:`Crops` and :func:`split_folder`.

    Examples
    --------
    >>> load_crops("photos", size=32).image_shape
    (3, 32, 32)
    """
    path = absolute(root)
    settings = {"size": size, "channels": channels, "on_error": on_error, "labelled": False}
    pictures = split_folder(path, share, seed, **settings)[:2]
    train, test = (subsample(Crops(part, seed), limit, seed) for part in pictures)
    mean, std = channel_statistics(subsample(train, 2000, seed))
    shape = (channels, *pair(size, "size"))
    return DataSplits(path, train, test, [], mean, std, "images", path, shape)


def _cut(path: str, shape: tuple[int, ...], most: int, rng: np.random.Generator) -> np.ndarray:
    """At most ``most`` of the crops that a picture has side by side, chosen with ``rng``."""
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
