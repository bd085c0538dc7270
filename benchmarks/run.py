"""The commands ``cpu`` and ``gpu``: measure the cases, then print and store a report.

``python -m benchmarks cpu`` compares with PyTorch if it is installed (ratios below 1: xcnn is
faster or smaller); ``--against pydynet`` compares with another pure-NumPy library. ``--native``
turns the compiled kernels off, or chooses their instruction set and limits both libraries to it.
``python -m benchmarks gpu --json FILE`` needs a checkout, CuPy, pytest and hypothesis. Exit status:
0 success, 1 something failed or ran out of time, 2 wrong arguments or no GPU.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.util
import math
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import ROOT, cases, machine, session, table
from benchmarks.gpu import PARTS, Part
from benchmarks.outcome import Failed, attempt, write_json
from benchmarks.session import Effort, Row, Session, say
from benchmarks.worker import PAUSE, TURN, Worker
from xcnn.backends import cuda

DEVICES = {"cpu": "cpu", "gpu": "cuda"}
SECONDS = {"cpu": math.inf, "gpu": 570.0}
OTHERS = {
    "memory": "peak memory of training LeNet-5 at batch 128",
    "memory-resnet20": "peak memory of training ResNet-20 at batch 128",
    "import": "time to import the library",
    "floor": "the least time of each training step, by this machine's rates",
    "growth": "time and memory of xcnn's step as batch, channels, image, depth and threads grow",
}
TRAINED = {"memory": "lenet-128", "memory-resnet20": "resnet20-128"}
WITHOUT_KERNELS = ("lenet", "vgg", "resnet20", "conv-*-both")  # the default with --native 0
ONEDNN, ATEN, MKL = "ONEDNN_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS"
LIMITS: dict[str, dict[str, dict[str, str]]] = {  # to the instruction set of xcnn's kernels
    "avx2": {
        "numpy": {"OPENBLAS_CORETYPE": "Haswell"},
        "torch": {ONEDNN: "AVX2", ATEN: "avx2", MKL: "AVX2"},
    },
    "baseline": {
        "numpy": {"OPENBLAS_CORETYPE": "Prescott"},
        "torch": {ONEDNN: "SSE41", ATEN: "default", MKL: "SSE4_2"},
    },
}
ALONE = "/1"
BASE, SMALLEST = cases.Size(batch=32, channels=16, image=32, depth=2), cases.Size(1, 1, 4, 1)
AXES = {"batch": (32, 64, 128), "channels": (16, 32, 64), "image": (16, 32, 64), "depth": (2, 4, 8)}


def titles(device: str) -> dict[str, str]:
    """By name, the title of everything that can be measured on a device, in order."""
    training = {case.name: case.title for case in cases.CASES[device]}
    if device == "cuda":
        return {name: part.title for name, part in PARTS.items()} | training
    return training | OTHERS


def add_options(parser: argparse.ArgumentParser) -> None:
    add, effort = parser.add_argument, Effort()
    patterns = 'names, prefixes or globs such as "conv-*-both"; default: all'
    add("--case", nargs="+", action="extend", default=[], metavar="NAME", help=patterns)
    add("--list", action="store_true", help="list the cases without measuring")
    add("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    libraries = "library to compare with; default: torch"
    add("--against", choices=("torch", "pydynet"), default="torch", help=libraries)
    kernels = "on a CPU, xcnn's compiled kernels: off, the best, or an instruction set"
    native = {"choices": ("0", "1", "avx512", "avx2", "baseline")}
    native["help"] = f"{kernels}; default: $XCNN_NATIVE, or 1"
    add("--native", default=os.environ.get("XCNN_NATIVE", "1"), **native)
    number = {"type": int, "metavar": "N"}
    cores = min(2, machine.cores())
    add("--threads", default=cores, help=f"on a CPU, of each library; default: {cores}", **number)
    add("--processes", default=effort.processes, help="per library; the best counts", **number)
    add("--rounds", default=effort.rounds, help="turns per process", **number)
    add("--steps", help=f"per turn; default: as many as fit into {TURN} s", **number)
    add("--seconds", type=float, metavar="S", help="time limit; default: 570 for gpu, none for cpu")


def main(options: argparse.Namespace) -> int:
    """Check the options, measure and print; returns the exit status."""
    device = DEVICES[options.command]
    known, chosen = titles(device), options.case
    if device == "cpu" and options.native == "0":
        chosen = chosen or WITHOUT_KERNELS
    try:
        names = cases.select(chosen, list(known))
    except ValueError as error:
        options.fail(str(error))
    numbers = (options.threads, options.processes, options.rounds, options.steps)
    if any(n is not None and n < 1 for n in numbers):
        options.fail("--threads, --processes, --rounds and --steps: expected numbers >= 1")
    if options.list:
        print("\n".join(f"{name:<{table.WIDTH}}{known[name]}" for name in names))
        return 0
    if options.json and not options.json.absolute().parent.is_dir():
        options.fail(f"--json {options.json}: no such folder: {options.json.parent}")
    if device == "cuda" and cuda.problem():
        options.fail(f"there is no GPU to measure: {cuda.problem()}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # also ends the workers
    return measure(names, device, options)


def measure(names: Sequence[str], device: str, options: argparse.Namespace) -> int:
    """Measure the cases, updating the report; returns the exit status."""
    start = time.monotonic()
    deadline = start + (options.seconds or SECONDS[options.command])
    effort = Effort(options.processes, options.rounds, options.steps)
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    report: dict[str, Any] = {"date": date, "machine": machine.describe(device)}
    report |= {"effort": dataclasses.asdict(effort), "peers": {}, "cases": [], "means": {}}

    def save() -> None:
        report["seconds"] = time.monotonic() - start
        report["means"] = means(report["cases"])
        if options.json:
            write_json(options.json, report)

    lanes = {name: name for name in ("xcnn", options.against)}
    variables = settings(options) if device == "cpu" else {}
    libraries = Session(lanes, effort, device, deadline, report["peers"], variables)
    if device == "cpu":
        say(f"{len(names)} cases: about {estimate(names, effort) / 60:.0f} minutes")
    try:
        fill(report, names, libraries, save)
    except Failed as failure:
        say(str(failure))
        return 1
    finally:
        save()
    print(table.render(report))
    outcomes = [*report["cases"], *report["peers"].values()]
    outcomes += [report.get(name, {}) for name in ("floor", "growth")]
    return int(any(outcome.get("status") in ("failed", "timed out") for outcome in outcomes))


def settings(options: argparse.Namespace) -> dict[str, dict[str, str]]:
    """The environment variables of each library."""
    threads, limits = str(options.threads), LIMITS.get(options.native, {})
    numpy = {"OPENBLAS_NUM_THREADS": threads, **limits.get("numpy", {})}
    torch = {"OMP_NUM_THREADS": threads, **limits.get("torch", {})}
    return {"xcnn": {**numpy, "XCNN_NATIVE": options.native}, "torch": torch, "pydynet": numpy}


def estimate(names: Sequence[str], effort: Effort) -> float:
    """Seconds that it takes to measure two libraries."""
    per_process = {"memory": 6, "memory-resnet20": 14, "import": 4, "floor": 2, "growth": 20}
    usual = 1.6 + 2 * effort.rounds * (TURN + PAUSE)
    return effort.processes * sum(per_process.get(name, usual) for name in names)


def fill(
    report: dict[str, Any], names: Sequence[str], libraries: Session, save: Callable[[], None]
) -> None:
    """Measure the cases in ``names`` and add them to the report."""
    rows = report["cases"]
    if libraries.device == "cuda":
        # keeps the kernels that the test suite compiles, for the next run or another machine
        os.environ.setdefault("CUPY_CACHE_DIR", str(ROOT / "build" / "cupy"))
        for name in filter(PARTS.__contains__, names):
            rows.append({"name": name, **run_part(PARTS[name], libraries)})
            say(f"{name}: {rows[-1]['status']}")
            save()
    chosen = [case for case in cases.CASES[libraries.device] if case.name in names]
    rows += [{"name": c.name, "title": c.title, "mean": c.mean} for c in chosen]
    libraries.run(rows[-len(chosen) :] if chosen else [], save=save)
    single = {name: partial(memory, case) for name, case in TRAINED.items()} | {"import": imports}
    for name, function in single.items():
        if name in names:
            say(name)
            rows.append({"name": name, "title": OTHERS[name], **function(libraries)})
    for row in rows:
        row["aim"] = cases.AIMS.get(row["name"]) if libraries.device == "cpu" else None
    for name, function in (("floor", floor), ("growth", growth)):
        if name in names:
            say(name)
            report[name] = attempt(partial(function, libraries))


def run_part(part: Part, libraries: Session) -> Row:
    """Run one part; returns its status, its results so far, and its error if any."""
    left, start = libraries.left(), time.monotonic()
    if left < part.minimum:
        return {"status": "skipped", "reason": f"needs {part.minimum:.0f} s, {left:.0f} s are left"}
    worker = Worker("xcnn", libraries.device)
    try:
        outcome = worker.answer(min(part.limit, left), part=f"benchmarks.gpu.{part.function}")
    finally:
        worker.close()
    return {**outcome, "took": time.monotonic() - start}


def memory(case: str, libraries: Session) -> Row:
    """Peak resident bytes of processes that only run one case."""
    effort, variables = dataclasses.replace(libraries.effort, rounds=2), libraries.variables
    row: Row = {"name": "memory"}
    Session(libraries.lanes, effort, variables=variables).run([row], case=lambda *_: case)
    if row["status"] != "ok":
        return row
    return session.summary({n: figures["peaks"] for n, figures in row["peers"].items()}, "memory")


def imports(libraries: Session) -> Row:
    """Seconds of ``import`` in fresh processes; the first one may read from a cold disk."""
    names = [name for name in libraries.lanes if importlib.util.find_spec(name)]
    repeats, variables = libraries.effort.processes + 2, libraries.variables
    times = {n: session.import_times(n, repeats, variables.get(n, {})) for n in names}
    return session.summary(times, "seconds")


def means(rows: Sequence[Row]) -> dict[str, float]:
    """Geometric mean of the ratios in each group."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        if row.get("mean") and row.get("ratio"):
            groups.setdefault(row["mean"], []).append(row["ratio"])
    return {name: statistics.geometric_mean(ratios) for name, ratios in groups.items()}


