"""The input pixels that ONNX's Resize reads for each output pixel, and their weights, in float64.

Along an axis, output pixel x = 0, 1, ... maps to a position among the input pixels, which are at 0
to size - 1; a kernel around that position weights the input pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ...arrays import Array
from ...functional import AxisWeights

_ROUNDING = 2.0**-22  # relative rounding error of two float32 operations


class Axis(NamedTuple):
    """A resized axis.

    Attributes
    ----------
    size, output
        Number of input and output pixels.
    scale
        Output pixels per input pixel.
    length
        ``scale * size``: ``output`` before rounding.
    roi
        Start and end of the region of interest, as fractions of the axis.
    """

    size: int
    output: int
    scale: float
    length: float
    roi: tuple[float, float] = (0.0, 1.0)


def _half_pixel(x: Array, axis: Axis) -> Array:
    return (x + 0.5) / axis.scale - 0.5


def _half_pixel_symmetric(x: Array, axis: Axis) -> Array:
    """Keeps the centre in place even if ``length`` is fractional."""
    return axis.size / 2 * (1 - axis.output / axis.length) + _half_pixel(x, axis)


def _align_corners(x: Array, axis: Axis) -> Array:
    # as onnxruntime and PyTorch: ONNX's reference divides by length - 1, and the corners move
    return 0 * x if axis.output == 1 else x * (axis.size - 1) / (axis.output - 1)


def _tf_crop_and_resize(x: Array, axis: Axis) -> Array:
    (start, end), last = axis.roi, axis.size - 1
    if axis.output == 1:
        return 0 * x + 0.5 * (start + end) * last
    return start * last + x * (end - start) * last / (axis.output - 1)


#: by coordinate_transformation_mode: the position of output pixel x in the input
POSITIONS: dict[str, Callable[[Array, Axis], Array]] = {
    "half_pixel": _half_pixel,
    "pytorch_half_pixel": lambda x, axis: _half_pixel(x, axis) if axis.output > 1 else 0 * x,
    "half_pixel_symmetric": _half_pixel_symmetric,
    "asymmetric": lambda x, axis: x / axis.scale,
    "tf_half_pixel_for_nn": lambda x, axis: (x + 0.5) / axis.scale,
    "align_corners": _align_corners,
    "tf_crop_and_resize": _tf_crop_and_resize,
}

#: by nearest_mode: the input pixel for a position; "simple" is the rule before operator set 11
NEAREST: dict[str, Callable[[Array, Axis], Array]] = {
    "round_prefer_floor": lambda position, axis: np.ceil(position - 0.5),
    "round_prefer_ceil": lambda position, axis: np.floor(position + 0.5),
    "floor": lambda position, axis: np.floor(position),
    "ceil": lambda position, axis: np.ceil(position),
    "simple": lambda position, axis: (np.ceil if axis.scale < 1 else np.floor)(position),
}

#: by mode: radius of the kernel in pixels
RADIUS = {"linear": 1, "cubic": 2}


class Resampling(NamedTuple):
    """The weights of an axis, and the output pixels whose positions are inside the input."""

    weights: AxisWeights
    inside: slice


@dataclass(frozen=True)
class Sampling:
    """The attributes of a Resize that are the same for all axes.

    Attributes
    ----------
    mode
        "nearest", "linear" or "cubic".
    coordinates
        A key of POSITIONS.
    nearest
        A key of NEAREST.
    cubic_a
        Slope of the cubic kernel at distance 1 (Keys 1981, "Cubic convolution interpolation for
        digital image processing", equation 4).
    exclude_outside
        Whether pixels outside the image have weight 0, instead of repeating the border.
    antialias
        Whether to widen the kernel when shrinking.
    """

    mode: str
    coordinates: str
    nearest: str = "round_prefer_floor"
    cubic_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False

    def taps(self, axis: Axis) -> int:
        """Maximum number of input pixels per output pixel."""
        return 1 if self.mode == "nearest" else 2 - 2 * self._first(axis)

    def positions(self, axis: Axis) -> Array:
        """The position of each output pixel, (output,).

        Scales are float32, so 1/3 is inexact: a position within float32 rounding of an integer or
        half-integer is rounded to it, since that decides which pixel is nearest or outside.
        """
        x = POSITIONS[self.coordinates](np.arange(axis.output, dtype="float64"), axis)
        rounded = np.round(2 * x) / 2
        return np.where(np.abs(x - rounded) <= _ROUNDING * (1 + np.abs(x)), rounded, x)

    def pixels(self, axis: Axis, positions: Array) -> tuple[Array, Array]:
        """Input pixels and their weights, both (output, taps)."""
        margin = self.taps(axis) + 1  # beyond it, only the border pixel counts, or none
        positions = np.clip(positions, -margin, axis.size + margin)[:, None]
        if self.mode == "nearest":
            pixels, weights = NEAREST[self.nearest](positions, axis), np.ones_like(positions)
        else:
            first = self._first(axis)
            pixels = np.ceil(positions) - 1 + np.arange(first, first + self.taps(axis))
            weights = _normalized(self._kernel((pixels - positions) * self._narrowing(axis)))
        if self.exclude_outside:
            weights = _normalized(np.where((pixels < 0) | (pixels >= axis.size), 0, weights))
        return np.clip(pixels, 0, axis.size - 1).astype("int64"), weights

    def _narrowing(self, axis: Axis) -> float:
        """The factor applied to distances before the kernel."""
        return min(axis.scale, 1.0) if self.antialias else 1.0

    def _first(self, axis: Axis) -> int:
        """The kernel's first pixel, relative to the last pixel before a position."""
        return math.floor(-RADIUS[self.mode] / self._narrowing(axis)) + 1

    def _kernel(self, distance: Array) -> Array:
        t, a = np.abs(distance), self.cubic_a
        if self.mode == "linear":
            return np.maximum(0, 1 - t)
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = a * (((t - 5) * t + 8) * t - 4)
        return np.where(t <= 1, near, np.where(t < 2, far, 0))


@lru_cache(maxsize=64)
def resampling(sampling: Sampling, axis: Axis) -> Resampling:
    """The weights of ``axis``; cached, with their copies on devices."""
    positions, inside = sampling.positions(axis), slice(0, axis.output)
    pixels, weights = sampling.pixels(axis, positions)
    if sampling.coordinates == "tf_crop_and_resize":
        inner = np.flatnonzero((positions >= 0) & (positions <= axis.size - 1))
        inside = slice(int(inner[0]), int(inner[-1]) + 1) if len(inner) else slice(0, 0)
        weights[: inside.start] = weights[inside.stop :] = 0
    terms = map(_terms, pixels.tolist(), weights.tolist())
    return Resampling(AxisWeights(axis.size, terms), inside)


def _normalized(weights: Array) -> Array:
    """Weights divided by their sum in each row; rows of zeros stay zero."""
    total = weights.sum(axis=1, keepdims=True)
    return weights / np.where(total == 0, 1, total)


def _terms(pixels: list[int], weights: list[float]) -> list[tuple[int, float]]:
    """Each input pixel once, with its non-zero weight; one with weight 0 if there is none."""
    terms: dict[int, float] = {}
    for pixel, weight in zip(pixels, weights, strict=True):
        if weight:
            terms[pixel] = terms.get(pixel, 0.0) + weight
    return list(terms.items()) or [(pixels[0], 0.0)]
