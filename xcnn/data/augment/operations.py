"""The operations from which RandAugment, TrivialAugment and AugMix choose.

Functions of pixels take images (C, H, W, N), one magnitude for each, (N,), and the highest pixel
value: 255 (whole numbers, for uint8 images) or 1. Sources: Pillow's ImageOps and ImageEnhance, for
floats torchvision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...arrays import Array
from ...checks import Pair
from .affine import sampling_matrices
from .colour import brightness, contrast, saturation

Change = Callable[[Any, Array, Array, float], Array]
Matrices = Callable[[Pair, np.ndarray], np.ndarray]


def sharpness(xp: Any, x: Array, factors: Array, highest: float) -> Array:
    """Blend with a smoothed image: 0 gives that, 1 the image; border pixels stay the same."""
    if min(x.shape[1:3]) < 3:
        return x
    inner = x[:, 1:-1, 1:-1]
    rows = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    smooth = (rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:] + 4 * inner) / 13
    if highest == 255:
        smooth = xp.rint(smooth)
    y = x.copy()
    y[:, 1:-1, 1:-1] = xp.clip(inner * factors + (1 - factors) * smooth, 0, highest)
    return y


def posterize(xp: Any, x: Array, bits: Array, highest: float) -> Array:
    """Keep the highest ``bits`` of 8 bits; floats are rounded down to multiples of 2^-bits."""
    levels = xp.left_shift(1, xp.rint(bits).astype("int32")).astype(x.dtype)
    step = (256 if highest == 255 else 1) / levels
    return xp.clip(xp.floor(x / step), 0, levels - 1) * step


def solarize(xp: Any, x: Array, thresholds: Array, highest: float) -> Array:
    """Invert pixels from a threshold on, given as a fraction of the highest value."""
    return xp.where(x >= thresholds * highest, highest - x, x)


def autocontrast(xp: Any, x: Array, _: Array, highest: float) -> Array:
    """Stretch each channel to the full range, if it has two values or more."""
    low, high = (f(axis=(1, 2), keepdims=True) for f in (x.min, x.max))
    flat = low == high
    stretched = (x - xp.where(flat, 0, low)) / xp.where(flat, 1, (high - low) * (1 / highest))
    stretched = xp.clip(stretched, 0, highest)
    return xp.floor(stretched) if highest == 255 else stretched


def equalize(xp: Any, x: Array, _: Array, highest: float) -> Array:
    """Spread the histogram of each channel evenly over 0 to 255; floats are rounded down to 8 bits.

    A channel whose pixels, without those of its highest value, number less than 255 stays the same.
    """
    values = x if highest == 255 else xp.clip(x * 255.999, 0, 255)
    values = values.astype("int32")
    channels, height, width, count = x.shape
    curves = channels * count
    places = values * curves + xp.arange(curves, dtype="int32").reshape(channels, 1, 1, count)
    histogram = xp.zeros(256 * curves, "int32")
    one = np.int32(1)  # a Python int takes NumPy's slow path
    xp.add.at(histogram, places.reshape(-1), one)  # sums of integers: the same in any order
    histogram = histogram.reshape(256, curves)
    below = xp.cumsum(histogram, axis=0) - histogram  # pixels darker than each value
    step = xp.where(below < height * width, below, 0).max(axis=0) // 255
    curve = xp.clip((below + step // 2) // xp.maximum(step, 1), 0, 255)
    unchanged = xp.arange(256).reshape(256, 1)
    curve = xp.where(step > 0, curve, unchanged).astype(x.dtype)
    return curve.reshape(-1)[places] * (highest / 255)


def _blend(change: Change) -> Change:
    """A change by the factor 1 + magnitude."""
    return lambda xp, x, magnitudes, highest: change(xp, x, 1 + magnitudes, highest)


def _matrices(shear: Pair = (0, 0), shift: Pair = (0, 0), turn: int = 0) -> Matrices:
    """The matrices of a shear, shift or rotation; pairs select the direction, (x, y).

    A shear keeps the upper left corner, half a pixel before the centre of the first pixel.
    """

    def matrices(size: Pair, m: np.ndarray) -> np.ndarray:
        shifts, shears = np.outer(np.trunc(m), shift), np.degrees(np.arctan(np.outer(m, shear)))
        centre = (-0.5, -0.5) if any(shear) else None
        return sampling_matrices(size, -turn * m, shifts, 1, shears, centre)

    return matrices


class Operation(NamedTuple):
    """One row of ``OPERATIONS``.

    Attributes
    ----------
    change : callable or None
        What it does to pixels, if it does not move them.
    matrices : callable or None
        Takes (H, W) and magnitudes (N,) on the host, and returns where pixels come from, for
        ``warp``; None if they stay where they are.
    range : str
        Which of a policy's ranges the magnitude is from; "" if the operation has none.
    signed : bool
        Whether the sign of the magnitude is random.
    """

    change: Change | None = None
    matrices: Matrices | None = None
    range: str = ""
    signed: bool = False


OPERATIONS = {
    "Identity": Operation(),
    "ShearX": Operation(None, _matrices(shear=(1, 0)), "slope", True),
    "ShearY": Operation(None, _matrices(shear=(0, 1)), "slope", True),
    "TranslateX": Operation(None, _matrices(shift=(1, 0)), "x", True),
    "TranslateY": Operation(None, _matrices(shift=(0, 1)), "y", True),
    "Rotate": Operation(None, _matrices(turn=1), "angle", True),  # counter-clockwise
    "Brightness": Operation(_blend(brightness), None, "blend", True),
    "Color": Operation(_blend(saturation), None, "blend", True),
    "Contrast": Operation(_blend(contrast), None, "blend", True),
    "Sharpness": Operation(_blend(sharpness), None, "blend", True),
    "Posterize": Operation(posterize, None, "bits"),
    "Solarize": Operation(solarize, None, "threshold"),
    "AutoContrast": Operation(autocontrast),
    "Equalize": Operation(equalize),
}
