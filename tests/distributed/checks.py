"""Checks of the communicator, run in several processes by ``test_mpi.py``."""

import io
import os
import pathlib
import subprocess
import sys
import threading
import time
import zlib

import numpy as np
import pytest

import xcnn
from xcnn import backends, distributed, errors, nn
from xcnn.backends import cuda
from xcnn.distributed import mpi
from xcnn.sharding import Part

from ..strict import cupy as strict_cupy

SIZES = 0, 1, 5, 1001
DTYPES = "e", "f", "d", "b", "h", "i", "q", "B", "H", "I", "Q"


def check_ranks(ranks):
    assert distributed.current() is ranks is distributed.init()
    assert ranks.engine == "mpi"
    assert (ranks.local_rank, ranks.local_size) == (ranks.rank, ranks.size)
    assert ranks.is_main == (ranks.rank == 0)
    return [ranks.rank, ranks.size]


def check_a_process_that_a_rank_starts(ranks):
    """It has the variables of the rank, but not its connection: it is on its own."""
    command = [sys.executable, "-c", "import xcnn; print(xcnn.distributed.init().size)"]
    if ranks.is_main:
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.stdout, done.stderr) == ("1\n", "")
    ranks.barrier()


def check_no_memory_is_left(ranks):
    """What MPICH shares has no name any more, so it ends with the last process."""
    maps = pathlib.Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    assert all(line.endswith("(deleted)") for line in lines if "mpich_shm" in line)


def check_sums_of_all_types(ranks):
    for dtype in DTYPES:
        for size in SIZES:
            values = [(np.arange(size) % 7 + rank).astype(dtype) for rank in range(ranks.size)]
            array = values[ranks.rank].copy()
            ranks.all_reduce(array)
            np.testing.assert_array_equal(array, sum(values))
            assert array.dtype == dtype
            ranks.all_reduce(ones := np.ones((), dtype))
            assert ones == ranks.size


def check_sums_have_the_same_bits(ranks):
    """On all ranks, and each time; several sums under way at once, waited for in any order."""
    bits = []
    for dtype in ("float16", "float32", "float64"):
        values = np.random.default_rng(ranks.rank).standard_normal(100_003).astype(dtype)
        sums = [values.copy() for _ in range(3)]
        for work in reversed([ranks.start_all_reduce(total) for total in sums]):
            work.wait()
        bits += {zlib.crc32(total.tobytes()) for total in sums}
        exact = sum(
            np.random.default_rng(rank).standard_normal(100_003).astype(dtype).astype("float64")
            for rank in range(ranks.size)
        )
        np.testing.assert_allclose(
            sums[0], exact, rtol=2e-3 if dtype == "float16" else 1e-5, atol=1e-3
        )
    assert len(bits) == 3
    assert ranks.gather(bits) == [bits] * ranks.size


def check_half_sums_are_rounded_once(ranks):
    values = np.random.default_rng(1).standard_normal((ranks.size, 1000)).astype("float16")
    total = values[ranks.rank].copy()
    ranks.all_reduce(total)
    np.testing.assert_array_equal(total, values.sum(0, dtype="float32").astype("float16"))
    large = np.full(3, 60000, "float16")
    ranks.all_reduce(large)
    assert np.isinf(large).all()


def check_broadcast(ranks):
    for root in range(ranks.size):
        for dtype in (*DTYPES, "?", "D"):
            for size in SIZES:
                array = np.full(size, ranks.rank == root, dtype)
                ranks.broadcast(array, root)
                assert array.all()


def check_objects(ranks):
    value = {"rank": ranks.rank, "array": np.arange(ranks.rank), "text": "é\n" * 1000}
    gathered = ranks.gather(value)
    assert [item["rank"] for item in gathered] == list(range(ranks.size))
    assert [item["array"].tolist() for item in gathered] == [
        list(range(rank)) for rank in range(ranks.size)
    ]
    assert ranks.share(value, root=1)["rank"] == 1
    assert ranks.share("x" if ranks.rank else "y") == "y"
    ranks.barrier()


def check_large_arrays_go_in_parts(ranks):
    largest, mpi._MOST = mpi._MOST, 1000
    array = np.arange(10_001.0)
    ranks.all_reduce(array)
    np.testing.assert_array_equal(array, ranks.size * np.arange(10_001.0))
    ranks.broadcast(array := np.full(2001, float(ranks.rank)), 1)
    assert (array == 1).all()
    mpi._MOST = largest


