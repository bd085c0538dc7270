"""Random erasing and cutout."""

from __future__ import annotations

from typing import Any

import numpy as np

from ... import random
from ...arrays import Array
from ...backends import Backend
from ...checks import check_int, check_number
from .base import (
    Augmentation,
    Range,
    centred_slice,
    channel_values,
    check_channel_values,
    check_range,
    draw_box,
)


class RandomErasing(Augmentation):
    """Fill a random rectangle of an image with ``value``, with probability ``p``.

    Zhong et al. 2017, "Random Erasing Data Augmentation". A rectangle as high or as wide as the
    image is drawn again; after ten attempts the image is left unchanged.

    Parameters
    ----------
    p : float, default 0.5
    scale : (low, high), default (0.02, 0.33)
        Range of the rectangle's area, as a fraction of the image.
    ratio : (low, high), default (0.3, 3.3)
        Range of height / width.
    value : float or sequence of float, default 0
        One number, or one per channel.

    Raises
    ------
    ArgumentError
        If an argument is invalid.
    ShapeError
        When called with images that do not match the length of ``value``.

    Examples
    --------
    >>> x = np.ones((1, 1, 8, 8), np.float32)
    >>> bool((RandomErasing(p=1)(x) == 0).any()), bool((RandomErasing(p=0)(x) == x).all())
    (True, True)
    """

    geometric = False

    def __init__(
        self, p: float = 0.5, scale: Range = (0.02, 0.33), ratio: Range = (0.3, 3.3), value: Any = 0
    ) -> None:
        self.p = check_number("p", p, 0, 1)
        self.scale = check_range("scale", scale, 0, 1, centre=None)
        self.ratio = check_range("ratio", ratio, 0, centre=None, strict=True)
        self.value = check_channel_values("value", value)

    def augment(self, backend: Backend, x: Array, rng: np.random.Generator) -> Array:
        values = channel_values("value", self.value, x.shape[1])
        if x.dtype.kind in "iu":
            values = values.clip(np.iinfo(x.dtype).min, np.iinfo(x.dtype).max)
        fill = backend.asarray(values.astype(x.dtype).reshape(-1, 1, 1))
        height, width = x.shape[2:]
        largest = height - 1, width - 1
        y = x.copy(order="K")
        rng, total, rows = random.whole(rng, len(x))
        for n in np.flatnonzero(rng.random(total) < self.p).tolist():
            box = draw_box(rng, (height, width), largest, self.scale, self.ratio)
            if box and rows.start <= n < rows.stop:
                top, left, h, w = box
                y[n - rows.start, :, top : top + h, left : left + w] = fill
        return y


class Cutout(Augmentation):
    """Fill a square at a random pixel of each image with zeros, clipped at the border.

    DeVries and Taylor 2017, "Improved Regularization of Convolutional Neural Networks with Cutout".

    Parameters
    ----------
    size : int
        Side of the square in pixels.

    Raises
    ------
    ArgumentError
        If ``size`` is not an int >= 1.
    """

    geometric = False

    def __init__(self, size: int) -> None:
        self.size = check_int("size", size)

    def augment(self, backend: Backend, x: Array, rng: np.random.Generator) -> Array:
        y = x.copy(order="K")
        centres = rng.integers(0, x.shape[2:], (len(x), 2)).tolist()
        for n, (row, column) in enumerate(centres):
            y[n, :, centred_slice(row, self.size), centred_slice(column, self.size)] = 0
        return y
