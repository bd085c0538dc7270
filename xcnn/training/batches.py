"""What ``fit``, ``evaluate`` and ``predict`` take as data."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from numbers import Number
from typing import Any

from .. import backends, data
from ..checks import check_int, check_number, check_size
from ..data import DataLoader, Dataset, arrays_of
from ..errors import ArgumentError, DataError, DTypeError, show
from ..tensor import Tensor

_NAMES = (("x", "image", "images", "pixel_values"), ("y", "label", "labels", "target"))


def as_loader(x: Any, y: Any, batch_size: int, shuffle: bool = False, seed: int = 0) -> DataLoader:
    """Return ``x`` if it is a DataLoader, else create one."""
    if isinstance(x, DataLoader | Dataset) and y is not None:
        raise ArgumentError(
            f"y={type(y).__name__}: a {type(x).__name__} already yields (x, y); omit y"
        )
    if isinstance(x, DataLoader):
        return x
    if isinstance(x, dict | tuple) and not x:
        raise DataError(f"x={show(x)}: expected arrays, got none")
    if isinstance(x, str | os.PathLike):
        raise DTypeError(
            f"x={str(x)!r}: expected arrays, not a file; xcnn.data.read_image reads a picture, "
            "xcnn.data.ImageFolder a folder"
        )
    return DataLoader(_together(x, y), batch_size=batch_size, shuffle=shuffle, seed=seed)


def to_train(caller: str, x: Any, y: Any, batch_size: int, shuffle: bool, seed: int) -> DataLoader:
    """:func:`as_loader`, with at least one batch if the number is known."""
    loader = as_loader(x, y, batch_size, shuffle, seed)
    if length(loader) == 0:
        raise DataError(f"{caller}: no batch to train on; x has no examples, or too few")
    return loader


def _together(x: Any, y: Any) -> Any:
    if y is not None:
        return x, y
    if isinstance(x, list) and x and _is_item(x[0]):
        return x
    is_array = isinstance(x, list | tuple) or hasattr(x, "__array__")
    return (x,) if is_array else x


def _is_item(value: Any) -> bool:
    """Whether a list of such values is one of examples, not an array: dicts, (x, y)."""
    if isinstance(value, tuple):
        return not all(isinstance(part, Number) for part in value)
    return isinstance(value, dict)


def as_pair(validation: Any) -> tuple[Any, Any]:
    """Return the x and y of the argument ``validation``."""
    if isinstance(validation, tuple | list) and len(validation) == 2:
        return validation[0], validation[1]
    if isinstance(validation, tuple | list) or hasattr(validation, "__array__"):
        raise ArgumentError(
            f"validation is {type(validation).__name__}: expected (x, y), a Dataset or a DataLoader"
        )
    return validation, None


def split(x: Any, y: Any, fraction: float, seed: int, by_class: bool) -> tuple[Dataset, Dataset]:
    """Hold out a fraction of the examples for validation, of each class alike ``by_class``.

    Examples with several classes each, such as one per pixel, are chosen regardless of class.
    """
    if isinstance(x, DataLoader):
        raise ArgumentError(
            "validation_split needs arrays or a Dataset, got a DataLoader: split its dataset with "
            "xcnn.data.split and pass validation"
        )
    source, classes = _together(x, y), None
    if by_class:
        classes = data.labels(source)
        if classes.ndim == 2 and classes.dtype.kind == "f":  # probabilities
            classes = classes.argmax(axis=1)
        classes = classes if classes.ndim == 1 else None
    return data.split(source, fraction, seed=seed, stratify=classes)


def concatenate(parts: list[Any]) -> Any:
    """Join the arrays of batches of one structure, of tuples and dicts, along the first axis."""
    first = parts[0]
    if isinstance(first, dict):
        return {key: concatenate([part[key] for part in parts]) for key in first}
    if isinstance(first, tuple):
        return tuple(concatenate(list(column)) for column in zip(*parts, strict=True))
    return backends.get("cpu").xp.concatenate(parts)


def pairs(loader: Iterable[Any]) -> Iterator[tuple[Any, Any]]:
    """Yield each batch as (x, y); a dict needs two of the usual names."""
    for batch in loader:
        if isinstance(batch, dict):
            batch = tuple(batch[key] for names in _NAMES for key in names if key in batch)
        if not isinstance(batch, tuple) or len(batch) != 2:
            found = f"{len(batch)} arrays" if isinstance(batch, tuple) else type(batch).__name__
            raise DataError(
                f"the loader yields {found} per batch, expected (x, y) or a dict of 'x' and 'y'; "
                "pass y, or a dataset of pairs"
            )
        yield batch[0], batch[1]


def count(batch: Any) -> int:
    """The number of examples in a batch."""
    return len(arrays_of(batch)[0])


def length(batches: Any) -> int | None:
    """The length of a DataLoader or Dataset; None if it does not know."""
    try:
        return len(batches)
    except TypeError:
        return None


def class_weights(class_weight: Any, dataset: Any, ignore_index: int) -> Any:
    """Return the weights (C,) that ``class_weight`` of :meth:`Trainer.fit` stands for."""
    if not isinstance(class_weight, str | dict):
        weights = Tensor.of(class_weight)
        if weights.ndim != 1 or weights.dtype.kind not in "fiu":
            raise ArgumentError(
                f"class_weight is {weights.dtype}{weights.shape}: expected one number per class, "
                "(C,), a dict or 'balanced'"
            )
        return weights.data
    labels = data.labels(dataset)
    labels = labels[labels != ignore_index]
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise ArgumentError(
                f"class_weight={show(class_weight)}: expected 'balanced', a dict or an array"
            )
        return data.class_weights(labels)
    given = {
        check_int("class_weight: the class", label, 0): check_number("class_weight", weight, 0)
        for label, weight in class_weight.items()
    }
    count = max([*given, *labels.tolist()]) + 1
    check_size("class_weight", class_weight, (count,), visited=True)
    return [given.get(label, 1.0) for label in range(count)]


def warn_if_unscaled(x: Any) -> bool:
    """Warn about pictures of integers from 0 to 255; returns whether there are any."""
    found = any(data.is_unscaled(array) for array in arrays_of(x))
    if found:
        depth, frame = 1, sys._getframe()
        while frame.f_back and frame.f_globals.get("__name__", "").startswith("xcnn."):
            depth, frame = depth + 1, frame.f_back
        warnings.warn(
            "x holds pictures of integers up to 255, which networks learn badly: scale them, for "
            'example x.astype("float32") / 255, or pass a DataLoader with '
            "transform=xcnn.data.Normalize(mean, std)",
            stacklevel=depth,
        )
    return found
