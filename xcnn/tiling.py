"""Splitting of images and ranges into parts of about equal size."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from .checks import Pair


class Tile(NamedTuple):
    """Output rows ``top:bottom`` and columns ``left:right``."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def shape(self) -> Pair:
        """Rows and columns."""
        return self.bottom - self.top, self.right - self.left


def tile_grid(size: Pair, rows: int, columns: int) -> Iterator[Tile]:
    """Cut ``size`` into the fewest equal tiles of at most ``rows`` by ``columns`` (at least 1)."""
    height, width = size
    rows, columns = _even_part(height, max(1, rows)), _even_part(width, max(1, columns))
    for top in range(0, height, rows):
        for left in range(0, width, columns):
            yield Tile(top, min(top + rows, height), left, min(left + columns, width))


@lru_cache(maxsize=1024)
def split_range(length: int, count: int) -> tuple[slice, ...]:
    """Split ``range(length)`` into at most ``count`` slices of about equal length."""
    step = max(1, -(-length // count))
    starts = range(0, max(1, length), step)
    return tuple(slice(start, min(start + step, length)) for start in starts)


@lru_cache(maxsize=256)
def bands(size: Pair, rows: int, columns: int, count: int) -> tuple[tuple[Tile, ...], ...]:
    """Split ``size`` into at most ``count`` bands of rows, each cut by :func:`tile_grid`."""
    return tuple(
        tuple(
            Tile(band.start + top, band.start + bottom, left, right)
            for top, bottom, left, right in tile_grid(
                (band.stop - band.start, size[1]), rows, columns
            )
        )
        for band in split_range(size[0], count)
    )


def _even_part(length: int, limit: int) -> int:
    """The part length that cuts ``length`` into the fewest equal parts of at most ``limit``."""
    return -(-length // -(-length // limit))
