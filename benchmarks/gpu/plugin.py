"""A pytest plugin: keeps the tests whose ``backend`` is one device, and records each outcome.

    pytest -p benchmarks.gpu.plugin --only-backend cuda --records FILE

Each line of FILE is a JSON object: {"selected": n}, or a test's id, outcome and error. It is
written at once, so that a run which is stopped keeps its outcomes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def pytest_addoption(parser: Any) -> None:
    parser.addoption("--only-backend", metavar="DEVICE", required=True)
    parser.addoption("--records", metavar="FILE", required=True)


def pytest_configure(config: Any) -> None:
    if not hasattr(config, "workerinput"):  # of xdist's processes, the one that gets all reports
        config.pluginmanager.register(Recorder(config.getoption("records")))


def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    device = config.getoption("only_backend")
    kept = [item for item in items if runs_on(item, device)]
    dropped = [item for item in items if not runs_on(item, device)]
    items[:] = kept
    config.hook.pytest_deselected(items=dropped)
    worker = getattr(config, "workerinput", {"workerid": "gw0"})
    if worker["workerid"] == "gw0":  # all of xdist's processes collect the same
        append(config.getoption("records"), {"selected": len(kept)})


def runs_on(item: Any, device: str) -> bool:
    """Whether the test's parameter ``backend`` is ``device``; names and ids do not count."""
    callspec = getattr(item, "callspec", None)
    return callspec is not None and callspec.params.get("backend") == device


class Recorder:
    """Appends each outcome to a file."""

    def __init__(self, file: str) -> None:
        self.file = file

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or not report.passed:
            outcome = report.outcome if report.when == "call" or report.skipped else "error"
            self._record(report, outcome)

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._record(report, "not collected")

    def _record(self, report: Any, outcome: str) -> None:
        text = first_error(report.longreprtext) if report.failed else ""
        append(self.file, {"id": report.nodeid, "outcome": outcome, "error": text})


def first_error(text: str) -> str:
    """The first line of an error in pytest's text of a failure."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line[1:].strip() for line in lines if line.startswith("E ")]
    return (errors or lines[-1:] or [""])[0]


def append(file: str, record: dict[str, Any]) -> None:
    with Path(file).open("a") as lines:
        lines.write(json.dumps(record) + "\n")
