"""Base class and helpers of the augmentations."""

from __future__ import annotations

import operator
from numbers import Real
from typing import Any, TypeAlias

import numpy as np

from ... import backends, random
from ...arrays import Array
from ...backends import Backend
from ...errors import ArgumentError
from ...layout import image_size
from ..dataset import Batch
from ..transforms import BatchTransform

Range: TypeAlias = float | tuple[float, float]  # a number d for ±d, or (lowest, highest)


class Augmentation(BatchTransform):
    """Base class of random transforms of images (N, C, H, W), drawn separately per image.

    Random numbers come from a NumPy generator on the host, so they are the same on every device.
    A :class:`~xcnn.data.DataLoader` passes a generator that depends only on its seed, the epoch and
    the batch number. Otherwise the library's generator is used, seeded by ``xcnn.manual_seed``.

    A subclass defines ``augment(backend, x, rng)``, which returns a new array with the dtype and
    the memory order of ``x``.

    Examples
    --------
    >>> class Darken(Augmentation):
    ...     def augment(self, backend, x, rng):
    ...         factors = rng.uniform(0.5, 1, (len(x), 1, 1, 1)).astype("float32")
    ...         return (x * backend.asarray(factors)).astype(x.dtype)
    """

    def __call__(self, x: Array, rng: np.random.Generator | None = None) -> Array:
        """Augment the images ``x`` (N, C, H, W), an array on the host or on a GPU.

        Raises
        ------
        ShapeError
            If ``x`` does not have four axes, or its images have an unsuitable size.
        """
        backend = backends.of(x)
        image_size(x, "NCHW", f"{type(self).__name__}: x")
        return backend.run(self.augment, x, rng or random.generator())

    def augment(self, backend: Backend, x: Array, rng: np.random.Generator) -> Array:
        """Return the augmented images; subclasses define this."""
        raise NotImplementedError(f"{type(self).__name__} must define augment")

    def apply(self, batch: Batch, rng: np.random.Generator | None) -> Batch:
        return (self(batch[0], rng), *batch[1:])


def empty_images(xp: Any, x: Array, image_shape: tuple[int, ...]) -> Array:
    """Allocate (N, *image_shape), batch-last in memory if ``x`` is."""
    if x.transpose(1, 2, 3, 0).flags.c_contiguous and not x.flags.c_contiguous:
        return xp.moveaxis(xp.empty((*image_shape, len(x)), x.dtype), -1, 0)
    return xp.empty((len(x), *image_shape), x.dtype)


def centred_slice(centre: int, length: int) -> slice:
    """Slice ``length`` pixels around ``centre``, clipped at 0; an even one extends further left."""
    start = centre - length // 2
    return slice(max(0, start), max(0, start + length))


def check_range(
    name: str,
    value: Any,
    low: float = -np.inf,
    high: float = np.inf,
    centre: float | None = 0.0,
    strict: bool = False,
) -> tuple[float, float]:
    """Check the range from which a value is drawn.

    Parameters
    ----------
    name : str
        Name of the argument, for the error text.
    value : float or (lowest, highest)
        A number d stands for ``centre`` ± d, clipped at ``low``.
    low, high : float
        Limits of the range.
    centre : float or None, default 0
        None accepts a pair only.
    strict : bool, default False
        Whether ``low`` and ``high`` themselves are excluded.

    Raises
    ------
    ArgumentError
        If ``value`` is neither, or exceeds the limits.
    """
    less = operator.lt if strict else operator.le
    ends = tuple(value) if isinstance(value, tuple | list) else (value,)
    if all(isinstance(v, Real) and np.isfinite(float(v)) for v in ends):
        if len(ends) == 1 and centre is not None and ends[0] >= 0:
            ends = (max(low, centre - ends[0]), centre + ends[0])
        if len(ends) == 2 and less(low, ends[0]) and ends[0] <= ends[1] and less(ends[1], high):
            return float(ends[0]), float(ends[1])
    either = "" if centre is None else "a number >= 0, or "
    limits = f"({low:g}, {high:g})" if strict else f"[{low:g}, {high:g}]"
    raise ArgumentError(
        f"{name}={value!r}: expected {either}the lowest and the highest value, both in {limits}"
    )
