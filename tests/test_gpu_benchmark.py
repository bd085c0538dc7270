"""``python -m benchmarks.gpu`` without a GPU: its logic, and its work on the CPU."""

import contextlib
import json
import operator
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.gpu import (
    __main__,
    ceilings,
    clock,
    determinism,
    kernels,
    machine,
    mnist,
    nets,
    outcome,
    parts,
    primitives,
    suite,
    table,
    training,
)
from benchmarks.gpu.peers import Job
from benchmarks.gpu.worker import Worker
from xcnn import backends, nn
from xcnn.backends import cuda
from xcnn.tiling import Tile

HOST = backends.Backend(np, "generic")
needs_no_gpu = pytest.mark.skipif(not cuda.problem(), reason="there is a GPU")


# -- the command ---------------------------------------------------------------------------


def test_without_a_gpu_it_says_so(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(cuda, "problem", lambda: "no driver; install one")
    assert __main__.main(["--out", str(tmp_path / "out")]) == 2
    assert "no GPU to measure: no driver; install one" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@needs_no_gpu
def test_without_a_gpu_as_a_command(tmp_path):
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=harness.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert cuda.problem() in done.stderr
    assert done.stdout == ""


def test_parts_by_name(capsys):
    assert [part.name for part in __main__.chosen("kernels,suite")] == ["suite", "kernels"]
    with pytest.raises(SystemExit, match="2"):
        __main__.main(["--out", "x", "--parts", "suite,speed"])
    assert "speed: expected some of suite, ceilings" in capsys.readouterr().err


def test_all_parts_fit_into_eight_minutes():
    assert sum(p.most for p in parts.PARTS[:-1]) + 100 <= 460  # and training has the rest
    for part in parts.PARTS:
        assert part.least < part.most
        assert hasattr(__import__(part.module, fromlist=["run"]), "run")
        assert part.name in table.BODIES


DESCRIPTION = {
    "gpu": {
        "name": "Fake GPU",
        "compute_capability": "9.0",
        "multiprocessors": 100,
        "memory": 80 * 1024**3,
        "l2_cache": 50 * 1024**2,
    },
    "host": {"system": "Fake", "processor": "Fake CPU", "cores": 16},
    "versions": {"python": "3.12.0", "cupy": "14.2.0", "torch": None, "driver_cuda": "13.0"},
    "commit": {"id": "0123456789abcdef", "dirty": True},
}


def test_report_is_written_after_each_part(module, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(machine, "describe", lambda: DESCRIPTION)
    good = module(
        "good", "def run(deadline, save): save({'command': 'x', **FIGURES})", name="mnist"
    )
    bad = module("bad", "def run(deadline, save): 1 / 0", name="training")
    out = tmp_path / "a" / "b"
    assert __main__.measure([good], 60, out, module.environment) == 0
    assert __main__.measure([good, bad], 60, out, module.environment) == 1
    report = json.loads((out / "gpu.json").read_text())
    assert report["gpu"]["name"] == "Fake GPU"
    assert report["parts"]["mnist"]["result"]["accuracy"] == 0.5
    assert report["parts"]["training"]["error"] == "ZeroDivisionError: division by zero"
    assert "1 / 0" in report["parts"]["training"]["traceback"]
    printed = capsys.readouterr().out
    assert "50.00% after 1 epochs in 2.0 s" in printed
    assert printed.count("ZeroDivisionError: division by zero") == 1
    assert [path.name for path in out.iterdir()] == ["gpu.json"]


# -- parts: time limits, failures ------------------------------------------------------------


@pytest.fixture
def module(tmp_path):
    """``module("name", source)``: a Part whose module has that source."""
    folder = tmp_path / "modules"
    folder.mkdir()
    figures = "FIGURES = {'accuracy': 0.5, 'epochs': 1, 'seconds': 2.0}\n"

    def make(file, source, name="fake", most=30):
        (folder / f"fake_{file}.py").write_text(figures + source)
        return parts.Part(name, most, 1, f"fake_{file}")

    make.environment = {**os.environ, "PYTHONPATH": str(folder)}
    return make


def run_one(part, module, allowed=30):
    return parts.run_part(part, allowed, module.environment)


def test_part_that_is_done(module):
    source = "def run(deadline, save): save({'left': deadline.seconds, 'x': 1}); print('hello')"
    entry = run_one(module("done", source), module)
    assert entry["status"] == "ok"
    assert entry["result"]["x"] == 1
    assert 0 < entry["result"]["left"] < 30
    assert "log" not in entry


def test_part_that_has_nothing_to_do(module):
    source = (
        "from benchmarks.gpu.outcome import Skipped\n"
        "def run(deadline, save): raise Skipped('no data')"
    )
    entry = run_one(module("nothing", source), module)
    assert (entry["status"], entry["reason"]) == ("skipped", "no data")


def test_part_that_fails_keeps_what_it_had(module):
    source = "def run(deadline, save): save({'x': 1}); print('its output'); {}['key']"
    entry = run_one(module("fails", source), module)
    assert (entry["status"], entry["error"]) == ("failed", "KeyError: 'key'")
    assert entry["result"] == {"x": 1}
    assert "its output" in entry["log"]
    assert "fake_fails.py" in entry["traceback"]


def test_part_that_crashes_keeps_what_it_had(module):
    source = "import os, signal\ndef run(deadline, save): save({'x': 1}); os.abort()"
    entry = run_one(module("crashes", source), module)
    assert entry["status"] == "failed"
    assert entry["error"] == "the process ended with status -6"
    assert entry["result"] == {"x": 1}


def test_part_that_cannot_be_imported(module):
    entry = run_one(module("broken", "import no_such_library"), module)
    assert entry["status"] == "failed"
    assert "no_such_library" in entry["error"]


def test_part_that_hangs_is_killed_with_all_its_processes(module):
    source = """
import subprocess, sys, time
def run(deadline, save):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    save({"child": child.pid})
    time.sleep(60)
"""
    start = time.monotonic()
    entry = run_one(module("hangs", source), module, allowed=2)
    assert time.monotonic() - start < 10
    assert (entry["status"], entry["error"]) == ("timed out", "stopped after 2 s")
    assert is_gone(entry["result"]["child"])
    assert __main__.exit_status({"parts": {"fake": entry}}) == 1


def is_gone(pid, within=5):
    """Whether a process has ended (or is only waiting for its parent to notice)."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        stat = Path(f"/proc/{pid}/stat")
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if stat.read_text().rpartition(")")[2].split()[0] not in "ZX":
                time.sleep(0.05)
                continue
        return True
    return False


def test_part_that_does_not_fit_is_skipped(module):
    now = [0.0]
    deadline = outcome.Deadline(100, now=lambda: now[0])
    now[0] = 99.5
    kept = {}
    parts.run_parts([module("late", "", most=30)], deadline, {}, kept.__setitem__)
    assert kept["fake"] == {
        "status": "skipped",
        "reason": "needs 1 s, 0 s are left",
        "seconds": 0.0,
    }
    assert __main__.exit_status({"parts": kept}) == 0


def test_deadline():
    now = [5.0]
    deadline = outcome.Deadline(10, now=lambda: now[0])
    now[0] = 12.0
    assert (deadline.spent(), deadline.left()) == (7, 3)


def test_json_is_whole_or_not_there(tmp_path):
    file = tmp_path / "x.json"
    outcome.write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        outcome.write_json(file, {"a": object()})
    assert json.loads(file.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_failed_rows_fail_a_part():
    rows = [{"title": "a", "status": "ok"}, {"title": "b", "status": "failed", "error": "wrong"}]
    outcome.fail_if_any(rows[:1], "rows")
    with pytest.raises(outcome.Failed, match="1 of 2 rows failed; b: wrong"):
        outcome.fail_if_any(rows, "rows")


# -- the suite -------------------------------------------------------------------------------

TESTS = {
    "conftest.py": """
import pytest

@pytest.fixture(scope="session", params=["cpu", "cuda"])
def backend(request):
    return request.param

@pytest.fixture
def prepared(backend):
    return backend
""",
    "test_some.py": """
import pytest

def test_alone(backend): assert backend == "cuda"

@pytest.mark.parametrize("x", [1, 2])
def test_among_others(prepared, x): assert x == 1, "x is two"

@pytest.mark.parametrize("name", ["cuda"])
def test_cuda_in_a_name(name): raise AssertionError

def test_cuda(): raise AssertionError

def test_skips(backend): pytest.skip("not now")

@pytest.fixture
def broken(backend): raise ValueError("no fixture")

def test_error(broken): pass
""",
    "test_library.py": "import no_such_library\ndef test_cuda(backend): pass",
    "test_broken.py": "1 / 0",
}


@pytest.mark.parametrize("processes", [0, 2])
def test_suite_selects_by_parameter_and_records(tmp_path, processes):
    if processes:
        pytest.importorskip("xdist")
    for name, text in TESTS.items():
        (tmp_path / name).write_text(text)
    records = tmp_path / "records.jsonl"
    done = subprocess.run(
        suite.command(records, "cuda", processes),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(harness.ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert suite.summary(suite.read(records)) == {
        "selected": 5,
        "passed": 2,
        "failed": 1,
        "error": 2,
        "skipped": 1,
        "failures": {
            "test_broken.py": "ZeroDivisionError: division by zero",
            "test_some.py::test_among_others[cuda-2]": "AssertionError: x is two",
            "test_some.py::test_error[cuda]": "ValueError: no fixture",
        },
        "missing": {"test_library.py": "ModuleNotFoundError: No module named 'no_such_library'"},
    }


def test_records_that_are_still_being_written(tmp_path):
    file = tmp_path / "records"
    assert suite.read(file) == []
    file.write_text('{"selected": 7}\n{"id": "a", "outcome": "passed", "error": ""}\n{"id": "b')
    found = suite.summary(suite.read(file))
    assert (found["selected"], found["passed"]) == (7, 1)


def test_verdict_of_the_suite():
    def found(selected, passed, **failures):
        return {"selected": selected, "passed": passed, "skipped": 1, "failures": failures}

    suite.judge(found(3, 2), 0)
    suite.judge(found(3, 2), 1)  # a file was left out for a library that is missing
    for wrong, status in [
        (found(0, -1), 5),
        (found(3, 1), 0),
        (found(3, 2), 3),
        (found(3, 2), -11),
    ]:
        with pytest.raises(outcome.Failed, match=f"status {status} after"):
            suite.judge(wrong, status)
    with pytest.raises(outcome.Failed, match="not passed: 1, the first is test_x: no"):
        suite.judge(found(3, 1, test_x="no"), 1)


def test_only_other_libraries_may_be_missing():
    def lacks(text):
        return suite.lacks_library({"error": text})

    assert lacks("ModuleNotFoundError: No module named 'PIL'")
    assert lacks("ModuleNotFoundError: No module named 'a.b'")
    assert not lacks("ModuleNotFoundError: No module named 'xcnn.other'")
    assert not lacks("ImportError: cannot import name 'x' from 'y'")


# -- clock and ceilings ----------------------------------------------------------------------


def test_median_takes_turns_after_a_warm_up():
    calls, seconds = [], iter([3.0, 1.0, 2.0, 9.0, 2.0])
    a, b = (lambda name=name: calls.append(name) for name in "ab")

    def fake(call):
        call()
        return next(seconds)

    assert clock.median_seconds([a, b], fake, repeats=5, warmup=3) == 2.0
    assert "".join(calls) == "aba" + "babab"


def test_event_clock_keeps_the_gpu_busy_before_it_starts():
    log = []

    class Event:
        def record(self):
            log.append("record")

        def synchronize(self):
            log.append("wait")

    cupy = types.SimpleNamespace(
        RawKernel=lambda code, name: lambda grid, block, arguments: log.append(arguments),
        cuda=types.SimpleNamespace(Event=Event, get_elapsed_time=lambda start, end: 250.0),
    )
    assert clock.EventClock(cupy, hold=0.001)(lambda: log.append("call")) == 0.25
    assert log == [(1_000_000,), "record", "call", "record", "wait"]


def test_compute_type_is_restored():
    pytest.importorskip("cupy")
    from cupy._core import get_compute_type

    before = get_compute_type(np.float32)
    with pytest.raises(KeyError), ceilings.compute_type("float32"):
        raise KeyError
    assert get_compute_type(np.float32) == before


def test_random_numbers_beyond_a_block():
    numbers = ceilings.random(np, (3, 2**19), "float16")
    assert numbers.shape == (3, 2**19)
    assert numbers.dtype == np.float16
    assert abs(numbers.astype(float).std() - 1) < 0.01
    assert ceilings.copied(10) == 80


NAMES = {
    "cupy": """
    RawKernel copyto get_default_memory_pool cuda.Event cuda.get_elapsed_time cuda.MemoryPool
    cuda.MemoryPool.total_bytes cuda.MemoryPool.free_all_blocks cuda.runtime.memGetInfo
    cuda.runtime.getDeviceProperties cuda.runtime.driverGetVersion cuda.runtime.runtimeGetVersion
    _core._routines_linalg.COMPUTE_TYPE_TF32 _core._routines_linalg.COMPUTE_TYPE_DEFAULT
    """,
    "torch": """
    cuda.Event cuda._sleep cuda.empty_cache cuda.reset_peak_memory_stats cuda.max_memory_reserved
    amp.GradScaler autocast backends.cudnn.version backends.cudnn.benchmark
    """,
}


@pytest.mark.parametrize("library", NAMES)
def test_names_of_the_gpu_libraries(library):
    module = pytest.importorskip(library)
    for name in NAMES[library].split():
        assert operator.attrgetter(name)(module) is not None


# -- kernels ---------------------------------------------------------------------------------

SHAPE = (2, 6, 8, 5)  # 480 numbers; with 3×3 /1 +1 as many windows, with 2×2 /2 a quarter
BYTES = [
    (primitives.Im2col(SHAPE, "float32", 3, 1, 1), 4 * (480 + 9 * 480)),
    (primitives.Im2col(SHAPE, "float16", 3, 1, 1), 2 * (480 + 9 * 480)),
    # rows and columns 0 and 2, then 0, 2, 4 and 6: 2 · (3 · 4) · 5 pixels are read
    (primitives.Im2col(SHAPE, "float32", 1, 2, 0), 4 * (120 + 120)),
    # one row of windows reads two rows of pixels, the third being padding
    (primitives.Im2col(SHAPE, "float32", 3, 1, 1, Tile(0, 1, 0, 8)), 4 * (160 + 9 * 80)),
    (primitives.Col2im(SHAPE, "float32", 3, 1, 1), 4 * (9 * 480 + 2 * 480)),
    (primitives.MaxPool(SHAPE, "float32", 2, 2, 0), 4 * (480 + 120) + 120),
    (primitives.MaxPoolBackward(SHAPE, "float16", 2, 2, 0), 2 * (120 + 480) + 120),
    (primitives.AvgPool(SHAPE, "float32", 2, 2, 0), 4 * (480 + 120)),
    (primitives.AvgPoolBackward(SHAPE, "float32", 2, 2, 0), 4 * (120 + 480)),
    (primitives.AddBias((3, 10)), 4 * (30 + 30 + 3)),
    (primitives.ReluBackward((3, 10), "float16"), 2 * (30 + 30 + 30 + 3)),
    (primitives.CrossEntropy((10, 4)), 4 * (40 + 40 + 4) + 8 * 4),
    (primitives.RandomBits((100,)), 400),
    (primitives.DropoutMask((100,), "float16"), 200),
    (primitives.Sgd((100,)), 4 * 100 * 5),
    (primitives.Adam((100,)), 4 * 100 * 7),
]


@pytest.mark.parametrize(("primitive", "expected"), BYTES, ids=lambda x: getattr(x, "title", ""))
def test_bytes(primitive, expected):
    assert primitive.bytes() == expected


def test_every_primitive_is_measured():
    titles = [primitive.title for primitive in kernels.work()]
    assert len(set(titles)) == len(titles)
    counted = {type(primitive) for primitive, _ in BYTES}
    assert {type(primitive) for primitive in kernels.work()} == counted


def test_columns_that_do_not_fit_are_cut():
    whole = primitives.Im2col((64, 56, 56, 32), "float32", 3, 1, 1)
    position = 4 * 64 * 9 * 32
    assert whole.fitting(56 * 56 * position) is whole
    assert whole.fitting(10 * 56 * position + 1).columns == (64, 3, 3, 10, 56, 32)
    assert whole.fitting(1).columns == (64, 3, 3, 1, 1, 32)


def test_input_sets_outgrow_the_cache():
    assert kernels.sets(size=400, cache=100, limit=10_000) == 1
    assert kernels.sets(size=399, cache=100, limit=10_000) == 3
    assert kernels.sets(size=80, cache=100, limit=10_000) == 5
    assert kernels.sets(size=1, cache=100, limit=10_000) == kernels.MOST_SETS
    assert kernels.sets(size=300, cache=100, limit=700) == 2
    assert kernels.sets(size=300, cache=100, limit=100) == 1


def small_work():
    """Each primitive in each type once, at the size that is checked."""
    chosen = {(p.method, p.dtype): p.small() for p in kernels.work()}
    return list(chosen.values())


@pytest.mark.parametrize("primitive", small_work(), ids=lambda p: f"{p.method}-{p.dtype}")
def test_primitives_on_the_stand_in(strict, primitive):
    device = kernels.Device(strict, fake_clock, copy=1e9, cache=0, memory=2**30)
    row = kernels.row(device, primitive)
    assert row["status"] == "ok", row
    assert row["bytes_per_second"] == pytest.approx(primitive.bytes() / 0.5)
    assert row["of_copy"] == pytest.approx(primitive.bytes() / 0.5e9)


def fake_clock(call):
    call()
    return 0.5


class WrongBackend(backends.Backend):
    """Its pools and columns have each a mistake."""

    def im2col(self, x, geometry, tile, out):
        super().im2col(x, geometry, tile, out)[:, 1, 1, 0, 0] *= 1.001
        return out

    def col2im(self, columns, geometry, tile, dx):
        raise RuntimeError("cannot be compiled")

    def max_pool2d(self, x, geometry, with_argmax=True):
        y, argmax = super().max_pool2d(x, geometry)
        return y, argmax.astype("int32")

    def avg_pool2d(self, x, geometry, include_pad):
        return np.full_like(super().avg_pool2d(x, geometry, include_pad), np.nan)

    add_bias = None


@pytest.mark.parametrize(
    ("kind", "status", "text"),
    [
        (primitives.Im2col, "failed", "differs from NumPy by "),
        (primitives.Col2im, "failed", "RuntimeError: cannot be compiled"),
        (primitives.MaxPool, "failed", "an output is int32"),
        (primitives.AvgPool, "failed", "differs from NumPy by nan"),
        (primitives.AddBias, "skipped", "the backend has no add_bias"),
    ],
)
def test_wrong_primitives_are_found(kind, status, text):
    device = kernels.Device(WrongBackend(np, "wrong"), fake_clock, 1e9, 0, 2**30)
    row = kernels.row(device, kind((3, 9) if kind is primitives.AddBias else SHAPE))
    assert row["status"] == status
    assert text in row.get("error", row.get("reason"))
    assert "seconds" not in row


def test_kernels_end_in_time(monkeypatch):
    device = kernels.Device(HOST, fake_clock, 1e9, 0, 2**30)
    monkeypatch.setattr(kernels, "open_device", lambda: device)
    three = small_work()[:3]
    monkeypatch.setattr(kernels, "work", lambda: iter(three))
    now = iter([0, 0, kernels.RESERVE, kernels.RESERVE + 1])
    saved = []
    kernels.run(outcome.Deadline(2 * kernels.RESERVE, lambda: next(now)), saved.append)
    assert len(saved[-1]["rows"]) == 2
    assert saved[-1]["left_out"] == [three[2].title]


# -- training --------------------------------------------------------------------------------

TINY = training.Effort(
    processes=2, turns=2, blocks=2, block_seconds=0, fewest=2, most=2, warmup=1, job_seconds=0
)


@pytest.mark.parametrize(("build", "expected"), [(nets.lenet5, 61_706), (nets.vgg, 307_498)])
def test_nets_are_the_same_in_pytorch(build, expected):
    torch = pytest.importorskip("torch")
    assert sum(p.size for p in build(nn).parameters()) == expected
    assert sum(p.numel() for p in build(torch.nn).parameters()) == expected


def test_resnet18_of_pytorch():
    torch = pytest.importorskip("torch")
    model = nets.torch_resnet18()
    assert sum(p.numel() for p in model.parameters()) == 11_689_512  # as in torchvision
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 1000)


def test_worker_of_xcnn_on_the_cpu():
    worker = Worker("xcnn", "cpu")
    try:
        assert worker.ask(hello=True)["runs_on"]["device"] == "cpu"
        assert worker.ask(job=["lenet5", 4, "float32"], warmup=1)["parameters"] == 61_706
        answer = worker.ask(blocks=2, steps=2)
        assert len(answer["blocks"]) == 2
        assert min(answer["blocks"]) > 0
        assert answer["queue"] > 0
        assert (answer["gpu"], answer["peak"]) == (None, None)
        with pytest.raises(outcome.Failed, match="KeyError: 'no-net'"):
            worker.ask(job=["no-net", 4, "float32"], warmup=1)
    finally:
        worker.close()


@pytest.mark.slow
def test_peers_take_turns_on_the_cpu():
    pytest.importorskip("torch")
    jobs = [Job("lenet5", 4, "float32"), Job("vgg", 2, "float32")]
    saved = []
    session = training.Session(jobs, "cpu", TINY, outcome.Deadline(120), saved.append)
    found = session.run()
    assert saved[-1] is found
    assert [row["title"] for row in found["rows"]] == [job.title for job in jobs]
    for row in found["rows"]:
        ours, theirs = row["peers"]["xcnn"], row["peers"]["torch"]
        assert len(ours["spread"]) == len(theirs["spread"]) == TINY.processes
        assert row["ratio"] == min(ours["spread"]) / min(theirs["spread"])
    assert list(table.training(found))


@pytest.mark.slow
def test_without_pytorch_xcnn_is_measured_alone(monkeypatch):
    class Alone(Worker):
        def ask(self, **message):
            if "hello" in message and self.peer == "torch":
                raise outcome.Skipped("PyTorch is not installed")
            return super().ask(**message)

        def __init__(self, peer, device):
            self.peer = peer
            super().__init__("xcnn", device)

    monkeypatch.setattr(training, "Worker", Alone)
    jobs = [Job("lenet5", 4, "float32")]
    found = training.Session(jobs, "cpu", TINY, outcome.Deadline(60), lambda f: None).run()
    assert found["peers"]["torch"]["reason"] == "PyTorch is not installed"
    assert found["rows"][0]["ratio"] is None
    assert "torch: PyTorch is not installed" in "\n".join(table.training(found))


class FakeWorker:
    """Answers at once; it cannot do vgg, nor say hello if its peer is ``broken``."""

    def __init__(self, peer, device):
        self.peer, self.closed = peer, False
        made.append(self)

    def ask(self, **message):
        assert not self.closed
        if "hello" in message:
            if self.peer in broken:
                raise outcome.Failed("cannot be imported")
            return {"status": "ok", "runs_on": {}}
        if "job" in message:
            if message["job"][0] == "vgg":
                raise outcome.Failed("out of memory")
            size = 7 if (self.peer, message["job"][1]) == ("torch", 13) else 5
            return {"parameters": size, "seconds": 0.01}
        seconds = 0.2 if self.peer == "xcnn" else 0.1
        return {"blocks": [seconds] * message["blocks"], "queue": 0.1, "gpu": 0.1, "peak": 2**20}

    def close(self):
        self.closed = True


made, broken = [], set()


@pytest.fixture
def fake_workers(monkeypatch):
    made.clear()
    broken.clear()
    monkeypatch.setattr(training, "Worker", FakeWorker)
    return made


def session(jobs, deadline=None):
    deadline = deadline or outcome.Deadline(60)
    return training.Session(jobs, "cuda", TINY, deadline, lambda found: None)


def test_job_that_fails_leaves_the_others(fake_workers):
    jobs = [Job("vgg", 8, "float32"), Job("lenet5", 8, "float32"), Job("lenet5", 13, "float32")]
    run = session(jobs)
    with pytest.raises(outcome.Failed, match="2 of 3 jobs failed; vgg, batch 8, float32: out of"):
        run.run()
    failed, good, differ = run.found["rows"]
    assert (failed["status"], good["status"], good["ratio"]) == ("failed", "ok", 2.0)
    assert "networks differ: parameters {'xcnn': 5, 'torch': 7}" in differ["error"]
    assert len(good["processes"]) == TINY.processes
    assert all(worker.closed for worker in fake_workers)
    lines = "\n".join(table.training(run.found))
    assert "failed: out of memory" in lines
    assert "2.00" in lines


def test_peer_that_fails(fake_workers):
    broken.add("torch")
    run = session([Job("lenet5", 8, "float32")])
    with pytest.raises(outcome.Failed, match="1 of 2 peers failed; torch: cannot be imported"):
        run.run()
    assert list(run.found["rows"][0]["peers"]) == ["xcnn"]
    assert "torch: cannot be imported" in "\n".join(table.training(run.found))
    broken.add("xcnn")
    with pytest.raises(outcome.Failed, match="xcnn: cannot be imported"):
        session([]).run()


def test_jobs_that_do_not_fit_are_left_out(fake_workers):
    late = outcome.Deadline(-1)
    found = session([Job("lenet5", 8, "float32")], late).run()
    assert found["rows"] == []
    assert found["left_out"] == {"lenet5, batch 8, float32": "no time was left"}


def test_jobs_that_xcnn_cannot_do(monkeypatch):
    monkeypatch.setattr(training, "takes_precision", lambda: False)
    monkeypatch.setattr(training.xcnn.models, "names", lambda: ["lenet5"])
    assert training.offered(Job("lenet5", 8, "float32")) == ""
    assert training.offered(Job("lenet5", 8, "tf32")) == "xcnn.Trainer has no precision"
    assert training.offered(Job("resnet18", 8, "float32")) == "xcnn has no resnet18"


def test_steps_per_block():
    effort = training.Effort(block_seconds=0.2, fewest=5, most=20)
    assert [effort.steps(s) for s in (0.001, 0.0142, 0.5)] == [20, 14, 5]


def test_figures_of_turns_and_processes():
    turn = {"queue": 1.0, "gpu": None, "peak": 10}
    turns = [{**turn, "blocks": [1.0, 5.0]}, {**turn, "blocks": [2.0], "peak": 20}]
    assert training.over_turns(turns) == {"seconds": 2.0, "queue": 1.0, "gpu": None, "peak": 20}
    processes = [
        {"xcnn": {"seconds": 3.0, "peak": 1}, "torch": {"seconds": 4.0, "peak": 1}},
        {"xcnn": {"seconds": 2.0, "peak": 2}, "torch": {"seconds": 5.0, "peak": 2}},
    ]
    assert training.best(processes) == {
        "peers": {
            "xcnn": {"seconds": 2.0, "peak": 2, "spread": [3.0, 2.0]},
            "torch": {"seconds": 4.0, "peak": 1, "spread": [4.0, 5.0]},
        },
        "ratio": 0.5,
    }


# -- determinism, MNIST, machine, table ------------------------------------------------------


def test_same_training_twice():
    first, second = (determinism.train("cpu", steps=2, batch=4) for _ in range(2))
    assert determinism.compare(first, second) == {"parameters": 10, "equal": True, "differing": []}
    name = next(iter(first))
    first[name][0] = np.nextafter(first[name][0], np.float32(9))
    assert determinism.compare(first, second)["differing"] == [name]


@pytest.mark.slow
def test_training_by_the_program():
    found = mnist.train("digits", 1, "cpu")
    assert found["epochs"] == len(found["epoch_seconds"]) == 1
    assert found["accuracy"] > 0.5
    assert found["seconds"] > 0


def test_training_by_the_program_that_fails():
    with pytest.raises(outcome.Failed, match=r"status 2: xcnn: error: device='gpu'"):
        mnist.train("digits", 1, "gpu")


def test_mnist_is_not_downloaded(monkeypatch):
    absent = types.SimpleNamespace(state="absent")
    monkeypatch.setattr(mnist.xcnn.data, "status", lambda name: absent)
    with pytest.raises(outcome.Skipped, match="MNIST is not here"):
        mnist.run(outcome.Deadline(10), None)


def test_commit(monkeypatch, tmp_path):
    assert machine.commit(tmp_path, {"XCNN_COMMIT": "abc"}) == {"id": "abc", "dirty": None}
    assert machine.commit(tmp_path, {}) == {"id": "unknown", "dirty": None}
    answers = {"rev-parse": "0123", "status": ""}
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(machine.shutil, "which", lambda name: name)
    monkeypatch.setattr(machine, "_output", lambda command, folder: answers[command[1]])
    assert machine.commit(tmp_path, {}) == {"id": "0123", "dirty": False}
    answers["status"] = "M file"
    assert machine.commit(tmp_path, {}) == {"id": "0123", "dirty": True}
    answers.update({"rev-parse": None, "status": None})
    assert machine.commit(tmp_path, {}) == {"id": "unknown", "dirty": None}


def test_versions_and_host():
    found = machine.versions()
    assert found["numpy"] == np.__version__
    assert set(found) == {"python", "xcnn", *machine.LIBRARIES}
    assert machine.host()["cores"] >= 1
    assert [machine.dotted(v) for v in (13010, 12040, 13000)] == ["13.1", "12.4", "13.0"]


FAKE = {  # figures that nobody measured
    **DESCRIPTION,
    "date": "2000-01-01T00:00:00+00:00",
    "parts": {
        "suite": {
            "status": "failed",
            "seconds": 90.4,
            "error": "not passed: 1, the first is tests/test_x.py::test_y[cuda]: no",
            "result": {
                **{"selected": 2002, "passed": 1998, "failed": 1, "error": 0, "skipped": 3},
                "failures": {"tests/test_x.py::test_y[cuda]": "AssertionError: no"},
                "missing": {"tests/test_z.py": "ModuleNotFoundError: No module named 'PIL'"},
            },
        },
        "ceilings": {
            "status": "ok",
            "seconds": 8.2,
            "result": {
                "copy": {"bytes_per_second": 2.5e12},
                "gemm": {"float32": {"flops_per_second": 5.04e13}},
            },
        },
        "kernels": {
            "status": "timed out",
            "seconds": 70.0,
            "error": "stopped after 70 s",
            "result": {
                "rows": [
                    {
                        "title": "im2col 3×3 /1 +1 (64, 56, 56, 32) float32",
                        "status": "ok",
                        "seconds": 0.0002,
                        "bytes_per_second": 1.28e12,
                        "of_copy": 0.512,
                    },
                    {"title": "adam_step (5,) float32", "status": "failed", "error": "E: 1\nmore"},
                ],
                "left_out": ["sgd_step (5,) float32"],
            },
        },
        "determinism": {
            "status": "ok",
            "seconds": 6.0,
            "result": {"steps": 30, "parameters": 10, "equal": False, "differing": ["fc1.bias"]},
        },
        "mnist": {"status": "skipped", "seconds": 2.0, "reason": "MNIST is not here"},
        "training": {
            "status": "ok",
            "seconds": 100.0,
            "result": {
                "rows": [
                    {
                        "title": "vgg, batch 128, float32",
                        "status": "ok",
                        "ratio": 1.25,
                        "peers": {
                            "xcnn": {"seconds": 0.005, "gpu": 0.004, "queue": 0.001, "peak": 2**29},
                            "torch": {"seconds": 0.004, "gpu": None, "queue": 0.002, "peak": 2**30},
                        },
                    }
                ],
                "peers": {
                    "xcnn": {"status": "ok", "runs_on": {"xcnn": "0.1.0"}},
                    "torch": {"status": "ok", "runs_on": {"torch": "2.13.0", "cudnn": 91900}},
                },
                "left_out": {"vgg, batch 128, tf32": "xcnn.Trainer has no precision"},
            },
        },
    },
}

TABLE = """\
Fake GPU, compute capability 9.0, 100 multiprocessors, 80.0 GiB; Fake CPU, 16 cores
python 3.12.0, cupy 14.2.0, driver cuda 13.0
commit 0123456789ab, changed; 2000-01-01T00:00:00+00:00
suite        failed      90 s  not passed: 1, the first is tests/test_x.py::test_y[cuda]: no
  1,998 passed, 1 failed, 0 error, 3 skipped of 2,002 tests
  tests/test_x.py::test_y[cuda]: AssertionError: no
  tests/test_z.py was left out: ModuleNotFoundError: No module named 'PIL'
ceilings     ok           8 s
  copy 2,500 GB/s; matrix product, TFLOP/s: float32 50.4
kernels      timed out   70 s  stopped after 70 s
                                                                  ms    GB/s  of a copy
  im2col 3×3 /1 +1 (64, 56, 56, 32) float32                    0.200   1,280       0.51
  adam_step (5,) float32                                      failed: E: 1
  left out, no time: sgd_step (5,) float32
determinism  ok           6 s
  two runs of 30 steps: 1 of 10 parameters differ: fc1.bias
mnist        skipped      2 s  MNIST is not here
training     ok         100 s
  xcnn / PyTorch                   step, ms  ratio     on GPU, ms   to queue, ms          MiB
  vgg, batch 128, float32       5.00 / 4.00   1.25       4.00 / –    1.00 / 2.00   512 / 1024
  xcnn: xcnn 0.1.0
  torch: torch 2.13.0, cudnn 91900
  vgg, batch 128, tf32: left out, xcnn.Trainer has no precision
"""


def test_table():
    assert table.render(FAKE) == TABLE.rstrip()


def test_table_of_parts_without_a_result():
    for status in ("failed", "timed out", "skipped"):
        entry = {"status": status, "seconds": 1.0, "error": "E: first\nsecond"}
        text = table.render({**FAKE, "parts": dict.fromkeys(table.BODIES, entry)})
        assert text.count("E: first") == len(table.BODIES)
        assert "second" not in text
