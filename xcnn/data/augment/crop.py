"""Random flips, crops and resized crops."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random import Generator

from ... import random
from ...arrays import Array
from ...backends import Backend
from ...checks import INTERPOLATIONS, Pair, check_choice, check_flag, check_number, check_size, pair
from ...errors import ShapeError
from ...layout import batch_first, batch_last
from .base import Augmentation, Move, PixelAugmentation, check_range, draw_box, empty_images


class _RandomFlip(Augmentation):
    _axis: int

    def __init__(self, p: float = 0.5) -> None:
        self.p = check_number("p", p, 0, 1)

    def augment(self, backend: Backend, x: Array, rng: Generator) -> Array:
        flipped = backend.asarray(rng.random((len(x), 1, 1, 1)) < self.p)
        y = x.copy(order="K")
        backend.xp.copyto(y, backend.xp.flip(x, self._axis), where=flipped)
        return y

    def moves(self, size: Pair, count: int, rng: Generator) -> list[Move]:
        flipped, axis = rng.random(count) < self.p, self._axis - 2
        matrices = _matrices((0, 0), (1, 1), count)
        matrices[flipped, axis, axis] = -1
        matrices[flipped, axis, 2] = size[axis] - 1
        return [Move(matrices, size)]


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

    def augment(self, backend: Backend, x: Array, rng: Generator) -> Array:
        padded, (height, width) = self._pad(backend.xp, x), self.size
        if height > padded.shape[2] or width > padded.shape[3]:
            raise ShapeError(
                f"x has shape {tuple(x.shape)}: padded by {self.padding} it is smaller than "
                f"size={self.size}; choose a smaller size or more padding"
            )
        corners = self._corners(x.shape[2:], len(x), rng)
        y = empty_images(backend.xp, x, (x.shape[1], height, width))
        for n, (top, left) in enumerate(corners.T.tolist()):
            y[n] = padded[n, :, top : top + height, left : left + width]
        return y

    def moves(self, size: Pair, count: int, rng: Generator) -> list[Move]:
        starts = self._corners(size, count, rng) - np.reshape(self.padding, (2, 1))
        matrices = _matrices(starts, (1, 1), count)
        return [Move(matrices, self.size, self.padding_mode == "reflect")]

    def _corners(self, size: Pair, count: int, rng: Generator) -> np.ndarray:
        """The first row and column of each crop of the padded images, (2, N)."""
        sides = zip(size, self.padding, self.size, strict=True)
        return np.stack([rng.integers(0, n + 2 * p - crop + 1, count) for n, p, crop in sides])

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


class RandomResizedCrop(PixelAugmentation):
    """Crop a random part of each image and resize it to ``size``.

    Szegedy et al. 2015, "Going Deeper with Convolutions". If ten attempts to draw a part that fits
    into the image fail, it is the largest central one with an allowed aspect ratio.

    Parameters
    ----------
    size : int or (height, width)
        Size of the result in pixels.
    scale : (low, high), default (0.08, 1)
        Range of the part's area, as a fraction of the image.
    ratio : (low, high), default (3/4, 4/3)
        Range of width / height, uniform on a logarithmic scale.
    interpolation : str, default "bilinear"
        "bilinear" or "nearest".
    antialias : bool, default True
        Whether bilinear interpolation averages over all pixels when it shrinks an image: the
        triangular filter is as wide as an output pixel. Without, it reads 2x2 pixels.

    Raises
    ------
    ArgumentError
        If an argument is invalid.

    Examples
    --------
    >>> RandomResizedCrop(24)(np.zeros((5, 3, 32, 48), np.uint8)).shape
    (5, 3, 24, 24)
    """

    def __init__(
        self,
        size: int | Pair,
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        interpolation: str = "bilinear",
        antialias: bool = True,
    ) -> None:
        self.size = pair(size, "size")
        check_size("size", size, self.size, visited=True)
        self.scale = check_range("scale", scale, 0, 1, centre=None)
        self.ratio = check_range("ratio", ratio, 0, centre=None, strict=True)
        self.interpolation = check_choice("interpolation", interpolation, INTERPOLATIONS)
        self.antialias = check_flag("antialias", antialias)

    def _change(self, backend: Backend, x: Array, highest: float, rng: Generator) -> Array:
        tops, lefts, heights, widths = self._boxes(x.shape[1:3], x.shape[3], rng)
        down = self._weights(backend, x, tops, heights, 0)
        across = self._weights(backend, x, lefts, widths, 1).swapaxes(2, 3)
        xp = backend.xp
        images = xp.ascontiguousarray(batch_first(x))
        return batch_last(xp, xp.matmul(xp.matmul(down, images), across))

    def moves(self, size: Pair, count: int, rng: Generator) -> list[Move]:
        tops, lefts, heights, widths = self._boxes(size, count, rng)
        steps = heights / self.size[0], widths / self.size[1]
        starts = [first + (step - 1) / 2 for first, step in zip((tops, lefts), steps, strict=True)]
        return [Move(_matrices(starts, steps, count), self.size)]

    def _boxes(self, size: Pair, count: int, rng: Generator) -> np.ndarray:
        """The top, left, height and width of each part, (4, N)."""
        rng, total, rows = random.whole(rng, count)
        boxes = [self._box(rng, *size) for _ in range(total)][rows]
        return np.reshape(boxes, (-1, 4)).astype(int).T

    def _box(self, rng: Generator, height: int, width: int) -> tuple[int, ...]:
        low, high = self.ratio
        whole = height, width
        if box := draw_box(rng, whole, whole, self.scale, (1 / high, 1 / low)):
            return box
        h, w = min(height, round(width / low)), min(width, round(height * high))
        return (height - h) // 2, (width - w) // 2, h, w

    def _weights(
        self, backend: Backend, x: Array, starts: np.ndarray, lengths: np.ndarray, axis: int
    ) -> Array:
        """Matrices (N, 1, size, side of x) that resize a range of pixels along one axis."""
        pixels, size = np.arange(x.shape[1 + axis]), self.size[axis]
        starts, lengths = starts[:, None, None], lengths[:, None, None]
        outputs = np.arange(size)[:, None]
        if self.interpolation == "nearest":
            weights = 1.0 * (pixels == starts + outputs * lengths // size)
        else:
            scale = lengths / size  # input pixels per output pixel
            distances = abs(pixels + 0.5 - starts - (outputs + 0.5) * scale)
            weights = 1 - distances / (np.maximum(scale, 1) if self.antialias else 1)
            weights *= (weights > 0) & (pixels >= starts) & (pixels < starts + lengths)
            weights /= weights.sum(axis=2, keepdims=True)
        return backend.asarray(weights[:, None].astype(x.dtype))


def _matrices(starts: Any, steps: Any, count: int) -> np.ndarray:
    """Matrices (N, 2, 3) of :class:`Move` that keep the axes apart.

    Down and across, each a number or (N,): ``starts`` is where the first output pixel comes from,
    ``steps`` how far apart the places of two neighbours are.
    """
    matrices = np.zeros((count, 2, 3))
    for axis, (start, step) in enumerate(zip(starts, steps, strict=True)):
        matrices[:, axis, axis], matrices[:, axis, 2] = step, start
    return matrices
