"""The parts, in their order, and how one is run: a process of its own with a time limit.

A part that hangs or crashes thus takes nothing with it, and each starts on a clean GPU.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import harness
from benchmarks.gpu.outcome import Deadline

LOG_CHARACTERS = 6000  # of a failed part's output, from its end


class Part(NamedTuple):
    """A part: its seconds at most, and at least to be worth starting."""

    name: str
    most: float
    least: float
    module: str


def _part(name: str, most: float, least: float) -> Part:
    return Part(name, most, least, f"benchmarks.gpu.{name}")


# training comes last because it can use whatever time is left
PARTS = [
    _part("suite", 180, 30),
    _part("ceilings", 25, 10),
    _part("kernels", 70, 15),
    _part("determinism", 20, 8),
    _part("mnist", 40, 15),
    _part("training", 240, 40),
]


class Finished(NamedTuple):
    """How a process ended; ``status`` is None if it was killed at its time limit."""

    status: int | None
    seconds: float
    log: str


def run_parts(
    parts: Iterable[Part],
    deadline: Deadline,
    environment: dict[str, str],
    keep: Callable[[str, dict[str, Any]], None],
) -> None:
    """Run the parts that the time allows; ``keep(name, entry)`` gets each one's entry."""
    for part in parts:
        allowed = min(part.most, deadline.left())
        if allowed < part.least:
            reason = f"needs {part.least:.0f} s, {max(0, deadline.left()):.0f} s are left"
            keep(part.name, {"status": "skipped", "reason": reason, "seconds": 0.0})
        else:
            keep(part.name, run_part(part, allowed, environment))


def run_part(part: Part, allowed: float, environment: dict[str, str]) -> dict[str, Any]:
    """The entry of one part: its status, its result as far as it came, and why if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        plans = str(0.9 * allowed - 1)  # the part's own limit, so that it ends before its end
        finished = run_process(
            [sys.executable, "-m", "benchmarks.gpu.child", part.module, str(file), plans],
            allowed,
            environment,
        )
        entry = json.loads(file.read_text()) if file.exists() else {"status": "unfinished"}
    return {**entry, **_ending(entry["status"], finished, allowed), "seconds": finished.seconds}


def _ending(status: str, finished: Finished, allowed: float) -> dict[str, Any]:
    """What the end of its process adds to a part's entry."""
    if status in ("ok", "skipped"):
        return {}
    log = {"log": finished.log[-LOG_CHARACTERS:]}
    if status == "failed":
        return log
    if finished.status is None:
        return {"status": "timed out", "error": f"stopped after {allowed:.0f} s", **log}
    text = f"the process ended with status {finished.status}"
    return {"status": "failed", "error": text, **log}


def run_process(command: list[str], seconds: float, environment: dict[str, str]) -> Finished:
    """Run a command; it and all processes it has started are gone afterwards."""
    start = time.monotonic()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command,
            cwd=harness.ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a process group of its own, to be killed as a whole
        )
        try:
            status = _wait(process, seconds)
        finally:
            _kill_group(process)
        log.seek(0)
        text = log.read().decode(errors="replace")
    return Finished(status, time.monotonic() - start, text)


def _wait(process: subprocess.Popen, seconds: float) -> int | None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return process.wait(seconds)
    return None


def _kill_group(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):  # all of the group have ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
