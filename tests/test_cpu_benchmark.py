"""``python -m benchmarks.cpu``: its cases for both peers, its logic, a run of one step."""

import copy
import itertools
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from benchmarks import harness
from benchmarks.cpu import __main__, cases, footprint, growth, peers, plot, table, turns
from benchmarks.cpu.worker import Worker
from benchmarks.gpu.outcome import Failed, Skipped
from xcnn import nn
from xcnn.summary import layers

from .conftest import is_batch_last

TRAINING = [c for c in cases.CASES if c.name.startswith(("lenet", "vgg", "resnet"))]
OPERATIONS = [c for c in cases.CASES if c not in TRAINING and c.name != "adam"]
each_network = pytest.mark.parametrize("case", TRAINING, ids=lambda case: case.name)
each_operation = pytest.mark.parametrize("case", OPERATIONS, ids=lambda case: case.name)


@pytest.fixture(scope="module")
def ours():
    return peers.Xcnn()


@pytest.fixture(scope="module")
def theirs():
    pytest.importorskip("torch")
    return peers.Torch()


def made(case, peer, batch=2):
    try:
        return case.make(peer, batch)
    except Skipped as skip:
        pytest.skip(str(skip))


# -- the cases -------------------------------------------------------------------------------


def test_names():
    assert len(cases.NAMES) == len(set(cases.NAMES))
    assert {c.mean for c in cases.CASES} == {"", "conv-forward", "conv-both"}
    assert [c.name for c in cases.CASES if c.mean == "conv-both"] == [
        f"conv-{n}-both" for n in (32, 64, 128, 256)
    ]
    assert all(len(name) < table.WIDTH for name in cases.NAMES)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ([], cases.NAMES),
        (["lenet-forward-1"], ["lenet-forward-1"]),  # not lenet-forward-128, which it begins
        (["lenet-forward"], ["lenet-forward-1", "lenet-forward-128"]),
        (["conv-32"], ["conv-32-forward", "conv-32-both"]),
        (["conv-?2-*", "growth", "adam"], ["conv-32-forward", "conv-32-both", "adam", "growth"]),
        (["mem", "memory", "m*y"], ["memory"]),
    ],
)
def test_selection(patterns, expected):
    assert cases.select(patterns) == expected


def test_selection_of_nothing():
    with pytest.raises(ValueError, match=r"conv-33: no case is called so; --list tells"):
        cases.select(["adam", "conv-33"])


@each_network
def test_networks_of_xcnn(case, ours):
    work = made(case, ours)
    assert work.parameters > 0
    assert np.isfinite(ours.host(work.step())).all()


@each_network
def test_networks_are_the_same_in_pytorch(case, ours, theirs):
    work, other = made(case, ours), made(case, theirs)
    assert work.parameters == other.parameters
    assert ours.host(work.step()).shape == theirs.host(other.step()).shape


def test_resnet20_of_pytorch(theirs):
    work = made(cases.BY_NAME["resnet20-128"], theirs)
    assert work.parameters == 269_722  # as the paper's 0.27 million
    assert np.isfinite(theirs.host(work.step()))


@pytest.mark.parametrize("name", ["lenet-32", "vgg-64"])
def test_training_changes_the_weights(name, ours):
    step = made(cases.BY_NAME[name], ours).step
    first, *_, last = [float(step()) for _ in range(21)]  # the first batch of four again
    assert last < first


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


@each_operation
def test_operations_of_xcnn(case, ours):
    results = as_tuple(made(case, ours).step())
    gradients = 0 if case.name.endswith("forward") else 2 if case.name.startswith("conv") else 1
    assert len(results) == 1 + gradients
    assert all(np.isfinite(ours.host(r)).all() for r in results)


@each_operation
def test_operations_are_the_same_in_pytorch(case, ours, theirs):
    mine, others = (as_tuple(made(case, peer).step()) for peer in (ours, theirs))
    assert len(mine) == len(others)
    for a, b in zip(mine, others, strict=True):
        expected = theirs.host(b)
        scale = max(1, np.abs(expected).max())
        np.testing.assert_allclose(ours.host(a), expected, rtol=0, atol=1e-4 * scale)


