"""Random flips and crops."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arrays import Array
from ...backends import Backend
from ...checks import Pair, check_choice, check_number, check_size, pair
from ...errors import ShapeError
from .base import Augmentation, empty_images


class _RandomFlip(Augmentation):
    _axis: int

    def __init__(self, p: float = 0.5) -> None:
        self.p = check_number("p", p, 0, 1)

    def augment(self, backend: Backend, x: Array, rng: np.random.Generator) -> Array:
        flipped = backend.asarray(rng.random((len(x), 1, 1, 1)) < self.p)
        y = x.copy(order="K")
        backend.xp.copyto(y, backend.xp.flip(x, self._axis), where=flipped)
        return y


class RandomHorizontalFlip(_RandomFlip):
    """Flip each image left to right with probability ``p``.

    Parameters
    ----------
    p : float, default 0.5

    Raises
    ------
    ArgumentError
        If ``p`` is not between 0 and 1.

    Examples
    --------
    >>> RandomHorizontalFlip(p=1)(np.float32([[[[1, 2, 3]]]]))
    array([[[[3., 2., 1.]]]], dtype=float32)
    """

    _axis = 3


class RandomVerticalFlip(_RandomFlip):
    """Flip each image upside down with probability ``p``.

    Parameters
    ----------
    p : float, default 0.5

    Raises
    ------
    ArgumentError
        If ``p`` is not between 0 and 1.
    """

    _axis = 2


class RandomCrop(Augmentation):
    """Crop each image at a random position, after optional padding.

    Parameters
    ----------
    size : int or (height, width)
        Size of the crop in pixels.
    padding : int or (pH, pW), default 0
        Pixels added at the top and at the bottom, and on the left and on the right.
    padding_mode : str, default "zeros"
        "zeros", or "reflect": mirror the image without repeating its border pixels.

    Raises
    ------
    ArgumentError
        If an argument is invalid.
    ShapeError
        When called with images smaller than the crop, or too small to be reflected.

    Examples
    --------
    >>> RandomCrop(32, padding=4)(np.zeros((5, 3, 32, 32), np.uint8)).shape
    (5, 3, 32, 32)
    """

    def __init__(
        self, size: int | Pair, padding: int | Pair = 0, padding_mode: str = "zeros"
    ) -> None:
        self.size = pair(size, "size")
        self.padding = pair(padding, "padding", 0)
        self.padding_mode = check_choice("padding_mode", padding_mode, ("zeros", "reflect"))

    def augment(self, backend: Backend, x: Array, rng: np.random.Generator) -> Array:
        padded = self._pad(backend.xp, x)
        (height, width), image = self.size, padded.shape[2:]
        if height > image[0] or width > image[1]:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}: padded by {self.padding} it is smaller than "
                f"size={self.size}; choose a smaller size or more padding"
            )
        tops = rng.integers(0, image[0] - height + 1, len(x)).tolist()
        lefts = rng.integers(0, image[1] - width + 1, len(x)).tolist()
        y = empty_images(backend.xp, x, (x.shape[1], height, width))
        for n, (top, left) in enumerate(zip(tops, lefts, strict=True)):
            y[n] = padded[n, :, top : top + height, left : left + width]
        return y

    def _pad(self, xp: Any, x: Array) -> Array:
        if self.padding == (0, 0):
            return x
        zeros = self.padding_mode == "zeros"
        if not zeros and any(p >= s for p, s in zip(self.padding, x.shape[2:], strict=True)):
            raise ShapeError(
                f"x has shape {tuple(x.shape)}: reflecting needs images larger than "
                f"padding={self.padding}; use less padding, or zeros"
            )
        check_size("padding", self.padding, [n + 2 * max(self.padding) for n in x.shape])
        widths = ((0, 0), (0, 0), *((p, p) for p in self.padding))
        return xp.pad(x, widths, mode="constant" if zeros else "reflect")
