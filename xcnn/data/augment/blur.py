"""Gaussian blur."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from ...arrays import Array
from ...backends import Backend
from ...checks import Pair, pair
from ...errors import ArgumentError, ShapeError
from .base import PixelAugmentation, Range, check_range


class GaussianBlur(PixelAugmentation):
    """Blur each image with a Gaussian of random width; the border is reflected.

    Parameters
    ----------
    kernel_size : int or (kernel width, kernel height)
        Odd numbers of pixels; as in torchvision, the width comes first.
    sigma : float or (low, high), default (0.1, 2)
        Range of the standard deviation in pixels; a number is always used.

    Raises
    ------
    ArgumentError
        If an argument is invalid.
    ShapeError
        When called with images of up to half the kernel's size.

    Examples
    --------
    >>> x = np.zeros((1, 1, 5, 5), np.float32)
    >>> x[0, 0, 2, 2] = 1
    >>> GaussianBlur(3, sigma=0.6)(x)[0, 0, 2].round(2)
    array([0.  , 0.11, 0.45, 0.11, 0.  ], dtype=float32)
    """

    geometric = False

    def __init__(self, kernel_size: int | Pair, sigma: Range = (0.1, 2.0)) -> None:
        self.kernel_size = pair(kernel_size, "kernel_size")
        if not all(k % 2 for k in self.kernel_size):
            raise ArgumentError(f"kernel_size={kernel_size!r}: expected odd numbers")
        ends = sigma if isinstance(sigma, tuple | list) else (sigma, sigma)
        self.sigma = check_range("sigma", ends, 0, centre=None, strict=True)

    def _change(self, backend: Backend, x: Array, highest: float, rng: Generator) -> Array:
        xp, sizes = backend.xp, self.kernel_size[::-1]
        if any(k // 2 >= side for k, side in zip(sizes, x.shape[1:3], strict=True)):
            raise ShapeError(
                f"x has images of {x.shape[1]} x {x.shape[2]} pixels, too small to be reflected "
                f"for kernel_size={self.kernel_size}; use a smaller kernel"
            )
        sigma = rng.uniform(*self.sigma, x.shape[3])
        for axis, size in enumerate(sizes, start=1):
            offsets = np.arange(size)[:, None] - size // 2
            weights = np.exp(-0.5 * (offsets / sigma) ** 2)
            weights = backend.asarray((weights / weights.sum(axis=0)).astype(x.dtype))  # (size, N)
            widths = [(0, 0)] * 4
            widths[axis] = (size // 2, size // 2)
            padded = xp.moveaxis(xp.pad(x, widths, mode="reflect"), axis, 0)
            side = x.shape[axis]
            y = sum(weight * padded[i : i + side] for i, weight in enumerate(weights))
            x = xp.moveaxis(y, 0, axis)
        return x
