"""Data without an index: generators and other iterables."""

import json
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xcnn import no_grad
from xcnn.data import Augmentation, DataLoader, Dataset, IterableDataset, Subset
from xcnn.errors import ArgumentError, DataError, DTypeError, StateDictError
from xcnn.tensor import is_grad_enabled


@pytest.fixture(autouse=True)
def no_thread_leaks():
    yield
    assert [t.name for t in threading.enumerate() if t.name.startswith("xcnn-prefetch")] == []


def numbers(count=10):
    for n in range(count):
        yield np.full((1, 2, 2), n, np.float32), n


class Stream(IterableDataset):
    def __iter__(self):
        return numbers()


class Sized:
    def __len__(self):
        return 10

    def __iter__(self):
        return numbers()


def seen(loader):
    return [y.tolist() for _, y in loader]


@pytest.mark.parametrize("settings", [{}, {"prefetch": 0}, {"workers": 3}])
@pytest.mark.parametrize("source", [numbers, Stream(), Sized(), IterableDataset(lambda: numbers())])
def test_batches_of_iterables(source, settings):
    loader = DataLoader(source, 4, **settings)
    for _ in range(2):
        assert seen(loader) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert seen(DataLoader(source, 4, drop_last=True, **settings)) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    x, _ = next(iter(loader))
    assert x.shape == (4, 1, 2, 2)
    assert x.dtype == np.float32


def test_length():
    assert len(DataLoader(Sized(), 4)) == 3
    assert len(DataLoader(IterableDataset(numbers, length=np.int64(9)), 2, drop_last=True)) == 4
    for unknown in (numbers, Stream()):
        with pytest.raises(DTypeError, match="has no known length"):
            len(DataLoader(unknown))


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_generator_object_is_for_one_epoch(prefetch):
    loader = DataLoader(numbers(), 5, prefetch=prefetch)
    assert seen(loader) == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    with pytest.raises(DataError, match=r"numbers is a generator.* pass a function that creates"):
        list(loader)
    assert seen(DataLoader(iter([(1, 2)]))) == [[2]]


@given(st.integers(0, 40), st.integers(1, 12), st.integers(1, 50), st.integers(0, 3))
def test_a_shuffle_buffer(count, batch_size, buffer, epoch):
    def read(**settings):
        settings = {"batch_size": batch_size, "shuffle": True, "seed": 5, **settings}
        loader = DataLoader(lambda_of(count), shuffle_buffer=buffer, **settings)
        loader.epoch = epoch
        return [n for batch in loader for n in batch[0].tolist()]

    order = read()
    assert sorted(order) == list(range(count))
    assert all(n < place + buffer for place, n in enumerate(order))  # held at most `buffer`
    assert read(prefetch=0) == order
    if buffer == 1:
        assert order == list(range(count))


def lambda_of(count):
    return IterableDataset(lambda: range(count))


def test_epochs_of_a_shuffle_buffer_differ():
    loader = DataLoader(lambda_of(50), 50, shuffle=True)
    assert len({tuple(batch[0].tolist()) for _ in range(4) for batch in loader}) == 4


class Noise(Augmentation):
    def augment(self, backend, x, rng):
        return x + rng.random(x.shape, np.float32)


@pytest.mark.parametrize("settings", [{}, {"prefetch": 0}, {"workers": 2}])
@pytest.mark.parametrize("start", [0, 2, 4])
def test_the_rest_of_an_epoch_is_bit_identical(settings, start):
    def loader():
        return DataLoader(numbers, 3, shuffle=True, transform=Noise(), shuffle_buffer=4, **settings)

    whole = [[array.tobytes() for array in batch] for batch in loader()]
    resumed = loader()
    resumed.load_state_dict(json.loads(json.dumps({**loader().state_dict(), "start": start})))
    assert [[array.tobytes() for array in batch] for batch in resumed] == whole[start:]


def test_resuming_elsewhere():
    loader = DataLoader(numbers, 3)
    loader.start = 5
    with pytest.raises(ArgumentError, match="start=5: the epoch has 4 batches"):
        list(loader)
    state = DataLoader(numbers, 3, shuffle=True, shuffle_buffer=9).state_dict()
    assert state["length"] is None
    with pytest.raises(StateDictError, match="shuffle_buffer=1000, in the state 9"):
        DataLoader(numbers, 3, shuffle=True).load_state_dict(state)


