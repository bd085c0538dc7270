"""Sampling at given positions, and detection: GridSample, RoiAlign and NonMaxSuppression."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .... import functional as F
from ....arrays import Array
from ....tensor import Tensor
from ..node import Node, operator

_MODES = {"linear": "bilinear", "cubic": "bicubic"}


@operator("GridSample")
def grid_sample(node: Node, x: Tensor, grid: Tensor) -> Tensor:
    node.check_size((*x.shape[:2], *grid.shape[1:-1]), x.dtype)
    mode = node.text("mode", "linear")
    padding, corners = node.text("padding_mode", "zeros"), bool(node.integer("align_corners", 0))
    return F.grid_sample(x, F.astype(grid, x.dtype), _MODES.get(mode, mode), padding, corners)


@operator("RoiAlign", static=(1, 2))
def roi_align(node: Node, x: Tensor, rois: Array, batches: Array) -> Tensor:
    """Samples of each region, bilinear; the regions are read by the host, which places them."""
    if x.ndim != 4 or rois.shape != (len(batches), 4):
        raise node.error(f"input {x.shape}, rois {rois.shape}: expected (N, C, H, W) and (R, 4)")
    if not np.isfinite(rois).all() or not all(0 <= b < len(x) for b in batches.tolist()):
        raise node.error(f"expected finite rois, and indices from 0 to {len(x) - 1} of images")
    bins = node.integer("output_height", 1), node.integer("output_width", 1)
    if min(bins) < 1:
        raise node.error(f"output_height and output_width are {bins}: expected ints >= 1")
    node.check_size((len(rois), x.shape[1], *bins), x.dtype)
    is_max = node.text("mode", "avg", ("avg", "max")) == "max"
    parts = [_aligned(node, x[int(b)], r, bins, is_max) for b, r in zip(batches, rois, strict=True)]
    return F.stack(parts) if parts else F.reshape(x[:0, :, :1, :1], (0, x.shape[1], *bins))


def _aligned(node: Node, image: Tensor, roi: Array, bins: Any, is_max: bool) -> Tensor:
    """The region (x1, y1, x2, y2) of an image (C, H, W), as (C, *bins)."""
    channels, *sizes = image.shape
    kind = "half_pixel" if node.version >= 16 else "output_half_pixel"
    is_half = node.text("coordinate_transformation_mode", kind) == "half_pixel"
    scaled = roi.astype("float64") * node.number("spatial_scale", 1.0) - 0.5 * is_half
    axes = []
    for start, stop, size, count in zip(scaled[1::-1], scaled[:1:-1], sizes, bins, strict=True):
        length = stop - start if is_half else max(stop - start, 1.0)
        samples = node.integer("sampling_ratio", 0) or max(1, math.ceil(length / count))
        node.check_size((count, samples, 128), "uint8")
        steps = (np.arange(count * samples) + 0.5) / samples
        axes.append((*_taps(start + steps * (length / count), size), samples))
    (rows, row_weights, m), (columns, column_weights, n) = axes
    node.check_size((channels, *rows.shape, *columns.shape), image.dtype)
    places = rows[:, None, :, None] * sizes[1] + columns[None, :, None, :]
    weights = row_weights[:, None, :, None] * column_weights[None, :, None, :]
    taps = F.mul(
        F.reshape(image, (channels, -1))[:, places],
        Tensor(image.backend.asarray(weights.astype(str(image.dtype)))),
    )
    taps = taps if is_max else F.sum(taps, (1, 2))
    shape = (channels, 2, 2) if is_max else (channels,)
    grouped = F.reshape(taps, (*shape, bins[0], m, bins[1], n))
    return F.amax(grouped, (1, 2, 4, 6)) if is_max else F.mean(grouped, (2, 4))


def _taps(positions: Array, size: int) -> tuple[Array, Array]:
    """The two pixels next to each position and their weights, 0 outside: (2, positions)."""
    inside = (positions >= -1) & (positions <= size)
    near = np.clip(positions, 0, size - 1)
    before = np.floor(near).astype("int64")
    fraction = near - before
    pixels = np.stack([before, np.minimum(before + 1, size - 1)])
    return pixels, np.stack([1 - fraction, fraction]) * inside


@operator("NonMaxSuppression", static=(0, 1, 2, 3, 4))
def non_max_suppression(
    node: Node,
    boxes: Array,
    scores: Array,
    most: Array = None,
    overlap: Array = None,
    least: Array = None,
) -> Array:
    """Pick boxes from the best score on, without those that overlap with a picked one.

    Returns
    -------
    array (count, 3), int64
        Indices of batch, class and box.
    """
    if boxes.ndim != 3 or boxes.shape[2] != 4 or scores.shape[::2] != boxes.shape[:2]:
        raise node.error(
            f"boxes {boxes.shape} and scores {scores.shape}: expected (N, B, 4) and (N, C, B)"
        )
    count, limit = (0 if v is None else v.item() for v in (most, overlap))
    corners = _corners(boxes, bool(node.integer("center_point_box", 0)))
    picked = [
        (batch, label, box)
        for batch, label in np.ndindex(scores.shape[:2])
        for box in _picked(corners[batch], scores[batch, label], limit, least)[: int(count)]
    ]
    return np.array(picked, "int64").reshape(-1, 3)


def _corners(boxes: Array, is_centred: bool) -> Array:
    """(..., 4) as two opposite corners, the smaller coordinates first."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if is_centred:
        first, second = first - second / 2, first + second / 2
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], -1)


def _picked(boxes: Array, scores: Array, overlap: float, least: Array) -> Any:
    """The indices of the picked boxes (B, 4), the best first."""
    scored = np.arange(len(scores)) if least is None else np.flatnonzero(scores > least.item())
    return scored[F.nms(boxes[scored], scores[scored], overlap).numpy()]
