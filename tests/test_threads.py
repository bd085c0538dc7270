"""Operations in parts at once on a CPU: the same results, whatever the number of parts."""

import multiprocessing
import os
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import xcnn
from xcnn import backends
from xcnn import functional as F
from xcnn.backends import cpu
from xcnn.backends.cpu import Threads
from xcnn.threads import Pool
from xcnn.tiling import bands, split_range, tile_grid

from . import oracles
from .conftest import PACKAGE, assert_matches, normal


class Blas:
    """A library whose number of threads can be set."""

    def __init__(self, threads):
        self.threads, self.seen = threads, []

    def get_num_threads(self):
        return self.threads

    def set_num_threads(self, threads):
        self.threads = threads
        self.seen.append(threads)


def threads(count, *libraries):
    """A pool for ``count`` threads of BLAS."""
    pool = Threads()
    pool._blas = list(libraries) or [Blas(count)]
    return pool


@pytest.fixture(params=[2, 3])
def shared(request, monkeypatch):
    """The CPU's backend, every operation in two or three parts."""
    backend = backends.get("cpu")
    monkeypatch.setattr(backend, "_threads", threads(request.param))
    monkeypatch.setattr(cpu, "_WORTH_SHARING", 0)
    monkeypatch.setattr(cpu, "_SHARED_BY_BLAS", 0)
    return backend


# -- the pool ------------------------------------------------------------------------------


def test_parts_run_at_once_and_their_results_stay_in_order():
    meet = threading.Barrier(3, timeout=20)

    def work(part):
        meet.wait()  # passed only when all three are here
        return 10 * part

    assert threads(3).run(work, [1, 2, 3]) == [10, 20, 30]


def test_blas_is_held_to_one_thread_meanwhile():
    blas, other = Blas(4), Blas(2)
    pool = threads(4, blas, other)
    assert pool.count == 4
    seen = pool.run(lambda part: (blas.threads, other.threads), [0, 1])
    assert seen == [(1, 1), (1, 1)]
    assert blas.seen[-1] == 4
    assert pool.run(lambda part: blas.threads, ["alone"]) == [4]
    with pool.hold() as first, pool.hold() as second:
        assert (first, second, blas.threads, pool.busy) == (True, False, 1, True)
    assert (blas.threads, pool.busy) == (4, False)


def test_real_blas_gets_its_threads_back():
    before = [library["num_threads"] for library in threadpool_info()]
    Threads().run(lambda part: part, [0, 1])
    assert [library["num_threads"] for library in threadpool_info()] == before


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_in_a_part_arrives_after_all_parts_are_done(failing):
    blas, done, begun = Blas(2), [], threading.Barrier(2, timeout=20)
    pool = threads(2, blas)

    def work(part):
        begun.wait()
        if part == failing:
            raise ValueError(f"part {part}")
        time.sleep(0.05)
        done.append(part)

    with pytest.raises(ValueError, match=f"part {failing}"):
        pool.run(work, [0, 1])
    assert done == [1 - failing]
    assert blas.threads == 2
    assert pool.run(lambda part: part, [0, 1]) == [0, 1]


def test_after_an_error_no_part_is_begun():
    begun, pool = [], Pool("test")

    def work(part):
        begun.append(part)
        raise ValueError(f"part {part}")

    with pytest.raises(ValueError, match="part 0"):
        pool.run(work, range(100), 2)
    assert len(begun) <= 2


def test_work_without_threads(monkeypatch):
    """As where the system has no more threads: the calling thread does everything."""

    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert Pool("test").run(lambda part: part * 10, range(5), 3) == [0, 10, 20, 30, 40]
    loader = xcnn.data.DataLoader(np.arange(5), batch_size=2)
    assert [batch[0].tolist() for batch in loader] == [[0, 1], [2, 3], [4]]


AT_EXIT = """
import atexit, functools, sys, threading, time
import numpy as np
import xcnn

cpu = xcnn.backends.get("cpu")
matrix = np.ones((300, 300), np.float32)
model = xcnn.models.create("mlp")
trainer = xcnn.Trainer(model, xcnn.optim.SGD(model.parameters(), lr=0.1))
cpu._threads.__dict__["count"] = 2
cpu._threads._blas_threads = functools.partial(int, 2)

def work(cpu=cpu, trainer=trainer, np=np):
    parts = cpu.each(lambda part: part + 1, [0, 1, 2])
    shape = trainer.predict(np.ones((5, 1, 28, 28), np.float32), batch_size=2).shape
    print("done", parts, shape, flush=True)

class Object:
    def __del__(self, work=work):
        work()

def later():
    time.sleep(0.3)  # by then the main thread is at its end
    work()

if sys.argv[2] == "used":
    work()
if sys.argv[1] == "del":
    kept = Object()
elif sys.argv[1] == "atexit":
    atexit.register(work)
else:
    threading.Thread(target=later).start()
"""


