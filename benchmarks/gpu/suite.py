"""The test suite on the GPU: every test with the ``backend`` fixture, on ``cuda``."""

from __future__ import annotations

import importlib.util
import os
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from benchmarks.outcome import Failed

PROCESSES = 12  # maximum; they share the GPU, and compile kernels on the CPU's cores
OTHER_LIBRARY = r"ModuleNotFoundError: No module named '(?!benchmarks|tests|xcnn)"


def run(save: Callable[[dict], None], device: str = "cuda", processes: int = PROCESSES) -> None:
    """Run the tests of one device; raise :class:`Failed` unless all of them ran and passed."""
    has_xdist = importlib.util.find_spec("xdist") is not None
    spread = ["-n", str(min(processes, os.cpu_count() or 1))] if has_xdist and processes else []
    plain = ["-q", "--tb=short", "--continue-on-collection-errors", "-p", "no:cacheprovider"]
    chosen = ["-p", "benchmarks.gpu.plugin", "--only-backend", device]
    recorder = Recorder(save)
    status = pytest.main([*plain, *chosen, *spread], [recorder])
    save(recorder.summary())
    judge(recorder.summary(), status)


class Recorder:
    """A pytest plugin that saves the outcomes so far, about twice a second."""

    def __init__(self, save: Callable[[dict], None]) -> None:
        self._save, self._saved = save, 0.0
        self._selected = 0
        self._tests: dict[str, tuple[str, str]] = {}  # id to outcome and error

    def pytest_collection_finish(self, session: Any) -> None:
        self._selected = len(session.items)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, node: Any, ids: list[str]) -> None:
        self._selected = len(ids)  # each process collects all tests

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or not report.passed:
            is_error = report.when != "call" and not report.skipped
            self._record(report, "error" if is_error else report.outcome)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._record(report, "not collected")

    def _record(self, report: Any, outcome: str) -> None:
        error = first_error(report.longreprtext) if report.failed else ""
        self._tests[report.nodeid] = (outcome, error)
        if time.monotonic() - self._saved > 0.5:
            self._save(self.summary())
            self._saved = time.monotonic()

    def summary(self) -> dict[str, Any]:
        """Counts of each outcome, and the names and errors of failures.

        A test file that needs a library that is not installed is listed under "missing"; one that
        cannot be imported for another reason is an error.
        """
        counts: Counter[str] = Counter()
        failures, missing = {}, {}
        for name, (outcome, error) in self._tests.items():
            if outcome == "not collected" and re.match(OTHER_LIBRARY, error):
                missing[name] = error
                continue
            counts[outcome.replace("not collected", "error")] += 1
            if outcome not in ("passed", "skipped"):
                failures[name] = error
        names = ("passed", "failed", "error", "skipped")
        result = {"selected": self._selected, **{name: counts[name] for name in names}}
        return {**result, "failures": failures, "missing": missing}


def first_error(text: str) -> str:
    """The first line of the error in pytest's failure report."""
    error = re.search(r"^E +(.*)", text, re.MULTILINE)
    return error[1] if error else text.strip().rpartition("\n")[2]


def judge(result: dict[str, Any], status: int) -> None:
    """Raise :class:`Failed` unless all selected tests ran and none failed.

    Status 1 without failures means that a file was left out because a library is missing.
    """
    if result["failures"]:
        name, error = next(iter(result["failures"].items()))
        raise Failed(f"not passed: {len(result['failures'])}, the first is {name}: {error}")
    ran, selected = result["passed"] + result["skipped"], result["selected"]
    if status not in (0, 1) or not selected or ran != selected:
        raise Failed(f"pytest ended with status {status} after {ran} of {selected} selected tests")
