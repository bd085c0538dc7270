"""The process of one part: ``python -m benchmarks.gpu.child MODULE RESULT_FILE SECONDS``.

The module's ``run(deadline, save)`` hands what it has so far to ``save``, so that a part that is
stopped keeps it.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from benchmarks.gpu.outcome import Deadline, attempt, write_json


def main(module: str, path: str, seconds: str) -> None:
    file, latest = Path(path), {}

    def save(result: dict[str, Any]) -> None:
        latest["result"] = result
        write_json(file, {"status": "unfinished", **latest})

    def work() -> dict[str, Any]:
        importlib.import_module(module).run(Deadline(float(seconds)), save)
        return {}

    write_json(file, {**attempt(work), **latest})


if __name__ == "__main__":
    main(*sys.argv[1:])
