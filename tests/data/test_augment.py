"""Augmentations against plain loops, on every backend, with random numbers from the host."""

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

import xcnn
import xcnn.functional as F
from xcnn.data import (
    Augmentation,
    AugMix,
    ColorJitter,
    Compose,
    CutMix,
    Cutout,
    DataLoader,
    GaussianBlur,
    Grayscale,
    Mixing,
    MixUp,
    Normalize,
    RandAugment,
    RandomAffine,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
    Subset,
    TrivialAugmentWide,
    training_transform,
)
from xcnn.data.augment import MIXTURES, RECIPES, recipe_names
from xcnn.data.augment.affine import warp
from xcnn.data.augment.operations import OPERATIONS
from xcnn.errors import ArgumentError, DataError, DTypeError, ShapeError
from xcnn.testing import assert_close

from ..conftest import is_batch_last, layouts
from ..strict import count_syncs
from . import augment_oracles as oracles
from .conftest import load_once

EVERY = [
    RandomHorizontalFlip(),
    RandomVerticalFlip(),
    RandomCrop((4, 6), padding=(1, 2)),
    RandomCrop(5, padding=2, padding_mode="reflect"),
    RandomRotation(30),
    RandomRotation(30, order=0),
    RandomAffine(20, translate=(0.2, 0.1), scale=(0.7, 1.5), shear=(-5, 5, 0, 10)),
    RandomErasing(p=0.8),
    Cutout(3),
    ColorJitter(0.4, 0.4, 0.4, 0.2),
    Grayscale(),
    Grayscale(3),
    RandomResizedCrop((5, 4)),
    RandomResizedCrop(7, interpolation="nearest"),
    GaussianBlur(3),
    RandAugment(),
    RandAugment(3, 20, interpolation="bilinear", fill=(1, 0, 0.5)),
    TrivialAugmentWide(),
    AugMix(),
]
MIXING = [MixUp(4), CutMix(4)]


def images(*shape, dtype="float32", seed=0):
    x = np.random.default_rng(seed).random(shape)
    return (x * 255.99).astype(dtype) if dtype == "uint8" else x.astype(dtype)


def rng(seed=0):
    return np.random.default_rng(seed)


def on(backend, transform, x, seed=0):
    return backend.to_host(transform(backend.asarray(x), rng(seed)))


# All augmentations


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("transform", EVERY, ids=repr)
def test_keeps_layout_dtype_and_input(backend, transform, dtype):
    x = images(7, 3, 6, 8, dtype=dtype)
    results = []
    for name, array in layouts(backend, x).items():
        y = transform(array, rng(1))
        assert y.dtype == dtype
        assert is_batch_last(y) == (name == "batch-last")
        np.testing.assert_array_equal(backend.to_host(array), x)
        results.append(backend.to_host(y))
    for result in results[1:]:
        np.testing.assert_array_equal(result, results[0])
    assert not np.shares_memory(results[0], x)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("transform", EVERY, ids=repr)
def test_devices_agree(backend, transform, dtype):
    x = images(6, 3, 6, 8, dtype=dtype)
    host = transform(x, rng(5))
    result = on(backend, transform, x, seed=5)
    assert_close(result.astype("float32"), host.astype("float32"), atol=1e-6)


@pytest.mark.parametrize("transform", EVERY, ids=repr)
def test_a_seed_repeats_the_result(transform):
    x = images(16, 3, 6, 8)
    np.testing.assert_array_equal(transform(x, rng(3)), transform(x, rng(3)))
    xcnn.manual_seed(4)
    first, second = transform(x), transform(x)
    xcnn.manual_seed(4)
    np.testing.assert_array_equal(transform(x), first)
    if not isinstance(transform, Grayscale):
        assert (first != second).any()
        assert (transform(x, rng(3)) != transform(x, rng(9))).any()


@pytest.mark.parametrize("transform", EVERY, ids=repr)
def test_an_empty_batch(backend, transform):
    shape = transform(images(2, 3, 6, 8), rng()).shape
    for array in layouts(backend, np.zeros((0, 3, 6, 8), "float32")).values():
        y = transform(array, rng())
        assert (y.shape, y.dtype) == ((0, *shape[1:]), "float32")


@pytest.mark.parametrize("transform", EVERY, ids=repr)
def test_input_without_a_batch_axis(transform):
    with pytest.raises(ShapeError, match=rf"{type(transform).__name__}: x has shape \(3, 6, 8\)"):
        transform(images(3, 6, 8))


@pytest.mark.parametrize("transform", [*EVERY, *MIXING], ids=repr)
def test_does_not_wait_for_the_gpu(strict, transform):
    x, y = strict.asarray(images(5, 3, 6, 8)), strict.asarray(np.arange(5) % 4)
    with count_syncs() as syncs:
        transform(x, y, rng()) if isinstance(transform, Mixing) else transform(x, rng())
    assert syncs == []


@pytest.mark.parametrize("transform", [t for t in EVERY if not isinstance(t, Grayscale)], ids=repr)
def test_images_are_changed_independently(transform):
    """Copies of one image come out different."""
    x = np.repeat(images(1, 3, 6, 8), 40, axis=0)
    assert len({image.tobytes() for image in transform(x, rng())}) > 1


def test_user_defined_augmentation(backend):
    class Darker(Augmentation):
        def __init__(self, low):
            self.low = low

        def augment(self, backend, x, rng):
            return x * backend.asarray(rng.uniform(self.low, 1, (len(x), 1, 1, 1)).astype(x.dtype))

    x = images(3, 1, 2, 2)
    shares = rng(2).uniform(0.5, 1, (3, 1, 1, 1))
    assert_close(on(backend, Darker(0.5), x, 2), (x * shares).astype("float32"))
    assert repr(Darker(0.5)) == "Darker(low=0.5)"
    with pytest.raises(NotImplementedError, match="must define augment"):
        Augmentation()(x)


# Flips and crops


@pytest.mark.parametrize(("kind", "axis"), [(RandomHorizontalFlip, 3), (RandomVerticalFlip, 2)])
@pytest.mark.parametrize("shape", [(5, 3, 4, 5), (9, 1, 5, 1), (3, 2, 1, 6)], ids=str)
def test_flips(backend, kind, axis, shape):
    x = images(*shape)
    mirrored = np.zeros_like(x)
    for n, c, i, j in np.ndindex(x.shape):
        source = (shape[2] - 1 - i, j) if axis == 2 else (i, shape[3] - 1 - j)
        mirrored[n, c, i, j] = x[n, c, *source]
    np.testing.assert_array_equal(on(backend, kind(p=1), x), mirrored)
    np.testing.assert_array_equal(on(backend, kind(p=0), x), x)
    for image, before, flipped in zip(on(backend, kind(), x), x, mirrored, strict=True):
        assert (image == before).all() or (image == flipped).all()


