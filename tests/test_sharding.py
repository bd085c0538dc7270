"""Parts of a batch: together they have the data and the random numbers of the whole batch."""

import copy

import numpy as np
import pytest

import xcnn
import xcnn.functional as F
from xcnn import data, models, nn
from xcnn.data import Compose, DataLoader, WithTarget
from xcnn.data.augment.recipes import MIXTURES, RECIPES
from xcnn.errors import ArgumentError
from xcnn.sharding import Part
from xcnn.tasks.autoencoder import InputAsTarget

from .conftest import normal

RANKS = [1, 2, 3, 5]


def test_parts_cover_the_batch_in_order():
    for total in range(12):
        for ranks in range(1, 6):
            parts = [Part.of(total, rank, ranks) for rank in range(ranks)]
            rows = [n for part in parts for n in range(total)[part.rows]]
            assert rows == list(range(total))
            sizes = {part.size for part in parts}
            assert max(sizes) - min(sizes) <= 1


# -- random numbers ------------------------------------------------------------------------


class NoisyBlock(nn.Module):
    def __init__(self):
        self.network = nn.Sequential(
            nn.Dropout(0.3), nn.Dropout2d(0.3), nn.AlphaDropout(0.2), nn.FeatureAlphaDropout(0.2)
        )
        self.drop = models.blocks.StochasticDepth(0.4)
        self.pool = nn.FractionalMaxPool2d(2, output_size=3)

    def forward(self, x):
        x = self.pool(F.rrelu(self.drop(self.network(x)), training=True)) + xcnn.rand(
            (), device=x.backend
        )
        tokens = F.dropout(x.permute(0, 2, 3, 1).reshape(9 * len(x), x.shape[1]), 0.5)
        noise = xcnn.randn_like(x) + xcnn.randint_like(x, 5) + xcnn.bernoulli(x * 0 + 0.5)
        drawn = xcnn.multinomial(xcnn.ones(len(x), 5), 2)
        return x + noise, tokens.reshape(len(x), 9 * x.shape[1]), drawn


@pytest.mark.parametrize("total", [7, 3], ids=["uneven", "empty parts"])
def test_numbers_of_the_parts_are_those_of_the_whole(backend, total):
    x, network = normal(total, 2, 5, 6, dtype="float32"), NoisyBlock()
    xcnn.manual_seed(4)
    whole = [y.numpy() for y in network(xcnn.Tensor(backend.asarray(x)))]
    state = xcnn.random.get_state()
    for ranks in RANKS:
        found = []
        for rank in range(ranks):
            part = Part.of(total, rank, ranks)
            xcnn.manual_seed(4)
            with xcnn.random.shard(*part):
                outputs = network(xcnn.Tensor(backend.asarray(x[part.rows])))
            found.append([y.numpy() for y in outputs])
            assert xcnn.random.get_state() == state
        for expected, *parts in zip(whole, *found, strict=True):
            np.testing.assert_array_equal(np.concatenate(parts), expected, strict=True)


@pytest.mark.parametrize("part", [(0, 4, 4), (3, 1, 9), (5, 11, 16), (8, 8, 24), (1, 70, 77)])
def test_bits_of_columns(backend, part):
    """Rows that start anywhere in a block of eight numbers, shorter and longer than it."""
    start, width, total = part
    for rows in (1, 3, 130):
        expected = backend.to_host(backend.random_bits(rows * total, 5)).reshape(rows, total)
        columns = expected[:, start : start + width].reshape(-1)
        found = backend.to_host(backend.random_bits(rows * width, 5, part))
        np.testing.assert_array_equal(found, columns, strict=True)
        mask = backend.to_host(backend.dropout_mask(rows * width, 5, 0.25, "float32", part))
        np.testing.assert_allclose(mask, (columns >= 2**30) / 0.75, rtol=1e-6)


def test_what_is_no_part_is_the_same_for_all():
    def drawn(start, count):
        xcnn.manual_seed(1)
        with xcnn.random.shard(start, count, 6):
            return xcnn.rand(()).item(), xcnn.randn(7).tolist(), xcnn.randperm(9).tolist()

    assert drawn(0, 2) == drawn(2, 4) == drawn(6, 0)


def test_a_permutation_of_the_part_keeps_the_order_of_the_whole():
    xcnn.manual_seed(1)
    whole, after = xcnn.randperm(9).tolist(), xcnn.random.next_key()
    for part in (Part(0, 4, 9), Part(4, 5, 9)):
        xcnn.manual_seed(1)
        with xcnn.random.shard(*part):
            own = xcnn.randperm(part.size).numpy() + part.start
            assert xcnn.random.next_key() == after
        assert own.tolist() == [n for n in whole if n in range(9)[part.rows]]


@pytest.mark.parametrize("part", [(3, 3, 5), (-1, 2, 5), (0, 1.5, 5)])
def test_no_part(part):
    with pytest.raises(ArgumentError), xcnn.random.shard(*part):
        pass


# -- the loader ----------------------------------------------------------------------------


def concatenated(loader, ranks):
    """The batches of all ranks together, as lists of arrays."""
    shards = [loader.shard(rank, ranks) for rank in range(ranks)]
    for parts in zip(*shards, strict=True):
        leaves = zip(*(data.arrays_of(part) for part in parts), strict=True)
        yield [np.concatenate(arrays) for arrays in leaves]


