"""The GPU benchmarks: their logic, and runs on the stand-in for a GPU."""

import json
import operator
import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import ROOT
from benchmarks.gpu import bandwidth, clock, suite, training
from benchmarks.outcome import Failed, Skipped
from xcnn import backends

# -- the clock -------------------------------------------------------------------------------


def test_median_takes_turns_after_a_warm_up():
    calls, seconds = [], iter([3.0, None, 2.0, 9.0, 2.0])
    a, b = (lambda name=name: calls.append(name) for name in "ab")
    median = clock.median_seconds([a, b], lambda call: call() or next(seconds), repeats=5)
    assert median == 2.5
    assert "".join(calls) == "aba" + "babab"
    with pytest.raises(Failed, match="host-bound"):
        clock.median_seconds([a], lambda call: None)


@pytest.mark.parametrize(("is_done", "expected"), [(False, 0.25), (True, None)])
def test_clock_keeps_the_gpu_busy_and_notices_if_not_long_enough(is_done, expected):
    log = []

    class Event:
        def record(self):
            log.append("record")

        def synchronize(self):
            log.append("wait")

    made = clock.Clock(Event, log.append, lambda event: is_done, lambda start, end: 250.0)
    assert made(lambda: log.append("call"), hold=0.5) == expected
    assert log == [0.5, "record", "call", "record", "wait"]


NAMES = {
    "cupy": "RawKernel copyto empty_like get_default_memory_pool cuda.Event.done"
    " cuda.get_elapsed_time cuda.MemoryPool.total_bytes cuda.MemoryPool.free_all_blocks"
    " cuda.runtime.memGetInfo cuda.runtime.getDeviceProperties cuda.runtime.driverGetVersion",
    "torch": "cuda.Event.query cuda.Event.elapsed_time cuda._sleep cuda.empty_cache autocast"
    " cuda.reset_peak_memory_stats cuda.max_memory_reserved cuda.synchronize amp.GradScaler"
    " backends.cudnn.version backends.cudnn.benchmark backends.cudnn.allow_tf32"
    " backends.cuda.matmul.allow_tf32",
}


@pytest.mark.parametrize("library", NAMES)
def test_names_of_the_gpu_libraries(library):
    module = pytest.importorskip(library)
    for name in NAMES[library].split():
        assert operator.attrgetter(name)(module) is not None


# -- bandwidth -------------------------------------------------------------------------------

SHAPE = (2, 6, 8, 5)  # 480 numbers; with 3×3 /1 +1 as many windows, with 2×2 /2 a quarter
SAME, HALF = (3, 1, 1), (2, 2, 0)
BYTES = [  # worked out by hand: inputs read once, outputs written once
    (("im2col", SHAPE, SAME), 4 * (480 + 9 * 480)),
    (("im2col", SHAPE, SAME, "float16"), 2 * (480 + 9 * 480)),
    (("col2im", SHAPE, SAME), 4 * (9 * 480 + 2 * 480)),
    (("max_pool2d", SHAPE, HALF), 4 * (480 + 120) + 120),
    (("max_pool2d_backward", SHAPE, HALF), 4 * (120 + 480) + 120),
    (("avg_pool2d", SHAPE, HALF), 4 * (480 + 120)),
    (("avg_pool2d_backward", SHAPE, HALF), 4 * (120 + 480)),
    (("add_bias", (3, 10)), 4 * (30 + 30 + 3)),
    (("relu_backward", (3, 10)), 4 * (30 + 30 + 30 + 3)),
    (("convolution", SHAPE, SAME), 4 * (480 + 2 * 9 + 2 + 480)),
    (("convolution_input_gradient", SHAPE, SAME), 4 * (480 + 2 * 9 + 480)),
    (("convolution_weight_gradient", SHAPE, SAME), 4 * (480 + 480 + 2 * 9)),
    (("cross_entropy", (10, 4)), 4 * (40 + 40 + 4) + 8 * 4),
    (("random_bits", (100,)), 400),
    (("dropout_mask", (100,)), 400),
    (("SGD", (100,)), 4 * 100 * 5),
    (("Adam", (100,)), 4 * 100 * 7),
]


def fake_clock(call):
    call()
    return 0.5


@pytest.mark.parametrize(("primitive", "expected"), BYTES, ids=lambda x: str(x))
def test_primitives_on_the_stand_in(primitive, expected, strict):
    device = bandwidth.Device(strict, fake_clock, copy=1e9, cache=0, memory=2**30)
    row = bandwidth.figures(device, bandwidth.Primitive(*primitive))
    assert row["bytes"] == expected
    assert row["bytes_per_second"] == expected / 0.5
    assert row["of_copy"] == pytest.approx(expected / 0.5e9)


def test_every_primitive_is_measured_and_fits():
    works = list(bandwidth.work())
    assert len({work.title for work in works}) == len(works)
    assert {work.name for work in works} == {primitive[0] for primitive, _ in BYTES}
    assert all(np.prod(work.small().shape) < 20_000 for work in works)


