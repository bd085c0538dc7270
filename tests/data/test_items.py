"""What items and batches can be: nested tuples and dicts, PIL images, tensors."""

from collections import OrderedDict, namedtuple

import numpy as np
import pytest

from xcnn.data import (
    ArrayDataset,
    Augmentation,
    Compose,
    DataLoader,
    Dataset,
    MixUp,
    Normalize,
    RandomHorizontalFlip,
    Subset,
    is_unscaled,
    map_arrays,
)
from xcnn.errors import DataError, DTypeError

Pair = namedtuple("Pair", "left right")
IMAGES = np.random.default_rng(0).integers(0, 256, (7, 3, 4, 5), np.uint8)
SIZES = np.arange(14.0).reshape(7, 2)
LABELS = np.arange(7)


class Items(Dataset):
    """Returns what ``make(index)`` does."""

    def __init__(self, make, count=7):
        self.make, self.count = make, count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.make(index)


STRUCTURES = {
    "dict": {"x": IMAGES, "y": LABELS},
    "dict in a tuple": ({"image": IMAGES, "size": SIZES}, LABELS),
    "two inputs": ((IMAGES, SIZES), LABELS),
    "tuples in a dict": {"x": (IMAGES, SIZES), "y": (LABELS, {"z": SIZES})},
    "named tuple": Pair(IMAGES, Pair(SIZES, LABELS)),
}


def assert_equal(got, wanted):
    """Equal structure, and equal arrays."""
    if isinstance(wanted, dict):
        assert list(got) == list(wanted)
        for key in wanted:
            assert_equal(got[key], wanted[key])
    elif isinstance(wanted, tuple):
        assert type(got) is type(wanted)
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert_equal(one, other)
    else:
        np.testing.assert_array_equal(got, wanted, strict=True)


def rows(structure, index):
    """Naive selection from each array of a structure."""
    if isinstance(structure, dict):
        return {key: rows(value, index) for key, value in structure.items()}
    if isinstance(structure, tuple):
        parts = [rows(value, index) for value in structure]
        return Pair(*parts) if isinstance(structure, Pair) else tuple(parts)
    return structure[index]


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("structure", STRUCTURES.values(), ids=STRUCTURES)
def test_batches_have_the_structure_of_the_items(structure, prefetch):
    wanted = [rows(structure, slice(i, i + 3)) for i in (0, 3, 6)]
    made = DataLoader(Items(lambda i: rows(structure, i)), 3, prefetch=prefetch)
    for got, batch in zip(made, wanted, strict=True):
        assert_equal(got, batch)
    if isinstance(structure, Pair):  # two arguments to ArrayDataset
        return
    for got, batch in zip(DataLoader(structure, 3, prefetch=prefetch), wanted, strict=True):
        assert_equal(got, batch)
    data = ArrayDataset(structure) if isinstance(structure, dict) else ArrayDataset(*structure)
    assert_equal(data[2], rows(structure, 2))
    assert_equal(Subset(data, [6, 1])[[1, 0]], rows(structure, [1, 6]))


def test_a_list_of_items():
    batches = list(DataLoader([{"x": x, "y": y} for x, y in zip(SIZES, LABELS, strict=True)], 4))
    assert_equal(batches[0], {"x": SIZES[:4], "y": LABELS[:4]})
    batches = list(DataLoader(list(zip(SIZES, LABELS, strict=True)), 4))
    assert_equal(batches[1], (SIZES[4:], LABELS[4:]))


