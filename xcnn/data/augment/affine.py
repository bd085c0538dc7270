"""Random rotation, translation, scaling and shear."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
from numpy.random import Generator

from ...arrays import Array
from ...backends import Backend
from ...checks import Pair, check_code, check_number
from ...errors import ArgumentError
from .base import Move, PixelAugmentation, Range, check_range

_ORDERS = {0: "nearest pixel", 1: "linear"}


class _Warp(PixelAugmentation):
    """Base class: samples each image at the places that its matrix gives."""

    order: int

    def _change(self, backend: Backend, x: Array, highest: float, rng: Generator) -> Array:
        matrices = self._matrices((x.shape[1], x.shape[2]), x.shape[3], rng)
        return warp(backend, x, matrices, self.order)

    def moves(self, size: Pair, count: int, rng: Generator) -> list[Move]:
        return [Move(self._matrices(size, count, rng), size)]

    def _matrices(self, size: Pair, count: int, rng: Generator) -> np.ndarray:
        """The :func:`sampling_matrices` of ``count`` images."""
        raise NotImplementedError


class RandomRotation(_Warp):
    """Rotate each image around its centre by a random angle; pixels outside it are 0.

    Parameters
    ----------
    degrees : float or (low, high)
        Range of the angle, counter-clockwise; a number d means -d to d.
    order : int, default 1
        1 interpolates linearly between four pixels, 0 takes the nearest pixel.

    Raises
    ------
    ArgumentError
        If an argument is invalid.

    Examples
    --------
    >>> RandomRotation((90, 90))(np.arange(9.0).reshape(1, 1, 3, 3)).round(6)
    array([[[[2., 5., 8.],
             [1., 4., 7.],
             [0., 3., 6.]]]])
    """

    def __init__(self, degrees: Range, order: int = 1) -> None:
        self.degrees = check_range("degrees", degrees)
        self.order = check_code("order", order, _ORDERS)

    def _matrices(self, size: Pair, count: int, rng: Generator) -> np.ndarray:
        return sampling_matrices(size, -rng.uniform(*self.degrees, count))


class RandomAffine(_Warp):
    """Rotate, translate, scale and shear each image at random; pixels outside it are 0.

    A point p of the image moves to c + t + s · R · Sy · Sx · (p - c), with the centre c, the
    translation t, the scale s, the rotation R, and the shears Sx and Sy along x and y.

    Parameters
    ----------
    degrees : float or (low, high)
        Range of the rotation, clockwise; a number d means -d to d.
    translate : (float, float), optional
        Largest translation along x and y, as fractions of width and height, rounded to whole
        pixels.
    scale : (low, high), optional
        Range of the scale; values above 1 enlarge.
    shear : float, 2 or 4 numbers, optional
        Range of the shear along x in degrees, where d means -d to d; then the range along y.
    order : int, default 1
        1 interpolates linearly between four pixels, 0 takes the nearest pixel.

    Raises
    ------
    ArgumentError
        If an argument is invalid.

    Examples
    --------
    >>> RandomAffine(10, translate=(0.1, 0.1))(np.zeros((4, 1, 28, 28), np.float32)).shape
    (4, 1, 28, 28)
    """

    def __init__(
        self,
        degrees: Range,
        translate: tuple[float, float] | None = None,
        scale: tuple[float, float] | None = None,
        shear: float | tuple[float, ...] | None = None,
        order: int = 1,
    ) -> None:
        self.degrees = check_range("degrees", degrees)
        self.translate = None if translate is None else _check_translate(translate)
        self.scale = None
        if scale is not None:
            self.scale = check_range("scale", scale, low=0, centre=None, strict=True)
        self.shear = None if shear is None else _check_shear(shear)
        self.order = check_code("order", order, _ORDERS)

    def _matrices(self, size: Pair, count: int, rng: Generator) -> np.ndarray:
        angles = rng.uniform(*self.degrees, count)
        largest = np.multiply(self.translate or (0, 0), size[::-1])
        shifts = np.rint(rng.uniform(-1, 1, (count, 2)) * largest)
        scales = rng.uniform(*(self.scale or (1.0, 1.0)), count)
        low_x, high_x, low_y, high_y = self.shear or (0, 0, 0, 0)
        shears = rng.uniform((low_x, low_y), (high_x, high_y), (count, 2))
        return sampling_matrices(size, angles, shifts, scales, shears)


def sampling_matrices(
    size: Pair,
    angles: np.ndarray,
    shifts: Array = 0,
    scales: Array = 1,
    shears: Array = 0,
    centre: tuple[float, float] | None = None,
) -> np.ndarray:
    """Compute matrices that map an output pixel (row, column, 1) to an input position.

    Parameters
    ----------
    size : (int, int)
        (H, W).
    angles : (N,)
        Degrees, clockwise.
    shifts : (N, 2), optional
        Pixels along x and y.
    scales : (N,), optional
    shears : (N, 2), optional
        Degrees along x and y.
    centre : (float, float), optional
        The fixed point (row, column), by default the centre of the image.

    Returns
    -------
    numpy.ndarray
        float64 (N, 2, 3).
    """
    shifts, shears = (np.broadcast_to(a, (len(angles), 2)) for a in (shifts, shears))
    slant_x, slant_y = np.tan(np.radians(shears.T))
    cos, sin = np.cos(np.radians(angles)), np.sin(np.radians(angles))
    one, zero = np.ones(len(angles)), np.zeros(len(angles))
    forward = _matrices(cos, -sin, sin, cos)  # clockwise, as y points down
    forward = forward @ _matrices(one, zero, -slant_y, one) @ _matrices(one, -slant_x, zero, one)
    forward *= np.reshape(scales, (-1, 1, 1))
    inverse = np.linalg.inv(forward)[:, ::-1, ::-1]  # (x, y) to (row, column)
    fixed = (np.array(size) - 1) / 2 if centre is None else np.array(centre)
    moved_centre = fixed + shifts[:, ::-1]
    offsets = fixed - (inverse @ moved_centre[:, :, None])[:, :, 0]
    return np.concatenate([inverse, offsets[:, :, None]], axis=2)


def _matrices(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Stack entries ((a, b), (c, d)), each (N,), to (N, 2, 2)."""
    return np.stack([a, b, c, d], axis=-1).reshape(-1, 2, 2)


