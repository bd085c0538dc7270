"""Training and test splits of a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..checks import check_int, check_number
from ..errors import DataError
from ..notebook import html_table
from .dataset import (
    ArrayDataset,
    Dataset,
    SequenceDataset,
    Subset,
    arrays_of,
    as_dataset,
    describe,
    name_of,
)
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

    def _repr_html_(self) -> str:
        """Show sizes and classes as a table in a notebook."""
        rows = [{"split": k, **v._row()} for k, v in (("train", self.train), ("test", self.test))]
        title = f"{self.name}: {len(self.classes)} classes ({', '.join(self.classes)})"
        return html_table(rows, title)

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
    total = int(np.ceil(np.round(len(labels) * share, 9)))  # 0.07 · 100 is 7.000000000000001
    quotas[np.argsort(quotas - counts * share, kind="stable")[: total - quotas.sum()]] += 1
    train = np.ones(len(labels), bool)
    for label, quota in zip(classes, quotas, strict=True):
        train[rng.permutation(np.flatnonzero(labels == label))[:quota]] = False
    return train


def split(
    data: Any, fraction: float = 0.2, seed: int = 0, stratify: Any = None
) -> tuple[Subset, Subset]:
    """Split data at random into two parts, for training and validation.

    Parameters
    ----------
    data : Dataset, or arrays such as (x, y)
        Anything that can be read by index.
    fraction : float, default 0.2
        Share of the items in the second part, rounded up.
    seed : int, default 0
    stratify : array-like (N,), True or None
        Labels of the items, or True for those of the dataset (see :func:`labels`): each class
        contributes the same fraction, to within one item.

    Returns
    -------
    train, validation : Subset
        In the original order.

    Raises
    ------
    ArgumentError
        If ``fraction`` is not between 0 and 1.
    DataError
        If a part would be empty, or the labels do not fit the data.

    Examples
    --------
    >>> train, validation = split((np.zeros((10, 2)), np.arange(10) % 2), 0.3, stratify=True)
    >>> len(train), len(validation)
    (7, 3)
    """
    dataset = as_dataset(data)
    check_number("fraction", fraction, 0, 1)
    train = stratified_split(_strata(dataset, stratify), fraction, check_int("seed", seed, 0))
    if train.all() or not train.any():
        raise DataError(
            f"fraction={fraction!r} of {len(train)} items leaves none for one of the parts"
        )
    return Subset(dataset, train), Subset(dataset, ~train)


def kfold(
    data: Any, k: int = 5, seed: int = 0, stratify: Any = None
) -> Iterator[tuple[Subset, Subset]]:
    """Yield ``k`` splits for cross-validation; each item is in the validation part of one.

    Parameters
    ----------
    data, seed, stratify
        As for :func:`split`. The items of each class, and of all, differ by at most one between
        the parts.
    k : int, default 5

    Yields
    ------
    train, validation : Subset

    Raises
    ------
    ArgumentError
        If ``k`` is less than 2.
    DataError
        If there are fewer than ``k`` items, or the labels do not fit the data.

    Examples
    --------
    >>> [len(validation) for train, validation in kfold(np.zeros((10, 2)), k=3)]
    [4, 3, 3]
    """
    dataset, k = as_dataset(data), check_int("k", k, 2)
    strata = _strata(dataset, stratify)
    if len(strata) < k:
        raise DataError(f"k={k}: there are only {len(strata)} items")
    rng = np.random.Generator(np.random.PCG64(check_int("seed", seed, 0)))
    order = rng.permutation(len(strata))
    order = order[np.argsort(strata[order], kind="stable")]  # class by class, each shuffled
    folds = np.empty(len(strata), int)
    folds[order] = np.arange(len(strata)) % k
    return ((Subset(dataset, folds != n), Subset(dataset, folds == n)) for n in range(k))


def labels(data: Any) -> np.ndarray:
    """Return the labels of all items, without reading their images.

    Parameters
    ----------
    data : Dataset, arrays such as (x, y), or a torchvision dataset
        The labels are the attribute ``labels`` or ``targets``, or else the last array of the data.

    Returns
    -------
    numpy.ndarray
        (N, ...)

    Raises
    ------
    DataError
        If the data have neither.
    """
    dataset = as_dataset(data)
    source = dataset.items if isinstance(dataset, SequenceDataset) else dataset
    if hasattr(source, "dataset") and hasattr(source, "indices"):  # Subset, also PyTorch's
        return labels(source.dataset)[source.indices]
    for name in ("labels", "targets"):
        if hasattr(source, name):
            return np.asarray(getattr(source, name))
    arrays = arrays_of(dataset.arrays) if isinstance(dataset, ArrayDataset) else []
    if len(arrays) < 2:
        raise DataError(
            f"{name_of(source)} has no labels: pass them, or add an attribute labels or targets"
        )
    return np.asarray(arrays[-1])


def _strata(dataset: Dataset, stratify: Any) -> np.ndarray:
    """Return the number of each item's class, (N,); one class for all without ``stratify``."""
    count = len(dataset)
    if stratify is None or stratify is False:
        return np.zeros(count, int)
    values = labels(dataset) if stratify is True else np.asarray(stratify)
    if values.shape != (count,) or values.dtype.kind not in "biuSU":
        raise DataError(
            f"the labels to stratify by are {describe(values)}: expected one class per item, "
            f"({count},)"
        )
    return np.unique(values, return_inverse=True)[1]


def subsample(data: Any, limit: int | None, seed: int = 0) -> Dataset:
    """Select at most ``limit`` random items, drawn with ``seed``, in their original order."""
    dataset = as_dataset(data)
    seed = check_int("seed", seed, 0)
    if limit is None or (limit := check_int("limit", limit, 0)) >= len(dataset):
        return dataset
    selected = np.random.Generator(np.random.PCG64(seed)).permutation(len(dataset))[:limit]
    return Subset(dataset, np.sort(selected))
