"""Images in other colours and another light.

Pixels are bytes from 0 to 255 or floats from 0 to 1: before normalisation, not after.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..arrays import Array
from ..backends import Backend
from ..errors import ArgumentError, DTypeError, ShapeError
from ..layout import batch_first, batch_last
from .augment import Augmentation, empty_as, limits

_LUMA = (0.2989, 0.587, 0.114)  # of red, green and blue: ITU-R 601


class ColorJitter(Augmentation):
    """Changes brightness, contrast, saturation and hue of each image at random.

    With a factor f for each: brightness f · x, contrast f · x + (1 - f) · mean(grey(x)), saturation
    f · x + (1 - f) · grey(x), each cut to the range of a pixel; hue moves by a part of the colour
    circle. Grey images (C = 1) keep what they have of saturation and hue: none.

    Parameters
    ----------
    brightness, contrast, saturation : float or (low, high), default 0
        Range of the factor; a number a means max(0, 1 - a) to 1 + a.
    hue : float or (low, high), default 0
        Range of the shift, from -0.5 to 0.5; a number a means -a to a.

    Raises
    ------
    ArgumentError
        Not such numbers.
    ShapeError, DTypeError
        When called: not 1 or 3 channels; neither uint8 nor floats.

    Notes
    -----
    The four come in a random order, one for the batch (torchvision draws one for each image).
    Bytes are rounded once, at the end, to the nearest.

    Examples
    --------
    >>> ColorJitter(brightness=(0.5, 0.5))(np.full((1, 3, 1, 1), 200, np.uint8)).ravel()
    array([100, 100, 100], dtype=uint8)
    """

    def __init__(
        self, brightness: Any = 0, contrast: Any = 0, saturation: Any = 0, hue: Any = 0
    ) -> None:
        self.brightness = limits("brightness", brightness, 1, 0)
        self.contrast = limits("contrast", contrast, 1, 0)
        self.saturation = limits("saturation", saturation, 1, 0)
        self.hue = limits("hue", hue)
        if not -0.5 <= self.hue[0] <= self.hue[1] <= 0.5:
            raise ArgumentError(f"hue={hue!r}: expected shifts from -0.5 to 0.5")

    def augment(self, backend: Backend, x: Array, rng: np.random.Generator) -> Array:
        _check_colours(x, "ColorJitter")
        steps = [
            (_brightness, self.brightness, 1),
            (_contrast, self.contrast, 1),
            (_saturation, self.saturation, 1),
            (_hue, self.hue, 0),
        ]
        xp, pixels = backend.xp, _as_floats(backend.xp, x)
        highest = 255 if x.dtype.kind == "u" else 1
        for number in rng.permutation(len(steps)):
            change, (low, high), none = steps[number]
            amounts = backend.asarray(rng.uniform(low, high, len(x)).astype(pixels.dtype))
            if not low == high == none:
                pixels = change(xp, pixels, amounts, highest)
        return _as(xp, pixels, x)


class Grayscale(Augmentation):
    """Makes colour images grey: 0.2989 · red + 0.587 · green + 0.114 · blue. Nothing is random.

    Parameters
    ----------
    num_output_channels : int, default 1
        1, or 3 for three equal channels.

    Raises
    ------
    ArgumentError
        Another number.
    ShapeError, DTypeError
        When called: not 1 or 3 channels; neither uint8 nor floats.
    """

    def __init__(self, num_output_channels: int = 1) -> None:
        if num_output_channels not in (1, 3):
            raise ArgumentError(f"num_output_channels={num_output_channels!r}: expected 1 or 3")
        self.num_output_channels = num_output_channels

    def augment(self, backend: Backend, x: Array, rng: np.random.Generator) -> Array:
        _check_colours(x, "Grayscale")
        grey = _grey(_as_floats(backend.xp, x))
        return _as(backend.xp, backend.xp.stack([grey] * self.num_output_channels), x)


# All take images (C, H, W, N) and an amount for each, (N,).


def _brightness(xp: Any, x: Array, factors: Array, highest: float) -> Array:
    return xp.clip(x * factors, 0, highest)


def _contrast(xp: Any, x: Array, factors: Array, highest: float) -> Array:
    return xp.clip(x * factors + (1 - factors) * _grey(x).mean(axis=(0, 1)), 0, highest)


def _saturation(xp: Any, x: Array, factors: Array, highest: float) -> Array:
    return x if len(x) == 1 else xp.clip(x * factors + (1 - factors) * _grey(x), 0, highest)


def _hue(xp: Any, x: Array, shifts: Array, highest: float) -> Array:
    """Around the circle red, yellow, green, cyan, blue, magenta; value and chroma stay."""
    if len(x) == 1:
        return x
    red, green, blue = x
    value = x.max(axis=0)
    chroma = value - x.min(axis=0)
    span = xp.where(chroma > 0, chroma, 1)
    place = xp.where(
        value == red,
        (green - blue) / span,
        xp.where(value == green, 2 + (blue - red) / span, 4 + (red - green) / span),
    )  # 0 to 6, red being 0
    away = [(first + place + 6 * shifts) % 6 for first in (5, 3, 1)]
    return xp.stack([value - chroma * xp.clip(xp.minimum(k, 4 - k), 0, 1) for k in away])


def _grey(x: Array) -> Array:
    """(H, W, N) of (C, H, W, N)."""
    return x[0] if len(x) == 1 else sum(w * part for w, part in zip(_LUMA, x, strict=True))


def _check_colours(x: Array, user: str) -> None:
    if x.shape[1] not in (1, 3):
        raise ShapeError(f"{user}: x has shape {tuple(x.shape)}, expected 1 or 3 channels")
    if x.dtype.kind != "f" and x.dtype != "uint8":
        raise DTypeError(f"{user}: x is {x.dtype}, expected uint8, or floats from 0 to 1")


def _as_floats(xp: Any, x: Array) -> Array:
    """(C, H, W, N), float32 if it was bytes."""
    return batch_last(xp, x).astype("float32" if x.dtype.kind == "u" else x.dtype, copy=False)


def _as(xp: Any, pixels: Array, like: Array) -> Array:
    """(N, C, H, W) in the type and the memory order of ``like``."""
    y = empty_as(xp, like, pixels.shape[:3])
    y[...] = batch_first(xp.rint(pixels) if like.dtype.kind == "u" else pixels)
    return y