def test_inputs_are_as_inside_a_network(ours):
    array = ours.native(np.arange(24.0, dtype=np.float32).reshape(2, 3, 2, 2))
    assert array.shape == (2, 3, 2, 2)
    assert array[1, 0, 0, 0] == 12
    assert is_batch_last(array)
    assert not array.flags.c_contiguous


def test_adam_has_the_same_parameters(ours, theirs):
    case = cases.BY_NAME["adam"]
    assert len(cases.SHAPES) == 25
    assert 1.15e6 < made(case, ours).parameters < 1.25e6
    assert made(case, ours).parameters == made(case, theirs).parameters
    made(case, ours).step()
    made(case, theirs).step()


def test_what_xcnn_lacks_is_skipped(ours, monkeypatch):
    monkeypatch.setattr(ours._xcnn.models, "names", lambda: ["lenet5"])
    with pytest.raises(Skipped, match="xcnn has no resnet20"):
        cases.RESNET.training(ours, 2)


def test_without_pytorch_the_peer_is_skipped(monkeypatch):
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Skipped, match="PyTorch is not installed"):
        peers.Torch()


# -- taking turns ----------------------------------------------------------------------------


def test_worker():
    worker = Worker("xcnn")
    try:
        assert worker.ask(hello=True)["runs_on"]["numpy"] == np.__version__
        assert worker.ask(case="cross-entropy-10")["parameters"] == 0
        assert len(worker.run(3)) == 3
        with pytest.raises(Failed, match="KeyError: 'no-case'"):
            worker.ask(case="no-case")
    finally:
        worker.close()


class FakeWorker:
    """Answers at once: what it is told by ``told``, peer and case to seconds or an outcome."""

    def __init__(self, peer):
        self.peer, self.closed, self.case = peer, False, None
        workers.append(self)

    def ask(self, **message):
        assert not self.closed
        if "hello" in message:
            return self._told("hello", {"runs_on": {"name": self.peer}})
        self.case = message["case"]
        self._told(self.case, None)
        return {"parameters": told.get("parameters", {}).get(self.peer, 5)}

    def run(self, steps):
        ran.append((self.peer, self.case, steps))
        return [self._told(self.case, 1.0)] * steps

    def _told(self, key, usual):
        answer = told.get((self.peer, key), usual)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        self.closed = True


workers, told, ran, said = [], {}, [], []


@pytest.fixture
def fake(monkeypatch):
    for memory in (workers, told, ran, said):
        memory.clear()
    monkeypatch.setattr(turns, "Worker", FakeWorker)


def session(names, **effort):
    chosen = [cases.BY_NAME[name] for name in names]
    return turns.Session(chosen, turns.Effort(**{"processes": 2, **effort}), said.append)


def test_peers_take_turns(fake):
    told[("xcnn", "adam")] = 3.0
    told[("torch", "adam")] = 2.0
    (row,) = session(["adam"], rounds=2, steps=4).run()
    assert ran == [("xcnn", "adam", 4), ("torch", "adam", 4)] * 3 * 2  # the first turn warms up
    assert row["ratio"] == 1.5
    assert row["peers"]["xcnn"] == {"seconds": 3.0, "spread": [3.0, 3.0]}
    assert said[-1] == "process 2 of 2, adam: xcnn 3000.000 ms, torch 2000.000 ms"
    assert len(workers) == 4
    assert all(worker.closed for worker in workers)


def test_steps_are_the_cases_own(fake):
    session(["adam", "vgg-64"], rounds=1, processes=1).run()
    steps = {(case, n) for _, case, n in ran}
    assert steps == {(name, cases.BY_NAME[name].steps) for name in ("adam", "vgg-64")}


def test_without_pytorch_xcnn_is_measured_alone(fake):
    told[("torch", "hello")] = Skipped("PyTorch is not installed")
    run = session(["adam"])
    (row,) = run.run()
    assert row["ratio"] is None
    assert list(row["peers"]) == ["xcnn"]
    assert run.peers["torch"]["reason"] == "PyTorch is not installed"
    assert [worker.peer for worker in workers].count("torch") == 1


def test_without_xcnn_there_is_nothing_to_measure(fake):
    told[("xcnn", "hello")] = Failed("cannot be imported")
    with pytest.raises(Failed, match="xcnn: cannot be imported"):
        session(["adam"]).run()
    assert all(worker.closed for worker in workers)


