"""Metrics of detection: average precision and recall as the COCO benchmark defines them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array
from ..errors import DTypeError, ShapeError
from ..tensor import Tensor
from .metric import StoringMetric

__all__ = ["CocoMAP", "CocoMAP50", "CocoMAP75"]

_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0, 1, 101)
_LIMITS = (1, 10, 100)  # detections of a class in a picture, the best ones
#: of the area of a box in pixels, both ends included
_SIZES = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
_ALL = np.array([_SIZES["all"]])
_CELLS = 2**21  # most elements of the arrays that match detections with objects


class CocoMAP(StoringMetric):
    """COCO's average precision: the mean over IoU thresholds 0.50, 0.55, ..., 0.95 and classes.

    Precision is the mean of its values at the recalls 0, 0.01, ..., 1, after each was raised to the
    largest at any higher recall. Equal to the first number of pycocotools' ``COCOeval``, except
    that it is NaN, not -1, if there are no objects. :meth:`summary` has all twelve, and
    :meth:`per_class` one for each class. Source: Lin et al. 2014, "Microsoft COCO", and the code of
    pycocotools.

    Predictions are dicts of arrays, for N pictures with at most K boxes each:

    - "boxes" (N, K, 4): x1, y1, x2, y2 in pixels;
    - "scores" (N, K);
    - "labels" (N, K): classes, -1 where there is no box.

    Targets are dicts with "boxes" (N, M, 4) and "labels" (N, M), and may have

    - "crowd" (N, M), bool: a region with many objects, in which detections do not count;
    - "area" (N, M): pixels of the object, for its size; default: of its box.
    """

    name = "coco_map"
    targets = ("boxes",)
    thresholds = _THRESHOLDS

    def update(self, prediction: Any, target: Any) -> None:
        """Add a batch, without waiting for a GPU.

        Parameters
        ----------
        prediction, target
            See :class:`CocoMAP`.

        Raises
        ------
        DTypeError, ShapeError
            Not such dicts, or arrays that do not fit each other.
        """
        found = _arrays(self.name, "prediction", prediction, ("boxes", "scores", "labels"))
        truth = _arrays(self.name, "target", target, ("boxes", "labels", "crowd", "area"), 2)
        backend = found["boxes"].backend
        with backend.active():
            xp = backend.xp
            given = {n: t.data for n, t in found.items()}
            own = {n: t.to(backend).data for n, t in truth.items()}
            (count, most), (pictures, objects) = given["scores"].shape, own["labels"].shape
            if count != pictures:
                raise ShapeError(
                    f"metric {self.name!r}: predictions of {count} pictures, targets of {pictures}"
                )
            boxes, labels = own["boxes"], given["labels"]
            sides = boxes[..., 2:] - boxes[..., :2]
            is_number = xp.isfinite(given["boxes"]).all(axis=-1) & ~xp.isnan(given["scores"])
            values = {
                **given,
                "true_boxes": boxes,
                "true_labels": own["labels"],
                "crowd": own.get("crowd", xp.zeros((count, objects), bool)),
                "area": own.get("area", sides[..., 0] * sides[..., 1]),
            }
            for name, value in values.items():
                rows = value.reshape(count * value.shape[1], *value.shape[2:])
                self._add(backend, name, rows.copy())
            self._add(backend, "sizes", np.array([[count, most, objects]]))
            self._add(backend, "invalid", (~is_number & (labels >= 0)).sum().reshape(1))

    def merge(self, states: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
        # first batches first: the order of pictures decides between equal scores
        rounds = itertools.zip_longest(*map(_batches, states), fillvalue={})
        return super().merge([state for batch in rounds for state in batch])

    def result(  # these names are those of the state
        self,
        boxes: Array,
        scores: Array,
        labels: Array,
        true_boxes: Array,
        true_labels: Array,
        crowd: Array,
        area: Array,
        sizes: Array,
    ) -> Any:
        rows = _Rows(boxes, scores, labels, true_boxes, true_labels, crowd, area, sizes)
        return _mean(_evaluated(rows, self.thresholds, _ALL, _LIMITS[-1:])[0])

    def summary(self) -> dict[str, float]:
        """The twelve numbers of ``COCOeval``; waits for the device.

        Returns
        -------
        dict
            Average precision: "map", "map_50" and "map_75" at one IoU, "map_small" (area to 32²
            pixels), "map_medium", "map_large" (from 96²); average recall with at most 1, 10 and 100
            detections of each class per picture: "mar_1", "mar_10", "mar_100", "mar_small",
            "mar_medium" and "mar_large". NaN where there are no objects.
        """
        state = self.state_dict()
        is_invalid = not state or bool(np.any(state.pop("invalid")))
        names = [
            *("map", "map_50", "map_75", "map_small", "map_medium", "map_large"),
            *("mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large"),
        ]
        if is_invalid:
            return dict.fromkeys(names, math.nan)
        sizes = np.array(list(_SIZES.values()))
        precision, recall, _ = _evaluated(_Rows(**state), _THRESHOLDS, sizes, _LIMITS)
        parts = [precision[0], precision[0, 0], precision[0, 5], *precision[1:]]
        parts += [*recall[:, 0], *recall[-1, 1:]]
        return dict(zip(names, map(_mean, parts), strict=True))

    def per_class(self) -> dict[int, float]:
        """The average precision of each class that has objects; waits for the device."""
        state = self.state_dict()
        if not state or np.any(state.pop("invalid")):
            return {}
        rows = _Rows(**state)
        precision, _, classes = _evaluated(rows, self.thresholds, _ALL, _LIMITS[-1:])
        return dict(zip(classes.tolist(), precision[0].mean(axis=0).tolist(), strict=True))


class CocoMAP50(CocoMAP):
    """:class:`CocoMAP` with the one IoU threshold 0.5, as Pascal VOC measures."""

    name = "map_50"
    thresholds = _THRESHOLDS[:1]


class CocoMAP75(CocoMAP):
    """:class:`CocoMAP` with the one IoU threshold 0.75."""

    name = "map_75"
    thresholds = _THRESHOLDS[5:6]


def _arrays(
    metric: str, what: str, given: Any, names: tuple[str, ...], optional: int = 0
) -> dict[str, Tensor]:
    """The arrays of a prediction or a target by name, checked; the last ones may be left out."""
    needed = names[: len(names) - optional]
    if not isinstance(given, Mapping) or not {*needed} <= given.keys():
        keys = f"a dict with {', '.join(map(str, given))}" if isinstance(given, Mapping) else ""
        raise DTypeError(
            f"metric {metric!r}: the {what} is {keys or type(given).__name__}: expected a dict of "
            f"arrays with {', '.join(needed)}"
        )
    arrays = {name: Tensor.of(given[name]) for name in names if name in given}
    shape = arrays["boxes"].shape[:-1]
    if arrays["boxes"].shape != (*shape, 4) or len(shape) != 2:
        raise ShapeError(
            f"metric {metric!r}: boxes of the {what} have shape {arrays['boxes'].shape}: expected "
            "(N, boxes, 4)"
        )
    for name, array in arrays.items():
        if name != "boxes" and array.shape != shape:
            raise ShapeError(
                f"metric {metric!r}: {name} of the {what} has shape {array.shape}, boxes "
                f"{arrays['boxes'].shape}: expected {shape}"
            )
    return arrays


def _batches(state: Mapping[str, Any]) -> list[dict[str, Array]]:
    """The states after each batch alone."""
    if not state:
        return []
    sizes = state["sizes"]
    found, objects = (sizes[:, 0] * sizes[:, k] for k in (1, 2))
    rows = dict.fromkeys(("boxes", "scores", "labels"), found)
    rows |= dict.fromkeys(("true_boxes", "true_labels", "crowd", "area"), objects)
    rows |= dict.fromkeys(("sizes", "invalid"), np.ones(len(sizes), int))
    split = {name: np.split(state[name], n.cumsum()[:-1]) for name, n in rows.items()}
    return [{name: of[k] for name, of in split.items()} for k in range(len(sizes))]


class _Rows(NamedTuple):
    """All detections and objects as they are stored, row by row, padding included."""

    boxes: Array
    scores: Array
    labels: Array
    true_boxes: Array
    true_labels: Array
    crowd: Array
    area: Array
    sizes: Array  # of each batch: pictures, rows of detections and of objects per picture


class _Objects(NamedTuple):
    """Objects, sorted by group: the number of a class in a picture."""

    group: Array
    boxes: Array
    crowd: Array
    area: Array


class _Found(NamedTuple):
    """Detections, sorted by group and then from the best on, and their number in the group."""

    group: Array
    boxes: Array
    scores: Array
    rank: Array


def _evaluated(
    rows: _Rows, thresholds: Array, sizes: Array, limits: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    """Precision (sizes, thresholds, classes), recall (limits, sizes, ...), and the classes.

    A number is NaN where a class has no objects of a size.
    """
    classes = np.unique(rows.true_labels[rows.true_labels >= 0])
    found, objects = _sorted(rows, classes, limits[-1])
    skipped = objects.crowd | _outside(objects.area, sizes)  # (sizes, objects)
    hits, ignored = _matched(found, objects, skipped, thresholds, sizes)
    labels = found.group % max(len(classes), 1)
    order = np.lexsort((-found.scores, labels))
    ends = np.searchsorted(labels[order], np.arange(len(classes) + 1))
    shape = len(sizes), len(thresholds), len(classes)
    precision, recall = np.full(shape, np.nan), np.full((len(limits), *shape), np.nan)
    for k in range(len(classes)):
        positives = (~skipped[:, objects.group % len(classes) == k]).sum(axis=1)
        own = order[ends[k] : ends[k + 1]]
        right = hits[..., own] & ~ignored[..., own]
        wrong = ~hits[..., own] & ~ignored[..., own]
        for n in np.flatnonzero(positives):
            for m, limit in enumerate(limits):
                recall[m, n, :, k] = right[n][:, found.rank[own] < limit].sum(axis=1) / positives[n]
            precision[n, :, k] = [
                _average_precision(*counts, positives[n])
                for counts in zip(right[n].cumsum(axis=1), wrong[n].cumsum(axis=1), strict=True)
            ]
    return precision, recall, classes


def _average_precision(right: Array, wrong: Array, positives: int) -> float:
    """From the numbers of right and wrong detections among the first 1, 2, ... ones."""
    precision = right / (right + wrong + np.spacing(1))
    highest = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0)
    return float(highest[np.searchsorted(right / positives, _RECALLS)].mean())


def _sorted(rows: _Rows, classes: Array, most: int) -> tuple[_Found, _Objects]:
    """The detections of classes that have objects, at most so many of a group; all objects."""
    starts = rows.sizes[:, 0].cumsum() - rows.sizes[:, 0]
    pictures = [
        np.concatenate([s + np.arange(n).repeat(n_rows[k]) for s, (n, *n_rows) in each])
        for k in (0, 1)
        for each in [list(zip(starts.tolist(), rows.sizes.tolist(), strict=True))]
    ]
    groups = [
        picture * len(classes) + np.searchsorted(classes, labels)
        for picture, labels in zip(pictures, (rows.labels, rows.true_labels), strict=True)
    ]
    own = np.flatnonzero(np.isin(rows.labels, classes))
    own = own[np.lexsort((-rows.scores[own], groups[0][own]))]
    group = groups[0][own]
    rank = np.arange(len(own)) - np.searchsorted(group, group)
    own, group, rank = (a[rank < most] for a in (own, group, rank))
    found = _Found(group, rows.boxes[own].astype(float), rows.scores[own], rank)
    true = np.flatnonzero(rows.true_labels >= 0)
    true = true[np.argsort(groups[1][true], kind="stable")]
    crowd, area = rows.crowd[true].astype(bool), rows.area[true].astype(float)
    return found, _Objects(groups[1][true], rows.true_boxes[true].astype(float), crowd, area)


def _outside(areas: Array, sizes: Array) -> Array:
    """Which areas (N,) are not of a size: (sizes, N)."""
    return (areas < sizes[:, :1]) | (areas > sizes[:, 1:])


def _matched(
    found: _Found, objects: _Objects, skipped: Array, thresholds: Array, sizes: Array
) -> tuple[Array, Array]:
    """Which detections match an object, and which do not count: (sizes, thresholds, detections).

    Groups are matched side by side, those with similar numbers of objects together.
    """
    outside = _outside((found.boxes[:, 2:] - found.boxes[:, :2]).prod(axis=1), sizes)
    shape = len(sizes), len(thresholds), len(found.group)
    hits, ignored = np.zeros(shape, bool), np.repeat(outside[:, None], shape[1], 1)
    groups, first, number = np.unique(objects.group, return_index=True, return_counts=True)
    start = np.searchsorted(found.group, groups)
    count = np.searchsorted(found.group, groups, "right") - start
    width = 2 ** np.ceil(np.log2(number)).astype(int) * (count > 0)
    for w in np.unique(width[width > 0]).tolist():
        members = np.flatnonzero(width == w)
        members = members[np.argsort(-count[members])]  # those with a next detection come first
        step = max(1, _CELLS // (shape[0] * shape[1] * w))
        for at in range(0, len(members), step):
            part = members[at : at + step]
            columns = first[part, None] + np.minimum(np.arange(w), number[part, None] - 1)
            is_open = np.broadcast_to(np.arange(w) < number[part, None], (*shape[:2], len(part), w))
            own = _Objects(*(of[columns] for of in objects))
            rows = start[part], count[part]
            _match(found, rows, own, skipped[:, columns], is_open.copy(), thresholds, hits, ignored)
    return hits, ignored


def _match(
    found: _Found,
    rows: tuple[Array, Array],
    objects: _Objects,
    skipped: Array,
    is_open: Array,
    thresholds: Array,
    hits: Array,
    ignored: Array,
) -> None:
    """Match the detections of G groups with their objects, (G, width), from the best on.

    Each takes the open object with the largest IoU, the last of equal ones, but one that is skipped
    (a crowd, or of another size) only if there is no other; the detection is ignored then. A crowd
    stays open.
    """
    limits = np.minimum(thresholds, 1 - 1e-10)[:, None, None]
    start, count = rows
    for rank in range(count[0]):
        n = int((count > rank).sum())
        at = start[:n] + rank
        iou = _iou(found.boxes[at][:, None], objects.boxes[:n], objects.crowd[:n])
        possible = is_open[:, :, :n] & (iou >= limits)  # (sizes, thresholds, n, width)
        counted = possible & ~skipped[:, None, :n]
        possible = np.where(counted.any(axis=-1, keepdims=True), counted, possible)
        best = np.where(possible, iou, -1)[..., ::-1].argmax(axis=-1)
        is_hit = possible.any(axis=-1)
        hits[:, :, at] = is_hit
        size, threshold, group = np.nonzero(is_hit)
        column = iou.shape[1] - 1 - best[is_hit]
        ignored[size, threshold, at[group]] = skipped[size, group, column]
        is_open[size, threshold, group, column] = objects.crowd[group, column]


def _iou(boxes: Array, objects: Array, crowd: Array) -> Array:
    """IoU of boxes (..., 1, 4) with objects (..., M, 4); of a crowd, the share of the box in it."""
    sides = np.minimum(boxes[..., 2:], objects[..., 2:]) - np.maximum(
        boxes[..., :2], objects[..., :2]
    )
    common = np.maximum(sides, 0).prod(axis=-1)
    area, other = ((b[..., 2:] - b[..., :2]).prod(axis=-1) for b in (boxes, objects))
    union = np.where(crowd, area, area + other - common)
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def _mean(values: Array) -> float:
    """The mean of the numbers that are not NaN; NaN if there are none."""
    return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