def floor(libraries: Session) -> dict[str, Any]:
    """The best rates of a few processes, and the least time of each training step."""
    results = []
    for _ in range(libraries.effort.processes):
        worker = Worker("xcnn", variables=libraries.variables.get("xcnn"))
        try:
            results.append(worker.ask(part="benchmarks.floor:measure")["result"])
        finally:
            worker.close()
    gemm, copy = (max(result[rate] for result in results) for rate in ("gemm", "copy"))
    steps = results[0]["steps"]
    for step in steps.values():
        step["seconds"] = 2 * step["multiply_adds"] / gemm + step["bytes"] / copy
    return {"gemm": gemm, "copy": copy, "steps": steps}


def growth(libraries: Session) -> dict[str, Any]:
    """Time and memory of a plain network's training step along each axis.

    Returns
    -------
    dict
        "base"; "threads"; "least", the peak bytes of a process that trains the smallest network;
        "axes", the points of each axis: work, seconds with one thread ("alone") and with all, bytes
        above the least, and growth factors.
    """
    variables = libraries.variables.get("xcnn", {})
    measured = partial(measure_sizes, variables=variables)
    least = measured([SMALLEST], Effort(1, 1, 1))[SMALLEST.name]["peak"]
    axes: dict[str, list[Row]] = {}
    for axis, values in AXES.items():
        sizes = [BASE._replace(**{axis: value}) for value in values]
        figures = measured(sizes, libraries.effort)
        points: list[Row] = []
        for size in sizes:
            now, alone = figures[size.name], figures[size.name + ALONE]
            point = {"value": getattr(size, axis), "work": size.work, "seconds": now["seconds"]}
            point |= {"alone": alone["seconds"], "spread": now["spread"]}
            point["memory"] = min(now["peaks"]) - least
            for key in ("seconds", "memory"):
                point[f"{key}_factor"] = factor(points[-1], point, key) if points else None
            points.append(point)
        axes[axis] = points
    threads = variables.get("OPENBLAS_NUM_THREADS", "all")
    return {"base": BASE._asdict(), "threads": threads, "least": least, "axes": axes}


def measure_sizes(
    sizes: Sequence[cases.Size], effort: Effort, variables: Mapping[str, str]
) -> dict[str, Row]:
    """The figures of each size by name, and with one thread by name + ALONE.

    All are measured in separate processes that take turns.
    """
    effort = Effort(min(effort.processes, 2), min(effort.rounds, 2), effort.steps)
    row: Row = {"name": "growth"}
    lanes = {s.name: variables for s in sizes}
    lanes |= {s.name + ALONE: {**variables, "OPENBLAS_NUM_THREADS": "1"} for s in sizes}
    alike = Session(dict.fromkeys(lanes, "xcnn"), effort, variables=lanes)
    alike.run([row], case=lambda row, lane: lane.removesuffix(ALONE))
    if row["status"] != "ok":
        raise Failed(row["error"])
    return row["peers"]


def factor(before: Row, now: Row, key: str) -> float | None:
    """Growth of ``key`` per doubling of the work; None if a value is not positive."""
    if min(before[key], now[key]) <= 0:  # within the noise of the smallest network
        return None
    return (now[key] / before[key]) ** (1 / math.log2(now["work"] / before["work"]))