def warp(
    backend: Backend,
    x: Array,
    matrices: np.ndarray,
    order: int,
    fill: Any = 0,
    size: Pair | None = None,
    reflect: bool = False,
) -> Array:
    """Resample each image by its matrix of :func:`sampling_matrices`.

    Parameters
    ----------
    x : (C, H, W, N), contiguous
        Floats; for order 0, any numbers.
    matrices : (N, 2, 3)
    order : int
        1 interpolates linearly between four pixels, 0 takes the nearest.
    fill : float or (C,), default 0
        Value of all pixels outside the image.
    size : (int, int), optional
        Height and width of the result; default: those of ``x``.
    reflect : bool, default False
        Whether pixels outside the image are reflected instead.
    """
    xp, (channels, height, width, count) = backend.xp, x.shape
    framed = xp.empty((channels, height + 2, width + 2, count), x.dtype)
    framed[...] = backend.asarray(np.reshape(fill, (-1, 1, 1, 1)).astype(x.dtype))
    framed[:, 1:-1, 1:-1] = x
    rows, columns = size or (height, width)
    grid = xp.arange(rows).reshape(-1, 1, 1), xp.arange(columns).reshape(-1, 1)
    taps = []  # for each axis: pixels (H, W, N), or what broadcasts to that, and their weights
    for axis, side in enumerate((height, width)):
        parts, other = matrices[:, axis].T, 1 - axis
        steps = backend.asarray(parts)
        place = steps[axis] * grid[axis]
        if parts[other].any():
            place = place + steps[other] * grid[other]
        place = place + (steps[2] + 1)
        if reflect:
            place = side - abs(side - 1 - abs(place - 1))
        place = xp.clip(place, 0, side + 1)
        first = xp.floor(place if order else place + 0.5)
        share = (place - first).astype(x.dtype)  # of the second pixel
        first = first.astype(int)
        second = xp.minimum(first + 1, side + 1)
        taps.append([(first, 1 - share), (second, share)] if order else [(first, 1)])
    flat, images = framed.reshape(channels, -1), xp.arange(count)
    y = 0
    for (row, row_weight), (column, column_weight) in product(*taps):
        pixels = xp.take(flat, (row * (width + 2) + column) * count + images, axis=1)
        y = y + row_weight * column_weight * pixels
    return y


def _check_translate(translate: Any) -> tuple[float, ...]:
    if not isinstance(translate, tuple | list) or len(translate) != 2:
        raise ArgumentError(
            f"translate={translate!r}: expected two fractions, of width and height, from 0 to 1"
        )
    return tuple(check_number("translate", fraction, 0, 1) for fraction in translate)


def _check_shear(shear: Any) -> tuple[float, ...]:
    both = isinstance(shear, tuple | list) and len(shear) == 4
    ranges = (shear[:2], shear[2:]) if both else (shear, 0)
    return tuple(end for r in ranges for end in check_range("shear", r, -90, 90, strict=True))
