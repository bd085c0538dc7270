"""Batch transforms, run on the host."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..checks import as_float, check_number
from ..errors import ArgumentError, DataError, DTypeError
from .dataset import Batch, arrays_of, map_arrays


class BatchTransform:
    """Base class of transforms that draw random numbers or change several arrays of a batch."""

    def apply(self, batch: Batch, rng: np.random.Generator | None) -> Batch:
        """Return the transformed batch; ``rng=None`` uses the library's generator."""
        raise NotImplementedError(f"{type(self).__name__} must define apply")

    def __repr__(self) -> str:
        settings = [f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_")]
        return f"{type(self).__name__}({', '.join(settings)})"


def apply(transform: Callable[..., Any], batch: Batch, rng: np.random.Generator | None) -> Batch:
    """Apply a transform to a batch; a plain callable transforms its first array only.

    In dicts and nested tuples, every transform changes the first array only, in the order of the
    parts and keys.

    Raises
    ------
    DataError
        If the transform mixes labels and the batch is not a pair (x, y).
    """
    if not isinstance(batch, tuple) or isinstance(batch[0], tuple | Mapping):
        inputs = iter([apply(transform, (arrays_of(batch)[0],), rng)[0]])
        return map_arrays(lambda array: next(inputs, array), batch)
    if isinstance(transform, BatchTransform):
        return transform.apply(batch, rng)
    return (transform(batch[0]), *batch[1:])


def is_unscaled(x: Any) -> bool:
    """Whether ``x`` looks like images with pixels from 0 to 255, not yet scaled.

    Parameters
    ----------
    x : array-like
        Of a NumPy array, at most 64 evenly spaced images are checked.

    Returns
    -------
    bool
        True for integers (N, C, H, W) of which some are above 1.

    Examples
    --------
    >>> x = np.full((2, 1, 4, 4), 255, np.uint8)
    >>> is_unscaled(x), is_unscaled(Normalize(0, 1)(x))
    (True, False)
    """
    if getattr(x, "ndim", 0) != 4 or getattr(x.dtype, "kind", "") not in ("i", "u") or not x.size:
        return False
    return bool((x[:: -(-len(x) // 64)] > 1).any())


class Normalize:
    """Convert a batch to float32 and normalise each channel: ``(x / scale - mean) / std``.

    The result has the axes of the input but is batch-last in memory, as the layers expect: for
    images, a view (N, C, H, W) of a C-contiguous (C, H, W, N) array.

    Parameters
    ----------
    mean, std : float or sequence of float
        Mean and standard deviation of ``x / scale``: one number, or one per channel (axis 1).
    scale : float, default 255
        Divisor applied first: 255 for 8-bit pixels, 1 for features.

    Raises
    ------
    ArgumentError
        If ``mean`` and ``std`` differ in length, a ``std`` is not positive, or ``scale`` is 0.

    Examples
    --------
    >>> Normalize(0.5, 0.25)(np.full((2, 1, 3, 3), 255, np.uint8))[0, 0, 0]
    array([2., 2., 2.], dtype=float32)
    """

    def __init__(
        self, mean: float | Sequence[float], std: float | Sequence[float], scale: float = 255
    ) -> None:
        means, stds = as_floats(mean), as_floats(std)
        valid = means.ndim == 1 and means.shape == stds.shape
        valid = valid and bool(np.isfinite(means).all() and np.all(stds > 0))
        if not valid or not check_number("scale", scale):
            raise ArgumentError(
                f"mean={mean!r}, std={std!r}, scale={scale!r}: expected a finite mean and a std > "
                "0, one number or one per channel in both, and a nonzero scale"
            )
        self.mean, self.std, self.scale = mean, std, scale
        self._factor = (1 / (stds * scale)).astype(np.float32)
        self._offset = (-means / stds).astype(np.float32)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Normalise ``x``, an array (N, C, ...) of any numeric dtype.

        Returns
        -------
        numpy.ndarray
            float32 of the same shape, batch-last in memory.

        Raises
        ------
        DTypeError
            If ``x`` is not an array.
        DataError
            If ``x`` has no channel axis, or its number of channels differs from that of ``mean``.
        """
        channels = len(self._factor)
        if not hasattr(x, "ndim"):
            raise DTypeError(
                f"Normalize expects an array (N, C, ...), got {type(x).__name__}; combine images "
                "of one size with np.stack(images)"
            )
        if not isinstance(x, np.ndarray) or x.dtype.kind not in "fiub":
            found = getattr(x, "dtype", type(x).__name__)
            raise DataError(f"Normalize got {found}: expected a NumPy array of numbers (N, C, ...)")
        if x.ndim < 2 or (channels != 1 and x.shape[1] != channels):
            raise DataError(
                f"Normalize expects (N, C, ...) with C = {channels}, got {x.shape}; "
                "pass one mean and std per channel of the data"
            )
        per_channel = (-1,) + (1,) * (x.ndim - 1)  # (C, 1, ..., 1), batch last
        factor, offset = (a.reshape(per_channel) for a in (self._factor, self._offset))
        out = np.empty((*x.shape[1:], x.shape[0]), np.float32)
        np.multiply(np.moveaxis(x, 0, -1), factor, out=out, dtype=np.float32, casting="same_kind")
        out += offset
        return np.moveaxis(out, -1, 0)

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std}, scale={self.scale})"


def as_floats(value: Any) -> np.ndarray:
    """One number or several as an array; empty if they are not numbers."""
    values = list(value) if isinstance(value, Sequence | np.ndarray) and np.ndim(value) else [value]
    floats = [as_float(v) for v in values]
    return np.array(floats if not any(map(math.isnan, floats)) else [])


class Compose(BatchTransform):
    """Chain several transforms.

    Parameters
    ----------
    transforms : sequence of callable
        Each maps a batch of inputs to a new one. Augmentations, MixUp, CutMix and other Compose
        objects are allowed.

    Raises
    ------
    ArgumentError
        If one of them is not callable.

    Examples
    --------
    >>> from xcnn.data import MixUp, RandomCrop, RandomHorizontalFlip
    >>> transform = Compose([RandomHorizontalFlip(), RandomCrop(8, padding=1), MixUp(10)])
    >>> x, y = transform(np.zeros((2, 3, 8, 8), np.uint8), np.array([3, 7]))
    >>> x.shape, y.shape
    ((2, 3, 8, 8), (2, 10))
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]]) -> None:
        is_iterable = isinstance(transforms, Iterable) and not hasattr(transforms, "dtype")
        self.transforms = tuple(transforms) if is_iterable else ()
        usable = [callable(t) or isinstance(t, BatchTransform) for t in self.transforms]
        if not is_iterable or not all(usable):
            types = ", ".join(type(transform).__name__ for transform in self.transforms)
            raise ArgumentError(f"Compose expects a sequence of callables, got {types}")

    def __call__(self, x: Any, y: Any = None, rng: np.random.Generator | None = None) -> Any:
        """Apply all transforms to the batch ``x``; given labels ``y``, return both."""
        batch = self.apply((x,) if y is None else (x, y), rng)
        return batch[0] if y is None else batch

    def apply(self, batch: Batch, rng: np.random.Generator | None) -> Batch:
        for transform in self.transforms:
            batch = apply(transform, batch, rng)
        return batch

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.transforms))}])"