@pytest.mark.parametrize("kind", [RandomHorizontalFlip, RandomVerticalFlip])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.8])
def test_how_often_it_flips(kind, p):
    x = np.tile(np.float32([[0, 1], [2, 3]]), (10_000, 1, 1, 1))
    share = (kind(p)(x, rng(1))[:, 0, 0, 0] != 0).mean()
    assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / len(x))


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
@pytest.mark.parametrize(
    ("size", "padding"), [((4, 5), (0, 0)), ((3, 2), (2, 1)), ((1, 1), (0, 3)), ((6, 7), (1, 1))]
)
def test_crops(backend, mode, size, padding):
    x = images(30, 2, 4, 5)
    y = on(backend, RandomCrop(size, padding, mode), x)
    assert y.shape == (30, 2, *size)
    seen = set()
    for before, after in zip(x, y, strict=True):
        equal = [(window == after).all() for window in oracles.crops(before, size, padding, mode)]
        assert any(equal)
        seen.add(equal.index(True))
    assert len(seen) > min(2, len(equal) - 1)


def test_crop_positions_are_uniform():
    x = np.arange(9.0, dtype="float32").reshape(1, 1, 3, 3).repeat(9000, 0)
    counts = np.bincount(RandomCrop(1)(x, rng()).astype(int).ravel(), minlength=9)
    assert abs(counts - 1000).max() < 5 * np.sqrt(1000 * 8 / 9)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"size": 0}, "size=0: expected an int >= 1"),
        ({"size": (2, 2.5)}, r"size=\(2, 2.5\)"),
        ({"size": (1, 2, 3)}, "size"),
        ({"size": 3, "padding": -1}, "padding=-1: expected an int >= 0"),
        ({"size": 3, "padding_mode": "edge"}, "padding_mode='edge'"),
    ],
)
def test_invalid_crop_arguments(settings, text):
    with pytest.raises(ArgumentError, match=text):
        RandomCrop(**settings)


def test_images_too_small_to_crop():
    with pytest.raises(ShapeError, match=r"smaller than size=\(7, 7\)"):
        RandomCrop(7, padding=1)(images(2, 1, 4, 6))
    with pytest.raises(ShapeError, match=r"larger than padding=\(4, 4\)"):
        RandomCrop(3, 4, "reflect")(images(2, 1, 4, 6))


# Rotation and other affine transforms


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("turns", [-1, 0, 1, 2, 3, 4])
def test_quarter_turns(backend, turns, dtype, order):
    x = images(3, 2, 5, 5, dtype=dtype)
    y = on(backend, RandomRotation((90 * turns,) * 2, order=order), x)
    assert_close(y, np.ascontiguousarray(np.rot90(x, turns, axes=(2, 3))), atol=1e-6)
    clockwise = on(backend, RandomAffine((-90 * turns,) * 2, order=order), x)
    np.testing.assert_array_equal(clockwise, y)


CHANGES = [
    {"clockwise": 25},
    {"clockwise": -140},
    {"shift": (2, -1)},
    {"zoom": 1.7},
    {"zoom": 0.6},
    {"shear": (20, 0)},
    {"shear": (0, -15)},
    {"clockwise": 33, "shift": (-1, 2), "zoom": 1.2, "shear": (10, -5)},
]


def fixed(change, size, order=1):
    """Build a RandomAffine that always draws ``change``, up to the sign of its shift."""
    height, width = size
    shift, shear = change.get("shift", (0, 0)), change.get("shear", (0, 0))
    return RandomAffine(
        (change.get("clockwise", 0),) * 2,
        translate=(abs(shift[0]) / width, abs(shift[1]) / height),
        scale=(change.get("zoom", 1),) * 2,
        shear=(shear[0], shear[0], shear[1], shear[1]),
        order=order,
    )


class Extremes(np.random.Generator):
    """Draws the largest shift, with the signs ``signs``; other draws stay random."""

    def __init__(self, signs):
        super().__init__(np.random.PCG64(0))
        self.signs = np.sign(signs)

    def uniform(self, low=0.0, high=1.0, size=None):
        if np.isscalar(low) and (low, high) == (-1, 1):
            return np.broadcast_to(self.signs, size).astype(float)
        return super().uniform(low, high, size)


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("shape", [(2, 2, 6, 9), (1, 1, 7, 5)], ids=str)
def test_affine_against_loops(backend, change, shape):
    x = images(*shape)
    transform = fixed(change, shape[2:])
    y = backend.to_host(transform(backend.asarray(x), Extremes(change.get("shift", (0, 0)))))
    assert_close(y, oracles.affine(x, **change).astype("float32"), atol=1e-5)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_affine_against_scipy(change, order):
    """Derive the matrix from three points moved by the oracle's formula."""
    x = images(3, 2, 9, 8)
    centre = np.array([4, 3.5])
    points = [oracles.source_point(*p, **change)[::-1] for p in ((0, 0), (0, 1), (1, 0))]  # (y, x)
    origin, down, right = map(np.array, points)
    matrix = np.stack([down - origin, right - origin], axis=1)
    offset = centre + origin - matrix @ centre
    y = fixed(change, (9, 8), order)(x, Extremes(change.get("shift", (0, 0))))
    for n, c in np.ndindex(3, 2):
        expected = scipy.ndimage.affine_transform(
            x[n, c], matrix, offset, order=order, mode="grid-constant"
        )
        assert_close(y[n, c], expected, atol=1e-5)


def test_whole_shifts_and_their_range():
    x = np.zeros((4000, 1, 9, 11), "float32")
    x[:, :, 4, 5] = 1
    y = RandomAffine(0, translate=(0.2, 0.3))(x, rng(3))
    rows, columns = np.nonzero(y[:, 0])[1:]
    assert len(rows) == 4000  # one whole pixel each
    assert (y.sum(axis=(1, 2, 3)) == 1).all()
    assert sorted(set(rows)) == list(range(1, 8))  # 0.3 · 9 = 2.7, rounded
    assert sorted(set(columns)) == list(range(3, 8))


