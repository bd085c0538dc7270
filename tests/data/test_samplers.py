"""WeightedRandomSampler, class_weights, and samplers of the user."""

import json

import numpy as np
import pytest

from xcnn.data import DataLoader, IterableDataset, WeightedRandomSampler, class_weights
from xcnn.errors import ArgumentError, DataError, StateDictError


def test_frequencies_follow_the_weights():
    """Within four standard deviations of a binomial distribution."""
    weights = np.array([1.0, 0, 3, 6])
    draws = 20_000
    drawn = np.bincount(WeightedRandomSampler(weights, draws, seed=1).order(0), minlength=4)
    shares = weights / 10
    assert np.all(np.abs(drawn - draws * shares) <= 4 * np.sqrt(draws * shares * (1 - shares)))
    assert drawn[1] == 0


def test_without_replacement_each_item_is_drawn_once():
    order = WeightedRandomSampler([1, 2, 0, 3], 3, replacement=False).order(5)
    assert sorted(order) == [0, 1, 3]
    firsts = [WeightedRandomSampler([1, 99], 1, False, seed).order(0)[0] for seed in range(100)]
    assert np.mean(firsts) > 0.9


def test_the_loader_follows_the_sampler():
    x = np.arange(10)
    sampler = WeightedRandomSampler(np.arange(10), num_samples=25, seed=7)
    loader = DataLoader((x, x * 2), 4, sampler=sampler)
    assert len(loader) == 7
    epochs = [list(loader) for _ in range(2)]
    for epoch, batches in enumerate(epochs):
        drawn = np.concatenate([b[0] for b in batches])
        np.testing.assert_array_equal(drawn, sampler.order(epoch))
        np.testing.assert_array_equal(np.concatenate([b[1] for b in batches]), drawn * 2)
    assert not np.array_equal(sampler.order(0), sampler.order(1))
    assert len(DataLoader(x, 4, sampler=sampler, drop_last=True)) == 6
    loader.epoch, loader.start = 1, 3
    for got, wanted in zip(loader, epochs[1][3:], strict=True):
        np.testing.assert_array_equal(got, wanted)


class Reversed:
    def __init__(self, order):
        self.indices = order

    def __len__(self):
        return 3

    def order(self, epoch):
        return self.indices


def test_any_object_with_len_and_order():
    (batch,) = DataLoader(np.arange(5) * 10, sampler=Reversed([4, 2, 0]))
    assert batch[0].tolist() == [40, 20, 0]


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 5], [-1, 0, 1], [0.0, 1, 2], [[0, 1, 2]]])
def test_a_wrong_order_is_refused(order):
    with pytest.raises(DataError, match=r"Reversed.order\(0\) gave .* 3 indices from 0 to 4"):
        iter(DataLoader(np.arange(5), sampler=Reversed(order)))


def test_a_sampler_excludes_other_orders():
    sampler = WeightedRandomSampler([1, 1])
    with pytest.raises(ArgumentError, match="shuffle=True"):
        DataLoader(np.zeros(2), shuffle=True, sampler=sampler)
    with pytest.raises(ArgumentError, match="no index"):
        DataLoader(IterableDataset([1, 2]), sampler=sampler)
    with pytest.raises(ArgumentError, match="sampler is list"):
        DataLoader(np.zeros(2), sampler=[1, 0])


def test_state_dict_recognises_the_sampler():
    def loader(weights, **settings):
        return DataLoader(np.zeros(3), sampler=WeightedRandomSampler(weights, **settings))

    state = json.loads(json.dumps(loader([1, 2, 3]).state_dict()))
    loader([1, 2, 3]).load_state_dict(state)
    for other in (loader([3, 2, 1]), loader([1, 2, 3], seed=9), DataLoader(np.zeros(3))):
        with pytest.raises(StateDictError, match="sampler="):
            other.load_state_dict(state)


@pytest.mark.parametrize(
    "arguments",
    [([],), ([0, 0],), ([1, -1],), ([1, np.nan],), ([[1, 2]],), (["a"],), ([1, 2], 0),
     ([1, 0], 2, False), ([1, 2], 2.5), ([1, 2], 1, True, -1)],
)  # fmt: skip
def test_bad_arguments(arguments):
    with pytest.raises(ArgumentError, match=r"weights are|num_samples=|seed="):
        WeightedRandomSampler(*arguments)


# -- class weights -------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [(3, 1, 6), (5, 5), (1,), (2, 0, 7), (0, 0, 4, 1)])
def test_class_weights_equal_those_of_scikit_learn(counts):
    utils = pytest.importorskip("sklearn.utils.class_weight")
    y = np.random.default_rng(0).permutation(np.repeat(np.arange(len(counts)), counts))
    present = np.unique(y)
    wanted = np.ones(len(counts))
    wanted[present] = utils.compute_class_weight("balanced", classes=present, y=y)
    got = class_weights(y)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wanted, rtol=1e-6)
    assert got[y].mean() == pytest.approx(1)


def test_class_weights_naively():
    np.testing.assert_allclose(class_weights([[0, 2], [2, 2]], 4), [2, 1, 2 / 3, 1], rtol=1e-6)


def test_class_weights_of_what_is_no_label():
    for wrong in ([], [0.5], [-1, 0], [True], ["a"]):
        with pytest.raises(DataError, match="integers >= 0"):
            class_weights(wrong)
    with pytest.raises(DataError, match="go up to 5: expected at most 4"):
        class_weights([0, 5], 5)
