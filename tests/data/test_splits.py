"""split, kfold and labels."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcnn.data import ArrayDataset, Dataset, IterableDataset, Subset, kfold, labels, load, split
from xcnn.errors import ArgumentError, DataError, DTypeError

CLASSES = st.lists(st.integers(0, 4), min_size=10, max_size=60)


def indices(subset):
    return subset.indices.tolist()


@given(CLASSES, st.floats(0.1, 0.85), st.integers(0, 5), st.booleans())
def test_split_takes_the_same_share_of_each_class(classes, fraction, seed, strings):
    y = np.array([f"class {c}" for c in classes] if strings else classes)
    data = ArrayDataset(np.arange(len(y)), y) if not strings else np.arange(len(y))
    train, validation = split(data, fraction, seed, stratify=y if strings else True)
    assert sorted(indices(train) + indices(validation)) == list(range(len(y)))
    assert indices(train) == sorted(indices(train))
    for label in set(y.tolist()):
        taken = sum(y[i] == label for i in indices(validation))
        assert abs(taken - fraction * sum(y == label)) < 1 + 1e-8
    assert -1e-8 < len(validation) - fraction * len(y) < 1


def test_split_holds_out_exactly_a_share_that_is_a_whole_number():
    """0.07 · 100 is 7.000000000000001 in floating point, 0.29 · 100 is 28.999999999999996."""
    for fraction in (0.07, 0.29, 0.55, 0.1):
        _, validation = split(np.zeros(100), fraction)
        assert len(validation) == round(100 * fraction)


def test_split_depends_on_the_seed_alone():
    x = np.arange(50)
    assert indices(split(x, 0.2, 1)[1]) == indices(split(x, 0.2, 1)[1])
    assert indices(split(x, 0.2, 1)[1]) != indices(split(x, 0.2, 2)[1])


def test_split_of_structures_reads_the_right_items():
    train, validation = split({"x": np.arange(10) * 2, "y": np.arange(10) % 2}, 0.3, stratify=True)
    for part, count in ((train, 7), (validation, 3)):
        batch = part.batch(np.arange(len(part)))
        assert len(batch["x"]) == count
        np.testing.assert_array_equal(batch["x"] // 2 % 2, batch["y"])


@given(CLASSES, st.integers(2, 6), st.booleans())
def test_kfold(classes, k, stratify):
    y = np.array(classes)
    folds = list(kfold((np.arange(len(y)), y), k, seed=3, stratify=stratify or None))
    assert len(folds) == k
    assert sorted(i for _, part in folds for i in indices(part)) == list(range(len(y)))
    for train, part in folds:
        assert sorted(indices(train) + indices(part)) == list(range(len(y)))
    sizes = [len(part) for _, part in folds]
    assert max(sizes) - min(sizes) <= 1
    if stratify:
        for label in set(classes):
            counts = [sum(y[i] == label for i in indices(part)) for _, part in folds]
            assert max(counts) - min(counts) <= 1


def test_kfold_shuffles():
    first = [indices(part) for _, part in kfold(np.zeros(20), 4, seed=0)]
    assert first != [indices(part) for _, part in kfold(np.zeros(20), 4, seed=1)]
    assert first == [indices(part) for _, part in kfold(np.zeros(20), 4, seed=0)]
    assert first[0] != [0, 4, 8, 12, 16]


class Named(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise AssertionError("labels must not read items")


class Targets(Named):
    targets = [3, 1, 2, 0]


def test_labels():
    x, y = np.zeros((4, 2)), np.array([3, 1, 2, 0])
    assert labels((x, y)) is y
    assert labels({"x": x, "y": y}) is y
    assert labels(ArrayDataset((x, x), y)) is y
    assert labels(Targets()).tolist() == [3, 1, 2, 0]
    assert labels(Subset(Subset(Targets(), [0, 2, 3]), [2, 0])).tolist() == [0, 3]
    digits = load("digits", limit=9)
    np.testing.assert_array_equal(labels(digits.train), digits.train.arrays[1])
    for without in (x, Named()):
        with pytest.raises(DataError, match="no labels"):
            labels(without)


def test_labels_of_datasets_of_pytorch():
    data = pytest.importorskip("torch.utils.data")

    class Foreign:
        targets = [3, 1, 2, 0]

        def __len__(self):
            return 4

        def __getitem__(self, index):
            raise AssertionError("labels must not read items")

    assert labels(Foreign()).tolist() == [3, 1, 2, 0]
    assert labels(data.Subset(Foreign(), [2, 0])).tolist() == [2, 3]


def test_errors():
    x, y = np.zeros((6, 2)), np.arange(6) % 2
    for fraction in (-0.1, 1.5, True, "a"):
        with pytest.raises(ArgumentError, match="fraction="):
            split(x, fraction)
    for fraction in (0, 1, 0.9):
        with pytest.raises(DataError, match="leaves none"):
            split(x, fraction)
    for wrong in (y[:5], y.astype(float), np.zeros((6, 2), int)):
        with pytest.raises(DataError, match=r"one class per item, \(6,\)"):
            split(x, 0.5, stratify=wrong)
        with pytest.raises(DataError, match=r"one class per item, \(6,\)"):
            kfold(x, 2, stratify=wrong)
    with pytest.raises(ArgumentError, match="k=1"):
        kfold(x, 1)
    with pytest.raises(DataError, match="only 6 items"):
        kfold(x, 7)
    with pytest.raises(DTypeError, match="no known length"):
        split(IterableDataset(iter(x)))
