import gc
import json
import re
import subprocess
import sys
import threading
import time
import traceback

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xcnn import hints
from xcnn.data import ArrayDataset, Augmentation, DataLoader, Dataset, Subset, load
from xcnn.errors import ArgumentError, DataError, StateDictError


def prefetch_threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "xcnn-prefetch"]


@pytest.fixture(autouse=True)
def no_thread_leaks():
    yield
    assert prefetch_threads() == []


class Squares(Dataset):
    """Reads one item at a time."""

    def __init__(self, count=10):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return np.full((2,), index, np.float32), int(index) ** 2


class Foreign:
    """Has the methods of a dataset but does not derive from Dataset."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        if not 0 <= index < 3:
            raise IndexError(index)
        return [1.0 * index, 2.0], index


def xy(count=10):
    return np.arange(count * 2, dtype=np.float32).reshape(count, 2), np.arange(count)


def test_array_dataset_reads_items_and_batches():
    x, y = xy()
    data = ArrayDataset(x, y)
    assert len(data) == 10
    assert data.arrays[0] is x
    assert data[3][1] == 3
    assert data[-1][1] == 9
    assert data[np.int64(2)][1] == 2
    assert data[np.array([4, 1])][1].tolist() == [4, 1]
    assert data[[4, 1]][0].shape == (2, 2)
    assert data[2:5][1].tolist() == [2, 3, 4]
    assert data[y > 7][1].tolist() == [8, 9]
    assert len(list(data)) == 10  # IndexError ends an iteration
    with pytest.raises(IndexError):
        data[10]


def test_array_dataset_takes_lists_memmaps_and_sequences(tmp_path):
    x = np.memmap(tmp_path / "x", np.uint8, "w+", shape=(3, 4))
    data = ArrayDataset(x, [0.5, 1, 2], ["a", "b", "c"], [[1, 2], [3, 4], [5, 6]], range(3))
    assert isinstance(data.arrays[0], np.memmap)
    batch = data.batch(np.array([2, 0]))
    assert [a.dtype for a in batch[:2]] == [np.uint8, np.float32]
    assert batch[3].dtype == np.int64
    assert batch[4].tolist() == [2, 0]
    assert batch[2].tolist() == ["c", "a"]
    assert type(batch[0]) is np.ndarray


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ((), "no arrays"),
        ((np.zeros(3), np.zeros(4)), r"same length, got \[3, 4\]"),
        ((np.zeros(()),), r"shape \(N, \.\.\.\), got float64 \(\)"),
        ((np.array([None]),), "must be numeric"),
        (([[1], [1, 2]],), "rows of different lengths"),
        ((np.zeros(3), 5), "array 1 .* got int"),
    ],
)
def test_array_dataset_errors(arrays, text):
    with pytest.raises(DataError, match=text):
        ArrayDataset(*arrays)


def test_an_array_on_a_gpu_is_refused_with_advice():
    class OnDevice:
        __cuda_array_interface__ = None

        def __array__(self, *arguments):
            raise TypeError("as CuPy's does")

    for wrap in (ArrayDataset, DataLoader):
        with pytest.raises(DataError, match="asnumpy"):
            wrap(OnDevice())


def test_subset():
    data = ArrayDataset(*xy())
    some = Subset(data, [7, 2, -1])
    assert len(some) == 3
    assert some[1][1] == 2
    assert some[-1][1] == 9
    assert some.batch(np.array([0, 2]))[1].tolist() == [7, 9]
    assert some[[0, 2]][1].tolist() == [7, 9]
    assert some[:2][1].tolist() == [7, 2]
    assert Subset(some, np.array([False, True, True]))[0][1] == 2
    assert len(Subset(data, [])) == 0
    assert [item[1] for item in Subset(Squares(), [3, 1])] == [9, 1]


@pytest.mark.parametrize("indices", [[10], [-11], [1.5], [[1]], [True, False]])
def test_subset_errors(indices):
    with pytest.raises(DataError, match="Subset"):
        Subset(ArrayDataset(*xy()), indices)


@pytest.mark.parametrize(("drop_last", "sizes"), [(False, [4, 4, 2]), (True, [4, 4])])
def test_batches_in_order(drop_last, sizes):
    loader = DataLoader(xy(), batch_size=4, drop_last=drop_last)
    batches = list(loader)
    assert len(loader) == len(batches)
    assert [len(x) for x, _ in batches] == sizes
    assert np.concatenate([y for _, y in batches]).tolist() == list(range(sum(sizes)))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 40), st.integers(1, 12), st.booleans(), st.booleans(), st.integers(1, 4))
def test_prefetch_changes_nothing(count, batch_size, shuffle, drop_last, prefetch):
    def batches(depth):
        loader = DataLoader(
            xy(count), batch_size, shuffle, seed=3, drop_last=drop_last, prefetch=depth
        )
        both = [list(loader), list(loader)]
        assert [len(loader)] * 2 == [len(epoch) for epoch in both]
        return [array.tobytes() for epoch in both for batch in epoch for array in batch]

    assert batches(0) == batches(prefetch)


@given(st.integers(0, 50), st.integers(0, 2**70), st.integers(0, 5))
def test_an_order_is_a_permutation_drawn_from_seed_and_epoch_alone(count, seed, epoch):
    loader = DataLoader(np.zeros(count), shuffle=True, seed=seed)
    order = loader.order(epoch)
    assert sorted(order) == list(range(count))
    assert loader.epoch == 0
    generator = np.random.Generator(np.random.PCG64([seed, epoch]))
    np.testing.assert_array_equal(order, generator.permutation(count))


def test_epochs_differ_and_can_be_resumed():
    def labels(loader):
        return np.concatenate([y for _, y in loader]).tolist()

    loader = DataLoader(xy(100), shuffle=True, seed=5)
    epochs = [labels(loader) for _ in range(3)]
    assert loader.epoch == 3
    assert len({tuple(e) for e in epochs}) == 3
    resumed = DataLoader(xy(100), shuffle=True, seed=5)
    resumed.epoch = 2
    assert labels(resumed) == epochs[2]
    assert labels(DataLoader(xy(100), shuffle=True, seed=6)) != epochs[0]


def test_the_transform_acts_on_x_only():
    loader = DataLoader(xy(4), 4, transform=lambda x: x + 100)
    ((x, y),) = loader
    assert x.min() == 100
    assert y.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_datasets_without_a_batch_method(prefetch):
    ((x, y),) = DataLoader(Squares(3), 4, prefetch=prefetch)
    assert x.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert y.tolist() == [0, 1, 4]
    ((x, y),) = DataLoader(Foreign(), 4, prefetch=prefetch)
    assert x.tolist() == [[0, 2], [1, 2], [2, 2]]
    assert x.dtype == np.float32
    assert y.dtype == np.int64


def test_one_array_gives_batches_of_one_part():
    assert [batch[0].shape for batch in DataLoader(np.zeros((5, 2)), 3)] == [(3, 2), (2, 2)]


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("data", [np.zeros((0, 3)), ([], []), Squares(0)])
def test_an_empty_dataset_has_no_batches(data, prefetch):
    loader = DataLoader(data, shuffle=True, prefetch=prefetch)
    assert len(loader) == 0
    assert list(loader) == []
    assert loader.epoch == 1


class Broken(Squares):
    def __getitem__(self, index):
        if index == 5:
            raise RuntimeError("item 5 is broken")
        return super().__getitem__(index)


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_an_exception_reaches_the_consumer_with_its_traceback(prefetch):
    batches = iter(DataLoader(Broken(), 2, prefetch=prefetch))
    assert [next(batches)[1].tolist() for _ in range(2)] == [[0, 1], [4, 9]]
    with pytest.raises(RuntimeError, match="item 5 is broken") as caught:
        next(batches)
    assert "raise RuntimeError" in "".join(traceback.format_tb(caught.tb))


@pytest.mark.parametrize("prefetch", [1, 3])
@pytest.mark.parametrize("taken", [0, 1, 2])
def test_leaving_early_stops_the_thread(prefetch, taken):
    start = time.monotonic()
    loader = DataLoader(xy(10_000), 1, prefetch=prefetch)
    for i, _ in enumerate(loader):
        if i == taken:
            break
    assert prefetch_threads() == []
    assert time.monotonic() - start < 1


def test_an_exception_of_the_consumer_stops_the_thread():
    def consume():
        for _ in DataLoader(xy(10_000), 1):
            raise KeyError("the consumer's")

    with pytest.raises(KeyError):
        consume()
    gc.collect()
    assert prefetch_threads() == []


def test_an_iterator_that_is_never_used_starts_no_thread():
    iterator = iter(DataLoader(xy(), 1))
    assert prefetch_threads() == []
    next(iterator)
    assert len(prefetch_threads()) == 1
    del iterator
    assert prefetch_threads() == []


def test_the_thread_stays_no_more_than_prefetch_batches_ahead():
    read = []

    class Counting(Squares):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    iterator = iter(DataLoader(Counting(), 1, prefetch=2))
    next(iterator)
    deadline = time.monotonic() + 0.1
    while time.monotonic() < deadline:
        assert len(read) <= 4  # one used, two in the queue, one waiting to get in
    iterator.close()


@pytest.mark.parametrize(("name", "use"), [*hints.LOADER.items(), ("bach_size", "see help")])
def test_an_argument_of_pytorch_says_what_to_use(name, use):
    with pytest.raises(ArgumentError, match=re.escape(f"no argument '{name}'; {use}")):
        DataLoader(xy(), **{name: 1})


def test_two_loaders_at_once():
    pairs = zip(DataLoader(xy(), 2), DataLoader(xy(), 2, shuffle=True), strict=True)
    assert len(list(pairs)) == 5


@pytest.mark.parametrize(
    "argument", [{"batch_size": 0}, {"batch_size": 2.5}, {"batch_size": True}, {"prefetch": -1},
                 {"seed": -1}, {"seed": None}, {"seed": np.True_}, {"seed": np.array([1])}]
)  # fmt: skip
def test_bad_arguments(argument):
    with pytest.raises(ArgumentError, match=f"{next(iter(argument))}=.*: expected an int >= "):
        DataLoader(xy(), **argument)


def test_invalid_data():
    with pytest.raises(DataError, match="got int"):
        DataLoader(5)
    with pytest.raises(DataError, match=r"got DataSplits; .*such as its \.train"):
        DataLoader(load("moons"))


def test_items_of_different_shapes():
    class Ragged(Squares):
        def __getitem__(self, index):
            return np.zeros(index + 1)

    class Uneven(Squares):
        def __getitem__(self, index):
            return (1,) * (index + 1)

    with pytest.raises(DataError, match=r"Ragged returned items of shapes \[\(1,\), \(2,\)\]"):
        list(DataLoader(Ragged(2)))
    with pytest.raises(DataError, match=r"Uneven returned items with 1 and 2 parts"):
        list(DataLoader(Uneven(2)))


# -- resuming ------------------------------------------------------------------------------


class Noise(Augmentation):
    """Adds random numbers: shows which generator a batch got."""

    def augment(self, backend, x, rng):
        return x + rng.random(x.shape, np.float32)


def bits(batches):
    return [[array.tobytes() for array in batch] for batch in batches]


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("start", [0, 1, 4, 5])
def test_the_rest_of_an_epoch_is_bit_identical(prefetch, start):
    x, y = np.zeros((9, 1, 3, 3), np.float32), np.arange(9)

    def loader():
        return DataLoader((x, y), 2, shuffle=True, seed=4, prefetch=prefetch, transform=Noise())

    whole = loader()
    epochs = [bits(whole) for _ in range(3)]
    resumed = loader()
    resumed.epoch, resumed.start = 1, start
    assert len(resumed) == 5
    assert bits(resumed) == epochs[1][start:]
    assert (resumed.epoch, resumed.start) == (2, 0)
    assert bits(resumed) == epochs[2]
    for i, (noise, _) in enumerate(epochs[1]):  # seeds: of the loader, the epoch, the batch
        wanted = np.random.Generator(np.random.PCG64([4, 1, 1 + i])).random(9, np.float32)
        np.testing.assert_array_equal(np.frombuffer(noise, np.float32)[:9], wanted)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_skipped_items_are_not_read(prefetch):
    read = []

    class Counting(Squares):
        def __getitem__(self, index):
            read.append(index)
            return super().__getitem__(index)

    loader = DataLoader(Counting(), 2, prefetch=prefetch)
    loader.start = 3
    assert [y.tolist() for _, y in loader] == [[36, 49], [64, 81]]
    assert read == [6, 7, 8, 9]


@pytest.mark.parametrize("start", [-1, 6, 1.5, True])
def test_a_bad_start(start):
    loader = DataLoader(xy(), 2)
    loader.start = start
    with pytest.raises(ArgumentError, match="start="):
        iter(loader)
    assert (loader.epoch, loader.start) == (0, start)


def test_state_dict_restores_the_position():
    loader = DataLoader(xy(), 4, shuffle=True, seed=2**70)
    list(loader)
    state = json.loads(json.dumps(loader.state_dict()))
    rest = [bits(loader), bits(loader)]
    resumed = DataLoader(xy(), 4, shuffle=True, seed=2**70)
    resumed.load_state_dict(state)
    assert [bits(resumed), bits(resumed)] == rest
    resumed.load_state_dict({**state, "start": 2})
    assert bits(resumed) == rest[0][2:]


@pytest.mark.parametrize(
    "other", [{"batch_size": 5}, {"shuffle": False}, {"seed": 1}, {"drop_last": True}]
)
def test_state_dict_of_other_batches_is_refused(other):
    state = DataLoader(xy(), **{"batch_size": 4, "shuffle": True, **other}).state_dict()
    loader = DataLoader(xy(), 4, shuffle=True)
    (name,) = other
    with pytest.raises(StateDictError, match=f"{name}=.*in the state {other[name]}"):
        loader.load_state_dict(state)
    with pytest.raises(StateDictError, match="length=10, in the state 11"):
        loader.load_state_dict(DataLoader(xy(11), 4, shuffle=True).state_dict())
    with pytest.raises(StateDictError, match="epoch=0, in the state 'missing'"):
        loader.load_state_dict({})
    assert loader.epoch == 0


AT_EXIT = """
import os, sys
import numpy as np
from xcnn.data import DataLoader

