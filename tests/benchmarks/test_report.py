"""The commands, what they print and store, and the figures in the documents."""

import importlib
import json
import os
import re
import subprocess
import sys

import pytest

from benchmarks import ROOT, choices, run, session, table
from benchmarks.__main__ import COMMANDS, main
from benchmarks.outcome import Failed, write_json
from xcnn.backends import cuda

DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
STORED = json.loads((ROOT / "benchmarks/results/cpu.json").read_text())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_documents_name_commands_that_exist(document):
    text = document.read_text()
    assert not re.findall(r"-m benchmarks\.\w+", text)
    for command, argument in re.findall(r"-m benchmarks (\w+)(?: ([a-z_]+)`)?", text):
        assert command in COMMANDS
        assert not argument or argument in choices.CHOICES
    for name in re.findall(r"--case ([\w-]+)", text):
        assert run.cases.select([name], list(run.titles("cpu")))


def test_published_figures_are_those_of_the_stored_report():
    figures = r"^([a-z][\w-]+ +[\d.]+ \w+ +[\d.]+ \w+ +[\d.]+|geometric mean.*)"
    text = (ROOT / "docs/performance.md").read_text()
    published = re.findall(figures, text, re.MULTILINE)
    printed = table.render(STORED).splitlines()
    assert len(published) >= 8
    for line in published:
        assert any(other.startswith(line) for other in printed), line
    ratios = {row["name"]: f"{row['ratio']:.2f}" for row in STORED["cases"]}
    lenet = {ratios[f"lenet-{batch}"] for batch in (32, 128, 512)}
    readme = (ROOT / "README.md").read_text()
    assert f"{min(lenet)} to {max(lenet)} times" in readme
    assert f"{ratios['resnet20-128']} times as long for ResNet-20" in readme


def test_show_draws_the_stored_report(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    path = tmp_path / "ratios.png"
    stored = str(ROOT / "benchmarks/results/cpu.json")
    assert main(["show", stored, "--plot", str(path)]) == 0
    assert capsys.readouterr().out.startswith(" " * 32 + "xcnn     PyTorch   ratio")
    assert path.read_bytes().startswith(b"\x89PNG")
    low, high = table.limits([3.0])
    assert low < 1 < 3 < high


def row(name, ours, theirs):
    """A row of figures that nobody measured."""
    return {"name": name, **session.summary({"xcnn": ours, "torch": theirs}, "seconds")}


COUNTS = {"selected": 9, "passed": 7, "failed": 1, "error": 0, "skipped": 1}
SUITE = {**COUNTS, "failures": {"test_y[cuda]": "no"}, "missing": {"test_z.py": "No module"}}
KERNEL = {"title": "im2col", "status": "ok", "seconds": 0.0002, "bytes_per_second": 1.28e12}
GPU = {"seconds": 0.005, "gpu": 0.004, "queue": 0.001, "peak": 2**29}
STEP = {"multiply_adds": 3.5e8, "bytes": 3 * 2**20, "seconds": 0.0037}
POINT = {"value": 8, "work": 1000, "seconds": 0.002, "alone": 0.003, "seconds_factor": None}
POINT |= {"memory": 2**20, "memory_factor": None}
FAKE = {
    "cases": [
        {"name": "suite", "status": "failed", "took": 90.4, "error": "one", "result": SUITE},
        {
            "name": "ceilings",
            "status": "ok",
            "result": {
                "copy": {"bytes_per_second": 2.5e12},
                "gemm": {"tf32": {"flops_per_second": 5.04e13}},
            },
        },
        {
            "name": "kernels",
            "status": "timed out",
            "error": "stopped after 70 s",
            "result": {
                "rows": [
                    {**KERNEL, "of_copy": 0.512},
                    {"title": "Adam", "status": "failed", "error": "E: 1\nmore"},
                ]
            },
        },
        {
            "name": "determinism",
            "status": "ok",
            "result": {"steps": 30, "parameters": 10, "differing": ["fc1.bias"]},
        },
        {"name": "mnist", "status": "skipped", "reason": "MNIST is not here"},
        {**row("conv-32-both", [0.012, 0.010], [0.005, 0.0061]), "aim": 0.8},
        {"name": "vgg-64", "status": "failed", "error": "E: first\nsecond"},
        {"name": "batch-norm"},
        {
            **row("resnet18-32", [0.005], [0.004]),
            "peers": {"xcnn": GPU, "torch": {**GPU, "gpu": None, "seconds": 0.004}},
        },
    ],
    "means": {},
    "floor": {"gemm": 2e11, "copy": 1.5e10, "steps": {"conv-32-both": STEP, "vgg-64": STEP}},
    "growth": {
        "base": {"batch": 8, "depth": 2},
        "threads": "2",
        "axes": {"batch": [POINT, {**POINT, "value": 16, "seconds_factor": 1.9}]},
    },
    "peers": {"torch": {"status": "skipped", "reason": "PyTorch is not installed"}},
    "machine": {"processor": "Fake CPU"},
    "effort": {"processes": 2, "rounds": 5, "steps": None},
    "seconds": 12.3,
}
TABLE = """\
suite          90 s  failed: one
  7 passed, 1 failed, 0 error, 1 skipped of 9 tests
  test_y[cuda]: no
  test_z.py was left out: No module
ceilings        0 s
  copy 2,500 GB/s; matrix product, TFLOP/s: tf32 50.4
kernels         0 s  timed out: stopped after 70 s
                                                                  ms    GB/s  of a copy
  im2col                                                       0.200   1,280       0.51
  Adam                                                        failed: E: 1
determinism     0 s
  two runs of 30 steps: 1 of 10 parameters differ: fc1.bias
mnist           0 s  skipped: MNIST is not here
                                xcnn     PyTorch   ratio    aim   of each process
conv-32-both                 10.0 ms     5.00 ms    2.00  ≤0.80   12.0 10.0 / 5.00 6.10
vgg-64                    failed: E: first
batch-norm                not measured
resnet18-32                  5.00 ms     4.00 ms    1.25          GPU 4.00 / host-bound ms, \
to queue 1.00 / 1.00 ms, 512 / 512 MiB
floor: matrix product 200 GFLOP/s, copy 15.0 GB/s
                          multiply-adds       moved       floor   of a step: xcnn / PyTorch
conv-32-both                       350M    3.00 MiB     3.70 ms   0.37 / 0.74
vgg-64                             350M    3.00 MiB     3.70 ms
growth of xcnn's step per doubling of the work; otherwise batch 8, depth 2
                                work   2 threads      factor    1 thread    speed-up      memory\
      factor
batch 8                        1.00×     2.00 ms                 3.00 ms        1.50    1.00 MiB
batch 16                       1.00×     2.00 ms        1.90     3.00 ms        1.50    1.00 MiB
torch: skipped: PyTorch is not installed
processor Fake CPU
best of 2 processes of each library, medians of 5 turns, 0.2 s of steps a turn; 12 s in all
"""


def test_table():
    assert table.render(FAKE) == TABLE.rstrip()


def test_every_part_has_a_function_and_a_table():
    assert list(table.PARTS) == list(run.PARTS)
    for part in run.PARTS.values():
        module, function = part.function.split(":")
        assert hasattr(importlib.import_module(f"benchmarks.gpu.{module}"), function)


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (1, "1.00"), (9.996, "10.0"), (123.4, "123"), (1234, "1234"), (0, "0")],
)
def test_digits(value, text):
    assert table.digits(value) == text


