"""The process of one peer: ``python -m benchmarks.cpu.worker PEER``, told what to do.

Messages are lines of JSON: {"hello": true}; {"case": name} makes a case the current one;
{"steps": n} runs it.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import time
from functools import partial
from typing import Any

from benchmarks import harness
from benchmarks.cpu.cases import BY_NAME, Work
from benchmarks.cpu.peers import PEERS
from benchmarks.gpu.outcome import Failed, Skipped, attempt


class Worker(harness.Worker):
    """A peer's process, seen from outside."""

    def __init__(self, peer: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.cpu.worker", peer],
            cwd=harness.ROOT,
            env=harness.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **message: Any) -> dict[str, Any]:
        """The answer to a message; afterwards a pause, for the process's threads to sleep.

        Raises
        ------
        Skipped, Failed
            What the work ended with in the other process.
        """
        answer = self._ask(message)
        time.sleep(harness.PAUSE)
        if answer["status"] == "skipped":
            raise Skipped(answer["reason"])
        if answer["status"] == "failed":
            raise Failed(f"{answer['error']}\n{answer['traceback']}")
        return answer

    def run(self, steps: int) -> list[float]:
        """Seconds of each of ``steps`` steps of the current case."""
        return self.ask(steps=steps)["seconds"]

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.communicate()


class Server:
    """A peer's process, seen from inside."""

    def __init__(self, peer: str) -> None:
        self._kind = PEERS[peer]
        self._peer: Any = None
        self._work: Work | None = None

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        if "hello" in message:
            self._peer = self._kind()
            return {"runs_on": self._peer.runs_on()}
        if "case" in message:
            return self._start(message["case"])
        return {"seconds": harness.timed(self._work.step, message["steps"])}

    def _start(self, name: str) -> dict[str, Any]:
        self._work = None
        gc.collect()  # the last one's memory is free
        case = BY_NAME[name]
        self._work = case.make(self._peer, case.batch)
        return {"parameters": self._work.parameters}


def serve(peer: str) -> None:
    server = Server(peer)
    for line in sys.stdin:
        print(json.dumps(attempt(partial(server.answer, json.loads(line)))), flush=True)


if __name__ == "__main__":
    serve(*sys.argv[1:])
