"""Outcomes of measurements, and result files."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Skipped(Exception):  # noqa: N818 - not an error
    """The measurement is not possible here; the message says why."""


class Failed(Exception):  # noqa: N818 - the status in the report
    """The measurement was made, but its result is wrong."""


def attempt(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Run ``work`` and turn its result or its exception into a dict with a status.

    Returns
    -------
    dict
        "status" is "ok", with the entries of ``work()``; "skipped", with "reason"; or "failed",
        with "error" and "traceback".
    """
    try:
        return {"status": "ok", **work()}
    except Skipped as skip:
        return {"status": "skipped", "reason": str(skip)}
    except Exception as error:
        text = str(error) if isinstance(error, Failed) else f"{type(error).__name__}: {error}"
        return {"status": "failed", "error": text, "traceback": traceback.format_exc()}


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file completely or not at all."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(temporary, path)
