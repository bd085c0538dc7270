"""Cutting an image, or a range of numbers, into parts of about equal size."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .checks import Pair


class Tile(NamedTuple):
    """Output rows ``top:bottom`` and columns ``left:right``."""

    top: int
    bottom: int
    left: int
    right: int


def cut(size: Pair, rows: int, columns: int) -> Iterator[Tile]:
    """Cut ``size`` into the fewest equal tiles of at most ``rows`` by ``columns``, but one."""
    height, width = size
    rows, columns = _even_part(height, max(1, rows)), _even_part(width, max(1, columns))
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield Tile(top, min(top + rows, height), left, min(left + columns, width))


def parts(length: int, count: int) -> list[slice]:
    """``range(length)`` in at most ``count`` slices of about the same length."""
    step = max(1, -(-length // count))
    return [slice(start, min(start + step, length)) for start in range(0, max(1, length), step)]


def bands(size: Pair, rows: int, columns: int, count: int) -> list[Iterator[Tile]]:
    """The tiles of :func:`cut`, in at most ``count`` bands of about as many rows."""
    return [_band(band, size[1], rows, columns) for band in parts(size[0], count)]


def _band(band: slice, width: int, rows: int, columns: int) -> Iterator[Tile]:
    for tile in cut((band.stop - band.start, width), rows, columns):
        yield tile._replace(top=band.start + tile.top, bottom=band.start + tile.bottom)


def _even_part(length: int, most: int) -> int:
    """The longest of the fewest equal parts of ``length`` that are at most ``most`` long."""
    return -(-length // -(-length // most))
