import numpy as np
import pytest

from xcnn.data import info
from xcnn.data.sources.digits import enlarge
from xcnn.data.sources.figures import discs, symbols
from xcnn.data.sources.generated import cross, moons, stick_figures
from xcnn.data.sources.make_digits import SEED
from xcnn.data.splits import stratified_split

from .conftest import load_once


@pytest.mark.parametrize("draw", [cross, moons, symbols, discs, stick_figures])
def test_the_seed_determines_the_data(draw):
    (x, y), (again_x, again_y), (other, _) = draw(30, seed=1), draw(30, seed=1), draw(30, seed=2)
    np.testing.assert_array_equal(x, again_x)
    np.testing.assert_array_equal(y, again_y)
    assert not np.array_equal(x, other)


@pytest.mark.parametrize("count", [0, 1, 7])
def test_counts_and_types(count):
    images, labels = cross(count, size=12)
    assert images.shape == (count, 1, 12, 12)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert labels.sum() == count // 2
    points, labels = moons(count)
    assert points.shape == (count, 2)
    assert points.dtype == np.float32
    assert labels.dtype == np.int64
    assert labels.sum() == count // 2


def test_moons_without_noise_lie_on_two_half_circles():
    points, labels = moons(200, noise=0)
    upper, lower = points[labels == 0], points[labels == 1]
    np.testing.assert_allclose(np.hypot(*upper.T), 1, rtol=1e-5)
    np.testing.assert_allclose(np.hypot(lower[:, 0] - 1, lower[:, 1] - 0.5), 1, rtol=1e-5)
    assert upper[:, 1].min() >= 0
    assert lower[:, 1].max() <= 0.5


def test_brightness_does_not_separate_the_classes():
    x, y = load_once("cross").train.arrays
    ink = x.mean((1, 2, 3))
    thresholds = np.quantile(ink, np.linspace(0, 1, 101))
    best = max(((ink > threshold) == y).mean() for threshold in thresholds)
    assert best < 0.85


@pytest.mark.parametrize("name", ["digits", "cross", "moons", "symbols", "discs", "stick-figures"])
def test_registered_statistics_match_the_data(name):
    data, record = load_once(name), info(name)
    x = data.train.arrays[0] / (255 if data.kind == "images" else 1)
    axes = tuple(i for i in range(x.ndim) if i != 1)
    np.testing.assert_allclose(x.mean(axes), data.mean, atol=1e-4)
    np.testing.assert_allclose(x.std(axes), data.std, atol=1e-4)
    assert (len(data.train), len(data.test)) == record.counts
    assert data.image_shape == record.shape
    if record.task == "classification":
        assert set(np.unique(data.train.arrays[1])) == set(range(len(data.classes)))
    else:
        assert data.train.arrays[1].shape[:2] == (len(data.train), len(data.classes))


def test_enlarge_interpolates_and_keeps_the_range():
    flat = enlarge(np.full((1, 8, 8), 16))
    assert flat.shape == (1, 32, 32)
    assert flat.dtype == np.uint8
    assert (flat == 255).all()
    ramp = enlarge(np.tile(np.array([[0, 16]]), (1, 2, 1)).reshape(1, 2, 2))[0, 0]
    # centres of the outputs lie at -3/8, -1/8, 1/8, ... of the distance between the inputs
    np.testing.assert_array_equal(ramp, [0, 0, 32, 96, 159, 223, 255, 255])


def test_the_split_of_the_digits_is_stratified_and_stored():
    data = load_once("digits")
    counts = np.bincount(data.test.arrays[1])
    assert len(data.train) == 1437
    assert len(data.test) == 360
    assert counts.min() >= 34
    assert counts.max() <= 37
    everything = np.concatenate([data.train.arrays[0], data.test.arrays[0]]).reshape(1797, -1)
    assert len(np.unique(everything, axis=0)) == 1797  # no image is in both parts


@pytest.mark.exhaustive  # importing scikit-learn takes seconds
def test_digits_match_scikit_learn():
    bunch = pytest.importorskip("sklearn.datasets").load_digits()
    data = load_once("digits")
    train = stratified_split(bunch.target, seed=SEED)
    np.testing.assert_array_equal(data.train.arrays[0][:, 0], enlarge(bunch.images[train]))
    np.testing.assert_array_equal(data.test.arrays[1], bunch.target[~train])


def test_the_digits_are_learnable():
    data = load_once("digits")
    (x, y), (test_x, test_y) = (part.arrays for part in (data.train, data.test))

    def features(images):
        return np.concatenate([images.reshape(len(images), -1) / 255, np.ones((len(images), 1))], 1)

    # ridge regression on one-hot labels: the simplest linear classifier
    gram = features(x).T @ features(x) + 10 * np.eye(1025)
    weights = np.linalg.solve(gram, features(x).T @ np.eye(10)[y])
    assert (np.argmax(features(test_x) @ weights, axis=1) == test_y).mean() > 0.93
