"""The command ``distributed``: steps of several ranks against one process, and against the model.

The same batch is trained by one process with a thread for each rank, by one rank of one thread, and
by all ranks of one thread. Each of these lanes is started anew in each round. What other processes
take of a shared machine only adds time: a figure is the fastest tenth of the steps, in the best
round. ``--engine nccl`` does it with a GPU for each rank.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import ROOT, machine
from benchmarks.distributed import model
from benchmarks.distributed.model import Piece, Step, simulate
from benchmarks.distributed.rank import NETWORKS, SLOW
from benchmarks.outcome import Failed, write_json
from benchmarks.session import say

SIZES = tuple(4**n for n in range(1, 13))  # 4 bytes to 16 MiB; --quick: every third, to 1 MiB
TCP = {  # MPICH: over the loopback device, without warnings at the end
    "UCX_TLS": "tcp,self",
    "MPIR_CVAR_NOLOCAL": "1",
    "UCX_LOG_LEVEL": "error",
}
LIMIT = 300.0  # seconds for each start
WAYS = {  # of blocks with communication
    "none": "without communication",
    "after": "all-reduce after backward",
    "overlap": "all-reduce during backward",
    "slow": f"during backward, {8 * SLOW.bandwidth / 1e9:.0f} Gbit/s",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--engine", choices=("mpi", "nccl"), default="mpi", help="default: mpi, on the CPU")
    add("--ranks", type=int, default=2, metavar="N", help="processes; default: 2")
    add("--network", nargs="+", choices=NETWORKS, default=list(NETWORKS), help="default: all")
    add("--rounds", type=int, default=5, metavar="N", help="starts of each lane; default: 5")
    add("--seconds", type=float, default=3, metavar="S", help="for each network; default: 3")
    add("--quick", action="store_true", help="one round of a few steps, to see that it works")
    add("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    add("--show", type=Path, metavar="FILE", help="only print such a file")


def main(options: argparse.Namespace) -> int:
    """Measure and print; returns the exit status."""
    if options.show:
        print("\n".join(render(json.loads(options.show.read_text()))))
        return 0
    if options.ranks < 2 or options.rounds < 1:
        options.fail("--ranks: expected a number >= 2, --rounds >= 1")
    if mpiexec() is None:
        options.fail("mpiexec is missing; install one: pip install mpi4py mpich")
    if options.quick:
        options.rounds, options.seconds = 1, 0.0
    device = "cuda" if options.engine == "nccl" else "cpu"
    date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    report: dict[str, Any] = {"date": date, "machine": machine.describe(device)}
    sizes = SIZES[:: 3 if options.quick else 1]
    report |= {"engine": options.engine, "ranks": options.ranks, "rounds": options.rounds}
    report["sizes"] = sizes
    turns: dict[str, list[dict[str, Any]]] = {}
    try:
        for number in range(options.rounds):
            for lane, (engine, threads, blocks, variables) in lanes(options).items():
                say(f"round {number + 1} of {options.rounds}: {lane}")
                message = {"engine": engine, "device": device, "networks": options.network}
                message |= {"blocks": blocks, "seconds": options.seconds}
                message["sizes"] = sizes if engine else ()
                ranks = options.ranks if engine else 1
                turns.setdefault(lane, []).append(start(message, ranks, threads, variables))
    except Failed as failure:
        say(str(failure))
        return 1
    report["lanes"] = {lane: merged(several) for lane, several in turns.items()}
    if options.json:
        write_json(options.json, report)
    print("\n".join(render(report)))
    return 0


def lanes(options: argparse.Namespace) -> dict[str, tuple[Any, int, list[Any], dict[str, str]]]:
    """Of each lane: engine, threads, blocks (title, way, share of the batch) and environment."""
    ranks, share = options.ranks, 1 / options.ranks
    ways = [[way, way, share] for way in WAYS]
    sent = [["alone", "alone", share], *ways, ["weak", "overlap", 1]]
    alone = [["all", "alone", 1], ["share", "alone", share]]
    found: dict[str, tuple[Any, int, list[Any], dict[str, str]]] = {
        "one": (None, 1, alone, {}),
        "ranks": (options.engine, 1, sent, {}),
    }
    if options.engine == "mpi":
        found["threads"] = (None, ranks, alone[:1], {})
        found["tcp"] = (options.engine, 1, ways[:3], TCP)
    return found


def mpiexec() -> str | None:
    """The one beside this Python, or else on the path."""
    return shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")


def start(
    message: dict[str, Any], ranks: int, threads: int, variables: dict[str, str]
) -> dict[str, Any]:
    """Run the ranks of a lane once.

    Raises
    ------
    Failed
        One of them failed, or they took too long.
    """
    command = [sys.executable, "-m", "benchmarks.distributed.rank", json.dumps(message)]
    if message["engine"]:
        command = [str(mpiexec()), "-n", str(ranks), *command]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": str(threads), **variables}
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"not ready after {LIMIT:.0f} s: {' '.join(command)}") from error
    if done.returncode:
        raise Failed(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


def merged(turns: Sequence[Any]) -> Any:
    """The same figures, the least of all turns; "spread" has the seconds of each turn."""
    first = turns[0]
    if isinstance(first, dict):
        found = {key: merged([turn[key] for turn in turns]) for key in first}
        return {**found, "spread": [t["seconds"] for t in turns]} if "seconds" in first else found
    if isinstance(first, list) and len({len(turn) for turn in turns}) == 1:
        return [merged(values) for values in zip(*turns, strict=True)]
    return min(turns) if isinstance(first, int | float) else first


# -- the model of what was measured --------------------------------------------------------------


def observed(block: dict[str, Any]) -> Step:
    """The computation of a step without communication: when each bucket was ready."""
    starts = [0.0, *block["ready"]]
    pairs = zip(starts, block["ready"], block["bytes"], strict=False)
    return Step(
        [Piece(ready - before, size) for before, ready, size in pairs],
        block["seconds"] - starts[-1],
    )


def predicted(
    blocks: dict[str, Any], cost: tuple[float, float], ranks: int
) -> dict[str, list[float]]:
    """By way, seconds of a step: if the network works alone, and if it takes the rank's thread.

    ``cost`` has the seconds, and the seconds per byte, of an all-reduce.
    """

    def fitted(size: float) -> float:
        return cost[0] + cost[1] * size

    step = observed(blocks["none"])
    return {
        "none": [step.compute],
        "after": [simulate(step, fitted, 0, overlap=False).step],
        "overlap": [simulate(step, fitted, 0, taken=taken).step for taken in (0, 1)],
        "slow": [simulate(step, model.ring(ranks, SLOW), 0).step],
    }


# -- the table ----------------------------------------------------------------------------------


def render(report: dict[str, Any]) -> Iterator[str]:
    """The report as lines of text."""
    ranks, lanes = report["ranks"], report["lanes"]
    names = {"ranks": "shared memory" if report["engine"] == "mpi" else "NCCL", "tcp": "TCP"}
    names = {lane: name for lane, name in names.items() if lane in lanes}
    costs, sizes = {}, report["sizes"]
    for lane, name in names.items():
        times = lanes[lane]["sizes"]
        start, slope = costs[lane] = model.fit(sizes, times)
        errors = [abs(start + slope * n - t) / t for n, t in zip(sizes, times, strict=True)]
        yield (
            f"all-reduce of {ranks} ranks, {name}: {start * 1e6:.0f} µs + n / "
            f"{1e-9 / slope:.2f} GB/s; usual error {statistics.median(errors):.0%}"
        )
    for network in (name for name in NETWORKS if name in lanes["ranks"]):
        yield ""
        yield from table(network, lanes, ranks)
        for lane, name in names.items():
            yield f"  {name:<34}measured  the model"
            yield from communication(lanes[lane][network], costs[lane], ranks)
    yield ""
    yield ", ".join(f"{key} {value}" for key, value in report["machine"].items())
    yield f"the fastest tenth of the steps, in the best of {report['rounds']} starts of each lane"


def table(network: str, lanes: dict[str, Any], ranks: int) -> Iterator[str]:
    """A network's steps on one process and on all ranks."""
    title, _, batch, _ = NETWORKS[network]
    one, several = lanes["one"][network], lanes["ranks"][network]
    alone, together, weak = (
        block["seconds"] for block in (one["all"], several["overlap"], several["weak"])
    )
    rows = [("1 rank of 1 thread", alone, "")]
    if "threads" in lanes:
        seconds = lanes["threads"][network]["all"]["seconds"]
        rows.append(
            (f"1 process of {ranks} threads", seconds, f"{alone / seconds:.2f} times 1 rank")
        )
    rows.append((f"{ranks} ranks of 1 thread", together, f"{alone / together:.2f} times 1 rank"))
    text = f"{ranks * alone / weak:.2f} times 1 rank"
    rows.append((f"{ranks} ranks, {ranks * batch} images", weak, text))
    text = f"{several['alone']['seconds'] * 1e3:.2f} beside another"
    rows.append((f"1 rank, 1/{ranks} of the images", one["share"]["seconds"], text))
    yield f"{f'{title}, {batch} images':<38}{'ms':>8}"
    yield from (f"  {name:<36}{s * 1e3:>8.2f}  {text}".rstrip() for name, s, text in rows)


