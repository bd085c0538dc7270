"""Operations on boxes, against torchvision's and a plain loop for non-maximum suppression."""

import numpy as np
import pytest

import xcnn
from xcnn import functional as F
from xcnn.errors import ArgumentError, DTypeError, ShapeError

from .conftest import assert_matches


def boxes(count, kind="real", seed=0):
    """(count, 4), float32: of any numbers, or of small integers, which often are equal."""
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 50, (count, 2)) if kind == "real" else rng.integers(0, 9, (count, 2))
    sides = rng.uniform(1, 30, (count, 2)) if kind == "real" else rng.integers(1, 7, (count, 2))
    return np.concatenate([start, start + sides], 1).astype("float32")


# -- against torchvision -------------------------------------------------------------------------

FORMATS = ["xyxy", "xywh", "cxcywh"]
PAIRWISE = ["box_iou", "generalized_box_iou", "distance_box_iou", "complete_box_iou"]


@pytest.fixture(scope="module")
def ops():
    from .torchvision_stub import torchvision

    return torchvision.ops


def peer(function, *arrays, **settings):
    """The value of a function of PyTorch, and the gradients of its sum."""
    import torch

    inputs = [torch.tensor(a, requires_grad=True) for a in arrays]
    y = function(*inputs, **settings)
    y.sum().backward()
    return y.detach().numpy(), [x.grad.numpy() for x in inputs]


def own(backend, function, *arrays, **settings):
    y, pullback = xcnn.vjp(function, *map(backend.asarray, arrays), **settings)
    gradients = pullback(backend.xp.ones(y.shape, y.dtype))
    return backend.to_host(y), [backend.to_host(g) for g in gradients]


@pytest.mark.parametrize("name", PAIRWISE)
@pytest.mark.parametrize("batch", [(), (2,)], ids=str)
def test_pairs_of_boxes(backend, ops, name, batch):
    a, b = (boxes(n * 2, seed=n).astype("float64") for n in (5, 7))
    a, b = (x.reshape(2, -1, 4)[0] if not batch else x.reshape(2, -1, 4) for x in (a, b))
    expected, gradients = peer(getattr(ops, name), a, b)
    y, found = own(backend, getattr(F, name), a, b)
    assert_matches(y, expected)
    for g, e in zip(found, gradients, strict=True):
        assert_matches(g, e)
    integers, others = ((x * 2).astype("uint8") for x in (a, b))  # 2 · 80 still fits
    expected, _ = peer(getattr(ops, name), *(x.astype("float32") for x in (integers, others)))
    found = getattr(F, name)(backend.asarray(integers), backend.asarray(others))
    assert_matches(found.numpy(), expected, "float32")
    assert getattr(F, name)(backend.asarray(a), backend.asarray(b[..., :0, :])).shape[-1] == 0


@pytest.mark.parametrize("name", ["generalized", "distance", "complete"])
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_losses(backend, ops, name, reduction):
    name = f"{name}_box_iou_loss"
    a, b = boxes(40, seed=3).astype("float64"), boxes(40, seed=4).astype("float64")
    b[:5] = a[:5] + 100  # far away
    a[5:8, 0] = b[5:8, 2]  # side by side, so that they touch
    a[5:8, 2] = a[5:8, 0] + 3
    y, found = own(backend, getattr(F, name), a, b, reduction=reduction)
    expected, gradients = peer(getattr(ops, name), a, b, reduction=reduction)
    assert_matches(y, expected)
    for g, e in zip(found, gradients, strict=True):
        assert_matches(g, e)
    nothing = backend.asarray(a[:0])
    assert getattr(F, name)(nothing, nothing, "mean").numpy() == 0


@pytest.mark.parametrize("one", FORMATS)
@pytest.mark.parametrize("other", FORMATS)
def test_conversions(backend, ops, one, other):
    a = boxes(6)
    expected, gradients = peer(ops.box_convert, a, in_fmt=one, out_fmt=other)
    y, found = own(backend, F.box_convert, a, in_fmt=one, out_fmt=other)
    assert_matches(y, expected, "float32")
    assert_matches(found[0], gradients[0])


def test_areas_and_clipping(backend, ops):
    a = boxes(9)
    expected, gradients = peer(ops.box_area, a)
    y, found = own(backend, F.box_area, a)
    assert_matches(y, expected, "float32")
    assert_matches(found[0], gradients[0])
    moved = a - 20
    expected, gradients = peer(ops.clip_boxes_to_image, moved, size=(30, 25))
    y, found = own(backend, F.clip_boxes_to_image, moved, size=(30, 25))
    assert_matches(y, expected, "float32")
    assert_matches(found[0], gradients[0])
    import torch

    small = ops.remove_small_boxes(torch.tensor(a), 12.0).tolist()
    assert F.remove_small_boxes(backend.asarray(a), 12).tolist() == small
    assert 0 < len(small) < 9


# -- non-maximum suppression ---------------------------------------------------------------------


def picked(boxes, scores, threshold, classes=None):
    """The loop of torchvision's code for the CPU; the IoU is in float32, the comparison is not."""
    order = np.argsort(-np.where(np.isnan(scores), np.inf, scores), kind="stable").tolist()
    zero, found = np.float32(0), []
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    while order:
        best = order.pop(0)
        found.append(best)
        rest = []
        for i in order:
            low = np.maximum(boxes[best, :2], boxes[i, :2])
            width, height = np.maximum(zero, np.minimum(boxes[best, 2:], boxes[i, 2:]) - low)
            common = width * height
            iou = common / (areas[best] + areas[i] - common)
            if not float(iou) > threshold or (classes is not None and classes[best] != classes[i]):
                rest.append(i)
        order = rest
    return found


