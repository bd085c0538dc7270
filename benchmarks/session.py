"""Measures libraries in turns, each in its own process, and repeats that in fresh processes."""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks import ROOT
from benchmarks.outcome import Failed, attempt
from benchmarks.worker import LIMIT, TURN, Worker

MAX_STEPS = 300  # per turn
CASE_SECONDS = 15.0  # minimum time left to start a case
Row = dict[str, Any]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    processes: int = 3  # per lane; the best counts
    rounds: int = 5  # turns of each case in each process
    steps: int | None = None  # per turn; None: as many as fit into TURN seconds


@dataclass
class Session:
    """Measures rows in several lanes that take turns; each lane is a process of one peer.

    Attributes
    ----------
    lanes
        The peer of each lane.
    deadline
        In ``time.monotonic`` seconds; after it, no further case is started.
    peers
        The outcome of starting each lane: versions, or why it is missing.
    variables
        Environment variables of each lane's process.
    """

    lanes: Mapping[str, str]
    effort: Effort = field(default_factory=Effort)
    device: str = "cpu"
    deadline: float = math.inf
    peers: dict[str, dict[str, Any]] = field(default_factory=dict)
    variables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    _workers: dict[str, Worker] = field(default_factory=dict)

    def run(
        self,
        rows: Sequence[Row],
        case: Callable[[Row, str], str] = lambda row, lane: row["name"],
        save: Callable[[], None] = lambda: None,
    ) -> None:
        """Add figures to the rows; lanes that cannot start are left out.

        Parameters
        ----------
        rows
            Each with a "name".
        case
            Name of the case for a row and a lane.
        save
            Called after each change of a row.

        Raises
        ------
        Failed
            xcnn itself does not start.
        """
        try:
            for number in range(self.effort.processes if rows else 1):
                self.start()
                for row in rows:
                    self._measure(row, partial(case, row), number)
                    save()
                self.stop()
        finally:
            self.stop()

    def start(self) -> None:
        """Start a process for each lane, except those that failed to start before."""
        for lane in self.lanes:
            if self.peers.get(lane, {"status": "ok"})["status"] == "ok":
                self.peers[lane] = attempt(partial(self._hello, lane))
        for lane, peer in self.lanes.items():
            if peer == "xcnn" and self.peers[lane]["status"] != "ok":
                raise Failed(f"xcnn: {self.peers[lane].get('error')}")

    def stop(self) -> None:
        """End the processes."""
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def _ask(self, lane: str, **message: Any) -> dict[str, Any]:
        return self._workers[lane].ask(min(LIMIT, self.left()), **message)

    def _hello(self, lane: str) -> dict[str, Any]:
        variables = self.variables.get(lane, {})
        self._workers[lane] = Worker(self.lanes[lane], self.device, variables)
        try:
            return {"runs_on": {**self._ask(lane, hello=True)["runs_on"], **variables}}
        except Exception:
            self._workers.pop(lane).close()
            raise

    def _measure(self, row: Row, case: Callable[[str], str], number: int) -> None:
        """Add the figures of these processes to a row, if there is time."""
        if row.get("status", "ok") != "ok":
            return
        if self.left() < CASE_SECONDS:
            if number == 0:
                row.update(status="skipped", reason="no time was left")
            return
        row.update(attempt(partial(self._figures, row, case)))
        last = {lane: 1e3 * figures["spread"][-1] for lane, figures in row.get("peers", {}).items()}
        text = ", ".join([row["status"], *(f"{lane} {ms:.3f} ms" for lane, ms in last.items())])
        say(f"process {number + 1} of {self.effort.processes}, {row['name']}: {text}")
        if row["status"] != "ok":
            self.stop()  # a failed process may have ended, or its GPU may be unusable
            self.start()

    def _figures(self, row: Row, case: Callable[[str], str]) -> Row:
        cases = {lane: case(lane) for lane in self._workers}
        started = {lane: self._ask(lane, case=cases[lane]) for lane in cases}
        counts = {lane: answer["parameters"] for lane, answer in started.items()}
        if len({(cases[lane], n) for lane, n in counts.items()}) > len(set(cases.values())):
            raise Failed(f"the libraries' networks differ: parameters {counts}")
        steps = {lane: self._steps(answer["seconds"]) for lane, answer in started.items()}
        answers: dict[str, list[Row]] = {lane: [] for lane in cases}
        for _ in range(self.effort.rounds):
            for lane in cases:
                answers[lane].append(self._ask(lane, steps=steps[lane]))
        before = row.get("peers", {})
        peers = {n: fastest(before.get(n), over_turns(turns)) for n, turns in answers.items()}
        figures = {"parameters": next(iter(counts.values())), "measure": "seconds"}
        return {**figures, "peers": peers, "ratio": ratio(peers)}

    def _steps(self, seconds: float) -> int:
        """Steps per turn, if a step takes ``seconds``."""
        return self.effort.steps or max(1, min(MAX_STEPS, round(TURN / seconds)))


def over_turns(turns: Sequence[Row]) -> Row:
    """The figures of one process: the median over all blocks, and the final peak memory."""
    figures: Row = {
        "seconds": statistics.median(s for turn in turns for s in turn["blocks"]),
        "peak": turns[-1]["peak"],
    }
    for key in ("queue", "gpu"):
        if key in turns[0]:
            known = [turn[key] for turn in turns if turn[key] is not None]
            figures[key] = statistics.median(known) if 2 * len(known) > len(turns) else None
    return figures


def fastest(before: Row | None, now: Row) -> Row:
    """The figures of the fastest process, with the times and peaks of all processes."""
    before = before or {**now, "spread": [], "peaks": []}
    best = now if now["seconds"] < before["seconds"] else before
    spread, peaks = [*before["spread"], now["seconds"]], [*before["peaks"], now["peak"]]
    return {**best, "spread": spread, "peaks": peaks}


def ratio(peers: Mapping[str, Row], measure: str = "seconds") -> float | None:
    """Ratio of xcnn's figure to the other library's; None without one."""
    others = [figures for lane, figures in peers.items() if lane != "xcnn"]
    return peers["xcnn"][measure] / others[0][measure] if others and "xcnn" in peers else None


def summary(spreads: Mapping[str, Sequence[float]], measure: str) -> Row:
    """The lowest figure of each library, and their ratio."""
    peers = {lane: {measure: min(s), "spread": list(s)} for lane, s in spreads.items()}
    return {"status": "ok", "measure": measure, "peers": peers, "ratio": ratio(peers, measure)}


def import_times(module: str, repeats: int, variables: Mapping[str, str]) -> list[float]:
    """Seconds of ``import module`` in fresh processes, without interpreter start-up."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    command = [sys.executable, "-c", code]
    compiled = {"PYTHONDONTWRITEBYTECODE": ""}  # bytecode is kept, as in what pip installs
    place: dict[str, Any] = {"cwd": ROOT, "env": {**os.environ, **compiled, **variables}}
    return [float(subprocess.check_output(command, **place)) for _ in range(repeats)]