def test_angles_cover_their_range():
    """A bright spot on the right shows the angle."""
    x = np.zeros((500, 1, 41, 41), "float32")
    x[:, :, 19:22, 37:40] = 1
    y = RandomRotation((10, 80))(x, rng(1))[:, 0]
    rows, columns = (np.einsum("nij,ij->n", y, g) / y.sum((1, 2)) - 20 for g in np.mgrid[:41, :41])
    angles = np.degrees(np.arctan2(-rows, columns))  # counter-clockwise
    assert 9 < angles.min() < 13
    assert 77 < angles.max() < 81
    assert abs(angles.mean() - 45) < 5 * 70 / np.sqrt(12 * 500)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: RandomRotation(-5), "degrees=-5: expected a number >= 0, or the lowest"),
        (lambda: RandomRotation((5, 1)), r"degrees=\(5, 1\)"),
        (lambda: RandomRotation("a"), "degrees='a'"),
        (lambda: RandomRotation(np.nan), "degrees=nan"),
        (lambda: RandomRotation(5, order=3), "order=3: expected 0 .nearest pixel. or 1"),
        (lambda: RandomAffine(5, translate=0.1), "translate=0.1: expected two fractions"),
        (lambda: RandomAffine(5, translate=(0.1, 1.1)), "translate=1.1: expected a number from 0"),
        (lambda: RandomAffine(5, scale=0.9), "scale=0.9: expected the lowest and the highest"),
        (lambda: RandomAffine(5, scale=(0, 1)), r"scale=\(0, 1\)"),
        (lambda: RandomAffine(5, shear=90), "shear=90: .*, both in .-90, 90"),
        (lambda: RandomAffine(5, shear=(1, 2, 3)), r"shear=\(1, 2, 3\)"),
    ],
)
def test_invalid_affine_arguments(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


# Erasing


def holes(y, value=0):
    """Yield rows and columns of the rectangle of ``value`` in each image, checking its shape."""
    for image in y:
        hole = (image == value).all(axis=0)
        rows, columns = np.flatnonzero(hole.any(axis=1)), np.flatnonzero(hole.any(axis=0))
        box = np.zeros_like(hole)
        if len(rows):
            box[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        np.testing.assert_array_equal(hole, box)
        assert (image[:, ~hole] != value).all()
        yield rows, columns


def test_erasing(backend):
    x = images(400, 2, 20, 30) / 2 + 0.5
    y = on(backend, RandomErasing(p=1, scale=(0.1, 0.2), ratio=(0.5, 2)), x)
    for image, before, (rows, columns) in zip(y, x, holes(y), strict=True):
        height, width = len(rows), len(columns)
        kept = image != 0
        assert (image[kept] == before[kept]).all()
        assert 0.1 * 600 - 20 < height * width < 0.2 * 600 + 20  # sides are rounded
        assert 0.5 * (width - 1) < height + 1
        assert height - 1 < 2 * (width + 1)


def test_erasing_probability_and_value(backend):
    x = images(3000, 2, 8, 8) / 2 + 0.5
    erased = [len(rows) > 0 for rows, _ in holes(RandomErasing(p=0.3)(x, rng(1)))]
    assert abs(np.mean(erased) - 0.3) < 5 * np.sqrt(0.3 * 0.7 / 3000)
    np.testing.assert_array_equal(on(backend, RandomErasing(p=0), x), x)
    y = on(backend, RandomErasing(p=1, value=(7, 9)), x[:5])
    for channel, value in enumerate((7, 9)):
        assert all(len(rows) for rows, _ in holes(y[:, channel : channel + 1], value))
    with pytest.raises(ShapeError, match="one number, or one per channel"):
        RandomErasing(value=(1, 2, 3))(x)


def test_erasing_when_no_rectangle_fits():
    x = images(4, 1, 3, 3)
    np.testing.assert_array_equal(RandomErasing(p=1, scale=(1, 1), ratio=(1, 1))(x), x)


@pytest.mark.parametrize("size", [1, 2, 3, 20])
def test_cutout(backend, size):
    x = images(300, 2, 6, 7) / 2 + 0.5
    seen = set()
    for rows, columns in holes(on(backend, Cutout(size), x)):
        assert 1 <= len(rows) <= size
        assert 1 <= len(columns) <= size
        at_border = rows[0] == 0 or rows[-1] == 5
        assert len(rows) == size or at_border
        seen.add((rows[0], columns[0], len(rows), len(columns)))
    # each of the 42 pixels is a centre; 20 around any of them cover all
    assert len(seen) == (1 if size == 20 else 42)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: RandomErasing(p=2), "p=2: expected a number from 0 to 1"),
        (lambda: RandomErasing(scale=(0.5, 2)), "scale="),
        (lambda: RandomErasing(ratio=(0, 2)), "ratio="),
        (lambda: Cutout(0), "size=0"),
        (lambda: Cutout(2.5), "size=2.5"),
        (lambda: RandomHorizontalFlip(-0.1), "p=-0.1"),
        (lambda: RandomHorizontalFlip(np.nan), "p=nan"),
        (lambda: RandomHorizontalFlip("1"), "p='1'"),
    ],
)
def test_invalid_erasing_and_flip_arguments(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


# Colours

COLOUR_CHANGES = [
    {"brightness": 1.6},
    {"brightness": 0.3},
    {"contrast": 0.4},
    {"contrast": 1.8},
    {"saturation": 0.0},
    {"saturation": 2.5},
    {"hue": 0.2},
    {"hue": -0.4},
]


@pytest.mark.parametrize("amounts", COLOUR_CHANGES, ids=str)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 1, 3, 3)], ids=str)
def test_each_colour_change(backend, amounts, shape):
    jitter = ColorJitter(**{name: (value, value) for name, value in amounts.items()})
    x = images(*shape)
    (expected,) = oracles.jittered_in_every_order(x, amounts, 1.0)
    assert_close(on(backend, jitter, x), expected.astype("float32"), atol=1e-5)
    x = images(*shape, dtype="uint8")
    (expected,) = oracles.jittered_in_every_order(x, amounts, 255.0)
    result = on(backend, jitter, x)
    assert result.dtype == "uint8"
    assert abs(result - expected).max() < 0.5 + 1e-3


def test_hue_of_pure_colours(backend):
    """Includes ties between channels, grey, black and white."""
    corners = np.array(list(np.ndindex(2, 2, 2)), "float32").T  # (3, 8)
    x = np.stack([corners, 0.5 + 0.25 * corners])[:, :, None]
    for shift in (0.5, -0.5, 1 / 3, 0.1):
        (expected,) = oracles.jittered_in_every_order(x, {"hue": shift}, 1.0)
        result = on(backend, ColorJitter(hue=(shift, shift)), x)
        assert_close(result, expected.astype("float32"), atol=1e-5)


def test_changes_are_applied_in_random_order():
    amounts = {"brightness": 1.3, "contrast": 0.6, "saturation": 1.7, "hue": 0.1}
    jitter = ColorJitter(**{name: (value, value) for name, value in amounts.items()})
    x = images(2, 3, 3, 4)
    expected = list(oracles.jittered_in_every_order(x, amounts, 1.0))
    orders = set()
    for seed in range(30):
        y = jitter(x, rng(seed))
        distances = [abs(y - e).max() for e in expected]
        assert min(distances) < 1e-5
        orders.add(int(np.argmin(distances)))
    assert len(orders) > 5


def test_brightness_range():
    x = np.full((5000, 1, 1, 1), 0.25, "float32")
    factors = ColorJitter(brightness=0.4)(x, rng()).ravel() / 0.25
    assert 0.6 <= factors.min() < 0.61
    assert 1.39 < factors.max() <= 1.4 + 1e-6
    assert ColorJitter(brightness=3).brightness == (0, 4)
    np.testing.assert_array_equal(ColorJitter()(x), x)


