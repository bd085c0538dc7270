"""Training and test splits of a dataset."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import check_int
from .dataset import Dataset, Subset, as_dataset
from .transforms import Normalize


@dataclass(frozen=True)
class DataSplits:
    """The training and test splits of a loaded dataset.

    Attributes
    ----------
    name : str
    train, test : Dataset
        Pairs (x, y): images uint8 (N, C, H, W) or features float32 (N, F), and labels int64 (N,).
        :func:`load` returns them as :class:`ArrayDataset`.
    classes : list of str
        Name of each label.
    mean, std : tuple of float
        Statistics of the full training split, regardless of ``limit``: per channel for images, with
        pixels divided by 255; per feature, unscaled, for features.
    kind : str
        ``"images"`` or ``"features"``.
    source : str
        ``"embedded"``, ``"generated"``, or the folder the files were read from.
    image_shape : tuple of int
        Shape of one item, the input shape of a model: (C, H, W), or (F,) for features.
    """

    name: str
    train: Dataset
    test: Dataset
    classes: list[str]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    kind: str
    source: str
    image_shape: tuple[int, ...]

    def normalize(self) -> Normalize:
        """Create the transform that normalises x with ``mean`` and ``std``."""
        return Normalize(self.mean, self.std, scale=255 if self.kind == "images" else 1)


def stratified_split(labels: np.ndarray, share: float = 0.2, seed: int = 0) -> np.ndarray:
    """Draw a training mask that holds out the same share of every class.

    Parameters
    ----------
    labels : numpy.ndarray
        Integers (N,).
    share : float, default 0.2
        Fraction held out for testing. The total is rounded up; the classes with the largest
        remainders hold out one more item each.
    seed : int, default 0

    Returns
    -------
    numpy.ndarray
        bool (N,), True for training.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    classes, counts = np.unique(labels, return_counts=True)
    quotas = np.floor(counts * share).astype(int)
    missing = int(np.ceil(len(labels) * share)) - quotas.sum()
    quotas[np.argsort(quotas - counts * share, kind="stable")[:missing]] += 1
    train = np.ones(len(labels), bool)
    for label, quota in zip(classes, quotas, strict=True):
        train[rng.permutation(np.flatnonzero(labels == label))[:quota]] = False
    return train


def subsample(data: Any, limit: int | None, seed: int = 0) -> Dataset:
    """Select at most ``limit`` random items, drawn with ``seed``, in their original order."""
    dataset = as_dataset(data)
    if limit is None or check_int("limit", limit, 0) >= len(dataset):
        return dataset
    check_int("seed", seed, 0)
    selected = np.random.Generator(np.random.PCG64(seed)).permutation(len(dataset))[:limit]
    return Subset(dataset, np.sort(selected))