@pytest.mark.parametrize("used", ["used", "unused"])
@pytest.mark.parametrize("moment", ["del", "atexit", "thread"])
def test_work_at_the_exit_of_the_interpreter(moment, used):
    line = [sys.executable, "-c", AT_EXIT, moment, used]
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60)
    expected = ["done [1, 2, 3] (5, 10)"] * (2 if used == "used" else 1)
    if "Python is likely shutting down" in done.stderr:  # and imports nothing any more
        assert (moment, used) == ("del", "unused")
        expected = []
    assert (done.returncode, done.stdout.splitlines()) == (0, expected)


def test_work_within_work_is_done_in_turn():
    pool = threads(2)
    inner = pool.run(lambda part: pool.run(lambda p: threading.get_ident(), [0, 1]), [0, 1])
    assert [len(set(idents)) for idents in inner] == [1, 1]


def test_a_limit_of_one_thread_is_kept():
    blas = Blas(2)
    pool = threads(2, blas)
    assert pool.count == 2
    blas.threads = 1  # as threadpoolctl.threadpool_limits(1) does
    here = pool.run(lambda part: threading.get_ident(), [0, 1, 2])
    assert set(here) == {threading.get_ident()}
    assert blas.seen == []


def test_no_blas_that_can_be_held():
    pool = threads(1, SimpleNamespace(get_num_threads=lambda: None))
    assert pool.count == 1
    assert pool.run(lambda part: part, [0, 1]) == [0, 1]