def cases():
    """Boxes, scores and a threshold: ties, equal boxes, no area, exchanged sides, NaN, none."""
    for seed in range(24):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(0, 70)) if seed else 0
        a = boxes(count, ("real", "small")[seed % 2], seed)
        scores = rng.integers(0, 9, count) / 8 if seed % 3 else rng.random(count)
        if seed % 4 == 1:
            a[: count // 3, 2:] = a[: count // 3, :2]  # no area
            a[count // 3 : count // 2] = a[count // 3 : count // 3 + 1]  # equal
        if seed % 8 == 2:
            a = a[:, [2, 1, 0, 3]]
        if seed % 8 == 6:
            a[::5, 1], a[1::7, 2], scores[::4] = np.nan, np.inf, np.nan
        classes = rng.integers(-1, 3, count)
        # 0.3 and 0.6 are rounded up in float32: an IoU of 3/10 or 3/5 is above them there
        yield a, scores.astype("float32"), (0, 0.3, 0.5, 0.6, 0.7, 1)[seed % 6], classes


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")  # of the loop
@pytest.mark.filterwarnings("ignore:divide by zero:RuntimeWarning")
def test_suppression(backend):
    for a, scores, threshold, classes in cases():
        arrays = backend.asarray(a), backend.asarray(scores)
        found = F.nms(*arrays, threshold)
        assert found.dtype == "int64"
        assert found.tolist() == picked(a, scores, threshold)
        found = F.batched_nms(*arrays, backend.asarray(classes), threshold)
        assert found.tolist() == picked(a, scores, threshold, classes)


@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_suppression_as_by_torchvision(ops):
    """The operators of torchvision itself, where they are compiled for the PyTorch that is here."""
    import torch

    for a, scores, threshold, classes in cases():
        arrays = torch.tensor(a), torch.tensor(scores)
        try:
            expected = ops.nms(*arrays, threshold).tolist()
        except (NotImplementedError, RuntimeError):
            pytest.skip("torchvision is for another build of PyTorch")
        assert F.nms(a, scores, threshold).tolist() == expected
        found = F.batched_nms(a, scores, classes, threshold).tolist()
        each = ops.boxes._batched_nms_vanilla(*arrays, torch.tensor(classes), threshold)
        assert sorted(found) == sorted(each.tolist())


def test_suppression_in_blocks(backend, monkeypatch):
    """Chains of boxes that overlap with the next one need the most rounds to settle."""
    monkeypatch.setattr(F.boxes, "_BLOCK", 32)
    steps = np.arange(100, dtype="float32") * 3
    a = np.stack([steps, steps * 0, steps + 10, steps * 0 + 10], 1)
    scores = -steps  # from left to right
    found = F.nms(backend.asarray(a), backend.asarray(scores), 0.5)
    assert found.tolist() == list(range(0, 100, 2))  # the IoU with the next one is 7/13
    crowded = boxes(300, "small")
    scores = np.random.default_rng(1).random(300).astype("float32")
    found = F.nms(backend.asarray(crowded), backend.asarray(scores), 0.5)
    assert found.tolist() == picked(crowded, scores, 0.5)


def test_suppression_of_other_types(backend):
    a, scores = boxes(30, "small"), np.random.default_rng(2).random(30)
    expected = picked(a, scores, 0.5)
    for dtype in ("int64", "uint8", "float16", "float64"):
        given = backend.asarray(a.astype(dtype)), backend.asarray(scores.astype("float64"))
        assert F.nms(*given, 0.5).tolist() == expected
    tensor = xcnn.Tensor(backend.asarray(a), requires_grad=True)
    assert not F.nms(tensor, backend.asarray(scores), 0.5).requires_grad


def test_memory_grows_with_the_number_of_boxes():
    """8,000 boxes, of which a matrix of all pairs takes 256 MB in float32."""
    import tracemalloc

    a = boxes(8_000) + np.float32(0)
    a[:, [0, 2]] += np.arange(8_000, dtype="float32")[:, None] * 10
    scores = np.random.default_rng(0).random(8_000).astype("float32")
    tracemalloc.start()
    kept = F.nms(a, scores, 0.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(kept) > 4_000
    assert peak < 80e6


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: F.box_area(np.zeros((3, 5))), ShapeError, r"boxes has shape \(3, 5\)"),
        (lambda: F.box_iou(np.zeros(4), np.zeros((1, 4))), ShapeError, r"use boxes1\[None\]"),
        (lambda: F.box_convert(np.zeros(4), "xyxy", "yxyx"), ArgumentError, "out_fmt='yxyx'"),
        (lambda: F.clip_boxes_to_image(np.zeros(4), (0, 3)), ArgumentError, "size"),
        (lambda: F.nms(np.zeros((3, 4)), np.zeros(2), 0.5), ShapeError, r"\(3, 4\), scores \(2,\)"),
        (lambda: F.nms(np.zeros((3, 4)), np.zeros(3), "half"), ArgumentError, "iou_threshold"),
        (
            lambda: F.batched_nms(np.zeros((3, 4)), np.zeros(3), np.zeros(3), 0.5),
            DTypeError,
            "idxs is float64: expected ints",
        ),
        (
            lambda: F.distance_box_iou_loss(np.zeros((3, 4)), np.zeros((2, 4))),
            ShapeError,
            "must be equal",
        ),
        (lambda: F.complete_box_iou(np.zeros((1, 4)), np.zeros((1, 4)), -1), ArgumentError, "eps"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()
