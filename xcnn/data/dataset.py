"""Datasets: arrays, user-defined ones, subsets, and data without an index.

An item, and a batch of items, is a tuple or dict of arrays; tuples and dicts may be nested. Lists
are array-like, as in ``np.asarray``.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from ..checks import check_callable, check_int
from ..errors import DataError, DTypeError
from ..notebook import html_table

#: what a dataset returns for several indices: arrays, stacked along the first axis
Batch: TypeAlias = tuple[np.ndarray, ...]


def map_arrays(function: Callable[[Any], Any], batch: Any) -> Any:
    """Apply ``function`` to every array of a batch.

    Parameters
    ----------
    function : callable
        Maps an array to a result.
    batch : tuple, dict or array
        Tuples and dicts may be nested; anything else counts as an array.

    Returns
    -------
    tuple, dict or result
        The results in the structure of ``batch``; named tuples keep their type.

    Examples
    --------
    >>> map_arrays(len, ({"image": np.zeros((4, 1, 8, 8)), "size": np.ones(4)}, np.arange(4)))
    ({'image': 4, 'size': 4}, 4)
    """
    check_callable("function", function)
    if isinstance(batch, Mapping):
        return {key: map_arrays(function, value) for key, value in batch.items()}
    if isinstance(batch, tuple):
        return _as_tuple(batch, (map_arrays(function, part) for part in batch))
    return function(batch)


def arrays_of(batch: Any) -> list[Any]:
    """List the arrays of a batch, in the order of its parts and keys."""
    arrays: list[Any] = []
    map_arrays(arrays.append, batch)
    return arrays


class Dataset:
    """Base class of datasets whose items are read by index.

    A subclass defines ``__len__`` and ``__getitem__(index)``, which returns one item: an array, a
    number, a PIL image, or a tuple or dict of them such as ``(x, y)``, possibly nested. Override
    :meth:`batch` as well if many items can be read at once.

    Attributes
    ----------
    bounds : numpy.ndarray or None
        Where runs of items that are stored together begin and end, int64 (R + 1,), from 0 to
        ``len(dataset)``: a :class:`DataLoader` shuffles the runs, and then items that are near each
        other. None, the default: items can be read in any order equally fast.
    """

    bounds: np.ndarray | None = None

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__")

    def __getitem__(self, index: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def _repr_html_(self) -> str:
        """Show the size and the first item as a table in a notebook."""
        return html_table([self._row()])

    def _row(self) -> dict[str, Any]:
        """Return the class, the number of items, and the types and shapes of an item's parts."""
        first = self.batch(np.arange(1)) if len(self) else ()
        arrays = arrays_of(first)
        shapes = [f"{a.dtype} {'×'.join(map(str, a.shape[1:]))}".strip() for a in arrays]
        return {"dataset": type(self).__name__, "items": len(self), "item": ", ".join(shapes)}

    def batch(self, indices: np.ndarray) -> Batch:
        """Read several items.

        Parameters
        ----------
        indices : numpy.ndarray
            Integers (N,).

        Returns
        -------
        tuple or dict
            The structure of an item, with each array stacked along a new first axis; items that
            are neither tuples nor dicts give a tuple of one. PIL images become (N, C, H, W).

        Raises
        ------
        DataError
            If the items differ in structure or in the shape of a part, or are not arrays.
        """
        return _collate_items(self, _read(self, indices))


