"""Peers as processes of their own that take turns, so that only ratios of one run count.

A worker is this file run with a peer's name. It builds the peer once, then does one block of
steps whenever it is told to, and answers with the time of each. Workers of all peers live at the
same time and take turns, with a pause after each block: two thread pools that both spin on the
same cores would slow each other down.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAUSE = 0.15  # seconds, for the other peer's threads to stop spinning


class Worker:
    """A process that runs steps of one peer.

    Parameters
    ----------
    make
        "module:function"; the function takes the settings and returns a callable, one step.
    settings
        Passed to it as keywords.
    """

    def __init__(self, make: str, **settings: Any) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.harness", make, json.dumps(settings)],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, steps: int) -> list[float]:
        """Seconds of each of ``steps`` steps."""
        times = self._ask({"steps": steps})["seconds"]
        time.sleep(PAUSE)
        return times

    def close(self) -> dict[str, Any]:
        """End the process: what it ran on, and its peak memory in bytes."""
        answer = self._ask({"end": True})
        self._process.communicate()
        return answer

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended with status {self._process.wait()}")
        return json.loads(line)


def environment() -> dict[str, str]:
    """The user's environment without what would slow one peer alone: a forced BLAS core, or that
    what is not installed is compiled with each import.
    """
    dropped = "OPENBLAS_CORETYPE", "PYTHONDONTWRITEBYTECODE"
    return {k: v for k, v in os.environ.items() if k not in dropped}


def compare(
    makers: dict[str, str],
    rounds: int,
    steps: int,
    warmup: int,
    processes: int,
    each: Mapping[str, dict[str, Any]] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Median step time of each peer: the best of ``processes`` runs that take turns.

    Parameters
    ----------
    makers
        Peer to what :class:`Worker` takes.
    rounds, steps, warmup, processes
        Turns of a process, steps of a turn, steps before the first turn, processes of a peer.
    each
        Peer to settings of its own.
    **settings
        Of all peers.

    Returns
    -------
    dict
        Peer to {"seconds": median of the best process, "spread": medians of all processes,
        "memory": least peak in bytes, "peaks": those of all processes, "runs_on": ...}.
    """
    own = each or {}
    found: dict[str, dict[str, Any]] = {name: {"spread": [], "peaks": []} for name in makers}
    for _ in range(processes):
        workers = {n: Worker(make, **settings, **own.get(n, {})) for n, make in makers.items()}
        times: dict[str, list[float]] = {name: [] for name in makers}
        for worker in workers.values():
            worker.run(warmup)
        for _ in range(rounds):
            for name, worker in workers.items():
                times[name] += worker.run(steps)
        for name, worker in workers.items():
            end = worker.close()
            found[name]["spread"].append(statistics.median(times[name]))
            found[name]["peaks"].append(end["peak"])
            found[name]["runs_on"] = end["runs_on"]
    for result in found.values():
        result["seconds"] = min(result["spread"])
        result["memory"] = min(result["peaks"])
    return found


def import_seconds(module: str, repeats: int = 5) -> float:
    """Least time of ``import module`` in a fresh process, the interpreter's start left out."""
    return min(import_times(module, repeats))


def import_times(module: str, repeats: int) -> list[float]:
    """The times of all those processes."""
    code = (
        "import time; start = time.perf_counter(); "
        f"import {module}; print(time.perf_counter() - start)"
    )
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            check=True,
        )
        for _ in range(repeats)
    ]
    return [float(run.stdout) for run in runs]


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "commit": commit or "unknown",
    }


def numpy_runs_on() -> dict[str, Any]:
    """NumPy's version, and its BLAS core and threads where threadpoolctl can tell."""
    import numpy as np

    found: dict[str, Any] = {"numpy": np.__version__}
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return found
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            found["blas"] = f"{pool['internal_api']} {pool['version']}"
            found["core"] = pool.get("architecture", "unknown")
            found["threads"] = pool["num_threads"]
    return found


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _serve(make: str, settings: dict[str, Any]) -> None:
    module, name = make.split(":")
    step, runs_on = getattr(importlib.import_module(module), name)(**settings)
    for line in sys.stdin:
        message = json.loads(line)
        if "end" in message:
            print(json.dumps({"peak": _peak(), "runs_on": runs_on}), flush=True)
            return
        print(json.dumps({"seconds": timed(step, message["steps"])}), flush=True)


def _peak() -> int:
    """Peak resident bytes of this process."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    # getrusage would count what the parent held when it started this process
    peaks = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    if peaks:
        return int(peaks[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def timed(step: Callable[[], Any], steps: int) -> list[float]:
    """Seconds of each step."""
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return seconds


if __name__ == "__main__":
    _serve(sys.argv[1], json.loads(sys.argv[2]))
