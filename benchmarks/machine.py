"""The hardware and software that measurements were made on."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from benchmarks import ROOT


def describe(device: str = "cpu") -> dict[str, Any]:
    """Python, system, processor, load and commit; for "cuda" also the GPU and CUDA versions.

    The load is the average number of busy threads in the minute before.
    """
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": _processor(),
        "cores": cores(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else "unknown",
        "commit": _commit(),
        **(_gpu() if device == "cuda" else {}),
    }


def cores() -> int:
    """Number of cores that this process may use."""
    has_affinity = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1


def numpy_runs_on() -> dict[str, Any]:
    """NumPy's version, and the version, core and threads of its BLAS."""
    import numpy as np
    from threadpoolctl import threadpool_info

    facts: dict[str, Any] = {"numpy": np.__version__}
    for pool in threadpool_info():
        if pool["user_api"] == "blas":
            facts["blas"] = f"{pool['internal_api']} {pool['version']}"
            facts["core"] = pool.get("architecture", "unknown")
            facts["threads"] = pool["num_threads"]
    return facts


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    name = re.search(r"model name\s*: (.*)", info.read_text() if info.exists() else "")
    return name[1] if name else platform.processor()


def _commit() -> str:
    """The commit of the checkout, or ``XCNN_COMMIT`` for a copy without history."""
    described = _output("git", "describe", "--always", "--dirty", "--abbrev=12")
    return os.environ.get("XCNN_COMMIT") or described or "unknown"


def _gpu() -> dict[str, Any]:
    import cupy

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(0)
    return {
        "GPU": properties["name"].decode(),
        "compute capability": f"{properties['major']}.{properties['minor']}",
        "multiprocessors": properties["multiProcessorCount"],
        "memory": f"{properties['totalGlobalMem'] / 2**30:.1f} GiB",
        "L2 cache": f"{properties['l2CacheSize'] / 2**20:.0f} MiB",
        "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "driver's CUDA": _dotted(runtime.driverGetVersion()),
        "CUDA": _dotted(runtime.runtimeGetVersion()),
        "cupy": cupy.__version__,
    }


def _dotted(version: int) -> str:
    """A CUDA version: 13010 is 13.1."""
    return f"{version // 1000}.{version % 1000 // 10}"


def _output(*command: str) -> str | None:
    """The first line that a command prints; None if it fails or does not exist."""
    if shutil.which(command[0]) is None:
        return None
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return None if done.returncode else done.stdout.split("\n")[0]
