"""What came of a piece of work: how failures are caught, and how results are kept."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Skipped(Exception):  # noqa: N818 - it is no error
    """There is nothing to measure here; the text says why."""


class Failed(Exception):  # noqa: N818 - the word that the report uses
    """Something was measured, and it is wrong."""


def attempt(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What ``work`` returns, beside its status: the only place where failures are caught.

    Returns
    -------
    dict
        "status": "ok" and the entries of ``work()``; "skipped" and "reason"; or "failed",
        "error" and "traceback".
    """
    try:
        return {"status": "ok", **work()}
    except Skipped as skip:
        return {"status": "skipped", "reason": str(skip)}
    except Exception as error:
        text = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
        return {"status": "failed", "error": text, "traceback": traceback.format_exc()}


def fail_if_any(rows: list[dict[str, Any]], name: str) -> None:
    """Raise :class:`Failed` if a row's status is "failed".

    Parameters
    ----------
    rows
        Results of :func:`attempt`, each with a "title".
    name
        What a row is called.
    """
    failed = [row for row in rows if row["status"] == "failed"]
    if failed:
        first = f"{failed[0]['title']}: {failed[0]['error']}"
        raise Failed(f"{len(failed)} of {len(rows)} {name} failed; {first}")


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file that is there completely or not at all."""
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(unfinished, path)


class Deadline:
    """A time to be done by.

    Parameters
    ----------
    seconds
        From now.
    now
        The clock, in seconds.
    """

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._start = now()
        self.seconds = seconds

    def spent(self) -> float:
        """Seconds since the start."""
        return self._now() - self._start

    def left(self) -> float:
        """Seconds until the end; negative after it."""
        return self.seconds - self.spent()
