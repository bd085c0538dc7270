"""Training steps beside eager PyTorch: each peer a process of its own, taking turns."""

from __future__ import annotations

import inspect
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import xcnn
from benchmarks.gpu.outcome import Deadline, Failed, attempt, fail_if_any
from benchmarks.gpu.peers import Job
from benchmarks.gpu.worker import Worker

JOBS = [
    Job(net, batch, precision)
    for precision in ("float32", "tf32", "float16")
    for net, batch in (("lenet5", 128), ("lenet5", 1024), ("vgg", 128), ("resnet18", 32))
]


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    processes: int = 3  # of each peer; the best counts
    turns: int = 2  # of each job in each process
    blocks: int = 4  # per turn
    block_seconds: float = 0.2
    fewest: int = 5  # steps per block
    most: int = 20
    warmup: int = 10
    job_seconds: float = 15  # that a job may take the first time

    def steps(self, seconds: float) -> int:
        """Steps per block for steps of so many seconds."""
        return max(self.fewest, min(self.most, int(self.block_seconds / seconds)))


def run(deadline: Deadline, save: Callable[[dict], None]) -> None:
    Session(JOBS, "cuda", Effort(), deadline, save).run()


def offered(job: Job) -> str:
    """Why xcnn cannot do this job; empty if it can."""
    if job.net == "resnet18" and "resnet18" not in xcnn.models.names():
        return "xcnn has no resnet18"
    if job.precision != "float32" and not takes_precision():
        return "xcnn.Trainer has no precision"
    return ""


def takes_precision() -> bool:
    return "precision" in inspect.signature(xcnn.Trainer).parameters


@dataclass
class Session:
    """All jobs, in several rounds of processes, until the time is over."""

    jobs: list[Job]
    device: str
    effort: Effort
    deadline: Deadline
    save: Callable[[dict], None]
    peers: tuple[str, ...] = ("xcnn", "torch")
    _workers: dict[str, Worker] = field(default_factory=dict)
    _costs: dict[Job, float] = field(default_factory=dict)

    def run(self) -> dict[str, Any]:
        """Measure; raise :class:`Failed` at the end if a peer or a job failed."""
        self.found: dict[str, Any] = {"peers": {}, "rows": [], "left_out": {}}
        try:
            self._meet()
            for number in range(self.effort.processes):
                for job in self.jobs:
                    self._one(job, number == 0)
                self._close()
        finally:
            self._close()
        met = [{"title": peer, **answer} for peer, answer in self.found["peers"].items()]
        fail_if_any(met, "peers")
        fail_if_any(self.found["rows"], "jobs")
        return self.found

    def _meet(self) -> None:
        """Find out which peers there are; without PyTorch, xcnn is measured alone."""
        for peer in self.peers:
            self.found["peers"][peer] = attempt(partial(self._worker(peer).ask, hello=True))
        self.peers = tuple(p for p in self.peers if self.found["peers"][p]["status"] == "ok")
        if "xcnn" not in self.peers:
            raise Failed(f"xcnn: {self.found['peers']['xcnn']['error']}")

    def _one(self, job: Job, is_first: bool) -> None:
        """One job in this round's processes, if it can be done and there is time."""
        known = {row["title"]: row for row in self.found["rows"]}
        row = known.get(job.title, {"title": job.title, "job": list(job), "processes": []})
        missing = offered(job)
        if not missing and self.deadline.left() < self._costs.get(job, self.effort.job_seconds):
            missing = "no time was left"
        if missing or row.get("status") == "failed":
            if is_first:
                self.found["left_out"][job.title] = missing
            return
        self._measure(job, row)
        if job.title not in known:
            self.found["rows"].append(row)
        self.save(self.found)

    def _measure(self, job: Job, row: dict[str, Any]) -> None:
        """Add this round's figures to the job's row, and what they come to."""
        before = self.deadline.left()
        row.update(attempt(partial(self._figures, job, row)))
        self._costs[job] = 1.2 * (before - self.deadline.left())
        if row["status"] == "failed":
            self._close()  # a GPU's error would stay with the process

    def _figures(self, job: Job, row: dict[str, Any]) -> dict[str, Any]:
        row["processes"].append(self._turns(job))
        return best(row["processes"])

    def _turns(self, job: Job) -> dict[str, Any]:
        """Measure a job in the workers that live now: peer to the answers of its turns."""
        message = {"job": list(job), "warmup": self.effort.warmup}
        started = {peer: self._worker(peer).ask(**message) for peer in self.peers}
        if len({answer["parameters"] for answer in started.values()}) > 1:
            counts = {peer: answer["parameters"] for peer, answer in started.items()}
            raise Failed(f"the peers' networks differ: parameters {counts}")
        steps = {peer: self.effort.steps(answer["seconds"]) for peer, answer in started.items()}
        answers: dict[str, list[dict]] = {peer: [] for peer in self.peers}
        for _ in range(self.effort.turns):
            for peer in self.peers:
                blocks = self.effort.blocks
                answers[peer].append(self._worker(peer).ask(blocks=blocks, steps=steps[peer]))
        parameters = next(iter(started.values()))["parameters"]
        return {p: {"parameters": parameters, **over_turns(a)} for p, a in answers.items()}

    def _worker(self, peer: str) -> Worker:
        if peer not in self._workers:
            self._workers[peer] = Worker(peer, self.device)
        return self._workers[peer]

    def _close(self) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()


def over_turns(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """One process's figures: seconds per step are the median of all blocks."""
    return {
        "seconds": statistics.median(s for answer in answers for s in answer["blocks"]),
        "queue": statistics.median(answer["queue"] for answer in answers),
        "gpu": median_or_none([answer["gpu"] for answer in answers]),
        "peak": answers[-1]["peak"],
    }


def median_or_none(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def best(processes: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Each peer's fastest process, and the ratio of their times."""
    peers: dict[str, dict[str, Any]] = {}
    for peer in processes[0]:
        all_of_it = [process[peer] for process in processes]
        fastest = min(all_of_it, key=lambda figures: figures["seconds"])
        peers[peer] = {**fastest, "spread": [figures["seconds"] for figures in all_of_it]}
    both = "torch" in peers
    ratio = peers["xcnn"]["seconds"] / peers["torch"]["seconds"] if both else None
    return {"peers": peers, "ratio": ratio}
