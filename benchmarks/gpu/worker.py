"""The process of one peer: ``python -m benchmarks.gpu.worker PEER DEVICE``, told what to do.

Messages are lines of JSON: {"hello": true}; {"job": [net, batch, precision], "warmup": n} makes a
job the current one; {"blocks": n, "steps": n} measures it.
"""

from __future__ import annotations

import gc
import json
import statistics
import subprocess
import sys
import time
from functools import partial
from typing import Any

from benchmarks import harness
from benchmarks.gpu.outcome import Failed, Skipped, attempt
from benchmarks.gpu.peers import JOBS, Job

QUEUED = 2  # steps at a time whose launches are timed: few, or the host waits for the queue


class Worker(harness.Worker):
    """A peer's process, seen from outside."""

    def __init__(self, peer: str, device: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.worker", peer, device],
            cwd=harness.ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **message: Any) -> dict[str, Any]:
        """The answer to a message.

        Raises
        ------
        Skipped, Failed
            What the work ended with in the other process.
        """
        answer = self._ask(message)
        if answer["status"] == "skipped":
            raise Skipped(answer["reason"])
        if answer["status"] == "failed":
            raise Failed(f"{answer['error']}\n{answer['traceback']}")
        return answer

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.communicate()


class Server:
    """A peer's process, seen from inside."""

    def __init__(self, peer: str, device: str) -> None:
        self._kind, self._device = JOBS[peer], device
        self._job: Any = None

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        if "hello" in message:
            return {"runs_on": self._kind.runs_on(self._device)}
        if "job" in message:
            return self._start(Job(*message["job"]), message["warmup"])
        return self._measure(**message)

    def _start(self, job: Job, warmup: int) -> dict[str, Any]:
        self._job = None
        gc.collect()  # the last one's memory is free
        self._job = self._kind(job, self._device)
        for _ in range(warmup):
            self._job.step()
        return {"parameters": self._job.parameters(), "seconds": wall(self._job, 3)}

    def _measure(self, blocks: int, steps: int) -> dict[str, Any]:
        job = self._job
        return {
            "blocks": [wall(job, steps) for _ in range(blocks)],
            "queue": statistics.median(queue(job, QUEUED) for _ in range(3)),
            "gpu": job.clock and statistics.median(gpu(job, QUEUED) for _ in range(3)),
            "peak": job.peak(),
        }


def wall(job: Any, steps: int) -> float:
    """Seconds per step, the device being waited for at the end only."""
    job.synchronize()
    start = time.perf_counter()
    repeat(job, steps)
    job.synchronize()
    return (time.perf_counter() - start) / steps


def queue(job: Any, steps: int) -> float:
    """Seconds per step until all its work is queued."""
    job.synchronize()
    start = time.perf_counter()
    repeat(job, steps)
    seconds = (time.perf_counter() - start) / steps
    job.synchronize()
    return seconds


def gpu(job: Any, steps: int) -> float:
    """Seconds per step on the GPU, without waiting for the host."""
    job.synchronize()
    return job.clock(partial(repeat, job, steps)) / steps


def repeat(job: Any, steps: int) -> None:
    for _ in range(steps):
        job.step()


def serve(peer: str, device: str) -> None:
    server = Server(peer, device)
    for line in sys.stdin:
        answer = attempt(partial(server.answer, json.loads(line)))
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
