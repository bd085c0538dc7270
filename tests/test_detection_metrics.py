"""COCO's average precision, against pycocotools."""

import json
import math

import numpy as np
import pytest

from xcnn import nn
from xcnn.errors import ArgumentError, DTypeError, ShapeError
from xcnn.metrics import CocoMAP, create
from xcnn.tensor import Tensor

from .coco_cases import FILE, case, measured
from .strict import count_syncs

NAMES = ["coco_map", "map_50", "map_75"]


def summary(*batches):
    metric = CocoMAP()
    for prediction, target in batches:
        metric.update(prediction, target)
    return metric.summary()


def part(arrays, rows):
    return {name: of[rows] for name, of in arrays.items()}


@pytest.mark.parametrize(
    "seeds", [range(50), pytest.param(range(50, 200), marks=pytest.mark.exhaustive)], ids=str
)
def test_random_cases_are_those_of_pycocotools(seeds):
    pytest.importorskip("pycocotools", reason="needs: pip install pycocotools")
    for seed in seeds:
        prediction, target = case(seed)
        half = len(target["labels"]) // 2
        batches = [(part(prediction, r), part(target, r)) for r in (slice(half), slice(half, None))]
        found = summary(*batches)
        np.testing.assert_allclose([*found.values()], measured(prediction, target), 0, 1e-9)


def stored():
    for row in json.loads(FILE.read_text()):
        arrays = [{k: np.array(v) for k, v in row[p].items()} for p in ("prediction", "target")]
        yield *arrays, [math.nan if v is None else v for v in row["measured"]]


def test_stored_cases():
    for prediction, target, expected in stored():
        found = summary((prediction, target))
        np.testing.assert_allclose([*found.values()], expected, 0, 1e-9)
        for name, key in zip(NAMES, ("map", "map_50", "map_75"), strict=True):
            metric = create(name)
            metric.update(prediction, target)
            assert metric.compute() == found[key]