class ArrayDataset(Dataset):
    """Arrays of equal length, indexed together: usually images and labels.

    Parameters
    ----------
    *arrays : array-like, or tuples or dicts of them
        NumPy arrays, including ``np.memmap``, are never copied. Lists and objects that convert to
        NumPy are converted; Python floats become float32. Any other object with ``__len__`` and
        ``__getitem__`` is read item by item. Items have the structure of the arguments; a single
        dict gives dicts.

    Attributes
    ----------
    arrays : tuple or dict
        The arrays, in the structure of the arguments.

    Raises
    ------
    DataError
        If there are no arrays, their lengths differ, or one of them cannot be used.

    Examples
    --------
    >>> data = ArrayDataset(np.zeros((4, 1, 8, 8), np.uint8), [0, 1, 0, 1])
    >>> len(data), int(data[1][1]), data[[0, 1]][0].shape
    (4, 1, (2, 1, 8, 8))
    >>> ArrayDataset({"x": np.zeros((4, 2)), "y": [0, 1, 0, 1]})[2]["y"].item()
    0
    """

    def __init__(self, *arrays: Any) -> None:
        single = len(arrays) == 1 and isinstance(arrays[0], Mapping)
        self.arrays: Any = _as_structure(arrays[0] if single else arrays, "")
        self._leaves = arrays_of(self.arrays)
        if not self._leaves:
            raise DataError("ArrayDataset got no arrays; pass at least one, such as (x, y)")
        lengths = [len(array) for array in self._leaves]
        if len(set(lengths)) > 1:
            raise DataError(
                f"the arrays of a dataset must have the same length, got {lengths}; "
                "pass one entry per item in every array"
            )

    def __len__(self) -> int:
        return len(self._leaves[0])

    def __getitem__(self, index: Any) -> Any:
        """Read one item (int) or several (slice, integers or booleans (N,)).

        Raises
        ------
        IndexError
            If ``index`` is out of range.
        """
        if isinstance(index, slice) or np.ndim(index):
            return self.batch(np.arange(len(self))[index])
        return map_arrays(operator.itemgetter(operator.index(index)), self.arrays)

    def batch(self, indices: np.ndarray) -> Any:
        """Read several items, with indices (N,): a copied part of each of ``arrays``."""
        return map_arrays(lambda array: _take(array, indices), self.arrays)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} items: {', '.join(map(describe, self._leaves))})"


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
                f"{describe(selected)}"
            )
        try:
            self.indices = np.arange(len(self.dataset))[selected]
        except IndexError as error:
            raise DataError(
                f"indices of a Subset of {len(self.dataset)} items are out of range: {error}"
            ) from error
        runs = self.dataset.bounds
        if runs is not None and (np.diff(self.indices) > 0).all():
            self.bounds = np.searchsorted(self.indices, runs)

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice) or np.ndim(index):
            return self.batch(np.arange(len(self))[index])
        return self.dataset[int(self.indices[operator.index(index)])]

    def batch(self, indices: np.ndarray) -> Batch:
        """Read several items by their indices in this subset."""
        return self.dataset.batch(self.indices[indices])


class IterableDataset(Dataset):
    """Data that can only be read in order, such as a stream or what a generator function yields.

    Subclasses may define ``__iter__`` instead of passing ``source``.

    Parameters
    ----------
    source : iterable or callable
        Yields items, as a :class:`Dataset` returns them. A callable, such as a generator function,
        is called at the start of each epoch and returns an iterable. An iterator, such as a
        generator object, can be read in one epoch only.
    length : int, optional
        Number of items, if it is known and ``source`` has no ``len()``.

    Raises
    ------
    DTypeError
        If ``source`` is neither; from ``len()``, if the length is unknown.
    DataError
        If a second epoch of an iterator is read.

    Examples
    --------
    >>> from xcnn.data import DataLoader
    >>> def squares():
    ...     for n in range(5):
    ...         yield np.float32(n), n * n
    >>> [y.tolist() for _, y in DataLoader(IterableDataset(squares), batch_size=2)]
    [[0, 1], [4, 9], [16]]
    """

    source: Any = None
    length: int | None = None
    _started = False

    def __init__(self, source: Any = None, length: int | None = None) -> None:
        own_iter = type(self).__iter__ is not IterableDataset.__iter__
        if not (own_iter or _is_iterable(source) or callable(source)):
            raise DTypeError(
                f"source is {type(source).__name__}: expected an iterable, or a function that "
                "returns one, such as a generator function"
            )
        self.source = source
        self.length = None if length is None else check_int("length", length, 0)

    def __iter__(self) -> Iterator[Any]:
        if not isinstance(self.source, Iterable):
            items = self.source()
            if not _is_iterable(items):
                raise DTypeError(
                    f"{name_of(self)} returned {type(items).__name__}: expected an iterable of "
                    "items, as a generator function returns"
                )
            return iter(items)
        iterator = iter(self.source)
        if iterator is self.source and self._started:
            raise DataError(
                f"{name_of(self)} is a {type(iterator).__name__}, which yields its items once, and "
                "an earlier epoch has read it: pass a function that creates a new one for each "
                "epoch, such as the generator function itself"
            )
        self._started = True
        return iterator

    def __len__(self) -> int:
        if self.length is None and not hasattr(self.source, "__len__"):
            raise DTypeError(f"{name_of(self)} has no known length: it is read in order to its end")
        return len(self.source) if self.length is None else self.length

    def __getitem__(self, index: Any) -> Any:
        raise DTypeError(f"{name_of(self)} has no index: it is read in order")

    def _row(self) -> dict[str, Any]:
        """As for other datasets, but nothing is read: an iterator would lose its first item."""
        items = operator.length_hint(self, -1)
        return {"dataset": type(self).__name__, "items": "unknown" if items < 0 else items}

    def stack(self, items: Iterable[Any]) -> Any:
        """Combine several items into a batch."""
        return _collate_items(self, list(items))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({name_of(self)})"