def assert_same(loader, ranks):
    for n, (batch, together) in enumerate(
        zip(copy.copy(loader), concatenated(loader, ranks), strict=True)
    ):
        for expected, found in zip(data.arrays_of(batch), together, strict=True):
            np.testing.assert_array_equal(found, expected, strict=True, err_msg=f"batch {n}")


def items(count):
    for n in range(count):
        yield np.full((1, 2, 2), n, "float32"), n


SOURCES = {
    "arrays": lambda: DataLoader((normal(13, 2), np.arange(13)), 5, shuffle=True, seed=3),
    "items": lambda: DataLoader(list(items(11)), 4, drop_last=True, workers=2),
    "dicts": lambda: DataLoader({"x": normal(9, 1, 2, 2), "y": np.arange(9)}, 4, prefetch=0),
    "sampler": lambda: DataLoader(
        np.arange(10.0), 4, sampler=data.WeightedRandomSampler(np.arange(10) + 1, 9)
    ),
    "stream": lambda: DataLoader(
        data.IterableDataset(lambda: items(10)), 4, shuffle=True, shuffle_buffer=3, workers=1
    ),
}


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_the_parts_are_the_batches(source, ranks):
    loader = SOURCES[source]()
    assert_same(loader, ranks)
    loader.epoch, loader.start = 4, 1
    assert_same(loader, ranks)


def test_a_part_reads_its_own_items_and_has_the_whole_position():
    class Watched(data.Dataset):
        def __init__(self):
            self.read = []

        def __len__(self):
            return 10

        def __getitem__(self, index):
            self.read.append(index)
            return np.float32(index)

    dataset = Watched()
    loader = DataLoader(dataset, 4).shard(1, 2)
    assert [x.tolist() for (x,) in loader] == [[2, 3], [6, 7], [9]]
    assert dataset.read == [2, 3, 6, 7, 9]
    assert len(loader) == 3
    assert loader.state_dict() == {**DataLoader(dataset, 4).state_dict(), "epoch": 1}


@pytest.mark.parametrize(
    ("rank", "ranks", "message"), [(0, 0, "ranks=0"), (2, 2, "rank=2"), (-1, 2, "rank=-1")]
)
def test_no_shard(rank, ranks, message):
    with pytest.raises(ArgumentError, match=message):
        DataLoader(np.arange(3)).shard(rank, ranks)


def test_no_shard_of_a_shard():
    with pytest.raises(ArgumentError, match="part 1 of 2 already"):
        DataLoader(np.arange(3)).shard(1, 2).shard(0, 2)


class PerImage(data.Augmentation):
    """What a user writes: numbers for the batch, for each image, and in a loop."""

    geometric = False

    def augment(self, backend, x, rng):
        y = x * rng.uniform(0.5, 1, (len(x), 1, 1, 1)).astype(x.dtype) + rng.integers(3)
        rng, total, rows = xcnn.random.whole(rng, len(x))
        shifts = [int(rng.integers(5)) for _ in range(total)][rows]
        return np.stack([np.roll(image, n) for image, n in zip(y, shifts, strict=True)] or y)


MORE = {
    "vflip": data.RandomVerticalFlip(),
    "rotation": data.RandomRotation(30),
    "affine": data.RandomAffine(10, (0.1, 0.1), (0.8, 1.2), 5),
    "crop": data.RandomCrop(6, padding=2),
    "cutout": data.Cutout(3),
    "grey": data.Grayscale(),
    "augmix": data.AugMix(mixture_width=2, chain_depth=2),
    "user": PerImage(),
    "noise": InputAsTarget(0.3),
    "fixed noise": InputAsTarget(0.3, is_fixed=True),
}


@pytest.mark.parametrize("name", [*(name for name in RECIPES if name not in MIXTURES), *MORE])
def test_augmentations_are_those_of_the_whole_batch(name):
    transform = MORE[name] if name in MORE else RECIPES[name].make((8, 9), 4)
    x = np.random.default_rng(0).random((9, 3, 8, 9)).astype("float32")
    for count in (4, 7):  # 4: as many as ColorJitter has steps
        loader = DataLoader((x, np.arange(9)), count, transform=transform, seed=2)
        for ranks in (2, 3, 5):
            assert_same(loader, ranks)


def test_targets_follow_in_a_part():
    y = np.random.default_rng(0).integers(0, 9, (9, 8, 9))
    flip = WithTarget(data.RandomHorizontalFlip(), "masks")
    crop = WithTarget(data.RandomResizedCrop(8), "masks")
    loader = DataLoader((normal(9, 3, 8, 9), y), 5, transform=Compose([flip, crop]))
    assert_same(loader, 3)


@pytest.mark.parametrize("name", MIXTURES)
def test_mixing_stays_in_the_part(name):
    """The weights are those of the whole batch, the partners are of the part."""
    x = np.broadcast_to(np.arange(8, dtype="float32")[:, None, None, None], (8, 1, 4, 4))
    transform = RECIPES[name].make((4, 4), 8)
    for rank in range(3):
        loader = DataLoader((x, np.arange(8)), 8, transform=transform).shard(rank, 3)
        mixed, labels = next(iter(loader))
        part = Part.of(8, rank, 3)
        rows = part.rows
        assert mixed.shape == (part.size, 1, 4, 4)
        assert labels[:, rows].sum() == pytest.approx(part.size)
        assert mixed.min() >= rows.start
        assert mixed.max() <= rows.stop - 1
