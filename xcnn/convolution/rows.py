"""Batch-last images seen as a matrix with one row for each channel."""

from __future__ import annotations

import math
from typing import Any

from ..geometry import Tile

Array = Any


def as_rows(a: Array) -> Array:
    """(F, ...) as (F, P), a view of what is contiguous; -1 is ambiguous for an empty batch."""
    return a.reshape(len(a), math.prod(a.shape[1:]))


def positions(y: Array, tile: Tile) -> slice:
    """The columns of ``as_rows(y)``, y being (F, oH, oW, N), that are the tile's: of whole rows of
    windows, or of a part of one.
    """
    _, _, width, batch = y.shape
    start = (tile.top * width + tile.left) * batch
    return slice(start, ((tile.bottom - 1) * width + tile.right) * batch)