def as_dataset(data: Any) -> Dataset:
    """Wrap arrays, a sequence or an iterable in a :class:`Dataset`.

    Parameters
    ----------
    data : Dataset, array, tuple, dict or list of array-like, list of items, iterable
        Or an object with len() and indexing, or a generator function. A list of tuples, dicts or
        PIL images is a list of items.

    Raises
    ------
    DataError
        If ``data`` is none of these.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, Mapping):
        return ArrayDataset(data)
    if isinstance(data, list) and data and all(map(_is_item, data)):
        return SequenceDataset(data)
    if isinstance(data, tuple | list):
        return ArrayDataset(*data)
    if hasattr(data, "__array__"):
        return ArrayDataset(data)
    if _is_sequence(data):
        return SequenceDataset(data)
    batched = hasattr(data, "batch_size")
    if (isinstance(data, Iterable) or inspect.isgeneratorfunction(data)) and not batched:
        return IterableDataset(data)
    hint = ", such as its .train" if isinstance(getattr(data, "train", None), Dataset) else ""
    hint = "; it yields batches already, loop over it directly" if batched else hint
    raise DataError(
        f"data must be a Dataset, arrays such as (x, y), an object with __len__ and __getitem__, "
        f"or an iterable, got {type(data).__name__}; pass one of these{hint}"
    )


def name_of(data: Any) -> str:
    """Name of a dataset, or of the function or object that it reads, for messages."""
    source = data.source if type(data) is IterableDataset else data
    source = data.items if type(data) is SequenceDataset else source
    return getattr(source, "__name__", type(source).__name__)


class SequenceDataset(Dataset):
    """Wraps an object with ``__len__`` and ``__getitem__`` that is not a :class:`Dataset`."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: Any) -> Any:
        return self.items[index]


def _is_iterable(value: Any) -> bool:
    return isinstance(value, Iterable) and getattr(value, "ndim", 1) > 0


def _is_sequence(value: Any) -> bool:
    is_class = isinstance(value, type)
    return hasattr(value, "__len__") and hasattr(value, "__getitem__") and not is_class


def _take(array: Any, indices: np.ndarray) -> Any:
    if isinstance(array, np.ndarray):
        return np.asarray(array[indices])
    return _collate(array, _read(array, indices))


def _read(items: Any, indices: np.ndarray) -> list[Any]:
    """Read items one by one; an exception gets a note with the number of its item."""
    samples, index = [], 0
    try:
        for index in np.asarray(indices).tolist():
            samples.append(items[index])
    except Exception as error:
        error.add_note(f"item {index} of {name_of(items)}")
        raise
    return samples


def _collate_items(source: Any, samples: list[Any]) -> Any:
    """Stack items; those that are neither tuples nor dicts count as tuples of one."""
    if samples and not isinstance(samples[0], tuple | Mapping):
        samples = [(item,) for item in samples]
    return _collate(source, samples) if samples else ()


def _collate(source: Any, samples: Sequence[Any]) -> Any:
    """Stack nested items of equal structure."""
    first = samples[0]
    if not isinstance(first, tuple | Mapping):
        return _stack(source, samples)
    structures = set(map(_structure, samples))
    if len(structures) > 1:
        found = " and ".join(sorted(map(str, structures)))
        raise DataError(f"{name_of(source)} returned items with {found} parts; all must be alike")
    keys = first if isinstance(first, Mapping) else range(len(first))
    parts = {key: _collate(source, [sample[key] for sample in samples]) for key in keys}
    return parts if isinstance(first, Mapping) else _as_tuple(first, parts.values())