def test_cases_that_fail_or_are_skipped_leave_the_others(fake):
    told[("xcnn", "resnet20-128")] = Skipped("xcnn has no resnet20")
    told[("torch", "vgg-64")] = Failed("out of memory")
    rows = session(["vgg-64", "resnet20-128", "adam"]).run()
    assert [row["status"] for row in rows] == ["failed", "skipped", "ok"]
    assert len(rows[2]["peers"]["xcnn"]["spread"]) == 2
    assert [table.why(row) for row in rows[:2]] == [
        "failed: out of memory",
        "left out: xcnn has no resnet20",
    ]


def test_networks_that_differ(fake):
    told["parameters"] = {"torch": 6}
    (row,) = session(["vgg-64"]).run()
    assert "networks differ: parameters {'xcnn': 5, 'torch': 6}" in row["error"]


def test_best_and_ratio():
    found = turns.summary({"xcnn": [3.0, 2.0], "torch": [4.0, 5.0]}, "memory")
    assert found == {
        "peers": {
            "xcnn": {"memory": 2.0, "spread": [3.0, 2.0]},
            "torch": {"memory": 4.0, "spread": [4.0, 5.0]},
        },
        "ratio": 0.5,
    }


def test_geometric_mean():
    rows = [{"mean": "a", "ratio": 0.5}, {"mean": "a", "ratio": 8.0}, {"mean": "b", "ratio": None}]
    rows += [{"mean": "", "ratio": 9.0}, {"mean": "a", "status": "failed"}]
    assert turns.means(rows) == {"a": pytest.approx(2.0)}


# -- memory, import --------------------------------------------------------------------------


def test_import_times():
    assert all(0 < seconds < 10 for seconds in harness.import_times("json", 2))


def test_memory_and_import_rows(monkeypatch):
    peaks = {"xcnn": {"peaks": [20, 10]}, "torch": {"peaks": [50, 40]}}
    monkeypatch.setattr(harness, "compare", lambda makers, **_: {p: peaks[p] for p in makers})
    monkeypatch.setattr(harness, "import_times", lambda module, repeats: [0.5] * repeats)
    row = footprint.memory(("xcnn", "torch"), turns.Effort(processes=2))
    assert (row["name"], row["measure"], row["ratio"]) == ("memory", "memory", 0.25)
    row = footprint.imports(("xcnn",), turns.Effort(processes=2))
    assert row["peers"] == {"xcnn": {"seconds": 0.5, "spread": [0.5] * 4}}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="as /proc/self/status tells")
def test_peak_is_not_the_parents():
    held = np.ones(50 * 2**20 // 8)  # 50 MiB here, none there
    code = "from benchmarks import harness; print(harness._peak())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=harness.ROOT, capture_output=True, text=True, check=True
    )
    assert 2**20 < int(done.stdout) < held.nbytes


def test_settings_of_single_peers():
    maker = f"{__name__}:tagged"
    found = harness.compare(
        {"a": maker, "b": maker},
        rounds=1,
        steps=1,
        warmup=0,
        processes=1,
        each={"a": {"tag": 1}, "b": {"tag": 2}},
    )
    assert [found[peer]["runs_on"]["tag"] for peer in "ab"] == [1, 2]
    assert len(found["a"]["spread"]) == 1
    assert found["a"]["peaks"] == [found["a"]["memory"]]


def tagged(tag):
    return (lambda: None), {"tag": tag}


# -- growth ----------------------------------------------------------------------------------


def test_step_of_the_growing_net():
    step, runs_on = growth.make_step(**growth.LEAST._asdict())
    assert np.isfinite(float(step()))
    assert runs_on["numpy"] == np.__version__


@pytest.mark.parametrize("size", [growth.BASE, growth.Size(3, 4, 8, 1)])
def test_work_is_the_multiply_adds(size):
    network = growth.network(nn, size)
    rows = layers(network, (size.channels, size.image, size.image))
    convolutions = [row.multiply_adds for row in rows if row.kind == "Conv2d"]
    others = sum(row.multiply_adds for row in rows if row.kind == "Linear")
    forward = sum(convolutions) + others
    assert size.work == size.batch * (3 * forward - convolutions[0])