def test_grey(backend):
    x = images(3, 3, 4, 5)
    expected = (x * np.reshape([0.2989, 0.587, 0.114], (3, 1, 1))).sum(axis=1, keepdims=True)
    assert_close(on(backend, Grayscale(), x), expected.astype("float32"))
    three = on(backend, Grayscale(3), x)
    assert_close(three, np.repeat(expected, 3, axis=1).astype("float32"))
    assert_close(on(backend, Grayscale(3), x[:, :1]), np.repeat(x[:, :1], 3, axis=1))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ColorJitter(brightness=-1), "brightness=-1"),
        (lambda: ColorJitter(contrast=(-1, 1)), r"contrast=\(-1, 1\).*both in .0, inf"),
        (lambda: ColorJitter(hue=0.6), "hue=0.6: .*, both in .-0.5, 0.5"),
        (lambda: Grayscale(2), "num_output_channels=2: expected 1 or 3"),
    ],
)
def test_invalid_colour_arguments(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


@pytest.mark.parametrize("transform", [ColorJitter(0.5), Grayscale()], ids=repr)
def test_invalid_colour_inputs(transform):
    with pytest.raises(ShapeError, match="expected 1 or 3 channels"):
        transform(images(2, 4, 3, 3))
    with pytest.raises(DTypeError, match="x is int64, expected uint8, or floats"):
        transform(np.zeros((1, 3, 2, 2), "int64"))


# Operations of the policies


def operate(backend, name, x, magnitudes, order=0, fill=0):
    """Apply one operation to images (N, C, H, W), as the policies do."""
    is_float = x.dtype.kind == "f"
    pixels = np.ascontiguousarray(x.transpose(1, 2, 3, 0), x.dtype if is_float else "float32")
    magnitudes = np.broadcast_to(np.array(magnitudes, float), len(x))
    operation, pixels, y = OPERATIONS[name], backend.asarray(pixels), pixels
    if operation.matrices:
        matrices = operation.matrices(x.shape[2:], magnitudes)
        y = backend.to_host(warp(backend, pixels, matrices, order, np.asarray(fill)))
    elif operation.change:
        magnitudes = backend.asarray(magnitudes.astype(pixels.dtype))
        changed = operation.change(backend.xp, pixels, magnitudes, 1 if is_float else 255)
        y = backend.to_host(changed)
    assert y.dtype == pixels.dtype
    return (y if is_float else np.rint(y)).transpose(3, 0, 1, 2).astype(x.dtype)


WARPS = ["ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate"]
BLENDS = {
    "Brightness": oracles.brightness,
    "Color": oracles.saturation,
    "Contrast": oracles.contrast,
    "Sharpness": oracles.sharpness,
}
SHAPES = [(3, 3, 6, 7), (3, 1, 17, 16), (2, 3, 2, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("name", BLENDS)
def test_blends_against_loops(backend, name, dtype, shape):
    x, magnitudes = images(*shape, dtype=dtype), [0.9, -0.5, 0.25][: shape[0]]
    highest, error = (255, 0.5 + 1e-3) if dtype == "uint8" else (1, 1e-6)
    changed = [BLENDS[name](i, 1 + m, highest) for i, m in zip(x, magnitudes, strict=True)]
    y = operate(backend, name, x, magnitudes)
    np.testing.assert_allclose(y.astype(float), changed, rtol=0, atol=error)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_reduced_pixels_against_loops(backend, shape, dtype):
    x = images(*shape, dtype=dtype)
    highest = 255 if dtype == "uint8" else 1
    for bits in ([8, 4, 1], [2, 7, 0]):
        expected = [oracles.posterize(i, b, highest) for i, b in zip(x, bits, strict=False)]
        y = operate(backend, "Posterize", x, bits[: len(x)])
        np.testing.assert_array_equal(y, np.array(expected, dtype))
    for limits in ([1, 0.75, 0], [0.5, 0.25, 0.125]):
        thresholds = [(limit * highest) for limit in limits]
        expected = [oracles.solarize(i, t, highest) for i, t in zip(x, thresholds, strict=False)]
        y = operate(backend, "Solarize", x, limits[: len(x)])
        np.testing.assert_array_equal(y, np.array(expected).astype(dtype))


@pytest.mark.parametrize("shape", [(3, 3, 20, 23), (2, 1, 40, 40), (2, 3, 5, 6)], ids=str)
def test_histograms_against_loops(backend, shape):
    """Dark, flat and ordinary images; few pixels are left unchanged by equalize."""
    x = images(*shape)
    x[0] *= 0.3
    x[1, 0] = 0.5
    expected = np.stack([oracles.autocontrast(image) for image in x])
    assert_close(operate(backend, "AutoContrast", x, 0), expected.astype("float32"), atol=1e-6)
    x = (x * 255).astype("uint8")
    expected = np.stack([oracles.equalize(image) for image in x])
    np.testing.assert_array_equal(operate(backend, "Equalize", x, 0), expected.astype("uint8"))
    floats = (x + 0.25).astype("float32") / 256  # in the middle of a step of 8 bits
    y = operate(backend, "Equalize", floats, 0)
    assert_close(y, (expected / 255).astype("float32"), atol=1e-6)
    assert (expected == x).all() == (shape[2] * shape[3] < 255)


@pytest.mark.parametrize("order", [0, 1])
def test_warps_against_loops(backend, order):
    x, size = images(1, 2, 6, 9), (6, 9)
    for slope in (0.31, -0.8):
        angle = np.degrees(np.arctan(slope))
        # the corner stays in place: a shear around the centre, then a shift of that
        shifted = {"shear": (angle, 0), "shift": (-slope * size[0] / 2, 0)}
        y = operate(backend, "ShearX", x, slope, order)
        assert_close(y, oracles.affine(x, order, **shifted).astype("float32"), atol=1e-5)
        shifted = {"shear": (0, angle), "shift": (0, -slope * size[1] / 2)}
        y = operate(backend, "ShearY", x, slope, order)
        assert_close(y, oracles.affine(x, order, **shifted).astype("float32"), atol=1e-5)
    for angle in (21.0, -130.0):
        expected = oracles.affine(x, order, clockwise=-angle).astype("float32")
        assert_close(operate(backend, "Rotate", x, angle, order), expected, atol=1e-5)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_whole_translations_and_fill(backend, dtype, order):
    x = images(2, 3, 5, 7, dtype=dtype)
    fill = np.array([7, 200, 90]) if dtype == "uint8" else np.float32([0.25, 0.5, 1])
    expected = np.empty_like(x)
    expected[...] = fill[:, None, None]
    expected[0, :, :, 3:] = x[0, :, :, :-3]
    expected[1, :, :, :-2] = x[1, :, :, 2:]
    y = operate(backend, "TranslateX", x, [3.9, -2.9], order, fill)
    np.testing.assert_array_equal(y, expected)
    expected[...] = fill[:, None, None]
    expected[0, :, 4:] = x[0, :, :-4]
    y = operate(backend, "TranslateY", x, [4, -100], order, fill)
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize("dtype", ["float32", "uint8"])
def test_magnitude_zero_is_the_identity(backend, dtype, order):
    x = images(3, 3, 5, 7, dtype=dtype)
    x[:, 0, 0, 0] = 0
    for name, operation in OPERATIONS.items():
        if operation.signed or name == "Identity":
            np.testing.assert_array_equal(operate(backend, name, x, 0, order), x)
    if dtype == "uint8":
        np.testing.assert_array_equal(operate(backend, "Posterize", x, 8), x)


def test_equalizing_a_uniform_histogram(backend):
    x = rng(2).permutation(np.repeat(np.arange(256), 3)).reshape(1, 1, 24, 32).astype("uint8")
    np.testing.assert_array_equal(operate(backend, "Equalize", x, 0), x)


def test_colour_of_grey_images(backend):
    x = images(2, 1, 4, 5)
    np.testing.assert_array_equal(operate(backend, "Color", x, 0.9), x)


# Comparisons with torchvision: whole numbers are equal but for its roundings


@pytest.fixture
def peer():
    from ..torchvision_stub import torch

    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    modes = [functional.InterpolationMode(name) for name in ("nearest", "bilinear")]
    return lambda name, x, *arguments, order=None, **settings: getattr(functional, name)(
        torch.from_numpy(x),
        *arguments,
        **settings,
        **({} if order is None else {"interpolation": modes[order]}),
    ).numpy()


def peer_operation(peer, name, x, m, order):
    angle, highest = float(np.degrees(np.arctan(m))), 255 if x.dtype == "uint8" else 1
    place = {"angle": 0.0, "scale": 1.0, "order": order}
    still = {**place, "translate": [0, 0], "center": [0, 0]}
    calls = {
        "Identity": lambda: x,
        "ShearX": lambda: peer("affine", x, shear=[angle, 0.0], **still),
        "ShearY": lambda: peer("affine", x, shear=[0.0, angle], **still),
        "TranslateX": lambda: peer("affine", x, translate=[int(m), 0], shear=[0.0, 0.0], **place),
        "TranslateY": lambda: peer("affine", x, translate=[0, int(m)], shear=[0.0, 0.0], **place),
        "Rotate": lambda: peer("rotate", x, m, order=order),
        "Brightness": lambda: peer("adjust_brightness", x, 1 + m),
        "Color": lambda: peer("adjust_saturation", x, 1 + m),
        "Contrast": lambda: peer("adjust_contrast", x, 1 + m),
        "Sharpness": lambda: peer("adjust_sharpness", x, 1 + m),
        "Posterize": lambda: peer("posterize", x, int(m)),
        "Solarize": lambda: peer("solarize", x, highest * m),
        "AutoContrast": lambda: peer("autocontrast", x),
        "Equalize": lambda: peer("equalize", x),
    }
    return calls[name]()


# no place falls halfway between two pixels, where float32 decides
MAGNITUDES = {
    **{name: [0.123, -0.271, 0.98] for name in ("ShearX", "ShearY")},
    **{name: [3.7, -5.2, 40] for name in ("TranslateX", "TranslateY")},
    "Rotate": [13.3, -77.7],
    **{name: [0.5, -0.9, 0.99] for name in BLENDS},
    "Posterize": [8, 7, 4, 1, 0],
    "Solarize": [1, 0.7, 0],
}


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_against_torchvision(peer, name, dtype):
    x = images(3, 3, 32, 31, dtype=dtype)
    x[0] = x[0] * 0.3
    x[1, 0] = x[1, 0, 0, 0]
    for m in MAGNITUDES.get(name, [0]):
        for order in (0, 1) if name in WARPS else (0,):
            y = operate(xcnn.backends.get("cpu"), name, x, m, order)
            expected = peer_operation(peer, name, x, m, order)
            error = 2e-5
            if dtype == "uint8":
                # it rounds blends down, for Color the grey image too, and interpolates in float32
                error = 2 if name == "Color" else int(name in BLENDS or order == 1)
            np.testing.assert_allclose(y.astype(float), expected.astype(float), rtol=0, atol=error)


class BoxCrop(RandomResizedCrop):
    """Crops (3, 2, 10, 7), a box (top, left, height, width)."""

    def _box(self, rng, height, width):
        return 3, 2, 10, 7


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("size", [(4, 3), (16, 5), (6, 12)], ids=str)
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("order", [0, 1])
def test_resized_crop_against_torchvision(peer, order, antialias, size, dtype):
    x = images(2, 3, 20, 15, dtype=dtype)
    y = BoxCrop(size, interpolation=("nearest", "bilinear")[order], antialias=antialias)(x)
    box = (3, 2, 10, 7)
    expected = peer("resized_crop", x, *box, size=[*size], order=order, antialias=antialias)
    # for uint8 it computes in fixed point and rounds each pass
    error = order if dtype == "uint8" else 1e-5
    np.testing.assert_allclose(y.astype(float), expected.astype(float), rtol=0, atol=error)


@pytest.mark.parametrize("dtype", ["float32", "uint8"])
@pytest.mark.parametrize("kernel_size", [3, (7, 1), (3, 5)], ids=str)
def test_blur_against_torchvision(peer, kernel_size, dtype):
    x = images(2, 3, 20, 15, dtype=dtype)
    for sigma in (0.3, 1.7):
        y = GaussianBlur(kernel_size, sigma)(x)
        sizes = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
        expected = peer("gaussian_blur", x, [*sizes], [sigma, sigma])
        error = 1 if dtype == "uint8" else 1e-5  # a half may round either way
        np.testing.assert_allclose(y.astype(float), expected.astype(float), rtol=0, atol=error)


# RandAugment, TrivialAugment and AugMix


def results(x, ranges):
    """Yield a name and the image for every operation and magnitude, and both signs."""
    backend = xcnn.backends.get("cpu")
    for name, operation in OPERATIONS.items():
        magnitudes = np.array(ranges.get(name, [0]), float)
        if operation.signed:
            magnitudes = np.concatenate([magnitudes, -magnitudes])
        for image in operate(backend, name, np.repeat(x, len(magnitudes), axis=0), magnitudes):
            yield name, image


def names_of(y, candidates):
    """Names of the operations that turn the image into each of y; "" for none."""
    for image in y:
        yield next((name for name, other in candidates if (image == other).all()), "")


def test_randaugment_magnitudes(backend):
    """The ninth of 31, and the last."""
    x = images(1, 3, 12, 20, dtype="uint8")
    for magnitude, part, bits in ((9, 0.3, 7), (30, 1, 4)):
        ranges = {
            **{name: [0.3 * part] for name in ("ShearX", "ShearY")},
            "TranslateX": [150 / 331 * 20 * part],
            "TranslateY": [150 / 331 * 12 * part],
            "Rotate": [30 * part],
            **{name: [0.9 * part] for name in BLENDS},
            "Posterize": [bits],
            "Solarize": [1 - part],
        }
        y = on(backend, RandAugment(1, magnitude), np.repeat(x, 300, axis=0))
        found = list(names_of(y, list(results(x, ranges))))
        assert set(found) >= {*OPERATIONS} - {"Equalize"}  # too few pixels: it changes nothing
        assert "" not in found


def test_trivialaugment_magnitudes():
    x = images(1, 3, 24, 24, dtype="uint8") // 2
    bins = np.linspace(0, 1, 31)
    ranges = {
        **dict.fromkeys(("ShearX", "ShearY"), 0.99 * bins),
        **dict.fromkeys(("TranslateX", "TranslateY"), 32 * bins + 1e-09),
        "Rotate": 135 * bins,
        **dict.fromkeys(BLENDS, 0.99 * bins),
        "Posterize": [8, 7, 6, 5, 4, 3, 2],
        "Solarize": 1 - bins,
    }
    y = TrivialAugmentWide()(np.repeat(x, 500, axis=0), rng(1))
    found = list(names_of(y, list(results(x, ranges))))
    assert "" not in found
    counts = [found.count(name) for name in OPERATIONS if name != "Identity"]
    # weak magnitudes count as Identity
    assert min(counts) > 15
    assert max(counts) < 500 / 14 + 5 * np.sqrt(500 / 14)


def test_randaugment_applies_several_operations():
    x = images(1, 3, 12, 12)
    np.testing.assert_array_equal(RandAugment(0)(x), x)
    many = np.repeat(x, 200, axis=0)
    changed = [(RandAugment(n)(many, rng(1)) != x).any(axis=(1, 2, 3)).mean() for n in (1, 4)]
    assert changed[0] < changed[1]
    assert changed[1] > 0.95


def test_augmix_blends_with_the_image(backend):
    """Of the weakest operations only these four can change an image."""
    x = images(1, 3, 20, 20).astype("float64")
    weakest = {"Posterize": [4], "Solarize": [1], "AutoContrast": [0], "Equalize": [0]}
    changed = {n: operate(xcnn.backends.get("cpu"), n, x, m)[0] for n, m in weakest.items()}
    mix = AugMix(severity=1, mixture_width=1, chain_depth=1, all_ops=False)
    y = on(backend, mix, np.repeat(x, 400, axis=0), 3)
    shares = []
    for image in y:
        if abs(image - x).max() < 1e-12:
            continue
        fits = []
        for other in changed.values():
            direction = (other - x[0]).ravel()
            share = (image - x[0]).ravel() @ direction / max(direction @ direction, 1e-9)
            fits.append((abs(image - x[0] - share * (other - x[0])).max(), share))
        distance, share = min(fits)
        assert distance < 1e-9
        shares.append(share)
    assert 60 < len(shares) < 240  # 3 or 4 of 9 operations
    assert 0 <= min(shares) < 0.1
    assert 0.9 < max(shares) <= 1
    assert abs(np.mean(shares) - 0.5) < 5 / np.sqrt(12 * len(shares))


def test_augmix_magnitudes():
    """With a tiny alpha, a result is the image itself or one of the copies."""
    x, bins = images(1, 3, 18, 30, dtype="uint8") // 2, np.linspace(0, 1, 10)
    ranges = {
        **dict.fromkeys(("ShearX", "ShearY"), 0.3 * bins),
        "TranslateX": 10 * bins + 1e-9,
        "TranslateY": 6 * bins + 1e-9,
        "Rotate": 30 * bins,
        **dict.fromkeys(BLENDS, 0.9 * bins),
        "Posterize": [4, 3, 2, 1, 0],
        "Solarize": 1 - bins,
    }
    mix = AugMix(10, 1, chain_depth=1, alpha=0.01, interpolation="nearest")
    found = list(names_of(mix(np.repeat(x, 500, axis=0), rng(1)), list(results(x, ranges))))
    assert found.count("") < 25  # blends
    assert {*found} >= {*OPERATIONS}
    assert found.count("Identity") < 350  # half of them, and weak magnitudes


def test_augmix_chain_lengths():
    class Counting(AugMix):
        def _step(self, backend, x, highest, rng, indices, *_):
            changed.append(indices >= 0)
            return x

    for depth, lengths in ((-1, {1, 2, 3}), (5, {5})):
        changed = []
        Counting(mixture_width=4, chain_depth=depth)(images(100, 1, 4, 4), rng(1))
        counts = np.bincount(np.sum(changed, axis=0))
        assert {*np.flatnonzero(counts)} == lengths
        assert counts[counts > 0].min() > 400 / len(lengths) - 50


def test_augmix_averages_independent_copies():
    x, spread = np.full((500, 3, 4, 4), 0.5, "float32"), []
    for width in (1, 8):
        y = AugMix(severity=10, mixture_width=width, alpha=100.0)(x, rng(1))
        assert (y >= 0).all()
        assert (y <= 1).all()
        spread.append(y.mean(axis=(1, 2, 3)).std())
    assert spread[1] < spread[0] / 2


@pytest.mark.parametrize("transform", [RandAugment(), TrivialAugmentWide(), AugMix()], ids=repr)
def test_policies_on_grey_images(backend, transform):
    for dtype in ("float32", "uint8"):
        x = images(40, 1, 9, 8, dtype=dtype)
        y = on(backend, transform, x)
        assert (y.shape, y.dtype) == (x.shape, dtype)
        assert (y != x).any()
    with pytest.raises(ShapeError, match="expected 1 or 3 channels"):
        transform(images(2, 4, 8, 8))
    with pytest.raises(DTypeError, match="x is int64, expected uint8, or floats"):
        transform(np.zeros((1, 3, 8, 8), "int64"))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: RandAugment(-1), "num_ops=-1: expected an int >= 0"),
        (lambda: RandAugment(magnitude=31), "magnitude=31: expected less than num_magnitude_bins"),
        (lambda: RandAugment(magnitude=-1), "magnitude=-1"),
        (lambda: RandAugment(interpolation="cubic"), "interpolation='cubic'"),
        (lambda: TrivialAugmentWide(1), "num_magnitude_bins=1: expected an int >= 2"),
        (lambda: AugMix(0), "severity=0"),
        (lambda: AugMix(11), "severity=11: expected an int from 1 to 10"),
        (lambda: AugMix(mixture_width=0), "mixture_width=0"),
        (lambda: AugMix(chain_depth=1.5), "chain_depth=1.5"),
        (lambda: AugMix(alpha=0), "alpha=0: expected a number above 0"),
        (lambda: AugMix(alpha=np.inf), "alpha=inf"),
        (lambda: RandomResizedCrop(0), "size=0"),
        (lambda: RandomResizedCrop(8, scale=0.5), "scale=0.5"),
        (lambda: RandomResizedCrop(8, scale=(0.5, 1.5)), r"scale=\(0.5, 1.5\)"),
        (lambda: RandomResizedCrop(8, ratio=(0, 1)), r"ratio=\(0, 1\)"),
        (lambda: RandomResizedCrop(8, interpolation="area"), "interpolation='area'"),
        (lambda: GaussianBlur(4), "kernel_size=4: expected odd numbers"),
        (lambda: GaussianBlur((3, 0)), r"kernel_size=\(3, 0\)"),
        (lambda: GaussianBlur(3, 0), r"sigma=\(0, 0\)"),
        (lambda: GaussianBlur(3, (2, 1)), r"sigma=\(2, 1\)"),
        (lambda: GaussianBlur(3, "wide"), "sigma="),
    ],
)
def test_invalid_policy_crop_and_blur_arguments(make, text):
    with pytest.raises(ArgumentError, match=text):
        make()