def test_settings_of_errors_hold_in_every_part(shared):
    with np.errstate(over="raise"):
        settings = shared.each(lambda part: np.geterr()["over"], range(3))
    assert settings == ["raise"] * 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_child_process_starts_threads_of_its_own():
    pool = threads(2)
    pool.run(lambda part: part, [0, 1])
    child = os.fork()
    if child == 0:
        done = pool.run(lambda part: threading.get_ident(), [0, 1])
        os._exit(0 if len(done) == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0


def _in_a_fork(pool, blas, queue):
    idents = pool.run(lambda part: threading.get_ident(), range(8))
    queue.put((blas.threads, pool.busy, len(idents)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_while_another_thread_computes():
    """The child gets back the threads of BLAS that the other thread had limited."""
    blas, begun, end = Blas(2), threading.Event(), threading.Event()
    pool = threads(2, blas)

    def work(part):
        begun.set()
        return end.wait(20)

    other = threading.Thread(target=pool.run, args=(work, [0, 1]))
    other.start()
    assert begun.wait(20)
    assert (blas.threads, pool.busy) == (1, True)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_in_a_fork, args=(pool, blas, queue))
    child.start()
    child.join(20)
    end.set()
    other.join()
    assert child.exitcode == 0
    assert queue.get() == (2, False, 8)
    assert (blas.threads, pool.busy) == (2, False)


def test_small_work_is_not_cut():
    backend = backends.get("cpu")
    assert backend.shares(1000) == 1
    assert backend.shares(2**30) == backend._threads.count
    with threadpool_limits(1):
        assert backend.each(lambda part: part, [0, 1]) == [0, 1]


# -- parts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "count"), [(7, 3), (8, 2), (2, 5), (1, 1), (0, 2)])
def test_parts_cover_everything_once(length, count):
    found = split_range(length, count)
    assert [i for part in found for i in range(part.start, part.stop)] == list(range(length))
    assert 1 <= len(found) <= count
    sizes = [part.stop - part.start for part in found]
    assert max(sizes) == -(-length // len(found)) or length == 0


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (2, 5), (7, 5), (0, 1)])
def test_bands_cover_everything_once(count, rows, columns):
    found = [list(band) for band in bands((7, 5), rows, columns, count)]
    pixels = np.zeros((7, 5), int)
    for number, band in enumerate(found, 1):
        for tile in band:
            assert tile.bottom - tile.top <= max(1, rows)
            assert tile.right - tile.left <= max(1, columns)
            pixels[tile.top : tile.bottom, tile.left : tile.right] += number * 100 + 1
    assert (pixels % 100 == 1).all()
    assert (np.diff(pixels[:, 0]) >= 0).all()  # bands lie below each other
    assert len(found) == count
    if count == 1:
        assert found == [list(tile_grid((7, 5), rows, columns))]


# -- operations ----------------------------------------------------------------------------


def against_one_part(call, *arrays):
    """The result and all gradients of ``call`` in parts, and with one thread."""

    def everything():
        y, pullback = xcnn.vjp(call, *arrays)
        return y, *pullback(normal(*y.shape, seed=9).astype(y.dtype))

    with_parts = everything()
    backend = backends.get("cpu")
    several, backend._threads = backend._threads, threads(1)
    try:
        alone = everything()
    finally:
        backend._threads = several
    return zip(with_parts, alone, strict=True)


@pytest.mark.parametrize("method", ["direct", "im2col", "mec", "pointwise", "winograd"])
@pytest.mark.parametrize("budget", [2**21, 2000])
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_convolutions(shared, monkeypatch, method, budget, groups):
    monkeypatch.setattr(xcnn.config, "convolution", method)
    monkeypatch.setattr(shared, "column_budget", budget)
    size = 1 if method == "pointwise" else 3
    x, weight = normal(5, 6, 13, 10), normal(12, 6 // groups, size, size, seed=1)
    bias = normal(12, seed=2)
    padding = 0 if size == 1 else 1

    def call(x, weight, bias):
        return F.conv2d(x, weight, bias, padding=padding, groups=groups, relu=True)

    for found, expected in against_one_part(call, x, weight, bias):
        assert_matches(found, expected)
    y = oracles.conv2d(x, weight, bias, (1, 1), ((padding,) * 2,) * 2, (1, 1), groups)
    assert_matches(call(x, weight, bias).numpy(), np.maximum(y, 0))


@pytest.mark.parametrize(
    ("stride", "dilation"), [((2, 1), (1, 1)), ((1, 2), (1, 2)), ((3, 2), (2, 1))]
)
@pytest.mark.parametrize("channels", [1, 4])
def test_strided_convolutions(shared, stride, dilation, channels):
    x, weight = normal(3, channels, 11, 12), normal(5, channels, 3, 2, seed=1)

    def call(x, weight):
        return F.conv2d(x, weight, None, stride, ((2, 0), (1, 1)), dilation)

    for found, expected in against_one_part(call, x, weight):
        assert_matches(found, expected)
    expected = oracles.conv2d(x, weight, None, stride, ((2, 0), (1, 1)), dilation)
    assert_matches(call(x, weight).numpy(), expected)


@pytest.mark.parametrize("shape", [(40, 3, 5), (3, 40, 5), (3, 5, 40), (1, 1, 1), (0, 4, 2)])
@pytest.mark.parametrize("transposed", [False, True])
def test_products(shared, shape, transposed):
    rows, terms, columns = shape
    a = normal(terms, rows).T if transposed else normal(rows, terms)
    b = normal(columns, terms, seed=1).T if transposed else normal(terms, columns, seed=1)
    expected = np.array(
        [
            [sum(a[i, k] * b[k, j] for k in range(terms)) for j in range(columns)]
            for i in range(rows)
        ]
    ).reshape(rows, columns)
    assert_matches(shared.matmul(a, b), expected)
    out = np.full((rows, 2 * columns), np.nan)[:, ::2]
    assert shared.matmul(a, b, out=out) is out
    assert_matches(out, expected)


def test_stacked_products(shared):
    a, b = normal(4, 3, 5), normal(4, 5, 2, seed=1)
    for found, product_a, product_b in zip(shared.matmul(a, b), a, b, strict=True):
        assert_matches(found, shared.matmul(product_a, product_b))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: F.max_pool2d(x, 2),
        lambda x: F.max_pool2d(x, 3, 2, 1),
        lambda x: F.avg_pool2d(x, 3, 2, 1),
        lambda x: F.avg_pool2d(x, 2),
    ],
)
@pytest.mark.parametrize("channels", [1, 5])
def test_pooling(shared, call, channels):
    x = normal(3, channels, 8, 9)
    for found, expected in against_one_part(call, x):
        assert_matches(found, expected)


def test_several_training_threads(shared, monkeypatch):
    """Two users' threads at once: one gets the pool, the other goes on alone."""
    monkeypatch.setattr(shared, "column_budget", 2000)
    x, weight = normal(4, 3, 9, 9), normal(6, 3, 3, 3, seed=1)
    expected = oracles.conv2d(x, weight, None, (1, 1), ((1, 1), (1, 1)), (1, 1))
    failures = []

    def work():
        for _ in range(20):
            try:
                assert_matches(F.conv2d(x, weight, padding=1).numpy(), expected)
            except AssertionError as error:
                failures.append(error)

    users = [threading.Thread(target=work) for _ in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert failures == []
