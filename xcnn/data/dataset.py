"""Data sets that are read by number: of arrays, of a user's own items, and parts of others."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..errors import DataError

Batch: TypeAlias = tuple[np.ndarray, ...]


class Dataset:
    """Base of data sets whose items are read by number.

    A subclass defines ``__len__`` and ``__getitem__(index)``, which returns one item: an array, or
    a tuple such as ``(x, y)``. Define :meth:`batch` too where many items can be read at once.
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__")

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def batch(self, indices: np.ndarray) -> Batch:
        """Read several items.

        Parameters
        ----------
        indices : numpy.ndarray
            Integers (N,).

        Returns
        -------
        tuple of numpy.ndarray
            One array for each part of an item, the items along its first axis.
        """
        return _stack_items(self, indices)


class ArrayDataset(Dataset):
    """Arrays of equal length, read side by side: usually images and labels.

    Parameters
    ----------
    *arrays : array-like
        NumPy arrays (``np.memmap`` too) are kept as they are, never copied. Lists and objects that
        convert to NumPy are converted; Python floats become float32. Anything else with
        ``__len__`` and ``__getitem__`` is read item by item.

    Raises
    ------
    DataError
        If there are no arrays, their lengths differ, or one cannot be used.

    Examples
    --------
    >>> data = ArrayDataset(np.zeros((4, 1, 8, 8), np.uint8), [0, 1, 0, 1])
    >>> len(data), int(data[1][1]), data[[0, 1]][0].shape
    (4, 1, (2, 1, 8, 8))
    """

    def __init__(self, *arrays: Any) -> None:
        if not arrays:
            raise DataError("ArrayDataset got no arrays; pass at least one, such as (x, y)")
        self.arrays = tuple(_as_items(array, i) for i, array in enumerate(arrays))
        lengths = [len(array) for array in self.arrays]
        if len(set(lengths)) > 1:
            raise DataError(
                f"the arrays of a data set must have the same length, got {lengths}; "
                "pass one entry for each item in every array"
            )

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        """Read one item (int), or several (slice, integers or booleans (N,)).

        Raises
        ------
        IndexError
            If ``index`` lies outside the data set.
        """
        if isinstance(index, slice):
            return self.batch(np.arange(len(self))[index])
        if np.ndim(index):
            return self.batch(np.arange(len(self))[np.asarray(index)])
        return tuple(array[operator.index(index)] for array in self.arrays)

    def batch(self, indices: np.ndarray) -> Batch:
        """Read several items: one array for each of ``arrays``, copied.

        Parameters
        ----------
        indices : numpy.ndarray
            Integers (N,).
        """
        return tuple(_pick(array, indices) for array in self.arrays)

    def __repr__(self) -> str:
        parts = [_describe(array) for array in self.arrays]
        return f"ArrayDataset({len(self)} items: {', '.join(parts)})"


class Subset(Dataset):
    """Chosen items of another data set.

    Parameters
    ----------
    dataset : Dataset
        What to choose from.
    indices : array-like
        Integers (M,) in the wanted order, or booleans (len(dataset),).

    Raises
    ------
    DataError
        If ``indices`` lie outside the data set, or are not integers or booleans.
    """

    def __init__(self, dataset: Any, indices: Any) -> None:
        self.dataset = as_dataset(dataset)
        chosen = np.asarray(indices)
        if chosen.size == 0:
            chosen = chosen.astype(np.int64)
        if chosen.ndim != 1 or chosen.dtype.kind not in "iub":
            raise DataError(
                f"Subset wants integers or booleans of shape (N,) as indices, got "
                f"{_describe(chosen)}"
            )
        try:
            self.indices = np.arange(len(self.dataset))[chosen]
        except IndexError as error:
            raise DataError(
                f"indices of a Subset of {len(self.dataset)} items lie outside it: {error}"
            ) from error

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        if np.ndim(index) or isinstance(index, slice):
            return self.batch(np.arange(len(self))[index])
        return self.dataset[int(self.indices[operator.index(index)])]

    def batch(self, indices: np.ndarray) -> Batch:
        """Read several items, numbered within this subset."""
        return self.dataset.batch(self.indices[indices])


