"""Targets that follow pictures through augmentations: against the pixels, loops and torchvision."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xcnn.data import (
    Augmentation,
    AugMix,
    ColorJitter,
    Compose,
    CutMix,
    Cutout,
    DataLoader,
    GaussianBlur,
    Move,
    Normalize,
    RandAugment,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
    TrivialAugmentWide,
    WithTarget,
)
from xcnn.data.augment import MIXTURES, RECIPES, training_steps
from xcnn.errors import ArgumentError, DataError, DTypeError, ShapeError
from xcnn.testing import assert_close

from ..conftest import layouts
from ..strict import count_syncs

#: those that take each pixel from one place, and leave its value
EXACT = [
    RandomHorizontalFlip(),
    RandomVerticalFlip(),
    RandomCrop((17, 20), padding=(3, 5)),
    RandomCrop(24, padding=4, padding_mode="reflect"),
    RandomRotation(40, order=0),
    RandomAffine(20, (0.2, 0.1), (0.7, 1.5), (-5, 5, 0, 10), order=0),
    RandomAffine(0, (0.2, 0.1), order=0),
]
RESIZED = RandomResizedCrop((30, 26), scale=(0.4, 1))
STILL = [ColorJitter(0.4, 0.4, 0.4, 0.2), GaussianBlur(3), RandomErasing(p=1), Cutout(5)]
POLICIES = [RandAugment(3, 20), TrivialAugmentWide()]
KINDS = ["masks", "boxes", "keypoints", "images"]


def rng(seed=0):
    return np.random.default_rng(seed)


def targets(kind, count, height=24, width=24, seed=0):
    """Random targets of a kind."""
    draw = rng(seed)
    if kind == "masks":
        return draw.integers(0, 5, (count, height, width))
    if kind == "images":
        return draw.random((count, 3, height, width)).astype("float32")
    points = (draw.random((count, 3, 2)) * (width, height)).astype("float32")
    if kind == "keypoints":
        return np.concatenate([points, np.full((count, 3, 1), 2, "float32")], axis=2)
    far = np.minimum(points + 8, (width, height)).astype("float32")
    return {"boxes": np.concatenate([points, far], 2), "labels": draw.integers(0, 4, (count, 3))}


def pictures(count, height=24, width=24):
    return rng(9).random((count, 3, height, width)).astype("float32")


def arrays(y):
    return [y["boxes"], y["labels"]] if isinstance(y, dict) else [y]


def on(backend, transform, x, y, seed=0):
    send, fetch = backend.asarray, backend.to_host
    y = {k: send(v) for k, v in y.items()} if isinstance(y, dict) else send(y)
    x, y = transform(send(x), y, rng(seed))
    return fetch(x), {k: fetch(v) for k, v in y.items()} if isinstance(y, dict) else fetch(y)


# -- against the pixels


@pytest.mark.parametrize("transform", EXACT, ids=repr)
def test_a_mask_moves_as_the_same_picture_does(backend, transform):
    """The picture shows the classes, and 0 from outside; the mask has ``fill`` there."""
    y = targets("masks", 12) + 1
    x = y[:, None].astype("uint8")
    moved, mask = on(backend, WithTarget(transform, "masks", fill=77), x, y)
    assert mask.dtype == y.dtype
    assert_close(np.where(mask == 77, 0, mask), moved[:, 0].astype(y.dtype))
    assert not (mask == 0).any()
    planes = np.stack([y, y[::-1]], axis=1).astype("float32")  # (N, C, H, W), floats
    _, both = on(backend, WithTarget(transform, "masks", fill=77), x, planes)
    assert_close(both[:, 0], mask.astype("float32"))


def test_a_mask_moves_through_each_operation_of_a_policy(monkeypatch):
    """With the operations that change colours left out, it is the picture that is moved."""
    from xcnn.data.augment import operations

    for name, row in operations.OPERATIONS.items():
        if row.change:
            monkeypatch.setitem(
                operations.OPERATIONS, name, operations.Operation(*(None, None), *row[2:])
            )
    y = targets("masks", 60) + 1
    for transform in POLICIES:
        x, mask = WithTarget(transform, "masks", fill=0)(y[:, None].astype("uint8"), y, rng(1))
        assert_close(mask, x[:, 0].astype(y.dtype))
        assert (mask != y).any(axis=(1, 2)).sum() > 15


def test_a_mask_in_a_resized_crop_is_read_at_the_nearest_centre():
    crop = RandomResizedCrop((32, 64), scale=(0.4, 1))  # no centre is halfway between two pixels
    y = targets("masks", 8)
    _, mask = WithTarget(crop, "masks")(y[:, None].astype("uint8"), y, rng(3))
    boxes = crop._boxes((24, 24), 8, rng(3)).T
    for n, (top, left, height, width) in enumerate(boxes.tolist()):
        rows = [top + int((i + 0.5) * height / 32) for i in range(32)]
        columns = [left + int((j + 0.5) * width / 64) for j in range(64)]
        np.testing.assert_array_equal(mask[n], y[n][np.ix_(rows, columns)])


def spots(height, width, boxes):
    """A white rectangle for each box (x1, y1, x2, y2), one picture each."""
    x = np.zeros((len(boxes), 1, height, width), "float32")
    for n, (x1, y1, x2, y2) in enumerate(boxes):
        x[n, 0, y1:y2, x1:x2] = 1
    return x


@settings(max_examples=12)
@given(st.integers(9, 40), st.integers(9, 40), st.integers(0, 2**32))
def test_boxes_and_points_stay_on_what_they_mark(height, width, seed):
    draw = rng(seed)
    low = draw.integers(0, (width - 7, height - 7), (8, 2))
    high = draw.integers(low + 5, (width + 1, height + 1))
    boxes = np.concatenate([low, high], axis=1)
    x, labels = spots(height, width, boxes), np.arange(8)[:, None]
    y = {"boxes": boxes[:, None].astype("float32"), "labels": labels, "crowd": labels > 3}
    crop = RandomCrop((height - 3, width - 2), padding=2)
    resized = RandomResizedCrop((17, 23), scale=(0.5, 1), interpolation="nearest")
    for transform in (*EXACT[:2], crop, *EXACT[4:], resized, TrivialAugmentWide()):
        if isinstance(transform, TrivialAugmentWide):
            x_moved = spots(height, width, boxes)  # colours would change the background
            for move in transform.moves((height, width), 8, rng(seed)):
                x_moved = _sample(x_moved, move.matrices)
            _, found = WithTarget(transform, "boxes", min_area=0)(x, y, rng(seed))
        else:
            x_moved, found = WithTarget(transform, "boxes", min_area=0)(x, y, rng(seed))
        for n in range(8):
            rows, columns = np.nonzero(x_moved[n, 0])
            if found["labels"][n, 0] < 0:  # at most a line of pixels is left
                assert len(rows) == 0 or min(np.ptp(rows), np.ptp(columns)) <= 2
                assert not found["boxes"][n].any()
                continue
            x1, y1, x2, y2 = found["boxes"][n, 0]
            assert 0 <= x1 <= x2 <= x_moved.shape[3]
            assert 0 <= y1 <= y2 <= x_moved.shape[2]
            if len(rows):
                assert x1 - 1 <= columns.min() <= columns.max() + 1 <= x2 + 1
                assert y1 - 1 <= rows.min() <= rows.max() + 1 <= y2 + 1


def _sample(x, matrices):
    """Nearest pixels of (N, 1, H, W), in loops."""
    result = np.zeros_like(x)
    height, width = x.shape[2:]
    for n, ((a, b, c), (d, e, f)) in enumerate(matrices.tolist()):
        for i in range(height):
            for j in range(width):
                row, column = (
                    math.floor(a * i + b * j + c + 0.5),
                    math.floor(d * i + e * j + f + 0.5),
                )
                if 0 <= row < height and 0 <= column < width:
                    result[n, 0, i, j] = x[n, 0, row, column]
    return result


@pytest.mark.parametrize("transform", [*EXACT[:3], *EXACT[4:], RESIZED], ids=repr)
def test_a_point_stays_on_its_dot(backend, transform):
    """A dot of 3 x 3 pixels; the point is its centre."""
    points = rng(5).integers(1, 23, (40, 1, 2))
    y = np.concatenate([points, np.full((40, 1, 1), 2)], axis=2).astype("float32")
    corners = np.concatenate([points - 1, points + 2], axis=2)[:, 0]
    x, moved = on(backend, WithTarget(transform, "keypoints"), spots(24, 24, corners), y)
    seen = 0
    for n, (across, down, visibility) in enumerate(moved[:, 0]):
        inside = -0.5 <= across < x.shape[3] - 0.5 and -0.5 <= down < x.shape[2] - 0.5
        assert visibility == (2 if inside else 0)
        if 2 < across < x.shape[3] - 3 and 2 < down < x.shape[2] - 3:
            i, j = np.indices(x.shape[2:])
            weights = x[n, 0] / x[n, 0].sum()
            assert abs((weights * i).sum() - down) < 1
            assert abs((weights * j).sum() - across) < 1
            seen += 1
    assert seen > 10


def test_a_box_is_removed_when_little_of_it_is_left():
    """Crops of 10 of 20 columns, at each offset from 0 to 10."""

    class Crop(RandomCrop):
        def _corners(self, size, count, rng):
            return np.stack([0 * np.arange(count), np.arange(count)])

    x = np.zeros((11, 1, 4, 20), "uint8")
    boxes = np.tile(np.float32([[0, 0, 10, 4], [9.5, 0, 10, 4], [0, 0, 0, 0]]), (11, 1, 1))
    y = {"boxes": boxes, "labels": np.tile([3, 5, -1], (11, 1)), "crowd": np.ones((11, 3))}
    for least, kept in ((0.1, 10), (0.35, 7), (1, 1)):
        _, found = WithTarget(Crop((4, 10)), "boxes", min_area=least)(x, y)
        np.testing.assert_array_equal(found["labels"][:, 0], [3] * kept + [-1] * (11 - kept))
        lefts = [[0, 0, 10 - n, 4] if n < kept else [0] * 4 for n in range(11)]
        np.testing.assert_array_equal(found["boxes"][:, 0], lefts)
        assert (found["labels"][:, 1:] == -1).all()  # half a pixel wide; no box
        assert not found["boxes"][:, 1:].any()
        assert found["crowd"] is y["crowd"]


def test_pictures_without_boxes(backend):
    y = {"boxes": np.zeros((2, 0, 4), "float32"), "labels": np.zeros((2, 0), int)}
    for transform in (EXACT[0], RESIZED, POLICIES[0]):
        _, found = on(backend, WithTarget(transform, "boxes"), pictures(2), y)
        assert (found["boxes"].shape, found["boxes"].dtype) == ((2, 0, 4), "float32")
        assert found["labels"].shape == (2, 0)


def test_pairs_change_places_in_mirrored_pictures():
    y = np.float32([[[1, 2, 1], [6, 3, 2], [4, 4, 2]]])
    flip = WithTarget(RandomHorizontalFlip(1), "keypoints", pairs=[(0, 1)])
    _, found = flip(np.zeros((1, 1, 8, 8)), y)
    np.testing.assert_array_equal(found, [[[1, 3, 2], [6, 2, 1], [3, 4, 2]]])
    turn = WithTarget(RandomRotation((180, 180)), "keypoints", pairs=[(0, 1)])
    _, found = turn(np.zeros((1, 1, 8, 8)), y[..., :2])
    np.testing.assert_allclose(found, [[[6, 5], [1, 4], [3, 3]]], atol=1e-5)


def test_a_picture_as_target_gets_the_same_numbers():
    x = pictures(5)
    for transform in (*EXACT, RESIZED, *STILL, *POLICIES, AugMix()):
        moved, same = WithTarget(transform, "images")(x, x.copy(), rng(4))
        np.testing.assert_array_equal(moved, same)
        np.testing.assert_array_equal(moved, transform(x, rng(4)))


@pytest.mark.parametrize("transform", [*STILL, Cutout(3)], ids=repr)
def test_targets_stay_where_the_pixels_stay(transform):
    for kind in KINDS[:3]:
        y = targets(kind, 4)
        assert WithTarget(transform, kind)(pictures(4), y)[1] is y


# -- against torchvision


def test_boxes_against_torchvision():
    from ..torchvision_stub import torch

    v2 = pytest.importorskip("torchvision.transforms.v2.functional")
    tensors = pytest.importorskip("torchvision.tv_tensors")
    x, y = pictures(6, 30, 40), targets("boxes", 6, 30, 40)
    part = RandomResizedCrop((20, 50), scale=(0.5, 1))
    cut = part._boxes((30, 40), 6, rng()).T.tolist()
    shifted = RandomCrop((30, 40), padding=(3, 5))
    corners = (shifted._corners((30, 40), 6, rng()) - [[3], [5]]).T.tolist()
    peers = [
        (RandomHorizontalFlip(1), lambda b, n: v2.horizontal_flip(b)),
        (RandomVerticalFlip(1), lambda b, n: v2.vertical_flip(b)),
        (part, lambda b, n: v2.resized_crop(b, *cut[n], [20, 50])),
        (shifted, lambda b, n: v2.crop(b, *corners[n], 30, 40)),
        (RandomRotation((25, 25)), lambda b, n: v2.rotate(b, 25)),
    ]
    for transform, peer in peers:
        _, found = WithTarget(transform, "boxes", min_area=0)(x, y, rng())
        for n in range(6):
            boxes = torch.from_numpy(y["boxes"][n])
            boxes = tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(30, 40))
            expected = v2.clamp_bounding_boxes(peer(boxes, n)).numpy()
            kept = found["labels"][n] >= 0
            assert_close(found["boxes"][n][kept], expected[kept], atol=1e-3)
            assert ((expected[:, 2:] - expected[:, :2]).min(axis=1) >= 1).tolist() == kept.tolist()


# -- of any backend, layout and number


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("transform", [*EXACT[2:6:3], RESIZED, POLICIES[0]], ids=repr)
def test_every_layout_and_an_empty_batch(backend, transform, kind):
    x, y = pictures(3), targets(kind, 3)
    follow = WithTarget(transform, kind)
    expected = arrays(follow(x, y, rng(1))[1])
    parts = [layouts(backend, a) for a in arrays(y)]
    for name, image in layouts(backend, x).items():
        for stop in (3, 0):
            given = [part[name][:stop] for part in parts]
            wrapped = dict(zip(("boxes", "labels"), given, strict=False))
            _, found = follow(image[:stop], wrapped if kind == "boxes" else given[0], rng(1))
            for a, b in zip(arrays(found), expected, strict=True):
                assert_close(backend.to_host(a), b[:stop], atol=1e-5)
    for a, b in zip(parts, arrays(y), strict=True):
        np.testing.assert_array_equal(backend.to_host(a["contiguous"]), b)


@pytest.mark.parametrize("kind", KINDS)
def test_does_not_wait_for_the_gpu(strict, kind):
    y = targets(kind, 3)
    y = {k: strict.asarray(v) for k, v in y.items()} if kind == "boxes" else strict.asarray(y)
    x = strict.asarray(pictures(3))
    with count_syncs() as syncs:
        for transform in (EXACT[0], EXACT[5], POLICIES[0]):
            WithTarget(transform, kind, pairs=[(0, 1)])(x, y, rng())
    assert syncs == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_loader_seed_determines_targets_too(kind):
    def run(prefetch, first=0):
        steps = [EXACT[0], EXACT[5], POLICIES[0], STILL[0]]
        transform = Compose([WithTarget(t, kind) for t in steps])
        data = pictures(6), targets(kind, 6)
        loader = DataLoader(data, 4, shuffle=True, seed=2, transform=transform, prefetch=prefetch)
        loader.epoch = first
        return [
            b"".join(a.tobytes() for x, y in loader for a in (x, *arrays(y)))
            for _ in range(first, 3)
        ]

    epochs = run(2)
    assert epochs == run(0)
    assert epochs[2:] == run(2, first=2)
    assert len(set(epochs)) == 3


# -- refused


class Shake(Augmentation):
    def augment(self, backend, x, rng):
        return backend.xp.roll(x, int(rng.integers(3)), axis=3)


class Shift(Shake):
    def moves(self, size, count, rng):
        shift = int(rng.integers(3))
        return [Move(np.tile([[1.0, 0, 0], [0, 1, -shift]], (count, 1, 1)), size)]


def test_own_augmentations():
    with pytest.raises(ArgumentError, match=r"Shake cannot be used with boxes.*define its method"):
        WithTarget(Shake(), "boxes")
    _, found = WithTarget(Shift(), "keypoints")(pictures(2), targets("keypoints", 2), rng(1))
    shift = int(rng(1).integers(3))
    np.testing.assert_allclose(found[..., 0] - targets("keypoints", 2)[..., 0], shift, atol=1e-5)


def test_recipes_with_targets():
    normalize = Normalize(0.5, 0.5, 1)
    for name in RECIPES:
        if name in (*MIXTURES, "augmix"):
            with pytest.raises(ArgumentError, match=r"leave (it|them) out"):
                training_steps(name, (24, 24), 4, normalize, "boxes")
            continue
        for kind in KINDS:
            steps = training_steps(name, (24, 24), 4, normalize, kind)
            x, y = Compose(steps)(pictures(2), targets(kind, 2), rng())
            assert x.shape == (2, 3, 24, 24)
            for a, b in zip(arrays(y), arrays(targets(kind, 2)), strict=True):
                assert (a.shape, a.dtype) == (b.shape, b.dtype)
    (step, _) = training_steps("flip", (24, 24), 4, normalize, "masks", fill=9)
    assert step.fill == 9
    assert Compose([step])(pictures(2)).shape == (2, 3, 24, 24)  # pictures alone


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: WithTarget(CutMix(3), "boxes"), ArgumentError, "can only follow an augmentation"),
        (lambda: WithTarget(EXACT[0], "box"), ArgumentError, "target='box'"),
        (lambda: WithTarget(EXACT[0], "boxes", min_area=2), ArgumentError, "min_area=2"),
        (lambda: WithTarget(EXACT[0], "keypoints", pairs=[(0, -1)]), ArgumentError, "pairs="),
        (lambda: WithTarget(EXACT[0], "keypoints", pairs=[0, 1]), ArgumentError, "pairs="),
        (
            lambda: WithTarget(EXACT[0], "keypoints", pairs=[(0, 1), (1, 0)]),
            *(ArgumentError, "expected each point in one pair at most"),
        ),
    ],
)
def test_invalid_arguments(make, error, text):
    with pytest.raises(error, match=text):
        make()


BOXES = targets("boxes", 2)


def test_places_without_a_box_are_zeros(backend):
    """Whatever was there."""
    y = {"boxes": np.full((2, 1, 4), np.nan, "float32"), "labels": np.full((2, 1), -1)}
    placed = {name: backend.asarray(value) for name, value in y.items()}
    _, found = WithTarget(EXACT[0], "boxes")(backend.asarray(pictures(2)), placed)
    assert backend.to_host(found["boxes"]).tolist() == np.zeros((2, 1, 4)).tolist()
    assert backend.to_host(found["labels"]).tolist() == [[-1], [-1]]


@pytest.mark.parametrize(
    ("kind", "y", "error", "text"),
    [
        ("masks", np.zeros((2, 24, 23), int), ShapeError, r"masks: got shape \(2, 24, 23\), exp"),
        ("masks", np.zeros((2, 24, 24), bool), DTypeError, "masks: got bool, expected integers"),
        ("masks", np.zeros((2, 24, 24), "int8"), ArgumentError, "fill=255 cannot be stored"),
        ("boxes", BOXES["boxes"], DataError, "expected a dict of boxes and labels"),
        ("boxes", {"boxes": BOXES["boxes"]}, DataError, "y is a dict of boxes: expected a dict of"),
        ("boxes", {**BOXES, "labels": np.zeros((2, 2), int)}, ShapeError, "labels of the boxes"),
        ("boxes", {**BOXES, "boxes": BOXES["boxes"].astype(int)}, DTypeError, "expected floats"),
        ("boxes", {**BOXES, "labels": BOXES["labels"].astype("uint8")}, DTypeError, "signed"),
        ("keypoints", np.zeros((2, 3, 4), "float32"), ShapeError, r"expected \(2, any, 2\) or"),
        ("keypoints", np.zeros((2, 1, 2), "float32"), ShapeError, "there are only 1 keypoints"),
        ("keypoints", [[1, 2]], ShapeError, "keypoints: got list"),
        ("images", np.zeros((2, 3, 48, 48)), ShapeError, r"pictures: got shape \(2, 3, 48, 48\)"),
    ],
)
def test_targets_that_do_not_fit(kind, y, error, text):
    with pytest.raises(error, match=text):
        WithTarget(EXACT[0], kind, pairs=[(0, 1)])(pictures(2), y)
