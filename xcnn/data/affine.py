"""Rotated, shifted, zoomed and sheared images."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array
from ..backends import Backend
from ..errors import ArgumentError
from .augment import Augmentation, check_probability, empty_as, limits


class RandomRotation(Augmentation):
    """Turns each image around its centre by a random angle; what comes from outside is 0.

    Parameters
    ----------
    degrees : float or (low, high)
        Range of the angle, counter-clockwise; a number d means -d to d.
    order : int, default 1
        1: linear interpolation between four pixels; 0: the nearest pixel.

    Raises
    ------
    ArgumentError
        Not such numbers.

    Examples
    --------
    >>> RandomRotation((90, 90))(np.arange(9.0).reshape(1, 1, 3, 3)).round(6)
    array([[[[2., 5., 8.],
             [1., 4., 7.],
             [0., 3., 6.]]]])
    """

    def __init__(self, degrees: Any, order: int = 1) -> None:
        self.degrees = limits("degrees", degrees)
        self.order = _check_order(order)

    def augment(self, backend: Backend, x: Array, rng: np.random.Generator) -> Array:
        angles = rng.uniform(*self.degrees, len(x))
        return warp(backend, x, sources(x.shape[2:], -angles), self.order)


class RandomAffine(Augmentation):
    """Rotates, shifts, zooms and shears each image at random; what comes from outside is 0.

    A point p of the image lands on c + t + s · R · Sy · Sx · (p - c): c is the centre, t the shift,
    s the zoom, R the rotation, Sx and Sy are the shears along x and along y.

    Parameters
    ----------
    degrees : float or (low, high)
        Range of the rotation, clockwise; a number d means -d to d.
    translate : (float, float), optional
        Largest shift along x and along y, as parts of width and height. Shifts are whole pixels.
    scale : (low, high), optional
        Range of the zoom; above 1 things become larger.
    shear : float or 2 or 4 numbers, optional
        Range of the shear along x in degrees, a number d meaning -d to d; then that along y.
    order : int, default 1
        1: linear interpolation between four pixels; 0: the nearest pixel.

    Raises
    ------
    ArgumentError
        Not such numbers.

    Examples
    --------
    >>> RandomAffine(10, translate=(0.1, 0.1))(np.zeros((4, 1, 28, 28), np.float32)).shape
    (4, 1, 28, 28)
    """

    def __init__(
        self,
        degrees: Any,
        translate: Any = None,
        scale: Any = None,
        shear: Any = None,
        order: int = 1,
    ) -> None:
        self.degrees = limits("degrees", degrees)
        self.translate = None if translate is None else _fractions(translate)
        self.scale = None if scale is None else _zooms(scale)
        self.shear = None if shear is None else _shears(shear)
        self.order = _check_order(order)

    def augment(self, backend: Backend, x: Array, rng: np.random.Generator) -> Array:
        count, (height, width) = len(x), x.shape[2:]
        angles = rng.uniform(*self.degrees, count)
        farthest = np.multiply(self.translate or (0, 0), (width, height))
        shifts = np.rint(rng.uniform(-1, 1, (count, 2)) * farthest)
        smallest, largest = self.scale or (1.0, 1.0)
        zooms = rng.uniform(smallest, largest, count)
        low_x, high_x, low_y, high_y = self.shear or (0, 0, 0, 0)
        shears = rng.uniform((low_x, low_y), (high_x, high_y), (count, 2))
        matrices = sources((height, width), angles, shifts, zooms, shears)
        return warp(backend, x, matrices, self.order)


def sources(
    size: tuple[int, int],
    angles: np.ndarray,
    shifts: np.ndarray | None = None,
    zooms: np.ndarray | float = 1,
    shears: np.ndarray | None = None,
) -> np.ndarray:
    """Matrices that take a pixel (row, column, 1) of the result to where it is read.

    Parameters
    ----------
    size
        (H, W).
    angles : (N,)
        Degrees, clockwise.
    shifts : (N, 2)
        Pixels along x and y.
    zooms : (N,)
    shears : (N, 2)
        Degrees along x and y.

    Returns
    -------
    numpy.ndarray
        float64 (N, 2, 3).
    """
    count = len(angles)
    shifts = np.zeros((count, 2)) if shifts is None else shifts
    slant_x, slant_y = np.tan(np.radians(np.zeros((2, count)) if shears is None else shears.T))
    cos, sin = np.cos(np.radians(angles)), np.sin(np.radians(angles))
    one, zero = np.ones(count), np.zeros(count)
    forward = _matrices(cos, -sin, sin, cos)  # x to the right, y down: clockwise
    forward = forward @ _matrices(one, zero, -slant_y, one) @ _matrices(one, -slant_x, zero, one)
    forward *= np.reshape(zooms, (-1, 1, 1))
    back = np.linalg.inv(forward)[:, ::-1, ::-1]  # (x, y) become (row, column)
    centre = (np.array(size) - 1) / 2
    landed = centre + shifts[:, ::-1]
    offsets = centre - (back @ landed[:, :, None])[:, :, 0]
    return np.concatenate([back, offsets[:, :, None]], axis=2)


def _matrices(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """(N, 2, 2) of the entries ((a, b), (c, d)), each (N,)."""
    return np.stack([a, b, c, d], axis=-1).reshape(-1, 2, 2)


def warp(backend: Backend, x: Array, matrices: np.ndarray, order: int) -> Array:
    """Read each image through its matrix of :func:`sources`; zeros lie around it."""
    ndimage, y = backend.ndimage, empty_as(backend.xp, x, x.shape[1:])
    for n, matrix in enumerate(backend.asarray(matrices)):
        for c in range(x.shape[1]):
            # grid-constant: the border fades into the zeros, and rounding does not lose it
            y[n, c] = ndimage.affine_transform(
                x[n, c], matrix, order=order, mode="grid-constant", prefilter=False
            )
    return y


def _check_order(order: Any) -> int:
    if isinstance(order, bool) or order not in (0, 1):
        raise ArgumentError(f"order={order!r}: expected 0 (nearest pixel) or 1 (linear)")
    return int(order)


def _fractions(translate: Any) -> tuple[float, float]:
    if isinstance(translate, tuple | list) and len(translate) == 2:
        across, down = (check_probability("translate", part) for part in translate)
        return across, down
    raise ArgumentError(
        f"translate={translate!r}: expected two parts, of width and height, from 0 to 1"
    )


def _zooms(scale: Any) -> tuple[float, float]:
    pair = limits("scale", scale, lowest=0) if isinstance(scale, tuple | list) else (0.0, 0.0)
    if not pair[0] > 0:
        raise ArgumentError(f"scale={scale!r}: expected the lowest and the highest zoom, above 0")
    return pair


def _shears(shear: Any) -> tuple[float, float, float, float]:
    four = isinstance(shear, tuple | list) and len(shear) == 4
    along_x = limits("shear", shear[:2] if four else shear)
    along_y = limits("shear", shear[2:]) if four else (0.0, 0.0)
    both = (*along_x, *along_y)
    if not all(-90 < angle < 90 for angle in both):
        raise ArgumentError(f"shear={shear!r}: expected angles between -90 and 90 degrees")
    return both
