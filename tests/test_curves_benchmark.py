"""ResNet-20 beside PyTorch (``python -m benchmarks.curves``): same weights, batches and recipe."""

import os

import numpy as np
import pytest

from benchmarks import curves

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def images():
    if not os.environ.get("XCNN_DATA"):
        pytest.skip("XCNN_DATA names no folder with CIFAR-10")
    return curves.Images(limit=1280)


def test_both_start_from_the_same_weights(images):
    x = images.test[0][:20]
    ours, theirs = curves.peers(seed=3).values()
    assert np.array_equal(ours.classes(x), theirs.classes(x))
    kept = theirs.model.state_dict()
    assert {k: tuple(a.shape) for k, a in ours.model.state_dict().items()} == {
        k: tuple(a.shape) for k, a in kept.items()
    }


def test_an_epoch_of_both(images):
    """Ten steps up to a rate of 0.1: rounding makes the losses, from 3 to 7, differ by 0.02 in the
    mean; another order of the batches by 0.7. The accuracies are within 2 points.
    """
    runs = {
        name: curves.train(name, peer, images, epochs=1, seed=0)
        for name, peer in curves.peers(seed=0).items()
    }
    ours, theirs = (np.array(runs[name]["losses"]) for name in ("xcnn", "torch"))
    assert len(ours) == 10
    assert np.abs(ours[:3] - theirs[:3]).max() < 1e-3
    assert np.abs(ours - theirs).mean() < 0.1
    accuracies = [runs[name]["accuracies"][0] for name in ("xcnn", "torch")]
    assert abs(accuracies[0] - accuracies[1]) < 0.02


def test_the_rate():
    steps = 100
    rates = [curves.rate(step, steps) for step in range(steps + 1)]
    assert rates[0] == pytest.approx(0)
    assert rates[30] == pytest.approx(curves.PEAK) == max(rates)
    assert rates[100] == pytest.approx(0)


def test_batches_are_the_same_for_the_same_seed(images):
    first, again, other = (next(images.epoch(np.random.default_rng(seed)))[0] for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
