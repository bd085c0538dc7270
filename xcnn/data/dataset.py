"""Map-style datasets: arrays, user-defined datasets and subsets."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from ..errors import DataError

Batch: TypeAlias = tuple[np.ndarray, ...]


class Dataset:
    """Base class of datasets whose items are read by index.

    A subclass defines ``__len__`` and ``__getitem__(index)``, which returns one item: an array, or
    a tuple such as ``(x, y)``. Override :meth:`batch` as well if many items can be read at once.
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
            One array for each part of an item, stacked along a new first axis.

        Raises
        ------
        DataError
            If the items differ in their number of parts, or in the shape of a part.
        """
        return _stack_items(self, indices)


class ArrayDataset(Dataset):
    """Arrays of equal length, indexed together: usually images and labels.

    Parameters
    ----------
    *arrays : array-like
        NumPy arrays, including ``np.memmap``, are never copied. Lists and objects that convert to
        NumPy are converted; Python floats become float32. Any other object with ``__len__`` and
        ``__getitem__`` is read item by item.

    Raises
    ------
    DataError
        If there are no arrays, their lengths differ, or one of them cannot be used.

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
                f"the arrays of a dataset must have the same length, got {lengths}; "
                "pass one entry per item in every array"
            )

    def __len__(self) -> int:
        return len(self.arrays[0])

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        """Read one item (int) or several (slice, integers or booleans (N,)).

        Raises
        ------
        IndexError
            If ``index`` is out of range.
        """
        if isinstance(index, slice) or np.ndim(index):
            return self.batch(np.arange(len(self))[index])
        return tuple(array[operator.index(index)] for array in self.arrays)

    def batch(self, indices: np.ndarray) -> Batch:
        """Read several items, with indices (N,): one copied array for each of ``arrays``."""
        return tuple(_take(array, indices) for array in self.arrays)

    def __repr__(self) -> str:
        return f"ArrayDataset({len(self)} items: {', '.join(map(_describe, self.arrays))})"


class Subset(Dataset):
    """Selected items of another dataset.

    Parameters
    ----------
    dataset : Dataset
        The dataset to select from.
    indices : array-like
        Integers (M,) in the wanted order, or booleans (len(dataset),).

    Raises
    ------
    DataError
        If an index is out of range, or ``indices`` are not integers or booleans.
    """

    def __init__(self, dataset: Any, indices: Any) -> None:
        self.dataset = as_dataset(dataset)
        selected = np.asarray(indices)
        if selected.size == 0:
            selected = selected.astype(np.int64)
        if selected.ndim != 1 or selected.dtype.kind not in "iub":
            raise DataError(
                f"Subset needs integers or booleans of shape (N,) as indices, got "
                f"{_describe(selected)}"
            )
        try:
            self.indices = np.arange(len(self.dataset))[selected]
        except IndexError as error:
            raise DataError(
                f"indices of a Subset of {len(self.dataset)} items are out of range: {error}"
            ) from error

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice) or np.ndim(index):
            return self.batch(np.arange(len(self))[index])
        return self.dataset[int(self.indices[operator.index(index)])]

    def batch(self, indices: np.ndarray) -> Batch:
        """Read several items by their indices in this subset."""
        return self.dataset.batch(self.indices[indices])


def as_dataset(data: Any) -> Dataset:
    """Wrap arrays or a sequence in a :class:`Dataset`.

    Parameters
    ----------
    data : Dataset, array, tuple or list of array-like, or object with len() and indexing

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
    if _is_sequence(data):
        return _SequenceDataset(data)
    hint = ", such as its .train" if hasattr(data, "train") else ""
    raise DataError(
        f"data must be a Dataset, arrays such as (x, y), or an object with __len__ and "
        f"__getitem__, got {type(data).__name__}; pass one of these{hint}"
    )


class _SequenceDataset(Dataset):
    """Wraps an object with ``__len__`` and ``__getitem__`` that is not a :class:`Dataset`."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]

    def batch(self, indices: np.ndarray) -> Batch:
        return _stack_items(self.items, indices)


def _is_sequence(value: Any) -> bool:
    is_class = isinstance(value, type)
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not is_class


def _take(array: Any, indices: np.ndarray) -> np.ndarray:
    if isinstance(array, np.ndarray):
        return np.asarray(array[indices])
    return _stack(array, [array[int(i)] for i in indices])


def _stack_items(items: Any, indices: np.ndarray) -> Batch:
    """Read items one by one and stack each of their parts along a new first axis."""
    samples = [items[int(i)] for i in indices]
    samples = [sample if isinstance(sample, tuple) else (sample,) for sample in samples]
    lengths = sorted({len(sample) for sample in samples})
    if len(lengths) > 1:
        raise DataError(
            f"{type(items).__name__} returned items with {lengths} parts; all must have the same "
            "number of parts"
        )
    return tuple(_stack(items, values) for values in zip(*samples, strict=True))


def _stack(source: Any, values: Sequence[Any]) -> np.ndarray:
    arrays = [_to_numpy(value) for value in values]
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise DataError(
            f"{type(source).__name__} returned items of shapes {shapes}; crop, resize or pad them "
            "to one shape"
        )
    return np.stack(arrays)


def _as_items(array: Any, position: int) -> Any:
    """Check one argument of ArrayDataset and convert it if it is array-like."""
    where = f"array {position} of a dataset"
    if hasattr(array, "__cuda_array_interface__"):
        raise DataError(f"{where} is on a GPU; data must be on the host: pass cupy.asnumpy(array)")
    if isinstance(array, list | tuple) or hasattr(array, "__array__"):
        try:
            array = _to_numpy(array)
        except ValueError as error:
            raise DataError(f"{where} has rows of different lengths: {error}") from error
        if array.ndim == 0 or array.dtype.hasobject:
            raise DataError(f"{where} must be numeric, of shape (N, ...), got {_describe(array)}")
    elif not _is_sequence(array):
        raise DataError(f"{where} must be array-like, got {type(array).__name__}")
    return array


def _to_numpy(value: Any) -> np.ndarray:
    """Convert to NumPy; Python floats become float32, the library's default dtype."""
    if isinstance(value, np.ndarray):
        return value
    array = np.asarray(value)
    from_python = isinstance(value, list | tuple) or type(value) is float
    return array.astype(np.float32) if from_python and array.dtype == np.float64 else array


def _describe(array: Any) -> str:
    return f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