def test_fill_for_another_number_of_channels():
    with pytest.raises(ShapeError, match=r"3 channels, fill=\(1, 2\): expected one number, or one"):
        RandAugment(fill=(1, 2))(images(2, 3, 8, 8))


# Resized crops


@pytest.mark.parametrize("size", [(7, 3), (13, 17), (1, 1)], ids=str)
@pytest.mark.parametrize("antialias", [True, False])
def test_resizing_against_loops(backend, antialias, size):
    x = images(2, 2, 20, 15)
    crop = x[:, :, 3:13, 2:9]
    down = np.apply_along_axis(oracles.resize, 2, crop, size[0], antialias)
    expected = np.apply_along_axis(oracles.resize, 3, down, size[1], antialias)
    y = on(backend, BoxCrop(size, antialias=antialias), x)
    assert_close(y, expected.astype("float32"), atol=1e-6)


def boxes(transform, height, width, count=1):
    """Yield (top, left, height, width) of crops: enlarged by "nearest", every pixel is in them."""
    ramps = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"))
    for image in transform(np.tile(ramps.astype("float32"), (count, 1, 1, 1)), rng(1)):
        rows, columns = np.unique(image[0]), np.unique(image[1])
        assert np.ptp(rows) + 1 == len(rows)
        assert np.ptp(columns) + 1 == len(columns)
        yield rows[0], columns[0], len(rows), len(columns)