def _structure(sample: Any) -> int | str:
    """The number of parts of a tuple, or the keys of a dict."""
    if isinstance(sample, tuple):
        return len(sample)
    return str(sorted(map(str, sample))) if isinstance(sample, Mapping) else "no"


def _as_tuple(like: tuple, parts: Iterable[Any]) -> tuple:
    """A tuple of ``parts``, of the type of ``like`` if that is a named tuple."""
    return type(like)(*parts) if hasattr(like, "_fields") else tuple(parts)


def _stack(source: Any, values: Sequence[Any]) -> np.ndarray:
    arrays = [_to_numpy(value) for value in values]
    if any(array.dtype.hasobject for array in arrays):
        raise DataError(
            f"{name_of(source)} returned items that contain {type(arrays[0].flat[0]).__name__}: "
            "expected numbers, arrays or PIL images, in tuples or dicts"
        )
    shapes = sorted({array.shape for array in arrays})
    if len(shapes) > 1:
        raise DataError(
            f"{name_of(source)} returned items of shapes {shapes}; crop, resize or pad them "
            "to one shape"
        )
    return np.stack(arrays)


def _as_structure(value: Any, where: str) -> Any:
    """Check the arguments of ArrayDataset and convert those that are array-like."""
    if isinstance(value, Mapping) and (value or not where):
        return {key: _as_structure(part, f"{where}[{key!r}]") for key, part in value.items()}
    if isinstance(value, tuple) and (not where or (value and all(map(_is_part, value)))):
        names = (f"{where}[{i}]" if where else str(i) for i in range(len(value)))
        return _as_tuple(value, map(_as_structure, value, names))
    return _as_items(value, where)


def _is_item(value: Any) -> bool:
    """Whether a list of such values is a list of items, not an array."""
    return isinstance(value, tuple | Mapping) or _is_image(value)


def _is_image(value: Any) -> bool:
    """Whether ``value`` is a PIL image, which does not need to be imported for this."""
    return hasattr(value, "getbands")


def _is_part(value: Any) -> bool:
    """Whether a tuple that contains ``value`` is a tuple of arrays, not a row of numbers."""
    if isinstance(value, tuple):
        return bool(value) and all(map(_is_part, value))
    return isinstance(value, Mapping) or (hasattr(value, "__array__") and np.ndim(value) > 0)


def _as_items(array: Any, where: str) -> Any:
    """Check one array of ArrayDataset and convert it if it is array-like."""
    where = f"array {where} of a dataset"
    if hasattr(array, "__cuda_array_interface__"):
        raise DataError(f"{where} is on a GPU; data must be on the host: pass cupy.asnumpy(array)")
    if isinstance(array, list | tuple) and array and all(map(_is_image, array)):
        array = _stack(array, array)
    elif isinstance(array, list | tuple) or hasattr(array, "__array__"):
        try:
            array = _to_numpy(array)
        except DataError as error:
            raise DataError(f"{where} has {error}") from error
        if array.ndim == 0 or array.dtype.hasobject:
            raise DataError(f"{where} must be numeric, of shape (N, ...), got {describe(array)}")
    elif not _is_sequence(array) or isinstance(array, str | bytes):
        raise DataError(f"{where} must be array-like, got {type(array).__name__}")
    return array


def _to_numpy(value: Any) -> np.ndarray:
    """Convert to NumPy; Python floats become float32, the library's default dtype.

    A PIL image becomes (C, H, W), as torchvision's ``pil_to_tensor`` does it.
    """
    if isinstance(value, np.ndarray):
        return value
    if _is_image(value):
        pixels = np.asarray(value.convert("L") if value.mode == "1" else value)
        return pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, 2, 0)
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise DataError(f"rows of different lengths: {error}") from error
    from_python = isinstance(value, list | tuple) or type(value) is float
    return array.astype(np.float32) if from_python and array.dtype == np.float64 else array


def describe(array: Any) -> str:
    """Dtype and shape of an array, or the type of another object, for messages."""
    return f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
