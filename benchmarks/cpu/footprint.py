"""Peak memory and import time, each in processes of their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks import harness
from benchmarks.cpu.cases import BY_NAME, OTHERS
from benchmarks.cpu.peers import PEERS, Step
from benchmarks.cpu.turns import Effort, Row, summary

CASE, STEPS = "lenet-128", 20


def make_step(peer: str) -> tuple[Step, dict[str, Any]]:
    """A training step of a peer, and what it runs on."""
    kind, case = PEERS[peer](), BY_NAME[CASE]
    return case.make(kind, case.batch).step, kind.runs_on()


def memory(peers: Sequence[str], effort: Effort) -> Row:
    """Peak resident bytes of a process that trains LeNet-5."""
    found = harness.compare(
        dict.fromkeys(peers, "benchmarks.cpu.footprint:make_step"),
        rounds=1,
        steps=effort.steps or STEPS,
        warmup=1,
        processes=effort.processes,
        each={peer: {"peer": peer} for peer in peers},
    )
    spreads = {peer: figures["peaks"] for peer, figures in found.items()}
    return _row("memory", "memory", spreads)


def imports(peers: Sequence[str], effort: Effort) -> Row:
    """Seconds of ``import``, in fresh processes."""
    repeats = effort.processes + 2  # the first one may find a cold disk
    return _row("import", "seconds", {peer: harness.import_times(peer, repeats) for peer in peers})


def _row(name: str, measure: str, spreads: dict[str, list[float]]) -> Row:
    row = {"name": name, "title": OTHERS[name], "measure": measure, "status": "ok"}
    return {**row, **summary(spreads, measure)}
