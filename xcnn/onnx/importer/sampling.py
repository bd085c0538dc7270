"""Which pixels ONNX's Resize takes for a new one, and how much of each: float64, on the host.

Along one axis the new pixels are numbered x = 0, 1, ...; each looks at a position between the old
ones, which lie at 0 to size - 1. A kernel around that position weighs the old pixels near it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...arrays import Array
from ...functional.resample import Lines

_ROUNDING = 2.0**-22  # of float32, relative: two operations


class Axis(NamedTuple):
    """An axis that is resized.

    Attributes
    ----------
    size, output
        Old and new pixels.
    scale
        New pixels per old one.
    length
        ``scale * size``: ``output`` before it was made a whole number.
    roi
        Where the part that is shown begins and ends, as fractions of the axis.
    """

    size: int
    output: int
    scale: float
    length: float
    roi: tuple[float, float] = (0.0, 1.0)

    @property
    def is_unchanged(self) -> bool:
        return self.size == self.output and self.scale == 1 and self.roi == (0, 1)


def _half_pixel(x: Array, axis: Axis) -> Array:
    return (x + 0.5) / axis.scale - 0.5


def _pytorch_half_pixel(x: Array, axis: Axis) -> Array:
    return _half_pixel(x, axis) if axis.output > 1 else 0 * x


def _half_pixel_symmetric(x: Array, axis: Axis) -> Array:
    """The middle stays in the middle, also where ``length`` is no whole number."""
    return axis.size / 2 * (1 - axis.output / axis.length) + _half_pixel(x, axis)


def _asymmetric(x: Array, axis: Axis) -> Array:
    return x / axis.scale


def _tf_half_pixel_for_nn(x: Array, axis: Axis) -> Array:
    return (x + 0.5) / axis.scale


def _align_corners(x: Array, axis: Axis) -> Array:
    return 0 * x if axis.output == 1 else x * (axis.size - 1) / (axis.length - 1)


def _tf_crop_and_resize(x: Array, axis: Axis) -> Array:
    (start, end), last = axis.roi, axis.size - 1
    if axis.output == 1:
        return 0 * x + 0.5 * (start + end) * last
    return start * last + x * (end - start) * last / (axis.output - 1)


#: by coordinate_transformation_mode: the position that new pixel x looks at
POSITIONS: dict[str, Callable[[Array, Axis], Array]] = {
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": _pytorch_half_pixel,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "asymmetric": _asymmetric,
    "tf_half_pixel_for_nn": _tf_half_pixel_for_nn,
    "align_corners": _align_corners,
    "tf_crop_and_resize": _tf_crop_and_resize,
}

#: by nearest_mode: the old pixel for a position; "simple" is what was before there were modes
NEAREST: dict[str, Callable[[Array, Axis], Array]] = {
    "round_prefer_floor": lambda position, axis: np.ceil(position - 0.5),
    "round_prefer_ceil": lambda position, axis: np.floor(position + 0.5),
    "floor": lambda position, axis: np.floor(position),
    "ceil": lambda position, axis: np.ceil(position),
    "simple": lambda position, axis: (np.ceil if axis.scale < 1 else np.floor)(position),
}

#: by mode: how many pixels away from a position one still counts
REACH = {"linear": 1, "cubic": 2}


class Resampling(NamedTuple):
    """New lines of an axis: all, and the slice of those that show a part of the image."""

    lines: Lines
    inside: slice


@dataclass(frozen=True)
class Sampling:
    """The settings of a Resize that are the same for all axes; the names are ONNX's.

    Attributes
    ----------
    mode
        "nearest", "linear" or "cubic".
    coordinates
        A key of POSITIONS.
    nearest
        A key of NEAREST.
    cubic_a
        The kernel's slope at distance 1 (Keys 1981, "Cubic convolution interpolation for digital
        image processing", equation 4).
    exclude_outside
        Whether pixels outside count nothing, instead of as much as the outermost one.
    antialias
        Whether to widen the kernel where the image shrinks.
    """

    mode: str
    coordinates: str
    nearest: str = "round_prefer_floor"
    cubic_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False

    def taps(self, axis: Axis) -> int:
        """How many old pixels a new one may take."""
        return 1 if self.mode == "nearest" else 2 - 2 * self._first(axis)

    def resampling(self, axis: Axis) -> Resampling:
        """The lines of ``axis``; they are kept, and what they need on a device with them."""
        return _resampling(self, axis)

    def positions(self, axis: Axis) -> Array:
        """Where each new pixel looks, (output,).

        Scales are float32, and 1/3 is not exact: a position that comes as near to a whole or half
        number as float32 can tell is that number, which decides what pixel is nearest or outside.
        """
        found = POSITIONS[self.coordinates](np.arange(axis.output, dtype="float64"), axis)
        meant = np.round(2 * found) / 2
        return np.where(np.abs(found - meant) <= _ROUNDING * (1 + np.abs(found)), meant, found)

    def taken(self, axis: Axis, positions: Array) -> tuple[Array, Array]:
        """Numbers and weights of the old pixels, both (output, taps)."""
        # what is far outside sees the outermost pixel, or none
        far = self.taps(axis) + 1
        positions = np.clip(positions, -far, axis.size + far)[:, None]
        if self.mode == "nearest":
            numbers, weights = NEAREST[self.nearest](positions, axis), np.ones_like(positions)
        else:
            first = self._first(axis)
            before = np.ceil(positions) - 1
            numbers = before + np.arange(first, first + self.taps(axis))
            weights = self._weights((numbers - positions) * self._narrowing(axis))
            weights = _shares(weights)
        if self.exclude_outside:
            weights = _shares(np.where((numbers < 0) | (numbers >= axis.size), 0, weights))
        return np.clip(numbers, 0, axis.size - 1).astype("int64"), weights

    def _narrowing(self, axis: Axis) -> float:
        """What distances are multiplied with before the kernel weighs them."""
        return min(axis.scale, 1.0) if self.antialias else 1.0

    def _first(self, axis: Axis) -> int:
        """The first pixel that counts, from the one before a position."""
        return math.floor(-REACH[self.mode] / self._narrowing(axis)) + 1

    def _weights(self, distance: Array) -> Array:
        t, a = np.abs(distance), self.cubic_a
        if self.mode == "linear":
            return np.maximum(0, 1 - t)
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        away = a * (((t - 5) * t + 8) * t - 4)
        return np.where(t <= 1, near, np.where(t < 2, away, 0))


@lru_cache(maxsize=64)
def _resampling(sampling: Sampling, axis: Axis) -> Resampling:
    positions = sampling.positions(axis)
    inside = slice(0, axis.output)
    numbers, weights = sampling.taken(axis, positions)
    if sampling.coordinates == "tf_crop_and_resize":
        inside = _inside(positions, axis.size)
        weights[: inside.start] = weights[inside.stop :] = 0
    return Resampling(Lines(axis.size, _terms(numbers, weights)), inside)


def _inside(positions: Array, size: int) -> slice:
    """The new pixels that look at the image."""
    found = np.flatnonzero((positions >= 0) & (positions <= size - 1))
    return slice(int(found[0]), int(found[-1]) + 1) if len(found) else slice(0, 0)


def _shares(weights: Array) -> Array:
    """Each line's weights over their sum; none stay none."""
    total = weights.sum(axis=1, keepdims=True)
    return weights / np.where(total == 0, 1, total)


def _terms(numbers: Array, weights: Array) -> list[list[tuple[int, float]]]:
    """Pairs (old line, weight) of each new line: each once, and those that count at all.

    A line of nothing keeps a term with weight 0.
    """
    terms = []
    for line, shares in zip(numbers.tolist(), weights.tolist(), strict=True):
        taken: dict[int, float] = {}
        for old, share in zip(line, shares, strict=True):
            if share:
                taken[old] = taken.get(old, 0.0) + share
        terms.append(list(taken.items()) or [(line[0], 0.0)])
    return terms
