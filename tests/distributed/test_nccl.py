"""NCCL's communicator on the stand-in: a thread and a GPU for each rank."""

import gc
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import xcnn
from tests.strict import count_syncs
from tests.strict import cupy as strict_cupy
from tests.strict import nccl as strict_nccl
from xcnn import backends
from xcnn.backends import nccl
from xcnn.backends.cuda import CudaBackend
from xcnn.distributed.nccl import NCCLCommunicator
from xcnn.distributed.tcp import StoreCommunicator
from xcnn.errors import ArgumentError, DeviceError, DTypeError

from ..conftest import GPUS

pytestmark = pytest.mark.usefixtures("gpus")
DTYPES = ["float16", "float32", "float64", "int8", "int32", "int64", "uint8"]


class FakeStore:
    """A store in memory, with the methods of :class:`xcnn.distributed.store.Store`."""

    def __init__(self, rank, size, values, barrier):
        self.rank, self.size, self._values, self._barrier = rank, size, values, barrier

    def put(self, key, text):
        assert " " not in key
        self._values[key] = str(text)

    def get(self, key):
        return self._values[key]

    def barrier(self):
        self._barrier.wait(20)


def hosts(size):
    """Communicators of ``size`` ranks through one store."""
    values, barrier = {}, threading.Barrier(size)
    return [StoreCommunicator(FakeStore(rank, size, values, barrier)) for rank in range(size)]


class FakeWatch:
    """A :class:`xcnn.distributed.failures.Watch` that ends nothing."""

    def __init__(self, timeout=20.0):
        self.timeout, self.said = timeout, []

    def look(self, what, number):
        self.said.append(("look", what))

    def blame(self, what):
        self.said.append(("blame", what))

    def fail(self, text, status=1):
        self.said.append(("fail", text))


def on_ranks(size, work, timeout=20.0):
    """``[work(communicator) of each rank]``."""

    def run(host):
        backend = GPUS[host.rank]
        with backend.active():
            communicator = NCCLCommunicator(host, FakeWatch(timeout), backend)
            try:
                return work(communicator)
            finally:
                communicator.close()

    return each(run, hosts(size))


def each(function, values):
    """``[function(value) for value in values]``, each in a thread; raises the first error."""
    with ThreadPoolExecutor(len(values)) as threads:
        return [future.result() for future in [threads.submit(function, v) for v in values]]


def numbers(rank, shape, dtype):
    generator = np.random.default_rng([rank, len(shape)])
    return np.asarray(generator.integers(0, 2 if dtype == "bool" else 9, shape)).astype(dtype)


@pytest.mark.parametrize("size", [2, 3])
def test_all_reduce(size):
    shapes = [(), (0,), (1,), (7,), (3, 5), (1001,)]

    def work(c):
        assert (c.engine, c.size, c.is_main) == ("nccl", size, c.rank == 0)
        sums = []
        for dtype in DTYPES:
            for shape in shapes:
                array = c.backend.asarray(numbers(c.rank, shape, dtype))
                c.all_reduce(array)
                sums.append(c.backend.to_host(array))
        return sums

    results = on_ranks(size, work)
    for sums in results:
        cases = [(dtype, shape) for dtype in DTYPES for shape in shapes]
        for (dtype, shape), total in zip(cases, sums, strict=True):
            terms = [numbers(rank, shape, dtype).astype("float64") for rank in range(size)]
            np.testing.assert_array_equal(total, sum(terms).astype(dtype), strict=True)


def test_broadcast():
    def work(c):
        received = []
        for root in range(3):
            for dtype in [*DTYPES, "int16", "bool"]:
                array = c.backend.asarray(numbers(c.rank, (3, 5), dtype))
                c.broadcast(array, root)
                received.append(c.backend.to_host(array))
        return received

    for received in on_ranks(3, work):
        cases = [(root, dtype) for root in range(3) for dtype in [*DTYPES, "int16", "bool"]]
        for (root, dtype), array in zip(cases, received, strict=True):
            np.testing.assert_array_equal(array, numbers(root, (3, 5), dtype), strict=True)