def test_axes_hold_the_base():
    for axis, values in growth.AXES.items():
        assert getattr(growth.BASE, axis) in values
        assert all(b == 2 * a for a, b in itertools.pairwise(values))


def test_factors():
    points = [
        {"work": 10, "seconds": 1.0, "memory": 0},
        {"work": 20, "seconds": 3.0, "memory": 8},
        {"work": 80, "seconds": 12.0, "memory": 16},
    ]
    found = growth.with_factors(points)
    assert [p["seconds_factor"] for p in found] == [None, 3.0, 2.0]
    assert [p["memory_factor"] for p in found] == [None, None, pytest.approx(2**0.5)]
    assert "seconds_factor" not in points[0]


def fake_growth(makers, each, **_):
    """Time in proportion to the work, and memory to the batch."""
    sizes = {key: growth.Size(**setting) for key, setting in each.items()}
    return {
        key: {"seconds": 1e-9 * s.work, "spread": [1e-9 * s.work], "memory": 2**20 * (9 + s.batch)}
        for key, s in sizes.items()
    }


def test_growth(monkeypatch):
    monkeypatch.setattr(harness, "compare", fake_growth)
    said = []
    found = growth.run(turns.Effort(), said.append)
    assert len(said) == len(growth.AXES)
    assert found["least"] == 10 * 2**20
    by_batch = found["axes"]["batch"]
    assert [p["value"] for p in by_batch] == [32, 64, 128, 256]
    assert [p["memory"] for p in by_batch] == [(n - 1) * 2**20 for n in (32, 64, 128, 256)]
    for points in found["axes"].values():
        assert [p["seconds_factor"] for p in points[1:]] == [pytest.approx(2)] * (len(points) - 1)
    lines = list(table.growth({"growth": found}))
    assert len(lines) == 2 + sum(map(len, growth.AXES.values()))


# -- what is printed, drawn and kept ---------------------------------------------------------


def row(name, ours, theirs=None, **more):
    """A row of figures that nobody measured."""
    spreads = {"xcnn": ours} if theirs is None else {"xcnn": ours, "torch": theirs}
    measure = more.get("measure", "seconds")
    figures = turns.summary(spreads, measure)
    return {"name": name, "measure": measure, "status": "ok", **figures, **more}


FAKE = {
    "cases": [
        row("conv-32-both", [0.012, 0.010], [0.005, 0.0061], mean="conv-both"),
        row("conv-64-both", [0.0005], [0.001], mean="conv-both"),
        row("adam", [0.00002]),
        {"name": "resnet20-128", "status": "skipped", "reason": "xcnn has no resnet20"},
        {"name": "vgg-64", "status": "failed", "error": "E: first\nsecond"},
        {"name": "batch-norm"},
        row("memory", [2**26], [2**28 + 2**26], measure="memory"),
    ],
    "means": {"conv-both": 1.0, "conv-forward": 2.0},
    "growth": {
        "base": {"batch": 32, "depth": 2},
        "axes": {
            "batch": growth.with_factors(
                [
                    {"value": 32, "work": 100, "seconds": 0.02, "memory": 2**20},
                    {"value": 64, "work": 200, "seconds": 0.03, "memory": 2**22},
                ]
            )
        },
    },
    "peers": {
        "xcnn": {"status": "ok", "runs_on": {"numpy": "2.0.0", "core": "Fake", "threads": 2}},
        "torch": {"status": "skipped", "reason": "PyTorch is not installed"},
    },
    "machine": {"processor": "Fake CPU", "cores": 2},
    "effort": {"processes": 2, "rounds": 5, "steps": None},
    "seconds": 12.3,
}

TABLE = """\
                                xcnn     PyTorch   ratio   of each process
conv-32-both                 10.0 ms     5.00 ms    2.00   12.0 10.0 / 5.00 6.10
conv-64-both                0.500 ms     1.00 ms    0.50   0.500 / 1.00
adam                       0.0200 ms           –           0.0200
resnet20-128              left out: xcnn has no resnet20
vgg-64                    failed: E: first
batch-norm                not measured
memory                      64.0 MiB     320 MiB    0.20   64.0 / 320
geometric mean of 2 ratios, conv-both: 1.00
growth of xcnn's step per doubling of the work; else batch 32, depth 2
                                work        step      factor      memory      factor
batch 32                       1.00×     20.0 ms                1.00 MiB
batch 64                       2.00×     30.0 ms        1.50    4.00 MiB        4.00
xcnn: numpy 2.0.0, core Fake, threads 2
torch: left out: PyTorch is not installed
processor Fake CPU, cores 2
best of 2 processes of each peer, medians of 5 turns, each case's steps a turn; 12 s in all
"""