def test_boxes_of_resized_crops():
    crop = RandomResizedCrop(40, scale=(0.2, 0.6), ratio=(0.5, 3), interpolation="nearest")
    found = np.array(list(boxes(crop, 20, 30, 2000)))
    tops, lefts, heights, widths = found.T
    areas, ratios = heights * widths / 600, widths / heights
    assert 0.17 < areas.min() < 0.25
    assert 0.5 < areas.max() < 0.64
    assert 0.45 < ratios.min() < 0.6
    assert 2 < ratios.max() < 3.3
    assert (tops + heights <= 20).all()
    assert (lefts + widths <= 30).all()
    assert {0.0, 1.0, 5.0} <= set(tops)
    assert (tops + heights).max() == 20


@pytest.mark.parametrize(
    ("size", "box"),
    [((10, 40), (0, 13, 10, 13)), ((40, 9), (14, 0, 12, 9))],
    ids=str,
)
def test_fallback_of_resized_crops(size, box):
    """No part as large as the image has an allowed shape: the largest central one is taken."""
    crop = RandomResizedCrop(64, scale=(1, 1), ratio=(0.75, 4 / 3), interpolation="nearest")
    ((top, left, height, width),) = boxes(crop, *size)
    assert (top, left, height, width) == box


# Blur


@pytest.mark.parametrize("kernel_size", [1, 3, (5, 3)], ids=str)
def test_blur_against_loops(backend, kernel_size):
    x = images(2, 2, 6, 5)
    width, height = kernel_size if isinstance(kernel_size, tuple) else (kernel_size, kernel_size)
    expected = np.stack([oracles.blur(image, (height, width), 0.8) for image in x])
    y = on(backend, GaussianBlur(kernel_size, 0.8), x)
    assert_close(y, expected.astype("float32"), atol=1e-6)
    x = images(2, 2, 6, 5, dtype="uint8")
    expected = np.stack([oracles.blur(image, (height, width), 0.8) for image in x])
    assert abs(on(backend, GaussianBlur(kernel_size, 0.8), x) - expected).max() < 0.5 + 1e-3


