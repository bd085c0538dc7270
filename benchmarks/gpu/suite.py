"""The test suite on the GPU: every test that takes the ``backend`` fixture, on ``cuda``."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.gpu.outcome import Deadline, Failed

PROCESSES = 4  # at most; several may share one GPU
OURS = ("benchmarks", "tests", "xcnn")


def run(deadline: Deadline, save: Callable[[dict], None]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "records.jsonl"
        pytest = subprocess.Popen(command(records, "cuda", processes()), cwd=harness.ROOT)
        while pytest.poll() is None:
            time.sleep(0.5)
            save(summary(read(records)))
        found = summary(read(records))
    save(found)
    judge(found, pytest.returncode)


def processes() -> int:
    """How many processes of pytest-xdist; 0 where it is not installed."""
    installed = importlib.util.find_spec("xdist") is not None
    return min(PROCESSES, os.cpu_count() or 1) if installed else 0


def command(records: Path, device: str, processes: int) -> list[str]:
    """The command that runs the tests of ``device`` and records their outcomes."""
    plugin = ["-p", "benchmarks.gpu.plugin", "--only-backend", device, "--records", str(records)]
    plain = ["-q", "--tb=short", "--continue-on-collection-errors", "-p", "no:cacheprovider"]
    spread = ["-n", str(processes)] if processes > 1 else []
    return [sys.executable, "-m", "pytest", *plain, *plugin, *spread]


def read(records: Path) -> list[dict[str, Any]]:
    """The plugin's records, without a last line that is still being written."""
    text = records.read_text() if records.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of each outcome, and the names of what failed.

    A test file that needs a library which is not installed is listed under "missing"; one that
    cannot be imported for another reason is an error.
    """
    tests = {r["id"]: r for r in records if "id" in r}  # the last word on each counts
    missing = [r for r in tests.values() if r["outcome"] == "not collected" and lacks_library(r)]
    others = [r for r in tests.values() if r not in missing]
    counts = Counter("error" if r["outcome"] == "not collected" else r["outcome"] for r in others)
    failures = [r for r in others if r["outcome"] not in ("passed", "skipped")]
    return {
        "selected": sum(r.get("selected", 0) for r in records),
        **{outcome: counts[outcome] for outcome in ("passed", "failed", "error", "skipped")},
        "failures": {r["id"]: r["error"] for r in failures},
        "missing": {r["id"]: r["error"] for r in missing},
    }


def lacks_library(record: dict[str, Any]) -> bool:
    """Whether the error is the import of a library that is not ours."""
    match = re.match(r"ModuleNotFoundError: No module named '(\w+)", record["error"])
    return match is not None and match[1] not in OURS


def judge(found: dict[str, Any], status: int) -> None:
    """Raise :class:`Failed` unless all selected tests ran and none failed."""
    if found["failures"]:
        name, error = next(iter(found["failures"].items()))
        raise Failed(f"not passed: {len(found['failures'])}, the first is {name}: {error}")
    ran = found["passed"] + found["skipped"]
    if status not in (0, 1) or not found["selected"] or ran != found["selected"]:
        chosen = found["selected"]
        raise Failed(f"pytest ended with status {status} after {ran} of {chosen} selected tests")
