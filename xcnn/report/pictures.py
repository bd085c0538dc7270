"""Pictures of a report: thumbnails, sheets of many small maps, and PNG files."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..arrays import Array
from ..data import encode_image

_LEVELS = 255  # of a palette; index 255 is transparent
_VIRIDIS = "440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725"
_SIGNED = "2166ac 4393c3 92c5de d1e5f0 f7f7f7 fddbc7 f4a582 d6604d b2182b"
_GREY = "000000 ffffff"


def palette(anchors: str) -> Array:
    """255 colours, uint8 (255, 3), between colours in hexadecimal."""
    known = np.array([list(bytes.fromhex(anchor)) for anchor in anchors.split()])
    at = np.linspace(0, len(known) - 1, _LEVELS)
    channels = [np.interp(at, range(len(known)), channel) for channel in known.T]
    return np.stack(channels, axis=1).round().astype(np.uint8)


#: by name: "viridis" for values from 0 up (van der Walt and Smith 2015), "signed" with white for 0
PALETTES = {name: palette(c) for name, c in (("viridis", _VIRIDIS), ("signed", _SIGNED))}
PALETTES["grey"] = palette(_GREY)


@dataclass(frozen=True)
class Picture:
    """Pixels: uint8 (H, W, 3) or, with opacity, (H, W, 4); or levels of a palette, (H, W).

    Level 255 is transparent.
    """

    pixels: Array
    palette: str = "grey"

    def png(self) -> bytes:
        """The picture as a PNG file."""
        if self.pixels.ndim == 3:
            return encode_image(self.pixels.transpose(2, 0, 1))
        colours = np.concatenate([PALETTES[self.palette], np.zeros((1, 3), np.uint8)])
        return encode_image(self.pixels, colours, transparent=_LEVELS)

    @cached_property
    def uri(self) -> str:
        """The picture as a ``data:`` address."""
        return f"data:image/png;base64,{base64.b64encode(self.png()).decode()}"


def levels(values: Array, low: Any, high: Any) -> Array:
    """Values as levels of a palette, uint8: ``low`` is 0, ``high`` 254; NaN is transparent."""
    low, high = np.asarray(low, np.float64), np.asarray(high, np.float64)
    span = np.where(high > low, high - low, 1.0)
    known = np.nan_to_num((values - low) / span, nan=2.0, posinf=1.0, neginf=0.0)
    scaled = np.clip(known, 0, 1) * (_LEVELS - 1)
    return np.where(known == 2.0, _LEVELS, scaled.round()).astype(np.uint8)


def photo(x: Array, bounds: tuple[float, float], size: int) -> Picture:
    """A picture (C, H, W), C 1 or 3, of values between ``bounds``; at most ``size`` pixels wide.

    A larger one is reduced by a whole factor: means of squares.
    """
    shrunk = shrink(x.astype(np.float32), size)
    scaled = levels(shrunk, *bounds)
    if len(scaled) == 1:
        return Picture(scaled[0])
    return Picture(np.moveaxis(PALETTES["grey"][np.minimum(scaled, _LEVELS - 1), 0], 0, -1))


def shrink(x: Array, size: int) -> Array:
    """Reduce (C, H, W) to at most ``size`` in height and width, by a whole factor."""
    factor = -(-max(x.shape[1:]) // size)
    if factor == 1:
        return x
    height, width = (max(1, n // factor) for n in x.shape[1:])
    rows, columns = min(factor, x.shape[1]), min(factor, x.shape[2])
    cut = x[:, : height * rows, : width * columns]
    return cut.reshape(len(x), height, rows, width, columns).mean(axis=(2, 4))


def sheet(tiles: Sequence[Array], columns: int, palette: str) -> Picture:
    """Tiles (H, W) of levels, or (H, W, 3), in rows of ``columns``, one pixel apart."""
    height, width = tiles[0].shape[:2]
    rows = -(-len(tiles) // columns)
    shape = rows * (height + 1) - 1, columns * (width + 1) - 1
    is_colour = tiles[0].ndim == 3
    pixels = np.zeros((*shape, 4), np.uint8) if is_colour else np.full(shape, _LEVELS, np.uint8)
    for number, tile in enumerate(tiles):
        y, x = (number // columns) * (height + 1), (number % columns) * (width + 1)
        if is_colour:
            tile = np.concatenate([tile, np.full((height, width, 1), 255, np.uint8)], axis=2)
        pixels[y : y + height, x : x + width] = tile
    return Picture(pixels, palette)


def overlay(x: Array, bounds: tuple[float, float], heat: Array, size: int) -> Picture:
    """A heat map (H, W), at least 0, in colour over the grey picture (C, H, W)."""
    grey = levels(shrink(x.astype(np.float32), size).mean(axis=0), *bounds)
    shades = PALETTES["grey"][np.minimum(grey, _LEVELS - 1)]
    shrunk = shrink(heat[None].astype(np.float64), size)[0]
    colours = PALETTES["viridis"][np.minimum(levels(shrunk, 0, shrunk.max()), _LEVELS - 1)]
    return Picture((0.4 * shades + 0.6 * colours).round().astype(np.uint8))