def check_refused(ranks):
    with pytest.raises(errors.ArgumentError, match="not C-contiguous"):
        ranks.all_reduce(np.zeros((4, 4)).T[1:])
    with pytest.raises(errors.DTypeError, match="expected an array of numbers"):
        ranks.all_reduce(np.zeros(3, bool))
    with pytest.raises(errors.DTypeError, match="native byte order"):
        ranks.all_reduce(np.zeros(3, ">f4"))
    read_only = np.zeros(3)
    read_only.flags.writeable = False
    with pytest.raises(errors.ArgumentError, match="read-only"):  # on the root, too
        ranks.broadcast(read_only)


def check_a_fork_is_on_its_own(ranks):
    """It neither says goodbye for this rank nor ends all when it fails."""
    process = os.fork()
    if not process:
        assert distributed.current().size == 1
        sys.stderr = io.StringIO()
        sys.excepthook(ValueError, ValueError("in a fork"), None)
        sys.exit(0)
    assert os.waitpid(process, 0)[1] == 0
    total = np.ones(2)
    ranks.all_reduce(total)
    return total.tolist() == [ranks.size] * 2


def check_different_calls_are_noticed(ranks):
    signature = ranks._signature
    ranks.all_reduce(np.zeros(2 + (ranks.rank == 1)))
    with pytest.raises(errors.CommunicationError, match=r"different collective calls.*rank 1: \d+"):
        ranks.barrier()
    ranks._signature = signature
    calls = dict(ranks._counts)
    with pytest.raises(errors.CommunicationError, match="different collective calls"):
        ranks.gather(0) if ranks.rank == 1 else ranks.barrier()
    ranks._counts = calls


def check_a_reducer_begins_with_the_weights_of_rank_0(ranks):
    weights = [nn.Parameter(np.full(3, ranks.rank + 1, dtype)) for dtype in ("f", "d")]
    reducer = distributed.Reducer(ranks, weights)
    assert all((weight.numpy() == 1).all() for weight in weights)
    reducer.close()


def check_two_threads_are_refused(ranks):
    if ranks.rank == 0:
        thread = threading.Thread(target=ranks.barrier)
        thread.start()
        time.sleep(0.1)
        with pytest.raises(errors.CommunicationError, match="two threads of rank 0"):
            ranks.share(1)
        ranks._notices.tell("go")
        thread.join()
    else:
        while not ranks._notices.told():
            time.sleep(0.01)
        ranks.barrier()


def check_gpu_arrays(ranks):
    """By the stand-in for CuPy, which notices unordered use of memory on two streams."""
    backend = cuda.CudaBackend(strict_cupy)
    backends.register(strict_cupy.ndarray, lambda array: backend)
    for dtype in ("float16", "float32"):
        arrays = [backend.asarray(np.full(7, ranks.rank + i, dtype)) for i in range(3)]
        arrays = [array * 2 for array in arrays]
        for work in [ranks.start_all_reduce(array) for array in arrays]:
            work.wait()
        sums = [backend.to_host(array) for array in arrays]
        first = sum(range(ranks.size))
        assert [total[0] for total in sums] == [2 * (first + i * ranks.size) for i in range(3)]
        ranks.broadcast(arrays[0], 1)
        array = backend.asarray(np.full((2, 3), ranks.rank, dtype))
        ranks.broadcast(array, 1)
        assert (backend.to_host(array) == 1).all()


def check_cuda_awareness(ranks):
    assert not mpi.is_cuda_aware()
    os.environ["XCNN_MPI_CUDA"] = "1"
    assert mpi.is_cuda_aware()
    del os.environ["XCNN_MPI_CUDA"]


def check_sync_batch_norm(ranks):
    """The statistics and gradients of parts of three examples, some empty, as of all of them."""
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((2, 3, 4, 5))
    outputs = []
    for part in (Part.of(3, ranks.rank, ranks.size), Part(0, 3, 3)):
        kind = nn.BatchNorm1d if part.size == 3 else nn.SyncBatchNorm
        layer = kind(4, dtype="float64")
        own = xcnn.Tensor(x[part.rows], requires_grad=True)
        y = layer(own)
        y.backward(dy[part.rows])
        gradients = [a.grad.numpy() for a in layer.parameters()]
        outputs.append([y.numpy(), own.grad.numpy(), *gradients, layer.running_var.numpy()])
    (y, dx, *sums, var), (whole, whole_dx, *whole_sums, whole_var) = outputs
    for total in sums:
        ranks.all_reduce(total)
    for found, expected in (
        *((np.concatenate(ranks.gather(a)), b) for a, b in ((y, whole), (dx, whole_dx))),
        *zip((*sums, var), (*whole_sums, whole_var), strict=True),
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