def test_blur_keeps_constants_and_sums(backend):
    x = np.full((3, 2, 9, 8), 0.3, "float32")
    assert_close(on(backend, GaussianBlur(5), x), x)
    x = np.zeros((200, 1, 19, 19), "float32")
    x[:, 0, 9, 9] = 1
    y = on(backend, GaussianBlur(9, (0.5, 2)), x)
    np.testing.assert_allclose(y.sum(axis=(1, 2, 3)), 1, rtol=1e-5)
    # sigma from the ratio of two pixels, exp(-1 / (2 σ²))
    sigmas = np.sqrt(-0.5 / np.log(y[:, 0, 9, 10] / y[:, 0, 9, 9]))
    assert 0.5 - 1e-3 < sigmas.min() < 0.55
    assert 1.95 < sigmas.max() < 2 + 1e-3


def test_blur_of_tiny_images():
    with pytest.raises(ShapeError, match=r"images of 6 x 2 pixels.*kernel_size=\(5, 3\)"):
        GaussianBlur((5, 3))(images(2, 1, 6, 2))


# MixUp and CutMix


@pytest.mark.parametrize("mixing", MIXING, ids=repr)
@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
def test_mixing_in_every_layout(backend, mixing, dtype):
    x, labels = images(7, 3, 5, 6, dtype=dtype), np.arange(7) % 4
    expected = None
    for name, array in layouts(backend, x).items():
        mixed, y = mixing(array, backend.asarray(labels), rng(1))
        assert (mixed.dtype, y.dtype, y.shape) == (dtype, "float32", (7, 4))
        assert is_batch_last(mixed) == (name == "batch-last")
        np.testing.assert_array_equal(backend.to_host(array), x)
        result = backend.to_host(mixed), backend.to_host(y)
        expected = expected or result
        for a, b in zip(result, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    host = mixing(x, labels, rng(1))
    for a, b in zip(result, host, strict=True):
        assert_close(a.astype("float32"), b.astype("float32"), atol=1e-6)
    np.testing.assert_allclose(result[1].sum(axis=1), 1, rtol=1e-6)
    assert result[1].min() >= 0


@pytest.mark.parametrize("mixing", MIXING, ids=repr)
def test_mixing_an_empty_batch(backend, mixing):
    x, y = mixing(
        backend.asarray(np.zeros((0, 3, 4, 4), "float32")), backend.asarray(np.zeros(0, int)), rng()
    )
    assert (x.shape, y.shape) == ((0, 3, 4, 4), (0, 4))


def test_mixup_blends_images_and_labels_alike():
    """Image n has the value n and the label n, so pixels and labels must agree."""
    count = 40
    x = np.arange(count, dtype="float64").reshape(-1, 1, 1, 1) * np.ones((1, 1, 2, 2))
    mixed, y = MixUp(count, alpha=1.0)(x, np.arange(count), rng(2))
    assert ((y > 0).sum(axis=1) <= 2).all()
    np.testing.assert_allclose(y @ np.arange(count), mixed[:, 0, 0, 0], rtol=1e-5)
    shares = y[np.arange(count), np.arange(count)]
    assert shares.min() < 0.2
    assert len(set(shares.tolist())) > 30  # one for each image
    bytes_, _ = MixUp(count, alpha=1.0)(x.astype("uint8"), np.arange(count), rng(2))
    assert abs(bytes_ - mixed).max() <= 0.5 + 1e-5


def test_weights_follow_a_beta_distribution():
    x, labels = np.zeros((20_000, 1, 1, 1), "float32"), np.arange(20_000) % 2
    for alpha in (0.2, 1.0, 4.0):
        _, y = MixUp(2, alpha)(x, labels, rng(1))
        own = y[np.arange(20_000), labels]
        apart = own < 1  # half of the partners have the same label
        variance = 1 / (4 * (2 * alpha + 1))
        assert abs(own[apart].mean() - 0.5) < 5 * np.sqrt(variance / apart.sum())
        assert own[apart].var() == pytest.approx(variance, rel=0.05)


def test_cutmix_pastes_a_rectangle():
    count = 200
    x = np.arange(count, dtype="float64").reshape(-1, 1, 1, 1) * np.ones((1, 2, 8, 9))
    mixed, y = CutMix(count)(x, np.arange(count), rng(2))
    areas = []
    for n, image in enumerate(mixed):
        others = set(image.ravel()) - {n}
        assert len(others) <= 1
        (partner,) = others or {n}
        pasted = (image == partner).all(axis=0)
        if others:
            rows, columns = np.flatnonzero(pasted.any(1)), np.flatnonzero(pasted.any(0))
            assert pasted.sum() == len(rows) * len(columns)
            assert np.ptp(rows) + 1 == len(rows)
            assert np.ptp(columns) + 1 == len(columns)
            assert y[n, int(partner)] == pytest.approx(pasted.sum() / 72, abs=1e-6)
            areas.append(pasted.sum())
        assert y[n].sum() == pytest.approx(1, abs=1e-6)
    assert len(set(areas)) > 15


def test_cutmix_after_mixup(backend):
    """Labels are still probabilities."""
    x, labels = backend.asarray(images(8, 1, 4, 4)), backend.asarray(np.arange(8) % 4)
    first = MixUp(4)(x, labels, rng(1))
    _, y = CutMix(4)(*first, rng(2))
    y = backend.to_host(y)
    np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)
    loss = F.cross_entropy(backend.asarray(images(8, 4)), backend.asarray(y))
    assert np.isfinite(loss.numpy())