def test_table():
    assert table.render(FAKE) == TABLE.rstrip()


def test_table_without_cases():
    bare = {**copy.deepcopy(FAKE), "cases": [], "means": {}, "growth": None}
    assert table.render(bare).startswith("xcnn: numpy")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (1, "1.00"), (9.996, "10.0"), (123.4, "123"), (1234, "1234"), (0, "0")],
)
def test_digits(value, text):
    assert table.digits(value) == text


def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    plot.draw(FAKE, tmp_path / "ratios.png")
    assert (tmp_path / "ratios.png").read_bytes().startswith(b"\x89PNG")


def test_plot_has_room_around_all_ratios():
    low, high = plot.limits([0.01, 8])
    assert low < 0.01 < 8 < high
    low, high = plot.limits([3.0])
    assert low < 1 < 3 < high


def test_list(capsys):
    assert __main__.main(["--list", "--case", "lenet-forward", "import"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == cases.select(["lenet-forward", "import"])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--case", "speed"], "speed: no case is called so"),
        (["--steps", "0"], "0: expected a number from 1 on"),
        (["--json", "no/such/file.json"], "there is no folder no/such"),
    ],
)
def test_arguments_that_do_not_work(arguments, error, capsys):
    with pytest.raises(SystemExit, match="2"):
        __main__.main(arguments)
    assert error in capsys.readouterr().err


def test_plot_without_matplotlib(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(__main__.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="2"):
        __main__.main(["--plot", str(tmp_path / "x.png")])
    assert "pip install matplotlib" in capsys.readouterr().err


def test_no_ratio_to_draw(fake, capsys, tmp_path):
    told[("torch", "hello")] = Skipped("PyTorch is not installed")
    pytest.importorskip("matplotlib")
    path = tmp_path / "x.png"
    assert __main__.main(["--case", "adam", "--plot", str(path)]) == 0
    printed = capsys.readouterr()
    assert "torch: left out: PyTorch is not installed" in printed.out
    assert "is not drawn" in printed.err
    assert not path.exists()


def test_failure_in_the_exit_status_and_the_json(fake, capsys, tmp_path):
    told[("xcnn", "adam")] = Failed("no")
    path = tmp_path / "x.json"
    assert __main__.main(["--case", "adam", "--json", str(path)]) == 1
    assert json.loads(path.read_text())["cases"][0]["error"].startswith("no")
    told[("xcnn", "hello")] = Failed("cannot be imported")
    assert __main__.main(["--case", "adam", "--json", str(path)]) == 1
    assert "xcnn: cannot be imported" in capsys.readouterr().err
    assert json.loads(path.read_text())["peers"]["xcnn"]["status"] == "failed"


def test_run_as_a_command(tmp_path):
    path = tmp_path / "cpu.json"
    arguments = ["--case", "cross-entropy-10", "--processes", "1", "--rounds", "1", "--steps", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.cpu", *arguments, "--json", str(path)],
        cwd=harness.ROOT,
        env={**os.environ, "OPENBLAS_CORETYPE": "Prescott"},  # dropped for every peer
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "process 1 of 1, cross-entropy-10: xcnn" in done.stderr
    report = json.loads(path.read_text())
    assert done.stdout.rstrip() == table.render(report)
    parts = {"date", "machine", "effort", "peers", "cases", "means", "seconds"}
    assert set(report) == parts
    assert {"python", "processor", "cores", "commit"} <= set(report["machine"])
    assert report["effort"] == {"processes": 1, "rounds": 1, "steps": 1}
    assert report["peers"]["xcnn"]["runs_on"].get("core") != "Prescott"
    (found,) = report["cases"]
    assert {"name", "title", "measure", "status", "batch", "parameters", "ratio"} <= set(found)
    for figures in found["peers"].values():
        assert figures["seconds"] == min(figures["spread"]) > 0
        assert len(figures["spread"]) == 1
