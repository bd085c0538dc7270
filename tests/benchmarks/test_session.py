"""Taking turns, and processes that hang or crash."""

import argparse
import contextlib
import os
import time
from pathlib import Path

import pytest

from benchmarks import cases, floor, peers, run, session
from benchmarks.outcome import Failed, Skipped
from benchmarks.worker import Worker


def test_worker():
    worker = Worker("xcnn")
    try:
        assert worker.ask(hello=True)["runs_on"]["xcnn"]
        assert worker.ask(case="cross-entropy-10")["parameters"] == 0
        answer = worker.ask(steps=3)
        assert len(answer["blocks"]) == 3
        assert all(0 < seconds < 10 for seconds in answer["blocks"])
        assert 2**24 < answer["peak"] < 2**28
        with pytest.raises(Failed, match="KeyError: 'no-case'"):
            worker.ask(case="no-case")
    finally:
        worker.close()


@pytest.mark.parametrize(
    ("source", "limit", "expected"),
    [
        ("print('noise'); save({'x': 1}); save({'x': 2})", 30, ("ok", {"x": 2}, None)),
        ("save({'x': 1}); {}['k']", 30, ("failed", {"x": 1}, "KeyError: 'k'")),
        (
            "print('out'); save({}); os.abort()",
            30,
            ("failed", {}, "the process ended with status -6"),
        ),
        (
            "save({'child': subprocess.Popen(['sleep', '60']).pid}); time.sleep(60)",
            4,
            ("timed out", None, "stopped after 4 s"),
        ),
    ],
)
def test_part_keeps_its_result_however_it_ends(source, limit, expected, tmp_path, monkeypatch):
    text = f"import os, subprocess, time\ndef function(save): {source}"
    (tmp_path / "fake.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = Worker("xcnn", "cuda")
    try:
        answer = worker.answer(limit, part="fake:function")
    finally:
        worker.close()
    status, result, error = expected
    assert (answer["status"], answer.get("error")) == (status, error)
    if result is None:
        assert is_gone(answer["result"]["child"])
    else:
        assert answer["result"] == result


def is_gone(pid, within=5):
    """Whether a process has ended (or is only waiting for its parent to notice)."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX":
                time.sleep(0.05)
                continue
        return True
    return False


class FakeWorker:
    """Answers at once; ``told`` maps (peer, message) to seconds or to an exception."""

    def __init__(self, peer, device="cpu", variables=()):
        self.variables = variables
        self.peer, self.closed, self.case = peer, False, None
        workers.append(self)

    def ask(self, limit, **message):
        assert not self.closed
        assert 0 < limit <= 600
        if "hello" in message:
            return self._told("hello", {"runs_on": {"name": self.peer}})
        if "case" in message:
            self.case = message["case"]
            return {"parameters": told.get((self.peer, "parameters"), 5), "seconds": 0.05}
        ran.append((self.peer, self.case, message["steps"]))
        seconds = self._told(self.case, 1.0)
        return {"blocks": [seconds] * message["steps"], "peak": 7 * len(self.peer)}

    def _told(self, key, usual):
        answer = told.get((self.peer, key), usual)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        self.closed = True


workers, told, ran = [], {}, []
LANES = {"xcnn": "xcnn", "torch": "torch"}


@pytest.fixture
def measure(monkeypatch):
    """``measure("adam", rounds=2)``: the rows of these cases."""
    for memory in (workers, told, ran):
        memory.clear()
    monkeypatch.setattr(session, "Worker", FakeWorker)

    def run(*names, **effort):
        rows = [{"name": name} for name in names]
        session.Session(LANES, session.Effort(**{"processes": 2, **effort})).run(rows)
        return rows

    yield run
    assert all(worker.closed for worker in workers)


def test_peers_take_turns(measure, capsys):
    told[("xcnn", "adam")], told[("torch", "adam")] = 3.0, 2.0
    (row,) = measure("adam", rounds=2, steps=4)
    assert ran == [("xcnn", "adam", 4), ("torch", "adam", 4)] * 2 * 2
    assert row["ratio"] == 1.5
    expected = {"seconds": 3.0, "spread": [3.0, 3.0], "peak": 28, "peaks": [28, 28]}
    assert row["peers"]["xcnn"] == expected
    assert len(workers) == 4
    line = "process 2 of 2, adam: ok, xcnn 3000.000 ms, torch 2000.000 ms"
    assert line in capsys.readouterr().err


def test_libraries_that_are_missing(measure, monkeypatch):
    told[("torch", "hello")] = Skipped("PyTorch is not installed")
    (row,) = measure("adam")
    assert row["ratio"] is None
    assert list(row["peers"]) == ["xcnn"]
    told[("xcnn", "hello")] = Failed("cannot be imported")
    with pytest.raises(Failed, match="xcnn: cannot be imported"):
        measure("adam")
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    for kind in (peers.Torch, peers.PyDyNet):
        with pytest.raises(Skipped, match="is not installed"):
            kind()


def test_cases_that_fail_leave_the_others(measure):
    told[("torch", "vgg-64")] = Failed("out of memory")
    failed, good = measure("vgg-64", "adam")
    assert (failed["status"], failed["error"], good["status"]) == ("failed", "out of memory", "ok")
    assert len(good["peers"]["xcnn"]["spread"]) == 2


def test_networks_that_differ(measure):
    told[("torch", "parameters")] = 6
    (row,) = measure("vgg-64", rounds=1, processes=1)
    assert "networks differ: parameters {'xcnn': 5, 'torch': 6}" in row["error"]


def test_the_deadline(measure):
    rows = [{"name": "adam"}]
    late = session.Session(LANES, deadline=time.monotonic() + 5)
    late.run(rows)
    assert rows == [{"name": "adam", "status": "skipped", "reason": "no time was left"}]
    assert run.run_part(run.PARTS["suite"], late)["status"] == "skipped"
    assert sum(part.limit for part in run.PARTS.values()) + 100 <= run.SECONDS["gpu"] < 600


def test_the_best_process_counts():
    first = session.over_turns([{"blocks": [1.0, 5.0], "peak": 1}, {"blocks": [2.0], "peak": 9}])
    assert first == {"seconds": 2.0, "peak": 9}
    both = session.fastest(session.fastest(None, first), {"seconds": 1.5, "peak": 4})
    assert both == {"seconds": 1.5, "peak": 4, "spread": [2.0, 1.5], "peaks": [9, 4]}


@pytest.mark.parametrize(("times", "expected"), [((3, None, 5), 4), ((3, None, None), None)])
def test_a_row_is_host_bound_if_most_turns_are(times, expected):
    turns = [{"blocks": [1.0], "peak": 1, "queue": 1.0, "gpu": time} for time in times]
    assert session.over_turns(turns)["gpu"] == expected


def test_memory_and_means(measure):
    row = run.memory("lenet-128", session.Session(LANES, session.Effort(processes=2)))
    assert row["peers"]["xcnn"] == {"memory": 28, "spread": [28, 28]}
    assert row["ratio"] == 28 / 35
    assert {(case, steps) for _, case, steps in ran} == {("lenet-128", 4)}  # 0.2 s of 0.05 s
    rows = [{"mean": "a", "ratio": 0.5}, {"mean": "a", "ratio": 8.0}, {"mean": "b", "ratio": None}]
    assert run.means([*rows, {"mean": "", "ratio": 9.0}]) == {"a": pytest.approx(2.0)}


def test_growth(measure, monkeypatch):
    """Time grows with the work, memory with the batch; half as fast with one thread."""
    names, threads = [run.SMALLEST.name, run.BASE.name], {"OPENBLAS_NUM_THREADS": "2"}
    figures = run.measure_sizes([run.SMALLEST, run.BASE], session.Effort(1, 1, 1), threads)
    assert list(figures) == [*names, *(f"{name}/1" for name in names)]
    assert [case for _, case, _ in ran] == names * 2
    assert [int(w.variables["OPENBLAS_NUM_THREADS"]) for w in workers] == [2, 2, 1, 1]

    def measure_sizes(sizes, effort, variables):
        rows = {}
        for size in sizes:
            peak, seconds = 2**20 * (9 + size.batch), 1e-9 * size.work
            rows[size.name] = {"seconds": seconds, "spread": [], "peak": peak, "peaks": [peak]}
            rows[f"{size.name}/1"] = {**rows[size.name], "seconds": 2 * seconds}
        return rows

    monkeypatch.setattr(run, "measure_sizes", measure_sizes)
    result = run.growth(session.Session(LANES))
    batches = result["axes"]["batch"]
    assert [point["memory"] for point in batches] == [(n - 1) * 2**20 for n in (32, 64, 128)]
    assert all(point["alone"] == 2 * point["seconds"] for point in batches)
    for points in result["axes"].values():
        assert [p["seconds_factor"] for p in points[1:]] == [pytest.approx(2)] * (len(points) - 1)


def test_the_floor():
    lenet = floor.work(peers.Xcnn(), cases.LENET, 2)
    convolutions = 6 * 25 * 28**2, 16 * 150 * 10**2
    products = 3 * (sum(convolutions) + 400 * 120 + 120 * 84 + 84 * 10) - convolutions[0]
    values = 2 * (2 * 784 + 5 * (6 * 14**2 + 400 + 120 + 84)) + 10 * 61_706
    assert lenet == {"multiply_adds": 2 * products, "bytes": 4 * values}


def test_the_environment_of_each_library(measure):
    options = argparse.Namespace(threads=2, native="avx2")
    variables = run.settings(options)
    assert variables["torch"]["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert variables["xcnn"]["OPENBLAS_CORETYPE"] == "Haswell"
    libraries = session.Session(LANES, session.Effort(1, 1, 1), variables=variables)
    libraries.run([{"name": "adam"}])
    assert [worker.variables for worker in workers] == [variables["xcnn"], variables["torch"]]
    assert libraries.peers["xcnn"]["runs_on"]["XCNN_NATIVE"] == "avx2"


def test_the_gpu_compiles_into_a_folder_that_stays(monkeypatch):
    monkeypatch.setattr(run, "run_part", lambda part, libraries: {"status": "ok"})
    monkeypatch.setattr(session, "Worker", FakeWorker)
    monkeypatch.setenv("CUPY_CACHE_DIR", "")
    monkeypatch.delenv("CUPY_CACHE_DIR")
    report = {"cases": []}
    run.fill(report, ["suite"], session.Session(LANES, device="cuda"), lambda: None)
    assert [row["name"] for row in report["cases"]] == ["suite"]
    assert os.environ["CUPY_CACHE_DIR"].endswith("build/cupy")
