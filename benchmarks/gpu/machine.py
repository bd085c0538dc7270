"""What the figures were measured on."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import xcnn
from benchmarks import harness

LIBRARIES = ("numpy", "scipy", "torch", "pytest")


def describe() -> dict[str, Any]:
    """The GPU, the host, and the version of everything."""
    return {
        "gpu": gpu(),
        "host": host(),
        "versions": {**versions(), **cuda_versions()},
        "commit": commit(harness.ROOT, os.environ),
    }


def gpu() -> dict[str, Any]:
    import cupy

    found = cupy.cuda.runtime.getDeviceProperties(0)
    return {
        "name": found["name"].decode(),
        "compute_capability": f"{found['major']}.{found['minor']}",
        "multiprocessors": found["multiProcessorCount"],
        "memory": found["totalGlobalMem"],
        "l2_cache": found["l2CacheSize"],
    }


def host() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "processor": harness._processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
    }


def versions() -> dict[str, str | None]:
    """Python, xcnn and the libraries; None for one that is not installed."""
    installed = {name: importlib.util.find_spec(name) is not None for name in LIBRARIES}
    return {
        "python": platform.python_version(),
        "xcnn": xcnn.__version__,
        **{
            name: importlib.metadata.version(name) if installed[name] else None
            for name in LIBRARIES
        },
    }


def cuda_versions() -> dict[str, str | None]:
    import cupy

    runtime = cupy.cuda.runtime
    return {
        "cupy": cupy.__version__,
        "driver": driver(),
        "driver_cuda": dotted(runtime.driverGetVersion()),
        "runtime_cuda": dotted(runtime.runtimeGetVersion()),
    }


def dotted(version: int) -> str:
    """CUDA's 13010 as 13.1."""
    return f"{version // 1000}.{version % 1000 // 10}"


def driver() -> str | None:
    """The driver's own version, where nvidia-smi tells it."""
    if shutil.which("nvidia-smi") is None:
        return None
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    return (_output(command, Path.cwd()) or "").split("\n")[0] or None


def commit(root: Path, environment: Any) -> dict[str, Any]:
    """The commit of the checkout; ``XCNN_COMMIT`` names it for a copy that has no history."""
    named = environment.get("XCNN_COMMIT")
    if named:
        return {"id": named, "dirty": None}
    if shutil.which("git") is None or not (root / ".git").exists():
        return {"id": "unknown", "dirty": None}
    head = _output(["git", "rev-parse", "HEAD"], root)
    changes = _output(["git", "status", "--porcelain"], root)
    return {"id": head or "unknown", "dirty": None if changes is None else changes != ""}


def _output(command: list[str], folder: Path) -> str | None:
    """What a command prints; None if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return None if done.returncode else done.stdout.strip()