def test_only_a_few_items_are_read_ahead():
    read = []

    def endless():
        while True:
            read.append(0)
            yield len(read)

    batches = iter(DataLoader(endless, 2, prefetch=0, shuffle=True, shuffle_buffer=5))
    next(batches)
    assert len(read) <= 5 + 2
    batches.close()


@pytest.mark.parametrize("settings", [{"prefetch": 0}, {}, {"workers": 2}])
def test_an_exception_names_the_item_after_the_batches_before_it(settings):
    def broken():
        yield from range(7)
        raise OSError("the stream broke")

    batches = iter(DataLoader(broken, 3, **settings))
    assert [next(batches)[0].tolist() for _ in range(2)] == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(OSError, match="the stream broke") as caught:
        next(batches)
    assert caught.value.__notes__ == ["item 7 of broken"]


def test_contexts_of_a_generator_stay_in_their_thread():
    """Leaving early closes the generator in its own thread, not in this one."""

    def items():
        with no_grad():
            yield from numbers()

    with no_grad():
        for _ in DataLoader(items, 2):
            break
        assert not is_grad_enabled()
    for _ in DataLoader(items, 2):
        assert is_grad_enabled()
    assert is_grad_enabled()


def test_what_has_no_index():
    for wrong in (lambda: Subset(Stream(), []), lambda: Stream()[0]):
        with pytest.raises(DTypeError, match="Stream has no"):
            wrong()
    with pytest.raises(DTypeError, match="source is int: expected an iterable"):
        IterableDataset(5)
    with pytest.raises(ArgumentError, match="length="):
        IterableDataset(numbers, -1)
    with pytest.raises(DataError, match="yields batches already"):
        DataLoader(DataLoader(np.zeros(3)))


# -- worker threads ------------------------------------------------------------------------


class Items(Dataset):
    """Notes its threads; item 17 is broken if wanted."""

    def __init__(self, error=None):
        self.error, self.threads = error, set()

    def __len__(self):
        return 40

    def __getitem__(self, index):
        self.threads.add(threading.get_ident())
        if self.error is not None and index == 17:
            raise self.error
        return np.full((1, 3, 3), index, np.float32), index


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("workers", [1, 4, 50])
def test_workers_change_nothing(workers, prefetch):
    def epochs(**settings):
        loader = DataLoader(Items(), 3, shuffle=True, seed=2, transform=Noise(), **settings)
        loader.start = 4
        return [[array.tobytes() for b in loader for array in b] for _ in range(2)]

    assert epochs(workers=workers, prefetch=prefetch) == epochs(prefetch=0)


def test_workers_read_in_several_threads():
    both = threading.Barrier(2, timeout=10)

    class Meeting(Items):
        def __getitem__(self, index):
            both.wait()  # passes only if two items are being read
            return super().__getitem__(index)

    data = Meeting()
    assert len(list(DataLoader(data, 10, workers=2))) == 4
    assert len(data.threads) == 2
    assert threading.get_ident() not in data.threads


class Custom(Exception):
    def __init__(self, code, reason):
        super().__init__(code, reason)


@pytest.mark.parametrize("settings", [{"prefetch": 0}, {}, {"workers": 1}, {"workers": 5}])
@pytest.mark.parametrize("wrap", [lambda d: d, lambda d: Subset(d, range(40))])
def test_an_exception_of_an_item_names_it(settings, wrap):
    error = Custom(3, "broken")
    batches = iter(DataLoader(wrap(Items(error)), 4, **settings))
    assert [next(batches)[1].tolist() for _ in range(4)][3] == [12, 13, 14, 15]
    with pytest.raises(Custom) as caught:
        next(batches)
    assert caught.value is error
    assert error.__notes__ == ["item 17 of Items"]
    assert list(batches) == []


@pytest.mark.parametrize("settings", [{"prefetch": 0}, {}, {"workers": 3}])
def test_stop_iteration_of_an_item_is_no_end(settings):
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(DataLoader(Items(StopIteration()), 4, **settings))


def test_leaving_early_stops_the_workers():
    before = threading.active_count()
    for i, _ in enumerate(DataLoader(Items(), 1, workers=4)):
        if i == 2:
            break
    assert threading.active_count() == before


def test_bad_workers():
    for settings in ({"workers": -1}, {"workers": True}, {"shuffle_buffer": 0}):
        with pytest.raises(ArgumentError, match=f"{next(iter(settings))}="):
            DataLoader(np.zeros(3), **settings)