def as_dataset(data: Any) -> Dataset:
    """Make a :class:`Dataset` of what a user passed as data.

    Parameters
    ----------
    data : Dataset, tuple or list of array-like, array, or any object read by number

    Raises
    ------
    DataError
        If ``data`` has no ``__len__`` or ``__getitem__``.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, tuple | list):
        return ArrayDataset(*data)
    if hasattr(data, "__array__"):
        return ArrayDataset(data)
    if hasattr(data, "__len__") and hasattr(data, "__getitem__"):
        return _Foreign(data)
    hint = ", such as its .train" if hasattr(data, "train") else ""
    raise DataError(
        f"data must be a Dataset, arrays such as (x, y), or an object with __len__ and "
        f"__getitem__, got {type(data).__name__}; pass one of these{hint}"
    )


class _Foreign(Dataset):
    """A user's object that has the methods of a data set without being one."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]


def _stack_items(items: Any, indices: np.ndarray) -> Batch:
    """Read items one by one and join their parts along a new first axis."""
    rows = [items[int(i)] for i in indices]
    rows = [row if isinstance(row, tuple) else (row,) for row in rows]
    if len({len(row) for row in rows}) > 1:
        raise DataError(
            f"{type(items).__name__} gave items with {sorted({len(row) for row in rows})} parts; "
            "every item must have the same number"
        )
    return tuple(_stack(parts, type(items).__name__) for parts in zip(*rows, strict=True))


def _stack(parts: Sequence[Any], source: str) -> np.ndarray:
    arrays = [_to_numpy(part) for part in parts]
    if len({array.shape for array in arrays}) > 1:
        raise DataError(
            f"{source} gave items of the shapes {sorted({array.shape for array in arrays})}; "
            "items of one batch must have the same shape: crop, resize or pad them"
        )
    return np.stack(arrays)


def _as_items(array: Any, position: int) -> Any:
    """Bring one argument of ArrayDataset to something with a length and items."""
    where = f"array {position} of a data set"
    if hasattr(array, "__cuda_array_interface__"):
        raise DataError(f"{where} lies on a GPU; data live on the host: pass cupy.asnumpy(array)")
    if isinstance(array, np.ndarray | list | tuple) or hasattr(array, "__array__"):
        try:
            array = _to_numpy(array)
        except ValueError as error:
            raise DataError(f"{where} has rows of different lengths: {error}") from error
        if array.ndim == 0 or array.dtype.hasobject:
            raise DataError(f"{where} must be numbers of shape (N, ...), got {_describe(array)}")
    elif not (hasattr(array, "__len__") and hasattr(array, "__getitem__")):
        raise DataError(f"{where} must be array-like, got {type(array).__name__}")
    return array


def _to_numpy(value: Any) -> np.ndarray:
    """Convert to NumPy; Python's floats become float32, the library's own type."""
    if isinstance(value, np.ndarray):
        return value
    array = np.asarray(value)
    python = isinstance(value, list | tuple) or type(value) is float
    return array.astype(np.float32) if python and array.dtype == np.float64 else array


def _pick(array: Any, indices: np.ndarray) -> np.ndarray:
    if isinstance(array, np.ndarray):
        return np.asarray(array[indices])
    return _stack([array[int(i)] for i in indices], type(array).__name__)


def _describe(array: Any) -> str:
    if isinstance(array, np.ndarray):
        return f"{array.dtype} {array.shape}"
    return type(array).__name__


def stratified(labels: np.ndarray, share: float = 0.2, seed: int = 0) -> np.ndarray:
    """Draw a training mask that holds back the same share of every class.

    Parameters
    ----------
    labels : numpy.ndarray
        Integers (N,).
    share : float, default 0.2
        Part that is held back for testing. The total is rounded up, and the classes that are
        nearest to one more image get one more.
    seed : int, default 0

    Returns
    -------
    numpy.ndarray
        bool (N,), true for training.
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