def communication(blocks: dict[str, Any], cost: tuple[float, float], ranks: int) -> Iterator[str]:
    """A network's steps with one kind of connection, beside the model's."""
    modelled = predicted(blocks, cost, ranks)
    for way, text in WAYS.items():
        if way in blocks:
            values = " to ".join(f"{s * 1e3:.2f}" for s in modelled[way])
            yield f"    {text:<34}{blocks[way]['seconds'] * 1e3:>8.2f}  {values}"
    none, after, during = (blocks[way]["seconds"] for way in ("none", "after", "overlap"))
    (longest,), bounds = modelled["after"], modelled["overlap"][::-1]
    values = " to ".join(f"{(longest - s) / (longest - none):.0%}" for s in bounds)
    share = (after - during) / (after - none) if after > 1.1 * none else math.nan
    shown = "unclear" if math.isnan(share) else f"{share:.0%}"  # too short against the noise
    yield f"    {'hidden behind backward':<34}{shown:>8}  {values}"
    sizes, gradients = blocks["overlap"]["bytes"], blocks["gradients"]
    wire = blocks["overlap"]["wire"] / (2 * (ranks - 1) / ranks * gradients)
    seen = f"; on the wire {wire:.3f} of the theory" if wire > 0.5 else ""
    yield f"    bytes / gradients' bytes: {sum(sizes) / gradients:.4f}, calls: {len(sizes)}{seen}"
