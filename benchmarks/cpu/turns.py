"""The cases beside PyTorch: each peer a process that serves them all, taking turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.cpu.cases import Case
from benchmarks.cpu.worker import Worker
from benchmarks.gpu.outcome import Failed, attempt

PEERS = ("xcnn", "torch")
Say = Callable[[str], None]
Row = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    processes: int = 3  # of each peer; the best counts
    rounds: int = 5  # turns of each case in each process
    steps: int | None = None  # per turn; None: as the case has it


@dataclass
class Session:
    """All cases, in several processes of each peer, one pair of them after the other.

    Attributes
    ----------
    peers
        Name to the outcome of meeting it: versions, or why it is not there.
    rows
        What :func:`summary` makes of each case.
    """

    cases: Sequence[Case]
    effort: Effort
    say: Say
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    _workers: dict[str, Worker] = field(default_factory=dict)

    def run(self) -> list[Row]:
        """Measure all cases; without PyTorch, xcnn alone.

        Raises
        ------
        Failed
            There is no xcnn to measure.
        """
        self.rows += [
            {"name": case.name, "title": case.title, "mean": case.mean, "measure": "seconds"}
            for case in self.cases
        ]
        try:
            for number in range(self.effort.processes):
                self.meet()
                for case, row in zip(self.cases, self.rows, strict=True):
                    self._measure(case, row, number)
                self.leave()
        finally:
            self.leave()
        return self.rows

    def meet(self) -> tuple[str, ...]:
        """Start a process of each peer that there is: their names."""
        for peer in PEERS:
            if self.peers.get(peer, {"status": "ok"})["status"] == "ok":
                self.peers[peer] = attempt(partial(self._hello, peer))
        if self.peers["xcnn"]["status"] != "ok":
            raise Failed(f"xcnn: {self.peers['xcnn']['error']}")
        return self.names()

    def names(self) -> tuple[str, ...]:
        """The peers that are measured."""
        return tuple(name for name, met in self.peers.items() if met["status"] == "ok")

    def leave(self) -> None:
        """End the processes."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def _hello(self, peer: str) -> dict[str, Any]:
        self._workers[peer] = Worker(peer)
        try:
            return {"runs_on": self._workers[peer].ask(hello=True)["runs_on"]}
        except Exception:
            self._workers.pop(peer).close()
            raise

    def _measure(self, case: Case, row: Row, number: int) -> None:
        """Add this pair of processes' medians to the case's row."""
        if row.get("status", "ok") != "ok":
            return
        row.update(attempt(partial(self._figures, case, row)))
        done = f"process {number + 1} of {self.effort.processes}"
        self.say(f"{done}, {case.name}: {latest(row)}")
        if row["status"] == "failed":
            self.leave()  # a process that failed may be gone
            self.meet()

    def _figures(self, case: Case, row: Row) -> Row:
        started = {p: self._workers[p].ask(case=case.name) for p in self.names()}
        counts = {peer: answer["parameters"] for peer, answer in started.items()}
        if len(set(counts.values())) > 1:
            raise Failed(f"the peers' networks differ: parameters {counts}")
        before = {peer: figures["spread"] for peer, figures in row.get("peers", {}).items()}
        return {
            "batch": case.batch,
            "parameters": counts["xcnn"],
            **summary({p: [*before.get(p, []), m] for p, m in self._medians(case).items()}),
        }

    def _medians(self, case: Case) -> dict[str, float]:
        """Median step of each peer's living process; the first turn warms up."""
        steps = self.effort.steps or case.steps
        times: dict[str, list[float]] = {peer: [] for peer in self.names()}
        for number in range(self.effort.rounds + 1):
            for peer, seconds in times.items():
                turn = self._workers[peer].run(steps)
                seconds += turn if number else []
        return {peer: statistics.median(seconds) for peer, seconds in times.items()}


def latest(row: Row) -> str:
    """What the last pair of processes gave."""
    if row["status"] != "ok":
        return row["status"]
    medians = {peer: figures["spread"][-1] * 1e3 for peer, figures in row["peers"].items()}
    return ", ".join(f"{peer} {median:.3f} ms" for peer, median in medians.items())


def summary(spreads: dict[str, list[float]], measure: str = "seconds") -> Row:
    """The best of each peer's figures, and xcnn's over PyTorch's (None if that is not there)."""
    peers = {peer: {measure: min(spread), "spread": spread} for peer, spread in spreads.items()}
    both = "torch" in peers
    ratio = peers["xcnn"][measure] / peers["torch"][measure] if both else None
    return {"peers": peers, "ratio": ratio}


def means(rows: Sequence[Row]) -> dict[str, float]:
    """Geometric mean of the ratios that belong to each mean."""
    groups: dict[str, list[float]] = {}
    for row in rows:
        if row.get("mean") and row.get("ratio"):
            groups.setdefault(row["mean"], []).append(row["ratio"])
    return {name: statistics.geometric_mean(ratios) for name, ratios in groups.items()}