@pytest.mark.parametrize("seed", [0, 2, 5, 6, 7, 9])
def test_merged_states_are_those_of_all_pictures(seed):
    """Bit for bit, also where scores are equal: the order of the pictures decides between them."""
    prediction, target = case(seed)
    total = len(target["labels"])
    expected = summary((prediction, target))
    for count in (1, 2, 3, 5):
        found = [CocoMAP() for _ in range(count)]
        for start in range(0, total, 4):
            n = min(4, total - start)
            for k, metric in enumerate(found):
                rows = slice(start + k * n // count, start + (k + 1) * n // count)
                if rows.start < rows.stop:  # Totals skips the others
                    metric.update(part(prediction, rows), part(target, rows))
        merged = CocoMAP()
        merged.load_state_dict(merged.merge([metric.state_dict() for metric in found]))
        np.testing.assert_equal(merged.summary(), expected)
        reordered = merged.merge([metric.state_dict() for metric in found[::-1]])
        assert len(reordered["scores"]) == prediction["scores"].size


def test_on_devices(backend):
    """Batches with different numbers of boxes, from the device; saved and loaded in between."""
    (p1, t1, _), (p2, t2, _) = list(stored())[:2]
    for t in (t1, t2):
        t["crowd"] = t.get("crowd", np.zeros(t["labels"].shape, bool))
    expected = create("coco_map")
    metric = create("coco_map")
    for p, t in ((p1, t1), (p2, t2)):
        expected.update(p, t)
        on_device = {k: Tensor(backend.asarray(v)) for k, v in p.items()}
        own = {k: backend.asarray(v) for k, v in t.items()}
        metric.update(on_device, own)
        for array in own.values():  # a Trainer reuses the memory of its batches
            array[...] = 0
        again = create("coco_map")
        again.load_state_dict(metric.state_dict())
        metric = again
    assert metric.compute() == expected.compute()
    assert metric.summary()["map"] == metric.compute()


def test_no_update_waits_for_the_device(strict):
    prediction, target, _ = next(stored())
    on_device = [{k: strict.asarray(v) for k, v in d.items()} for d in (prediction, target)]
    metric = CocoMAP()
    with count_syncs() as syncs:
        metric.update(*on_device)
        metric.update(*on_device)
    assert syncs == []


def one(boxes, labels, scores=None):
    found = {"boxes": np.array([boxes], float), "labels": np.array([labels])}
    return found if scores is None else {**found, "scores": np.array([scores])}


def test_classes_one_by_one():
    """Of class 4 the one object is found, of class 2 one of two; class 7 has no object."""
    objects = [[0, 0, 10, 10], [20, 20, 40, 40], [50, 50, 60, 60]]
    metric = CocoMAP()
    metric.update(
        one([*objects[:2], [0, 0, 5, 5]], [4, 2, 7], [0.9, 0.8, 0.7]), one(objects, [4, 2, 2])
    )
    found = metric.per_class()
    assert list(found) == [2, 4]
    np.testing.assert_allclose(found[2], 51 / 101)  # precision 1 at the recalls 0 to 0.50
    np.testing.assert_allclose(found[4], 1)
    np.testing.assert_allclose(metric.compute(), (51 / 101 + 1) / 2)


def test_nothing_to_measure():
    metric = CocoMAP()
    assert math.isnan(metric.compute())
    assert metric.per_class() == {}
    assert all(map(math.isnan, metric.summary().values()))
    metric.update(one([[0, 0, 1, 1]], [1], [0.5]), one(np.zeros((0, 4)), []))
    assert math.isnan(metric.compute())
    metric.update(one(np.zeros((0, 4)), [], []), one([[0, 0, 1, 1]], [1]))
    assert metric.compute() == 0
    empty = {k: v[:0] for k, v in one([[0, 0, 1, 1]], [1], [0.5]).items()}
    metric.update(empty, empty)
    assert metric.compute() == 0


@pytest.mark.parametrize(
    ("name", "value"), [("scores", np.nan), ("boxes", np.nan), ("boxes", np.inf)]
)
def test_predictions_that_are_not_numbers(name, value):
    prediction, target = one([[0, 0, 1, 1]] * 2, [1, -1], [0.5, 0.5]), one([[0, 0, 1, 1]], [1])
    metric, padded = CocoMAP(), {k: v.copy() for k, v in prediction.items()}
    padded[name][0, 1] = value  # of no box
    metric.update(padded, target)
    assert metric.compute() == pytest.approx(1)
    prediction[name][0, 0] = value
    metric.update(prediction, target)
    assert math.isnan(metric.compute())
    assert metric.per_class() == {}
    assert all(map(math.isnan, metric.summary().values()))


@pytest.mark.parametrize(
    ("prediction", "target", "error", "text"),
    [
        (
            np.zeros(3),
            {},
            DTypeError,
            "prediction is ndarray: expected a dict of arrays with boxes",
        ),
        ({"boxes": 1}, {}, DTypeError, "the prediction is a dict with boxes: expected"),
        (one([[0, 0, 1, 1]], [1], [1.0]), {"labels": 1}, DTypeError, "the target is a dict with"),
        (one([[0, 0, 1]], [1], [1.0]), one([[0, 0, 1, 1]], [1]), ShapeError, r"\(1, 1, 3\)"),
        (one([[0, 0, 1, 1]], [1, 2], [1.0]), one([[0, 0, 1, 1]], [1]), ShapeError, "labels of the"),
        (
            {k: np.repeat(v, 2, 0) for k, v in one([[0, 0, 1, 1]], [1], [1.0]).items()},
            one([[0, 0, 1, 1]], [1]),
            ShapeError,
            "predictions of 2 pictures, targets of 1",
        ),
    ],
)
def test_errors(prediction, target, error, text):
    with pytest.raises(error, match=text):
        CocoMAP().update(prediction, target)


def test_it_is_for_boxes():
    with pytest.raises(ArgumentError, match="for targets that are boxes"):
        create("coco_map", nn.MSELoss())
