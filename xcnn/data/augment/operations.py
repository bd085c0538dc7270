"""The operations from which RandAugment, TrivialAugment and AugMix choose.

Functions of pixels take images (C, H, W, N), one magnitude for each, (N,), and the highest pixel
value: 255 (whole numbers: uint8 images) or 1. Functions of geometry return sampling matrices for
:func:`~xcnn.data.augment.affine.warp`. Sources: Pillow's ImageOps and ImageEnhance, and torchvision
for floats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ...arrays import Array
from ...checks import Pair
from .affine import sampling_matrices
from .colour import brightness, contrast, saturation

PixelChange = Callable[[Any, Array, Array, float], Array]


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
    """Spread the histogram of each channel evenly over 0 to 255; floats are rounded to 8 bits."""
    values = x if highest == 255 else xp.clip(x * 255.999, 0, 255)
    values = values.astype("int32")
    channels, height, width, count = x.shape
    curves = channels * count
    places = values * curves + xp.arange(curves, dtype="int32").reshape(channels, 1, 1, count)
    histogram = xp.zeros(256 * curves, "int32")
    xp.add.at(histogram, places.reshape(-1), 1)  # sums of integers: the same in any order
    histogram = histogram.reshape(256, curves)
    below = xp.cumsum(histogram, axis=0) - histogram  # pixels darker than each value
    step = xp.where(below < height * width, below, 0).max(axis=0) // 255
    curve = xp.clip((below + step // 2) // xp.maximum(step, 1), 0, 255)
    unchanged = xp.arange(256).reshape(256, 1)
    curve = xp.where(step > 0, curve, unchanged).astype(x.dtype)
    return curve.reshape(-1)[places] * (highest / 255)


def _blend(change: PixelChange) -> PixelChange:
    """The change by the factor 1 + magnitude."""
    return lambda xp, x, magnitudes, highest: change(xp, x, 1 + magnitudes, highest)


def _affine(change: Callable[[np.ndarray], dict[str, Any]]) -> Callable[[Pair, np.ndarray], Array]:
    """The sampling matrices of the rotation, shift or shear that ``change(magnitudes)`` returns."""

    def matrices(size: Pair, magnitudes: np.ndarray) -> Array:
        return sampling_matrices(size, **{"angles": 0 * magnitudes, **change(magnitudes)})

    return matrices


def _along(axis: int, values: np.ndarray) -> np.ndarray:
    """(N, 2): ``values`` along x (0) or y (1)."""
    return np.outer(values, np.eye(2)[axis])


def _shear(axis: int, slopes: np.ndarray) -> dict[str, Any]:
    """A shear that keeps the upper left corner, half a pixel before the first pixel's centre."""
    return {"shears": _along(axis, np.degrees(np.arctan(slopes))), "centre": (-0.5, -0.5)}


class Operation(NamedTuple):
    """One row of ``OPERATIONS``.

    Attributes
    ----------
    function : callable
        A function of pixels, or of geometry if ``is_warp``.
    limits : str
        Which range of a policy the magnitude comes from; "" if there is none.
    is_signed : bool
        Whether the sign of the magnitude is random.
    is_warp : bool
        Whether ``function`` returns sampling matrices.
    """

    function: Callable[..., Array]
    limits: str = ""
    is_signed: bool = False
    is_warp: bool = False


OPERATIONS = {
    "Identity": Operation(lambda xp, x, _, highest: x),
    "ShearX": Operation(_affine(lambda m: _shear(0, m)), "slope", True, True),
    "ShearY": Operation(_affine(lambda m: _shear(1, m)), "slope", True, True),
    "TranslateX": Operation(_affine(lambda m: {"shifts": _along(0, np.trunc(m))}), "x", True, True),
    "TranslateY": Operation(_affine(lambda m: {"shifts": _along(1, np.trunc(m))}), "y", True, True),
    "Rotate": Operation(_affine(lambda m: {"angles": -m}), "angle", True, True),
    "Brightness": Operation(_blend(brightness), "blend", True),
    "Color": Operation(_blend(saturation), "blend", True),
    "Contrast": Operation(_blend(contrast), "blend", True),
    "Sharpness": Operation(_blend(sharpness), "blend", True),
    "Posterize": Operation(posterize, "bits"),
    "Solarize": Operation(solarize, "threshold"),
    "AutoContrast": Operation(autocontrast),
    "Equalize": Operation(equalize),
}
