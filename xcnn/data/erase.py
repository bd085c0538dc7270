"""Images with a part missing, so that a network looks at more than one part of a thing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays import Array
from ..backends import Backend
from ..checks import is_int
from ..errors import ArgumentError, ShapeError
from .augment import Augmentation, check_probability, limits

_ATTEMPTS = 10  # to find a rectangle that fits


class RandomErasing(Augmentation):
    """Fills a random rectangle of an image with ``value``, with probability ``p``.

    Zhong et al. 2017, "Random Erasing Data Augmentation". A rectangle that is as high or as wide as
    the image is drawn again; after ten attempts the image stays as it is.

    Parameters
    ----------
    p : float, default 0.5
    scale : (low, high), default (0.02, 0.33)
        Range of the rectangle's area, as a part of the image's.
    ratio : (low, high), default (0.3, 3.3)
        Range of height / width.
    value : float or sequence of float, default 0
        One number, or one for each channel.

    Raises
    ------
    ArgumentError
        Not such numbers.
    ShapeError
        When called: another number of channels than values.

    Examples
    --------
    >>> x = np.ones((1, 1, 8, 8), np.float32)
    >>> bool((RandomErasing(p=1)(x) == 0).any()), bool((RandomErasing(p=0)(x) == x).all())
    (True, True)
    """

    def __init__(
        self, p: float = 0.5, scale: Any = (0.02, 0.33), ratio: Any = (0.3, 3.3), value: Any = 0
    ) -> None:
        self.p = check_probability("p", p)
        self.scale, self.ratio = (limits(n, v) for n, v in (("scale", scale), ("ratio", ratio)))
        if not (self.scale[0] >= 0 and self.scale[1] <= 1 and self.ratio[0] > 0):
            raise ArgumentError(
                f"scale={scale!r}, ratio={ratio!r}: expected parts of the area from 0 to 1, and "
                "ratios above 0"
            )
        self.value = value

    def augment(self, backend: Backend, x: Array, rng: np.random.Generator) -> Array:
        values = np.asarray(self.value)
        if values.ndim > 1 or values.size not in (1, x.shape[1]):
            raise ShapeError(
                f"x has shape {tuple(x.shape)}, value={self.value!r}: expected one number, or one "
                "for each channel"
            )
        fill = backend.asarray(values.astype(x.dtype).reshape(-1, 1, 1))
        y = x.copy(order="K")
        for n in np.flatnonzero(rng.random(len(x)) < self.p).tolist():
            rows, columns = self._rectangle(rng, *x.shape[2:])
            y[n, :, rows, columns] = fill
        return y

    def _rectangle(self, rng: np.random.Generator, height: int, width: int) -> tuple[slice, slice]:
        for _ in range(_ATTEMPTS):
            area = height * width * rng.uniform(*self.scale)
            low, high = self.ratio
            ratio = math.exp(rng.uniform(math.log(low), math.log(high)))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if h < height and w < width:
                top, left = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
                return slice(int(top), int(top) + h), slice(int(left), int(left) + w)
        return slice(0, 0), slice(0, 0)


class Cutout(Augmentation):
    """Fills a square of each image with zeros; its centre is any pixel, so a part may lie outside.

    DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout".

    Parameters
    ----------
    size : int
        Side of the square in pixels.

    Raises
    ------
    ArgumentError
        Not an int >= 1.
    """

    def __init__(self, size: int) -> None:
        if not is_int(size) or size < 1:
            raise ArgumentError(f"size={size!r}: expected an int >= 1")
        self.size = int(size)

    def augment(self, backend: Backend, x: Array, rng: np.random.Generator) -> Array:
        y = x.copy(order="K")
        centres = rng.integers(0, x.shape[2:], (len(x), 2)).tolist()
        for n, (row, column) in enumerate(centres):
            y[n, :, around(row, self.size), around(column, self.size)] = 0
        return y


def around(centre: int, length: int) -> slice:
    """``length`` places around ``centre``, those before 0 left out; an odd one comes before."""
    start = centre - length // 2
    return slice(max(0, start), max(0, start + length))
