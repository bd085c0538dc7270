"""What is done to a batch on the host, on its way from the data set to the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ArgumentError, DataError
from .augment.crop import Augmentation
from .augment.mixing import Mixing
from .dataset import Batch


class Normalize:
    """Bring a batch to float32 with mean 0 and standard deviation 1: ``(x / scale - mean) / std``.

    The result has the axes of the input, but lies in memory with the batch innermost, as the
    layers work: for images it is a view (N, C, H, W) of a C-contiguous (C, H, W, N) array.

    Parameters
    ----------
    mean, std : float or sequence of float
        Of ``x / scale``: one number, or one for each channel (axis 1).
    scale : float, default 255
        What the input is divided by first: 255 for pixels stored as bytes, 1 for other numbers.

    Raises
    ------
    ArgumentError
        If ``mean`` and ``std`` differ in length, a ``std`` is not above 0, or ``scale`` is 0.

    Examples
    --------
    >>> Normalize(0.5, 0.25)(np.full((2, 1, 3, 3), 255, np.uint8))[0, 0, 0]
    array([2., 2., 2.], dtype=float32)
    """

    def __init__(
        self, mean: float | Sequence[float], std: float | Sequence[float], scale: float = 255
    ) -> None:
        means, stds = (np.atleast_1d(np.asarray(v, np.float64)) for v in (mean, std))
        if means.ndim != 1 or means.shape != stds.shape:
            raise ArgumentError(
                f"mean and std must be one number each, or one for each channel, got {mean!r} and "
                f"{std!r}"
            )
        if not (np.isfinite(means).all() and np.all(stds > 0) and scale):
            raise ArgumentError(
                f"wanted a finite mean, std above 0 and scale other than 0, got mean={mean!r}, "
                f"std={std!r}, scale={scale!r}"
            )
        self.mean, self.std, self.scale = mean, std, scale
        self._factor = (1 / (stds * scale)).astype(np.float32)
        self._offset = (-means / stds).astype(np.float32)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Normalise ``x``, any number type, of shape (N, C, ...).

        Returns
        -------
        numpy.ndarray
            float32 of the same shape, batch innermost in memory.

        Raises
        ------
        DataError
            If ``x`` has no channel axis, or another number of channels than ``mean``.
        """
        channels = len(self._factor)
        if x.ndim < 2 or (channels != 1 and x.shape[1] != channels):
            raise DataError(
                f"Normalize wants (N, C, ...) with C = {channels}, got {x.shape}; "
                "give one mean and std for each channel of the data"
            )
        per_channel = (-1,) + (1,) * (x.ndim - 1)  # (C, 1, ..., 1): the batch comes last
        out = np.empty((*x.shape[1:], x.shape[0]), np.float32)
        np.multiply(
            np.moveaxis(x, 0, -1),
            self._factor.reshape(per_channel),
            out=out,
            dtype=np.float32,
            casting="same_kind",
        )
        out += self._offset.reshape(per_channel)
        return np.moveaxis(out, -1, 0)

    def __repr__(self) -> str:
        return f"Normalize(mean={self.mean}, std={self.std}, scale={self.scale})"


class Compose:
    """Several transforms, one after the other.

    Parameters
    ----------
    transforms : sequence of callable
        Each takes a batch and returns one. Augmentations, mixtures of images and labels, and other
        Compose may be among them.

    Examples
    --------
    >>> from xcnn.data import MixUp, RandomCrop, RandomHorizontalFlip
    >>> change = Compose([RandomHorizontalFlip(), RandomCrop(8, padding=1), MixUp(10)])
    >>> x, y = change(np.zeros((2, 3, 8, 8), np.uint8), np.array([3, 7]))
    >>> x.shape, y.shape
    ((2, 3, 8, 8), (2, 10))
    """

    def __init__(self, transforms: Sequence[Callable[..., Any]]) -> None:
        self.transforms = tuple(transforms)
        for transform in self.transforms:
            if not callable(transform):
                raise ArgumentError(
                    f"Compose wants a sequence of callables, got {type(transform).__name__} in it"
                )

    def __call__(self, x: Any, y: Any = None, rng: np.random.Generator | None = None) -> Any:
        """Apply all transforms to the batch ``x``; with labels ``y``, return both."""
        batch = apply(self, (x,) if y is None else (x, y), rng)
        return batch[0] if y is None else batch

    def __repr__(self) -> str:
        return f"Compose([{', '.join(map(repr, self.transforms))}])"


def apply(transform: Callable[..., Any], batch: Batch, rng: np.random.Generator | None) -> Batch:
    """What a batch becomes: mixtures change its two arrays, everything else the first one.

    Raises
    ------
    DataError
        A mixture of batches that are not pairs (x, y).
    """
    if isinstance(transform, Compose):
        for part in transform.transforms:
            batch = apply(part, batch, rng)
        return batch
    if isinstance(transform, Mixing):
        if len(batch) != 2:
            raise DataError(
                f"{type(transform).__name__} mixes images and labels, got batches of {len(batch)} "
                "arrays; give it pairs (x, y)"
            )
        return transform(*batch, rng)
    x, *others = batch
    return (transform(x, rng) if isinstance(transform, Augmentation) else transform(x), *others)
