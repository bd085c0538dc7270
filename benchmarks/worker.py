"""The process of one peer: ``python -m benchmarks.worker PEER DEVICE``.

Messages and answers are lines of JSON. {"hello": true} loads the library; {"case": name} prepares a
case; {"steps": n} times it; {"part": "module:function"} runs a part of ``benchmarks.gpu``.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from benchmarks import ROOT
from benchmarks.outcome import Failed, Skipped, attempt

PAUSE = 0.15  # seconds after an answer, for the threads of a CPU library to stop spinning
TURN = 0.2  # seconds
LIMIT = 600.0  # seconds per answer
LOG_CHARACTERS = 6000  # kept from the end of a failed process's output


class Worker:
    """The parent's side of a worker process."""

    def __init__(
        self, peer: str, device: str = "cpu", variables: Mapping[str, str] | None = None
    ) -> None:
        self._pause = PAUSE if device == "cpu" else 0
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", peer, device],
            cwd=ROOT,
            env={**os.environ, **(variables or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,  # a process group that can be killed as a whole
        )

    def ask(self, limit: float = LIMIT, **message: Any) -> dict[str, Any]:
        """Send a message and return the answer, within ``limit`` seconds.

        Raises
        ------
        Skipped, Failed
            The work was skipped or failed in the worker.
        """
        answer = self.answer(limit, **message)
        if answer["status"] == "skipped":
            raise Skipped(answer["reason"])
        if answer["status"] != "ok":
            raise Failed(f"{answer['error']}\n{answer.get('traceback', '')}{answer['log']}")
        return answer

    def answer(self, limit: float, **message: Any) -> dict[str, Any]:
        """Send a message and return the answer with its status; kills the process after ``limit``.

        If the process hangs or crashes, the answer holds the last unfinished result.
        """
        is_late = threading.Event()
        timer = threading.Timer(limit, lambda: (is_late.set(), self._kill()))
        timer.start()
        try:
            answer = self._exchange(message)
        finally:
            timer.cancel()
        time.sleep(self._pause)
        if answer["status"] == "unfinished":
            error = f"the process ended with status {self._process.wait()}"
            answer |= {"status": "failed", "error": error}
        if is_late.is_set():
            answer |= {"status": "timed out", "error": f"stopped after {limit:.0f} s"}
        return answer if answer["status"] in ("ok", "skipped") else {**answer, "log": self._tail()}

    def close(self) -> None:
        """Kill the process and everything that it started."""
        self._kill()
        with contextlib.suppress(BrokenPipeError):
            self._process.communicate()
        self._log.close()

    def _exchange(self, message: dict[str, Any]) -> dict[str, Any]:
        answer: dict[str, Any] = {"status": "unfinished"}
        with contextlib.suppress(BrokenPipeError):  # the process has ended
            print(json.dumps(message), file=self._process.stdin, flush=True)
            while answer["status"] == "unfinished" and (line := self._process.stdout.readline()):
                answer |= json.loads(line)
        return answer

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):  # the whole group has ended
            os.killpg(self._process.pid, signal.SIGKILL)

    def _tail(self) -> str:
        """The end of the output, read without moving the process's write offset."""
        start = max(0, os.fstat(self._log.fileno()).st_size - LOG_CHARACTERS)
        return os.pread(self._log.fileno(), LOG_CHARACTERS, start).decode(errors="replace")


class Server:
    """The worker's side."""

    def __init__(self, peer: str, device: str, send: Callable[[dict[str, Any]], None]) -> None:
        self._name, self._device, self._send = peer, device, send
        self._peer: Any = None
        self._step: Any = None

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        if "part" in message:
            return self._part(*message["part"].split(":"))
        from benchmarks import cases, peers  # not needed by parts

        if "hello" in message:
            self._peer = peers.PEERS[self._name](self._device)
            return {"runs_on": self._peer.runs_on()}
        if "case" in message:
            return self._start(cases.find(message["case"]))
        return self._turn(**message)

    def _part(self, module: str, function: str) -> dict[str, Any]:
        def save(result: dict[str, Any]) -> None:
            self._send({"status": "unfinished", "result": result})

        getattr(importlib.import_module(module), function)(save)
        return {}

    def _start(self, case: Any) -> dict[str, Any]:
        """Build and warm up a case; returns its parameter count and seconds per step."""
        self._step = None
        gc.collect()  # frees the previous case's memory
        self._peer.reset()
        self._step, parameters = case.make(self._peer)
        begin, seconds = time.perf_counter(), []
        while len(seconds) < 2 or time.perf_counter() - begin < TURN:
            seconds.append(timed(self._peer, self._step))
        return {"parameters": parameters, "seconds": statistics.median(seconds)}

    def _turn(self, steps: int) -> dict[str, Any]:
        """Seconds per step of each block; on a GPU also the queueing time and the GPU time."""
        peer, step = self._peer, self._step
        size = min(peer.block, steps)
        blocks = [timed(peer, step, size) for _ in range(steps // size)]
        answer: dict[str, Any] = {"blocks": blocks, "peak": peer.peak()}
        if peer.clock:
            queue = statistics.median(timed(peer, step, waits=False) for _ in range(3))
            times = [peer.clock(step, 2e-3 + 1.5 * queue) for _ in range(3)]
            answer |= {"queue": queue, "gpu": None if None in times else statistics.median(times)}
        return answer


def timed(peer: Any, step: Callable[[], Any], steps: int = 1, waits: bool = True) -> float:
    """Seconds per step until the device finishes or, without ``waits``, until work is queued."""
    peer.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    if waits:
        peer.synchronize()
    seconds = (time.perf_counter() - start) / steps
    peer.synchronize()
    return seconds


def serve(peer: str, device: str) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # all other output goes to the log

    def send(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    server = Server(peer, device, send)
    for line in sys.stdin:
        send(attempt(partial(server.answer, json.loads(line))))


if __name__ == "__main__":
    serve(*sys.argv[1:])
