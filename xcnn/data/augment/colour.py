"""Random brightness, contrast, saturation and hue.

Apply these before normalisation: pixels are uint8 from 0 to 255 or floats from 0 to 1.
"""

from __future__ import annotations

from typing import Any

from numpy.random import Generator

from ...arrays import Array
from ...backends import Backend
from ...checks import is_int
from ...errors import ArgumentError
from .base import PixelAugmentation, Range, check_range

_LUMA = (0.2989, 0.587, 0.114)  # weights of red, green and blue: ITU-R 601


class ColorJitter(PixelAugmentation):
    """Change brightness, contrast, saturation and hue of each image at random.

    With a factor f for each: brightness f · x, contrast f · x + (1 - f) · mean(grey(x)), saturation
    f · x + (1 - f) · grey(x), each clipped to the valid range; hue rotates the colour circle.
    Saturation and hue do not change grey images (C = 1).

    Parameters
    ----------
    brightness, contrast, saturation : float or (low, high), default 0
        Range of the factor; a number a means max(0, 1 - a) to 1 + a.
    hue : float or (low, high), default 0
        Range of the shift, from -0.5 to 0.5 of a full turn; a number a means -a to a.

    Raises
    ------
    ArgumentError
        If an argument is invalid.
    ShapeError, DTypeError
        When called with images that do not have 1 or 3 channels, or are neither uint8 nor floats.

    Notes
    -----
    The four changes are applied in a random order, drawn once per batch (torchvision draws one per
    image). uint8 images are rounded once, at the end.

    Examples
    --------
    >>> ColorJitter(brightness=(0.5, 0.5))(np.full((1, 3, 1, 1), 200, np.uint8)).ravel()
    array([100, 100, 100], dtype=uint8)
    """

    geometric = False
    _uses_colour = True

    def __init__(
        self, brightness: Range = 0, contrast: Range = 0, saturation: Range = 0, hue: Range = 0
    ) -> None:
        self.brightness = check_range("brightness", brightness, 0, centre=1)
        self.contrast = check_range("contrast", contrast, 0, centre=1)
        self.saturation = check_range("saturation", saturation, 0, centre=1)
        self.hue = check_range("hue", hue, -0.5, 0.5)

    def _change(self, backend: Backend, x: Array, highest: float, rng: Generator) -> Array:
        steps = [
            (brightness, self.brightness, 1),
            (contrast, self.contrast, 1),
            (saturation, self.saturation, 1),
            (_hue, self.hue, 0),
        ]
        for i in rng.permutation(list(range(len(steps)))):  # an int could be the batch's
            change, (low, high), identity = steps[i]
            amounts = backend.asarray(rng.uniform(low, high, x.shape[-1]).astype(x.dtype))
            if not low == high == identity:
                x = change(backend.xp, x, amounts, highest)
        return x


class Grayscale(PixelAugmentation):
    """Convert to grey: 0.2989 · red + 0.587 · green + 0.114 · blue. This is not random.

    Parameters
    ----------
    num_output_channels : int, default 1
        1, or 3 for three equal channels.

    Raises
    ------
    ArgumentError
        If ``num_output_channels`` is neither 1 nor 3.
    ShapeError, DTypeError
        When called with images that do not have 1 or 3 channels, or are neither uint8 nor floats.
    """

    geometric = False
    _uses_colour = True

    def __init__(self, num_output_channels: int = 1) -> None:
        if not is_int(num_output_channels) or num_output_channels not in (1, 3):
            raise ArgumentError(f"num_output_channels={num_output_channels!r}: expected 1 or 3")
        self.num_output_channels = num_output_channels

    def _change(self, backend: Backend, x: Array, highest: float, rng: Generator) -> Array:
        return backend.xp.stack([_grey(x)] * self.num_output_channels)


# Each function takes images (C, H, W, N) and one amount per image, (N,).


def brightness(xp: Any, x: Array, factors: Array, highest: float) -> Array:
    """Scale the pixels."""
    return xp.clip(x * factors, 0, highest)


def contrast(xp: Any, x: Array, factors: Array, highest: float) -> Array:
    """Blend with the mean grey value: 0 gives that, 1 the image."""
    grey = _grey(x)
    rows = grey.reshape(grey.shape[0] * grey.shape[1], x.shape[-1])
    grey = xp.ascontiguousarray(rows.T)  # in which any batch adds in one order
    return xp.clip(x * factors + (1 - factors) * grey.mean(axis=1), 0, highest)


def saturation(xp: Any, x: Array, factors: Array, highest: float) -> Array:
    """Blend with the grey image: 0 gives that, 1 the image."""
    return x if len(x) == 1 else xp.clip(x * factors + (1 - factors) * _grey(x), 0, highest)


def _hue(xp: Any, x: Array, shifts: Array, highest: float) -> Array:
    """Rotate red, yellow, green, cyan, blue, magenta; value and chroma (HSV) stay the same."""
    if len(x) == 1:
        return x
    red, green, blue = x
    value = x.max(axis=0)
    chroma = value - x.min(axis=0)
    span = xp.where(chroma > 0, chroma, 1)
    hue = xp.where(
        value == red,
        (green - blue) / span,
        xp.where(value == green, 2 + (blue - red) / span, 4 + (red - green) / span),
    )  # 0 to 6, 0 for red
    sectors = [(offset + hue + 6 * shifts) % 6 for offset in (5, 3, 1)]
    return xp.stack([value - chroma * xp.clip(xp.minimum(k, 4 - k), 0, 1) for k in sectors])


def _grey(x: Array) -> Array:
    """Convert (C, H, W, N) to grey, (H, W, N)."""
    return x[0] if len(x) == 1 else sum(w * channel for w, channel in zip(_LUMA, x, strict=True))
