"""Tiles of batch-last images as runs of a matrix with one row for each channel."""

from __future__ import annotations

from ..arrays import Array
from ..backends import Backend
from ..layout import as_rows
from ..tiling import Tile


def positions(y: Array, tile: Tile) -> slice:
    """The columns of ``as_rows(y)``, y being (F, oH, oW, N), that are the tile's: of whole rows of
    windows, or of a part of one.
    """
    _, _, width, batch = y.shape
    start = (tile.top * width + tile.left) * batch
    return slice(start, ((tile.bottom - 1) * width + tile.right) * batch)


def add_bias(backend: Backend, y: Array, bias: Array | None, tile: Tile, relu: bool) -> None:
    """Add the bias to a tile of y (F, oH, oW, N): in one go if its lines follow each other."""
    whole = (tile.left, tile.right) == (0, y.shape[2])
    step = tile.bottom - tile.top if whole else 1
    for top in range(tile.top, tile.bottom, step):
        run = positions(y, tile._replace(top=top, bottom=top + step))
        backend.add_bias(as_rows(y), bias, run, relu)