def test_lists_and_rows_of_numbers_are_arrays():
    ((x, y),) = DataLoader(([[1, 2], [3, 4]], (5, 6)))
    np.testing.assert_array_equal(x, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(y, [5, 6])
    ((x, y),) = DataLoader((((1.0, 2), (3, 4)), [5, 6]))
    np.testing.assert_array_equal(x, np.array([[1, 2], [3, 4]], np.float32), strict=True)


def test_map_arrays_keeps_the_structure():
    batch = OrderedDict(a=Pair(np.ones(2), (np.zeros(3), [1, 2, 3])), b=4)
    assert map_arrays(np.size, batch) == {"a": Pair(2, (3, 3)), "b": 1}
    assert type(map_arrays(np.size, batch)["a"]) is Pair
    assert map_arrays(np.size, np.zeros((2, 3))) == 6


# -- transforms ----------------------------------------------------------------------------


class AddNoise(Augmentation):
    def augment(self, backend, x, rng):
        return x + rng.integers(0, 9, x.shape)


@pytest.mark.parametrize("transform", [Normalize(0.5, 2), AddNoise(), lambda x: -x.astype(int)])
def test_transforms_change_the_first_array_only(transform):
    def batch(data):
        return next(iter(DataLoader(data, 7, seed=3, transform=Compose([transform]))))

    wanted = batch((IMAGES, LABELS))[0]
    assert_equal(batch(({"image": IMAGES, "s": SIZES}, LABELS)),
                 ({"image": wanted, "s": SIZES}, LABELS))  # fmt: skip
    assert_equal(batch(((IMAGES, IMAGES), LABELS)), ((wanted, IMAGES), LABELS))
    assert_equal(batch({"x": IMAGES, "y": LABELS}), {"x": wanted, "y": LABELS})


def test_mixing_needs_pairs():
    with pytest.raises(DataError, match="pass pairs"):
        list(DataLoader({"x": IMAGES, "y": LABELS}, transform=MixUp(7)))


def test_normalize_says_what_it_takes():
    with pytest.raises(DTypeError, match=r"expects an array \(N, C, ...\), got list.*np.stack"):
        Normalize(0, 1)([IMAGES[0], IMAGES[1]])


def test_is_unscaled():
    assert is_unscaled(IMAGES)
    assert is_unscaled(IMAGES.astype(np.int64))
    assert is_unscaled(np.repeat(IMAGES, 100, 0))
    assert not is_unscaled(IMAGES.astype(np.float32))
    assert not is_unscaled(IMAGES // 255)
    assert not is_unscaled(IMAGES > 9)
    assert not is_unscaled(IMAGES[:0])
    assert not is_unscaled(IMAGES[0])
    assert not is_unscaled([1, 2])
    assert not is_unscaled("text")


# -- PIL images and tensors ----------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1", "I;16"])
def test_pil_images(mode):
    Image = pytest.importorskip("PIL.Image")
    if mode == "I;16":
        images = [Image.fromarray(i[0].astype(np.uint16) * 257) for i in IMAGES]
    else:
        images = [Image.fromarray(np.moveaxis(i, 0, 2)).convert(mode) for i in IMAGES]
    data = Items(lambda i: (images[i], i * 2))
    x, y = next(iter(DataLoader(data, 7, transform=lambda x: x)))
    assert x.dtype == (np.uint16 if mode == "I;16" else np.uint8)
    assert y.dtype == np.int64
    wanted = np.empty((7, len(images[0].getbands()), 4, 5), np.int64)
    for n, c, h, w in np.ndindex(wanted.shape):
        pixel = images[n].getpixel((w, h))
        wanted[n, c, h, w] = pixel[c] if isinstance(pixel, tuple) else pixel
    np.testing.assert_array_equal(x, wanted)
    assert y.tolist() == [0, 2, 4, 6, 8, 10, 12]


def test_lists_of_pil_images():
    Image = pytest.importorskip("PIL.Image")
    images = [Image.fromarray(np.moveaxis(i, 0, 2)) for i in IMAGES]
    assert_equal(next(iter(DataLoader(images, 7))), (IMAGES,))
    assert_equal(next(iter(DataLoader((images, LABELS), 7))), (IMAGES, LABELS))
    with pytest.raises(DataError, match=r"shapes \[\(3, 4, 5\), \(3, 4, 6\)\]; crop"):
        ArrayDataset([images[0], Image.new("RGB", (6, 4))])


def test_datasets_of_torchvision():
    """Without a transform, items are (PIL.Image, int); with one, (tensor, int)."""
    from ..torchvision_stub import torchvision

    functional = torchvision.transforms.functional
    for channels in (3, 1):
        plain = torchvision.datasets.FakeData(5, (3, 6, 4), num_classes=3)
        grey = torchvision.transforms.Grayscale(channels)
        pictures = torchvision.datasets.FakeData(5, (3, 6, 4), num_classes=3, transform=grey)
        wanted = [functional.pil_to_tensor(grey(image)).numpy() for image, _ in plain]
        x, y = next(iter(DataLoader(pictures)))
        np.testing.assert_array_equal(x, np.stack(wanted), strict=True)
        np.testing.assert_array_equal(y, [int(label) for _, label in plain])
        assert x.shape == (5, channels, 6, 4)
        assert y.dtype == np.int64
    tensors = torchvision.datasets.FakeData(5, (3, 6, 4), transform=functional.to_tensor)
    x, _ = next(iter(DataLoader(tensors)))
    np.testing.assert_array_equal(x, np.stack([t.numpy() for t, _ in tensors]), strict=True)


# -- errors --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda i: {"x": 1, "y": 2} if i else {"x": 1}, r"\['x', 'y'\] and \['x'\] parts"),
        (lambda i: {"x": 1} if i else (1, 2), r"2 and \['x'\] parts"),
        (lambda i: {"x": [{"y": 1}]}, "Items returned items that contain dict"),
        (lambda i: (np.zeros(2), None), "Items returned items that contain NoneType"),
        (lambda i: [[1], [2, 3]], "rows of different lengths"),
        (lambda i: {"x": np.zeros(i + 1)}, r"shapes \[\(1,\), \(2,\)"),
    ],
)
def test_items_that_cannot_be_stacked(make, message):
    with pytest.raises(DataError, match=message):
        list(DataLoader(Items(make)))


def test_array_dataset_names_the_wrong_array():
    with pytest.raises(DataError, match=r"array 0\['s'\] of a dataset must be array-like, got int"):
        ArrayDataset({"x": IMAGES, "s": 3}, LABELS)
    with pytest.raises(DataError, match="got no arrays"):
        ArrayDataset({})
    with pytest.raises(DataError, match=r"same length, got \[7, 6\]"):
        DataLoader({"x": IMAGES, "y": LABELS[:6]})


class Batched(Items):
    """Its batch method returns what ``make(indices)`` does."""

    def batch(self, indices):
        return self.make(indices)


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_batch_method_may_return(prefetch, workers):
    def batches(make):
        return list(DataLoader(Batched(make), 4, prefetch=prefetch, workers=workers))

    assert_equal(batches(lambda i: [SIZES[i], LABELS[i]])[0], (SIZES[:4], LABELS[:4]))
    assert_equal(batches(lambda i: SIZES[i])[1], (SIZES[4:],))
    assert_equal(batches(lambda i: {"x": SIZES[i]})[1], {"x": SIZES[4:]})
    for wrong in (lambda i: (SIZES[i], LABELS[:2]), lambda i: (SIZES[i], 5), lambda i: None):
        with pytest.raises(DataError, match=r"Batched.batch returned .* for 4 items"):
            batches(wrong)


def test_random_flips_of_dicts_stay_the_same_with_workers():
    def batches(workers):
        data = {"image": IMAGES, "y": LABELS}
        flip = RandomHorizontalFlip()
        loader = DataLoader(data, 2, shuffle=True, transform=flip, workers=workers)
        return [b["image"].tobytes() for _ in range(2) for b in loader]

    assert batches(0) == batches(3)
