"""Random rotation, translation, scaling and shear."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arrays import Array
from ...backends import Backend
from ...checks import Pair, check_number, is_int
from ...errors import ArgumentError
from .base import Augmentation, Range, check_range, empty_images


class RandomRotation(Augmentation):
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
        self.order = _check_order(order)

    def augment(self, backend: Backend, x: Array, rng: np.random.Generator) -> Array:
        angles = rng.uniform(*self.degrees, len(x))
        return warp(backend, x, sampling_matrices(x.shape[2:], -angles), self.order)


class RandomAffine(Augmentation):
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
        self.order = _check_order(order)

    def augment(self, backend: Backend, x: Array, rng: np.random.Generator) -> Array:
        count, (height, width) = len(x), x.shape[2:]
        angles = rng.uniform(*self.degrees, count)
        largest = np.multiply(self.translate or (0, 0), (width, height))
        shifts = np.rint(rng.uniform(-1, 1, (count, 2)) * largest)
        scales = rng.uniform(*(self.scale or (1.0, 1.0)), count)
        low_x, high_x, low_y, high_y = self.shear or (0, 0, 0, 0)
        shears = rng.uniform((low_x, low_y), (high_x, high_y), (count, 2))
        matrices = sampling_matrices((height, width), angles, shifts, scales, shears)
        return warp(backend, x, matrices, self.order)


def sampling_matrices(
    size: Pair, angles: np.ndarray, shifts: Array = 0, scales: Array = 1, shears: Array = 0
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
    centre = (np.array(size) - 1) / 2
    moved_centre = centre + shifts[:, ::-1]
    offsets = centre - (inverse @ moved_centre[:, :, None])[:, :, 0]
    return np.concatenate([inverse, offsets[:, :, None]], axis=2)


def _matrices(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Stack entries ((a, b), (c, d)), each (N,), to (N, 2, 2)."""
    return np.stack([a, b, c, d], axis=-1).reshape(-1, 2, 2)


def warp(backend: Backend, x: Array, matrices: np.ndarray, order: int) -> Array:
    """Resample each image by its matrix of :func:`sampling_matrices`, padding with zeros."""
    ndimage, y = backend.ndimage, empty_images(backend.xp, x, x.shape[1:])
    for n, matrix in enumerate(backend.asarray(matrices)):
        for c in range(x.shape[1]):
            # grid-constant blends the border into the zeros; "constant" would cut it off
            y[n, c] = ndimage.affine_transform(
                x[n, c], matrix, order=order, mode="grid-constant", prefilter=False
            )
    return y


def _check_order(order: Any) -> int:
    if not is_int(order) or order not in (0, 1):
        raise ArgumentError(f"order={order!r}: expected 0 (nearest pixel) or 1 (linear)")
    return int(order)


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
