"""Peak memory and import time, each in processes of their own."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import harness, lenet
from benchmarks.cpu.cases import OTHERS
from benchmarks.cpu.turns import Effort, Row, summary

BATCH, STEPS = 128, 20


def memory(peers: Sequence[str], effort: Effort) -> Row:
    """Peak resident bytes of a process that trains LeNet-5."""
    found = harness.compare(
        {peer: lenet.MAKERS[peer] for peer in peers},
        rounds=1,
        steps=effort.steps or STEPS,
        warmup=1,
        processes=effort.processes,
        batch=BATCH,
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
