"""Targets that follow the pictures through an augmentation."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from ... import backends, random
from ...arrays import Array
from ...backends import Backend
from ...checks import Pair, are_ints, check_choice, check_list, check_number
from ...errors import ArgumentError, DataError, DTypeError, ShapeError
from ...layout import batch_first, batch_last, spatial_size
from ..dataset import Batch
from ..transforms import BatchTransform
from .affine import warp
from .base import Augmentation, Move, empty_images

_THIN = 1 - 1e-3  # a side in pixels, with room for rounding errors


class WithTarget(BatchTransform):
    """Apply an augmentation to pictures, and move their targets along.

    Parameters
    ----------
    transform : Augmentation
        Not AugMix, which blends pictures that are moved differently.
    target : str
        What the targets ``y`` are:

        - "masks": the classes of the pixels, integers (N, H, W), or any numbers (N, C, H, W). They
          are never interpolated: each takes the value of the nearest pixel.
        - "boxes": a dict with "boxes" (N, M, 4), the edges x1, y1, x2, y2 in pixels (0, 0, W, H is
          the whole picture), and "labels", signed integers (N, M), where -1 means that there is
          no box; other entries stay as they are. A moved box is the smallest upright one around
          its moved corners, clipped to the picture.
        - "keypoints": positions x, y in pixels (N, K, 2), or x, y and visibility (N, K, 3). Whole
          numbers are the centres of pixels: (0, 0) is that of the first, as in COCO's files. Points
          outside the picture keep their position, and get visibility 0.
        - "images": pictures (N, C, H, W) of the same size, which are transformed with the same
          random numbers, colours included.
    fill : float, default 255
        Masks: the value of pixels from outside the picture, the ``ignore_index`` of the loss.
    min_area : float, default 0.1
        Boxes: one with less than this share of its area inside the picture is removed, as is one
        thinner than a pixel. Its label becomes -1 and its edges 0.
    pairs : sequence of (int, int), optional
        Keypoints: those that change places in mirrored pictures, such as left and right hand.

    Raises
    ------
    ArgumentError
        If an argument is invalid, or the transform does not say how it moves pixels.
    DataError, ShapeError, DTypeError
        When called with targets that are not as described.

    Examples
    --------
    >>> flip = WithTarget(xcnn.data.RandomHorizontalFlip(p=1), "boxes")
    >>> y = {"boxes": np.float32([[[0, 0, 3, 2]]]), "labels": np.array([[7]])}
    >>> x, y = flip(np.zeros((1, 3, 8, 8), np.uint8), y)
    >>> y["boxes"]
    array([[[5., 0., 8., 2.]]], dtype=float32)
    """

    def __init__(
        self,
        transform: Augmentation,
        target: str,
        fill: float = 255,
        min_area: float = 0.1,
        pairs: Sequence[Pair] = (),
    ) -> None:
        if not isinstance(transform, Augmentation):
            raise ArgumentError(
                f"transform={transform!r}: targets can only follow an augmentation such as "
                "RandomCrop"
            )
        self.transform = transform
        self.target = check_choice("target", target, list(_KINDS))
        self.fill = check_number("fill", fill)
        self.min_area = check_number("min_area", min_area, 0, 1)
        self.pairs = [tuple(p) for p in check_list("pairs", pairs, "pairs") if are_ints(p, 2)]
        if len(self.pairs) < len(pairs) or any(i < 0 for p in self.pairs for i in p):
            raise ArgumentError(f"pairs={pairs!r}: expected pairs of indices of points")
        points = [point for pair in self.pairs for point in pair]
        if len(set(points)) < len(points):
            raise ArgumentError(f"pairs={pairs!r}: expected each point in one pair at most")
        says = not transform.geometric or type(transform).moves is not Augmentation.moves
        if target != "images" and not says:
            raise ArgumentError(
                f"{type(transform).__name__} cannot be used with {target}, as it does not say how "
                "it moves pixels: leave it out, or define its method moves"
            )

    def __call__(self, x: Array, y: Any, rng: Generator | None = None) -> tuple[Array, Any]:
        """Transform the pictures ``x`` (N, C, H, W) and their targets ``y``."""
        rng = rng or random.generator()
        again = copy.deepcopy(rng)  # draws the same numbers
        count, (_, *size) = len(x), spatial_size(x, "NCHW", "WithTarget: x")
        check, move = _KINDS[self.target]
        check(y, count, size)
        moved = self.transform(x, rng)
        if self.target == "images":
            return moved, self.transform(y, again)
        for step in self.transform.moves((size[0], size[1]), count, again):
            y = move(self, y, step)
        return moved, y

    def apply(self, batch: Batch, rng: Generator | None) -> Batch:
        if len(batch) == 1:
            return self.transform.apply(batch, rng)
        x, y, *rest = batch
        return (*self(x, y, rng), *rest)


def _check(y: Any, kinds: str, shapes: Sequence[tuple[int | None, ...]], what: str) -> None:
    """Require an array of these kinds of numbers and of one of the shapes; None is any length."""
    found = tuple(getattr(y, "shape", ()))
    fits = [
        all(n is None or n == m for n, m in zip(shape, found, strict=True))
        for shape in shapes
        if len(shape) == len(found)
    ]
    if not any(fits):
        wanted = " or ".join(str(shape).replace("None", "any") for shape in shapes)
        got = f"shape {found}" if hasattr(y, "shape") else type(y).__name__
        raise ShapeError(f"{what}: got {got}, expected {wanted}")
    if y.dtype.kind not in kinds:
        expected = {"i": "signed integers", "f": "floats"}.get(kinds, "integers or floats")
        raise DTypeError(f"{what}: got {y.dtype}, expected {expected}")


def _check_masks(y: Any, count: int, size: Sequence[int]) -> None:
    _check(y, "iuf", [(count, *size), (count, None, *size)], "masks")


def _check_boxes(y: Any, count: int, size: Sequence[int]) -> None:
    if not isinstance(y, dict) or not {"boxes", "labels"} <= y.keys():
        found = f"a dict of {', '.join(map(str, y))}" if isinstance(y, dict) else type(y).__name__
        raise DataError(f"y is {found}: expected a dict of boxes and labels")
    _check(y["boxes"], "f", [(count, None, 4)], "boxes")
    _check(y["labels"], "i", [y["boxes"].shape[:2]], "labels of the boxes")


def _check_keypoints(y: Any, count: int, size: Sequence[int]) -> None:
    _check(y, "f", [(count, None, 2), (count, None, 3)], "keypoints")


def _check_images(y: Any, count: int, size: Sequence[int]) -> None:
    _check(y, "iuf", [(count, None, *size)], "pictures")


def _move_masks(settings: WithTarget, y: Array, move: Move) -> Array:
    is_whole = y.dtype.kind in "iu"
    ends = (np.iinfo if is_whole else np.finfo)(y.dtype)
    if not ends.min <= settings.fill <= ends.max or (is_whole and settings.fill % 1):
        raise ArgumentError(f"fill={settings.fill:g} cannot be stored in masks of {y.dtype}")
    backend = backends.of(y)
    planes = y if y.ndim == 4 else y[:, None]
    with backend.active():
        source = batch_last(backend.xp, planes)
        pixels = warp(backend, source, move.matrices, 0, settings.fill, move.size, move.reflect)
        result = empty_images(backend.xp, planes, (planes.shape[1], *move.size))
        result[...] = batch_first(pixels)
    return result if y.ndim == 4 else result[:, 0]


def _move_boxes(settings: WithTarget, y: dict[str, Any], move: Move) -> dict[str, Any]:
    boxes, labels = y["boxes"], y["labels"]
    backend = backends.of(boxes)
    xp, limits = backend.xp, backend.asarray(np.array(move.size[::-1], float))
    with backend.active():
        left, top, right, bottom = (boxes[..., i] for i in range(4))
        corners = xp.stack([left, top, right, top, right, bottom, left, bottom], axis=2)
        corners = corners.reshape(len(boxes), 4 * boxes.shape[1], 2)
        corners = _move_points(backend, corners - 0.5, move) + 0.5  # of edges, not of centres
        corners = corners.reshape(*labels.shape, 4, 2)
        ends = corners.min(axis=2), corners.max(axis=2)
        low, high = (xp.clip(end, 0, limits) for end in ends)
        sides, area = high - low, (ends[1] - ends[0]).prod(axis=2)
        kept = (sides >= _THIN).all(axis=2) & (sides.prod(axis=2) >= settings.min_area * area)
        edges = xp.where(kept[..., None], xp.concatenate([low, high], axis=2), 0)
        return {**y, "boxes": edges.astype(boxes.dtype), "labels": xp.where(kept, labels, -1)}


def _move_keypoints(settings: WithTarget, y: Array, move: Move) -> Array:
    backend = backends.of(y)
    xp, count = backend.xp, y.shape[1]
    if any(point >= count for pair in settings.pairs for point in pair):
        raise ShapeError(f"pairs={settings.pairs}: there are only {count} keypoints")
    order = np.arange(count)
    for a, b in settings.pairs:
        order[[a, b]] = order[[b, a]]
    mirrored = backend.asarray(np.linalg.det(move.matrices[:, :, :2]) < 0)
    limits = backend.asarray(np.array(move.size[::-1]) - 0.5)
    with backend.active():
        points = _move_points(backend, y[..., :2], move)
        inside = ((points >= -0.5) & (points < limits)).all(axis=2)
        result = xp.concatenate([points, y[..., 2:] * inside[..., None]], axis=2).astype(y.dtype)
        return xp.where(mirrored[:, None, None], result[:, backend.asarray(order)], result)


def _move_points(backend: Backend, points: Array, move: Move) -> Array:
    """Points (N, P, 2), x and y, whole at the centres of pixels, to their places in the output."""
    inverse = np.linalg.inv(move.matrices[:, :, :2])[:, ::-1, ::-1]  # (row, column) to (x, y)
    inverse = backend.asarray(np.ascontiguousarray(inverse.transpose(0, 2, 1)))
    offsets = backend.asarray(np.ascontiguousarray(move.matrices[:, None, ::-1, 2]))
    return backend.xp.matmul(points - offsets, inverse)


#: how the targets of a kind are checked, given their number and (H, W), and moved
_KINDS: dict[str, tuple[Callable[..., None], Callable[..., Any]]] = {
    "masks": (_check_masks, _move_masks),
    "boxes": (_check_boxes, _move_boxes),
    "keypoints": (_check_keypoints, _move_keypoints),
    "images": (_check_images, _move_masks),
}