class AtExit:
    def __init__(self, batches):
        self.batches = batches

    def __del__(self, os=os, len=len, list=list, exiting=sys.is_finalizing):
        assert exiting()
        os.write(1, b"%d batches" % len(list(self.batches)))

loader = DataLoader(np.zeros((99, 2)), 2, SETTINGS)
"""


@pytest.mark.parametrize("settings", ["prefetch=0", "prefetch=2", "workers=2"])
def test_reading_while_the_interpreter_exits(settings):
    code = AT_EXIT.replace("SETTINGS", settings)
    out = run_python(code + "kept = AtExit(loader)")
    assert out.stdout == "50 batches"
    if settings != "prefetch=0":
        out = run_python(code + "kept = AtExit(iter(loader)); next(kept.batches)")
        assert "DataError: the interpreter is exiting" in out.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill would end the process")
@pytest.mark.parametrize("settings", ["prefetch=0", "prefetch=2", "workers=2"])
def test_ctrl_c_while_waiting_for_a_batch(settings):
    out = run_python(f"""
import os, signal, threading, time
from xcnn.data import DataLoader

def endless():
    while True:
        time.sleep(0.05)
        yield 0

threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    for batch in DataLoader(endless, 10, {settings}):
        pass
except KeyboardInterrupt:
    print("stopped", [t.name for t in threading.enumerate() if "xcnn" in t.name])
""")
    assert out.stdout == "stopped []\n"


def run_python(code):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )


@pytest.mark.parametrize("number", [np.int8(2), np.array(2), np.uint64(2)])
def test_integers_of_numpy(number):
    loader = DataLoader(xy(), batch_size=number, seed=number, prefetch=number)
    assert [type(n) for n in (loader.batch_size, loader.seed, loader.prefetch)] == [int] * 3
    assert len(list(loader)) == 5