def test_values_and_host_arrays_go_through_the_host(monkeypatch):
    monkeypatch.setattr("xcnn.distributed.tcp._PIECE", 50)  # so that values are split

    def value(rank):
        return {
            "rank": rank,
            3: [None, True, 0.1 * rank, "é\n "],
            "a": numbers(rank, (2, 3), "int16"),
        }

    def work(c):
        gathered, shared = c.gather(value(c.rank)), c.share(value(c.rank), root=1)
        array, copy = numbers(c.rank, (4,), "float16"), numbers(c.rank, (4,), "bool")
        c.all_reduce(array)
        c.broadcast(copy, 1)
        c.barrier()
        with pytest.raises(DTypeError, match="cannot send a set"):
            c.gather({1})
        return gathered, shared, array, copy

    for gathered, shared, array, copy in on_ranks(2, work):
        np.testing.assert_equal(gathered, [value(0), value(1)])
        np.testing.assert_equal(shared, value(1))
        assert gathered[0]["a"].dtype == "int16"
        expected = numbers(0, (4,), "float16") + numbers(1, (4,), "float16")
        np.testing.assert_array_equal(array, expected, strict=True)
        np.testing.assert_array_equal(copy, numbers(1, (4,), "bool"))


# -- order ---------------------------------------------------------------------------------


def test_several_run_beside_computation_without_waiting():
    def work(c):
        xp = c.backend.xp
        arrays = [xp.full(10, c.rank + i, "float32") for i in range(4)]
        with count_syncs() as syncs:
            started = [c.start_all_reduce(array) for array in arrays]
            other = xp.ones(10, "float32") * 2  # the step goes on
            for work in reversed(started):
                work.wait()
            twice = [array + other for array in arrays]
            c.all_reduce(twice[0])
            c.all_reduce(twice[0])  # the sum of sums
            c.barrier()
            assert syncs == []
            c.barrier()
        return [array.get()[0] for array in twice]

    assert on_ranks(2, work) == [[12.0, 5.0, 7.0, 9.0]] * 2


@pytest.mark.parametrize("without", ["Work.wait", "the array"])
def test_the_stand_in_sees_a_race(monkeypatch, without):
    def work(c):
        array = c.backend.xp.ones(3, "float32")
        if without == "the array":
            monkeypatch.setattr(strict_cupy.cuda.Stream, "wait_event", lambda stream, event: None)

        def use_too_early():
            c.start_all_reduce(array)
            return array + 1

        with pytest.raises(AssertionError, match="data race"):
            use_too_early()

    on_ranks(2, work)


def test_an_array_lives_until_its_sum_is_there():
    ready = threading.Event()

    def work(c):
        array = c.backend.xp.ones(3, "float32")
        if c.rank == 1:
            ready.wait(20)
        there, _ = weakref.ref(array), c.start_all_reduce(array)
        del array, _
        gc.collect()
        if c.rank == 0:
            assert there() is not None
            ready.set()
        wait_until(lambda: there() is None)

    on_ranks(2, work)


@pytest.mark.parametrize("difference", ["size", "dtype", "call"])
def test_the_stand_in_sees_ranks_that_differ(difference):
    def work(c):
        size = 3 + (difference == "size" and c.rank)
        array = c.backend.xp.ones(size, "int32" if difference == "dtype" and c.rank else "float32")
        with pytest.raises(AssertionError, match="ranks differ in call number 1"):
            c.broadcast(array) if difference == "call" and c.rank else c.all_reduce(array)

    on_ranks(2, work)


# -- errors --------------------------------------------------------------------------------


def test_arrays_that_are_refused():
    def work(c):
        xp = c.backend.xp
        with pytest.raises(ArgumentError, match=r"contiguous.*\(8,\)"):
            c.all_reduce(xp.ones(6, "float32")[::2])
        with pytest.raises(DTypeError, match="int16: convert to one of float16, "):
            c.all_reduce(xp.ones(6, "int16"))
        with GPUS[2].active():
            other = xp.ones(3, "float32")
        with pytest.raises(DeviceError, match=f"on cuda:2, the GPU of rank {c.rank}"):
            c.all_reduce(other)
        c.barrier()

    on_ranks(2, work)


def test_a_rank_that_does_not_come(monkeypatch):
    """Only rank 0 calls it: the thread that watches asks where the others are, then ends all."""
    monkeypatch.setattr("xcnn.distributed.nccl._LOOK", 0.1)

    def work(c):
        c.barrier()
        if c.rank == 0:
            c.start_all_reduce(c.backend.xp.ones(3, "float32"))
        wait_until(lambda: c.rank == 1 or ("blame", "all-reduce number 1") in c.watch.said)
        c.barrier()
        return c.watch.said

    said = on_ranks(2, work, timeout=0.3)
    assert said[1] == []
    assert said[0][0] == ("look", "all-reduce number 1")


