"""Pictures for detection: the items of a dataset, such as digits, pasted on canvases."""

from __future__ import annotations

from typing import Any

import numpy as np

from .generated import draw_strokes

MOST = 5  # objects on a canvas
_LONGER_SIDE = (12, 28)  # pixels, of the box of an object
_INK = 0.3  # of the brightest pixel: what a box surrounds
_OVERLAP = 0.15  # most of a box that another may cover
_TRIES = 20  # positions that are tried for an object before it is left out
_CHUNK = 64  # canvases drawn at a time


def compose(
    images: np.ndarray, labels: np.ndarray, count: int, seed: int = 0, size: int = 64
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Paste images on grey canvases, 1 to 5 on each, with lines and noise behind them.

    Their sizes and brightness are random; they overlap little.

    Parameters
    ----------
    images : numpy.ndarray
        uint8 (N, 1, h, w), bright objects on a dark background.
    labels : numpy.ndarray
        int64 (N,).
    count : int
        Number of canvases.
    seed : int, default 0
    size : int, default 64
        Height and width of a canvas in pixels.

    Returns
    -------
    canvases : numpy.ndarray
        uint8 (count, 1, size, size).
    targets : dict of numpy.ndarray
        "boxes", float32 (count, 5, 4): x1, y1, x2, y2 in pixels, tight around the ink; "labels",
        int64 (count, 5): the class of each, -1 and boxes of zeros where there are fewer.
    """
    rng = np.random.Generator(np.random.PCG64(seed))
    inks = _ink_boxes(images)
    chosen = rng.integers(0, len(images), (count, MOST))
    number = rng.integers(1, MOST + 1, count)
    boxes = np.zeros((count, MOST, 4))
    for own, picked, most in zip(boxes, chosen, number, strict=True):
        _place(rng, own, inks[picked[:most]], size)
    is_there = boxes[..., 2] > 0

    def uniform(low: float, high: float, *shape: int) -> np.ndarray:
        return rng.uniform(low, high, shape).astype(np.float32)

    lines = uniform(0, size, 2, count, 2, 2, 2), uniform(0.8, 1.8, 2, count)
    faint, ground = uniform(0.15, 0.5, 2, count, 1, 1), uniform(0, 0.25, count, 1, 1)
    bright = uniform(0.6, 1, count, MOST, 1, 1)
    canvases = np.empty((count, 1, size, size), np.uint8)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        ink = np.broadcast_to(ground[part], (len(ground[part]), size, size))
        for ends, thickness, light in zip(*lines, faint, strict=True):
            ink = np.maximum(ink, draw_strokes(ends[part], thickness[part], size) * light[part])
        for n in range(MOST):
            drawn = _drawn(images, inks, chosen[part, n], boxes[part, n], size)
            ink = ink * (1 - drawn) + drawn * np.maximum(ink, bright[part, n])
        ink = ink + 0.04 * rng.standard_normal(ink.shape, np.float32)
        canvases[part, 0] = np.floor(np.clip(ink, 0, 1) * 255 + 0.5)
    targets: dict[str, np.ndarray] = {
        "boxes": boxes.astype(np.float32),
        "labels": np.where(is_there, labels[chosen], -1).astype(np.int64),
    }
    return canvases, targets


def _ink_boxes(images: np.ndarray) -> np.ndarray:
    """The box x1, y1, x2, y2 of the bright pixels of each image: (N, 4)."""
    bright = images[:, 0] > _INK * images.max(axis=(1, 2, 3), keepdims=True)[:, 0]
    ends = []
    for axis in (1, 2):  # columns, then rows
        is_used = bright.any(axis=axis)
        ends += [is_used.argmax(axis=1), is_used.shape[1] - is_used[:, ::-1].argmax(axis=1)]
    return np.stack([ends[0], ends[2], ends[1], ends[3]], 1).astype(float)


def _place(rng: np.random.Generator, boxes: np.ndarray, inks: np.ndarray, size: int) -> None:
    """Write the boxes of some objects into the first rows of ``boxes``, which are zeros."""
    placed: list[Any] = []
    for x1, y1, x2, y2 in inks.tolist():
        zoom = rng.uniform(*_LONGER_SIDE) / max(x2 - x1, y2 - y1)
        width, height = zoom * (x2 - x1), zoom * (y2 - y1)
        for x, y in (rng.random((_TRIES, 2)) * (size - width, size - height)).tolist():
            box = x, y, x + width, y + height
            if all(_covered(box, other) <= _OVERLAP for other in placed):
                placed.append(box)
                break
        else:
            placed.append((0, 0, 0, 0))
    boxes[: len(placed)] = placed


def _covered(a: Any, b: Any) -> float:
    """The share of the smaller of two boxes that the other covers."""
    width, height = (min(a[i + 2], b[i + 2]) - max(a[i], b[i]) for i in (0, 1))
    areas = [(s[2] - s[0]) * (s[3] - s[1]) for s in (a, b)]
    return max(width, 0) * max(height, 0) / max(min(areas), 1e-9)


def _drawn(
    images: np.ndarray, inks: np.ndarray, chosen: np.ndarray, boxes: np.ndarray, size: int
) -> np.ndarray:
    """One object on each canvas, (N, size, size) from 0 to 1, by bilinear interpolation."""
    weights = []
    for axis in (1, 0):  # rows, then columns
        start, stop = boxes[:, axis, None], boxes[:, axis + 2, None]
        first, last = inks[chosen, axis, None], inks[chosen, axis + 2, None]
        share = (np.arange(size) + 0.5 - start) / np.maximum(stop - start, 1e-9)
        source = first + share * (last - first) - 0.5  # in pixels of the image
        pixels = np.arange(images.shape[3 - axis])
        near = np.maximum(1 - np.abs(source[..., None] - pixels), 0) * (stop > 0)[..., None]
        weights.append(near.astype(np.float32))
    rows, columns = weights  # (N, size, h), (N, size, w)
    return np.asarray(rows @ (images[chosen, 0] / np.float32(255)) @ columns.swapaxes(1, 2))