@pytest.mark.parametrize(
    ("traffic", "limit", "count"),
    [(400, 9999, 1), (399, 9999, 3), (80, 9999, 5), (1, 9999, 8), (300, 700, 2), (300, 100, 1)],
)
def test_input_sets_outgrow_the_cache(traffic, limit, count):
    assert bandwidth.sets(traffic, cache=100, limit=limit) == count


class WrongBackend(backends.Backend):
    """Each of its primitives has a mistake."""

    def im2col(self, x, geometry, tile, out):
        super().im2col(x, geometry, tile, out)[:, 1, 1, 0, 0] *= 1.001
        return out

    def max_pool2d(self, x, geometry, with_argmax=True):
        y, argmax = super().max_pool2d(x, geometry)
        return y, argmax.astype("int32")

    def avg_pool2d(self, x, geometry, include_pad):
        return np.full_like(super().avg_pool2d(x, geometry, include_pad), np.nan)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("im2col", "differs from NumPy by "),
        ("max_pool2d", "an output is int32"),
        ("avg_pool2d", "differs from NumPy by nan"),
    ],
)
def test_wrong_primitives_are_found(name, text):
    device = bandwidth.Device(WrongBackend(np, "wrong"), fake_clock, 1e9, 0, 2**30)
    work = [bandwidth.Primitive(name, SHAPE, SAME), bandwidth.Primitive("add_bias", (3, 10))]
    saved = []
    with pytest.raises(Failed, match=f"1 of 2 primitives failed; {name} 3×3"):
        bandwidth.measure(device, iter(work), saved.append)
    assert [row["status"] for row in saved[-1]["rows"]] == ["failed", "ok"]
    assert text in saved[-1]["rows"][0]["error"]


# -- the suite -------------------------------------------------------------------------------

TESTS = {
    "conftest.py": """
import pytest

@pytest.fixture(scope="session", params=["cpu", "cuda"])
def backend(request): return request.param

@pytest.fixture
def prepared(backend): return backend
""",
    "test_some.py": """
import pytest

def test_alone(backend): assert backend == "cuda"

@pytest.mark.parametrize("x", [1, 2])
def test_among_others(prepared, x): assert x == 1, "x is two"

@pytest.mark.parametrize("name", ["cuda"])
def test_cuda_in_a_name(name): raise AssertionError

def test_skips(backend): pytest.skip("not now")

@pytest.fixture
def broken(backend): raise ValueError("no fixture")

def test_error(broken): pass
""",
    "test_library.py": "import no_such_library\ndef test_cuda(backend): pass",
    "test_broken.py": "1 / 0",
}
EXPECTED = {
    **{"selected": 5, "passed": 2, "failed": 1, "error": 2, "skipped": 1},
    "failures": {
        "test_broken.py": "ZeroDivisionError: division by zero",
        "test_some.py::test_among_others[cuda-2]": "AssertionError: x is two",
        "test_some.py::test_error[cuda]": "ValueError: no fixture",
    },
    "missing": {"test_library.py": "ModuleNotFoundError: No module named 'no_such_library'"},
}


@pytest.mark.parametrize("processes", [0, 2])
def test_suite_selects_by_parameter_and_records(tmp_path, processes):
    if processes:
        pytest.importorskip("xdist")
    for name, text in TESTS.items():
        (tmp_path / name).write_text(text)
    code = (
        "import json, pathlib; from benchmarks.gpu import suite;"
        "save = lambda result: pathlib.Path('saved.json').write_text(json.dumps(result));"
        f"suite.run(save, processes={processes})"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Failed: not passed: 3, the first is test_" in done.stderr
    assert json.loads((tmp_path / "saved.json").read_text()) == EXPECTED


@pytest.mark.parametrize(("selected", "passed", "status"), [(0, -1, 5), (3, 1, 0), (3, 2, 3)])
def test_suites_that_are_not_complete(selected, passed, status):
    with pytest.raises(Failed, match=f"status {status} after"):
        suite.judge({"selected": selected, "passed": passed, "skipped": 1, "failures": {}}, status)


# -- training --------------------------------------------------------------------------------


def test_same_training_twice():
    first, second = (training.parameters("cpu", steps=2, batch=4) for _ in range(2))
    assert training.compare(first, second) == {"parameters": 10, "equal": True, "differing": []}
    name = next(iter(first))
    first[name][0] = np.nextafter(first[name][0], np.float32(9))
    assert training.compare(first, second)["differing"] == [name]


def test_training_by_the_program():
    result = training.program("digits", 1, "cpu")
    assert result["accuracy"] > 0.5
    assert result["seconds"] > 0
    with pytest.raises(Failed, match="xcnn train ended with status 2"):
        training.program("digits", 1, "gpu")


def test_mnist_is_not_downloaded(monkeypatch, tmp_path):
    monkeypatch.setenv("XCNN_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(Skipped, match="MNIST is not available"):
        training.mnist(print)