def test_a_connection_that_breaks():
    def work(c):
        c.barrier()
        if c.rank == 1:
            c._nccl._communicator.break_connection()
            wait_until(lambda: c.watch.said)
        return c.watch.said

    nothing, said = on_ranks(2, work)
    assert nothing == []
    assert said[0][0] == "fail"
    assert re.fullmatch("NCCL cannot go on .*REMOTE_ERROR.* NCCL_DEBUG=INFO .*", said[0][1])


def wait_until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def refusal(size=2, devices=GPUS):
    """What every rank raises."""

    def run(host):
        with pytest.raises(DeviceError) as failure:
            NCCLCommunicator(host, FakeWatch(), devices[host.rank])
        return str(failure.value)

    texts = set(each(run, hosts(size)))
    assert len(texts) == 1
    return texts.pop()


def test_ranks_that_share_a_gpu():
    assert refusal(3, [GPUS[0], GPUS[1], GPUS[0]]).startswith("ranks 0, 2 use the same GPU")


def test_a_rank_on_the_cpu():
    text = refusal(2, [GPUS[0], backends.get("cpu")])
    assert text.startswith("NCCL cannot be used on rank 1 of 2, ")
    assert text.endswith("it works on CUDA GPUs, not on cpu")


def test_different_versions(monkeypatch):
    versions = iter([22707, 23203])
    monkeypatch.setattr(strict_nccl, "get_version", lambda: next(versions))
    assert "versions 2.27.7 and 2.32.3" in refusal()


def test_gpus_that_cannot_be_connected(monkeypatch):
    def fail(*arguments):
        raise strict_nccl.NcclError(2)

    monkeypatch.setattr(strict_nccl, "NcclCommunicator", fail)

    def run(host):
        with pytest.raises(
            DeviceError, match=r"NCCL cannot connect .*SYSTEM_ERROR.*NCCL_DEBUG=INFO"
        ):
            NCCLCommunicator(host, FakeWatch(), GPUS[host.rank])

    each(run, hosts(2))


def test_cupy_without_nccl():
    """As CuPy's packages are without NCCL's: it warns, and has no functions."""
    cupy = pytest.importorskip("cupy")
    sys.modules.pop("cupy.cuda.nccl", None)  # it warns on its first import only
    module, problem = nccl.library(CudaBackend(cupy))
    if module.available:
        pytest.skip("NCCL is installed")
    assert re.search("libnccl.so.2: cannot open .* pip install .nvidia-nccl-cu1[23]", problem)


def test_set_device(monkeypatch):
    monkeypatch.setattr(backends, "_by_name", backends._by_name | {"cuda:1": GPUS[1]})
    monkeypatch.setattr(backends, "_default", "cuda:0")
    xcnn.cuda.set_device(1)
    assert xcnn.cuda.current_device() == 1
    assert xcnn.zeros(2, device="cuda").data.device.id == 1
    with pytest.raises(DeviceError, match="cuda:7"):
        xcnn.cuda.set_device(7)
    with pytest.raises(DeviceError, match="expected a CUDA device"):
        xcnn.cuda.set_device("cpu")
    assert xcnn.cuda.current_device() == 1


# -- processes -----------------------------------------------------------------------------


def run_ranks(folder, case, size=2):
    """What the ranks of ``nccl_rank.py`` print to standard error, and their exit statuses."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment |= {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    command = [sys.executable, "-m", "tests.distributed.nccl_rank", folder, case]
    started = [
        subprocess.Popen(
            command,
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    try:
        texts = [process.communicate(timeout=60)[1] for process in started]
    finally:
        for process in started:
            process.kill()
    return texts, [process.returncode for process in started]


def test_two_ranks_train_as_one(tmp_path):
    texts, statuses = run_ranks(tmp_path, "compare")
    assert statuses == [0, 0], texts
    for rank in range(2):
        result = json.loads((tmp_path / f"{rank}.json").read_text())
        assert result.pop("error") < 1e-6
        waits = ["cuda.py", "stopping.py", "transfer.py"]  # copies to the GPU, and epochs' ends
        expected = {"engine": "nccl", "device": f"cuda:{rank}", "values": [0, 1], "waits": waits}
        assert result == expected


@pytest.mark.exhaustive
def test_a_process_that_hangs(tmp_path):
    texts, statuses = run_ranks(tmp_path, "hang")
    assert "rank 1 did not come to all-reduce number 1 within 1 s" in texts[0]
    assert texts[1] == ""
    assert all(statuses)
