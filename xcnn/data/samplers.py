"""Orders other than a full shuffle, and weights of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..checks import check_flag, check_int, check_size
from ..errors import ArgumentError, DataError


class WeightedRandomSampler:
    """Draw items at random in proportion to weights, for example to balance rare classes.

    Pass it to ``DataLoader(sampler=...)``. The order depends only on ``seed`` and the epoch.

    Parameters
    ----------
    weights : array-like
        One number >= 0 per item of the dataset; they need not sum to 1.
    num_samples : int, optional
        Items per epoch; by default as many as there are weights.
    replacement : bool, default True
        Whether an item can be drawn more than once per epoch.
    seed : int, default 0

    Raises
    ------
    ArgumentError
        If the weights are not finite numbers >= 0 of shape (N,) with one above 0, or fewer than
        ``num_samples`` of them are above 0 without replacement.

    Examples
    --------
    >>> from xcnn.data import DataLoader
    >>> y = np.array([0, 0, 0, 1])
    >>> sampler = WeightedRandomSampler(class_weights(y)[y])  # as often 1 as 0, on average
    >>> loader = DataLoader((np.arange(4), y), batch_size=2, sampler=sampler)
    """

    def __init__(
        self, weights: Any, num_samples: int | None = None, replacement: bool = True, seed: int = 0
    ) -> None:
        values = np.asarray(weights)
        numeric = values.ndim == 1 and values.dtype.kind in "iuf"
        if not (numeric and np.isfinite(values).all() and (values >= 0).all() and values.any()):
            raise ArgumentError(
                f"weights are {values.dtype} {values.shape}: expected one finite number >= 0 per "
                "item, (N,), not all 0"
            )
        self.weights = values.astype(np.float64)
        self.num_samples = check_int(
            "num_samples", len(values) if num_samples is None else num_samples
        )
        check_size("num_samples", num_samples, (self.num_samples,))
        self.replacement = check_flag("replacement", replacement)
        self.seed = check_int("seed", seed, 0)
        drawable = np.count_nonzero(values)
        if not replacement and self.num_samples > drawable:
            raise ArgumentError(
                f"num_samples={self.num_samples}: only {drawable} weights are above 0; pass at "
                "most that many, or replacement=True"
            )

    def __len__(self) -> int:
        return self.num_samples

    def order(self, epoch: int) -> np.ndarray:
        """Draw the indices of an epoch: int64 (num_samples,)."""
        rng = np.random.Generator(np.random.PCG64([self.seed, check_int("epoch", epoch, 0)]))
        shares = self.weights / self.weights.sum()
        return rng.choice(len(shares), self.num_samples, self.replacement, shares)


class BlockOrder:
    """The shuffled order of an epoch, of which no more is computed than the slices that are taken.

    Runs of items come in random order, one after another; this sequence is cut into blocks at a
    random place, and each block is shuffled, as MosaicML's "py1b" does it.

    Parameters
    ----------
    bounds : numpy.ndarray
        See :class:`Dataset`.
    size : int
        Items in a block.
    seeds : sequence of int
    """

    def __init__(self, bounds: np.ndarray, size: int, seeds: Sequence[int]) -> None:
        self._size, self._seeds = size, seeds
        rng = np.random.Generator(np.random.PCG64(seeds))
        runs = rng.permutation(len(bounds) - 1)
        self._skipped = int(rng.integers(size))  # of the first block
        self._ends = np.cumsum(np.diff(bounds)[runs])
        self._shifts = bounds[1:][runs] - self._ends  # from places in the sequence to items
        self._last = (-1, np.empty(0, np.int64))

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, part: slice) -> np.ndarray:
        """Indices of items, int64, for a slice without a step."""
        start, stop, _ = part.indices(len(self))
        if start >= stop:
            return np.empty(0, np.int64)
        numbers = range(
            (start + self._skipped) // self._size, (stop - 1 + self._skipped) // self._size + 1
        )
        first = max(numbers[0] * self._size - self._skipped, 0)
        return np.concatenate([self._block(n) for n in numbers])[start - first : stop - first]

    def _block(self, number: int) -> np.ndarray:
        if self._last[0] != number:  # most batches lie in one block
            start = number * self._size - self._skipped
            places = np.arange(max(start, 0), min(start + self._size, len(self)))
            items = places + self._shifts[np.searchsorted(self._ends, places, "right")]
            # 1: such seeds are nobody else's
            rng = np.random.Generator(np.random.PCG64([*self._seeds, number, 1]))
            self._last = number, rng.permutation(items)
        return self._last[1]


def class_weights(labels: Any, num_classes: int | None = None) -> np.ndarray:
    """Compute weights that give every class the same total weight.

    The weight of a class is N / (classes present · items of the class), as scikit-learn's
    ``compute_class_weight("balanced")`` has it; the average over all items is 1.

    Parameters
    ----------
    labels : array-like
        Class indices, integers >= 0 of any shape.
    num_classes : int, optional
        By default the highest label + 1.

    Returns
    -------
    numpy.ndarray
        float32 (C,). A class without items gets 1.

    Raises
    ------
    DataError
        If ``labels`` are not integers from 0 to ``num_classes`` - 1, or empty.

    Examples
    --------
    >>> class_weights([0, 0, 1, 1, 1, 1])
    array([1.5 , 0.75], dtype=float32)
    """
    values = np.asarray(labels)
    if values.dtype.kind not in "iu" or not values.size or values.min() < 0:
        raise DataError(
            f"labels are {values.dtype} {values.shape}: expected at least one class index, all "
            "integers >= 0"
        )
    highest = int(values.max())
    count = highest + 1 if num_classes is None else check_int("num_classes", num_classes)
    if highest >= count:
        raise DataError(f"labels go up to {highest}: expected at most {count - 1}")
    check_size("labels" if num_classes is None else "num_classes", count, (count,), visited=True)
    counts = np.bincount(values.ravel(), minlength=count)
    weights = np.ones(count, np.float32)
    present = np.flatnonzero(counts)
    weights[present] = values.size / (len(present) * counts[present])
    return weights