@pytest.mark.parametrize("kind", [MixUp, CutMix])
def test_invalid_mixing_arguments(kind):
    for settings, text in (
        ({"num_classes": 0}, "num_classes=0"),
        ({"num_classes": 3, "alpha": 0}, "alpha=0: expected a number above 0"),
    ):
        with pytest.raises(ArgumentError, match=text):
            kind(**settings)
    x = images(3, 1, 2, 2)
    for y in (np.zeros(4, int), np.zeros(3), np.zeros((3, 5), "float32")):
        with pytest.raises(ShapeError, match=r"expected class indices \(3,\) or probabilities"):
            kind(4)(x, y)
    with pytest.raises(ArgumentError, match="target holds class 4"):
        kind(4)(x, np.array([0, 1, 4]))


# In a loader


def epochs(transform, seed=0, prefetch=2, count=3, first=0):
    x, y = images(10, 3, 6, 6, dtype="uint8"), np.arange(10) % 4
    loader = DataLoader((x, y), 4, shuffle=True, seed=seed, transform=transform, prefetch=prefetch)
    loader.epoch = first
    return [b"".join(a.tobytes() for batch in loader for a in batch) for _ in range(count)]


@pytest.mark.parametrize("transform", [*EVERY, *MIXING], ids=repr)
def test_the_loader_seed_determines_the_result(transform):
    if isinstance(transform, Grayscale):
        return
    result = epochs(transform)
    assert epochs(transform, prefetch=0) == result
    assert len(set(result)) == 3
    assert epochs(transform, seed=1) != result
    assert epochs(transform, first=2, count=1) == result[2:]  # an interrupted run continues


def test_epochs_and_batches_differ():
    x = np.repeat(images(1, 1, 6, 6), 8, axis=0)
    loader = DataLoader(x, 4, transform=RandomRotation(90))
    batches = [batch[0].tobytes() for _ in range(2) for batch in loader]
    assert len(set(batches)) == 4


def test_order_and_transform_have_separate_random_numbers():
    """The first batch does not reuse the random numbers of the order."""
    seen = []

    class Spy(Augmentation):
        def augment(self, backend, x, rng):
            seen.append(rng.random())
            return x

    list(DataLoader(images(4, 1, 2, 2), 4, seed=3, transform=Spy(), prefetch=0))
    assert seen != [np.random.Generator(np.random.PCG64([3, 0])).random()]


def test_compose_with_labels():
    x, y = images(6, 3, 8, 8, dtype="uint8"), np.arange(6)
    change = Compose([RandomHorizontalFlip(), Compose([Normalize(0.5, 0.2), lambda x: x + 1])])
    assert change(x, rng=rng(1)).dtype == "float32"
    result, labels = Compose([change, MixUp(6)])(x, y, rng(1))
    assert (result.shape, labels.shape) == ((6, 3, 8, 8), (6, 6))
    np.testing.assert_array_equal(change(x, rng=rng(1)), change(x, y, rng(1))[0])
    ((result, labels),) = DataLoader((x, y), 6, transform=Compose([change, MixUp(6)]))
    assert result.dtype == labels.dtype == "float32"
    with pytest.raises(DataError, match="MixUp mixes images and labels, got batches of 1"):
        Compose([MixUp(6)])(x)
    with pytest.raises(DataError, match="got batches of 1 arrays"):
        list(DataLoader(x, transform=MixUp(6)))


@pytest.mark.parametrize("device", ["cpu", "strict"])
def test_training_with_mixed_labels(device, request):
    if device == "strict":
        request.getfixturevalue("strict")
    digits = load_once("digits")
    transform = training_transform("affine,mixup,cutmix", digits)
    model = xcnn.nn.Sequential(xcnn.nn.Flatten(), xcnn.nn.Linear(1024, 10)).to(device)
    trainer = xcnn.Trainer(model, xcnn.optim.Adam(model.parameters()))
    loader = DataLoader(Subset(digits.train, range(64)), 32, shuffle=True, transform=transform)
    history = trainer.fit(loader, epochs=3, progress=False)
    assert history[-1].train_loss < history[0].train_loss
    assert 0 <= history[-1].train_accuracy <= 1


# Recipes


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("dataset", ["digits", "cross"])
def test_every_recipe(name, dataset):
    data = load_once(dataset)
    transform = training_transform(name, data)
    ((x, y),) = DataLoader(Subset(data.train, range(8)), 8, transform=transform)
    assert (x.shape, x.dtype) == ((8, *data.image_shape), "float32")
    assert y.shape == ((8, len(data.classes)) if name in MIXTURES else (8,))


def test_recipe_names():
    assert recipe_names(" flip,crop ,flip") == ["flip", "crop"]
    assert recipe_names("none") == []
    for text in ("", "flop", "none,flip", "flip,,flop"):
        with pytest.raises(ArgumentError, match="expected names separated by commas, of flip"):
            recipe_names(text)
    assert recipe_names("standard", "cifar10") == ["flip", "crop"]
    assert recipe_names("crop,standard,mixup", "cifar10") == ["crop", "flip", "mixup"]
    assert recipe_names("standard", "mnist") == ["affine"]
    assert recipe_names("standard", "moons") == []
    assert recipe_names("standard", "/some/folder") == ["flip", "crop"]


def test_crop_recipe_for_cifar10():
    assert repr(RECIPES["crop"].make((32, 32), 10)) == (
        "RandomCrop(size=(32, 32), padding=(4, 4), padding_mode='zeros')"
    )


def test_features_are_not_augmented():
    moons = load_once("moons")
    assert repr(training_transform("standard", moons)) == repr(moons.normalize())
    with pytest.raises(ArgumentError, match="moons holds features: use none"):
        training_transform("flip", moons)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 3), st.integers(0, 2**32))
def test_any_size_of_image(height, width, count, seed):
    """Works on tiny images, and never leaves the value range of the input."""
    x = images(count, 3, height, width, seed=seed)
    for transform in EVERY:
        if isinstance(transform, RandomCrop | GaussianBlur):
            continue
        y = transform(x, rng(seed))
        is_resized = isinstance(transform, RandomResizedCrop)
        assert y.shape[2:] == (transform.size if is_resized else (height, width))
        assert np.isfinite(y).all()
        assert y.size == 0 or (y.min() >= -1e-6 and y.max() <= 1 + 1e-6)