def test_json_is_whole_or_not_there(tmp_path):
    file = tmp_path / "x.json"
    write_json(file, {"a": 1})
    with pytest.raises(TypeError):
        write_json(file, {"a": object()})
    assert json.loads(file.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]


# -- commands --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["cpu", "--case", "speed"], "speed: matches none of lenet-32"),
        (["cpu", "--steps", "-1"], "expected numbers >= 1"),
        (["cpu", "--json", "no/such/file.json"], "no such folder: no/such"),
        (["gpu", "--case", "suite", "vgg"], "there is no GPU to measure: no driver; install one"),
    ],
)
def test_arguments_that_do_not_work(arguments, error, capsys, monkeypatch):
    monkeypatch.setattr(cuda, "problem", lambda: "no driver; install one")
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert error in capsys.readouterr().err


def test_a_run_that_ends_early_keeps_its_report(monkeypatch, tmp_path):
    def fill(report, names, libraries, save):
        report["cases"].append({"name": "adam", "status": "failed", "error": "no"})
        raise Failed("xcnn does not start")

    monkeypatch.setattr(run, "fill", fill)
    assert main(["cpu", "--json", str(tmp_path / "x.json")]) == 1
    assert json.loads((tmp_path / "x.json").read_text())["cases"][0]["error"] == "no"


def test_run_as_a_command(tmp_path):
    path = tmp_path / "cpu.json"
    effort = ["--processes", "1", "--rounds", "1", "--steps", "1"]
    command = [sys.executable, "-m", "benchmarks", "cpu", "--case", "cross-entropy-10", *effort]
    done = subprocess.run(
        [*command, "--json", str(path)],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_CORETYPE": "Prescott"},  # dropped for all workers
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "process 1 of 1, cross-entropy-10: ok, xcnn" in done.stderr
    report = json.loads(path.read_text())
    assert done.stdout.rstrip() == table.render(report)
    assert set(report) == set(STORED) - {"floor", "growth"}
    assert report["peers"]["xcnn"]["runs_on"]["core"] != "Prescott"
    (case,) = report["cases"]
    assert set(STORED["cases"][0]) - {"batch"} <= set(case)
    for figures in case["peers"].values():
        assert figures["seconds"] == min(figures["spread"]) > 0
