"""xcnn on this machine's GPU: tests, bandwidth, training beside PyTorch, in under 8 minutes.

    python -m benchmarks.gpu --out DIR

runs in a checkout, nothing installed but CuPy, NumPy, SciPy, tqdm, safetensors, and pytest with
hypothesis for the tests; PyTorch is measured where it is there. All figures go to DIR/gpu.json,
after each part. Exit status: 0 all is well, 1 a test or a part failed or ran out of time, 2 there
is no GPU.
"""

from __future__ import annotations

import argparse
import datetime
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.gpu import machine, table
from benchmarks.gpu.outcome import Deadline, write_json
from benchmarks.gpu.parts import PARTS, Part, run_parts
from xcnn.backends import cuda


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    missing = cuda.problem()
    if missing:
        print(f"benchmarks.gpu: there is no GPU to measure: {missing}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the part's process is ended
    return measure(options.parts, options.seconds, options.out, _environment(options.data_dir))


def measure(parts: list[Part], seconds: float, out: Path, environment: dict[str, str]) -> int:
    """Run the parts, write the report after each, print the table: the exit status."""
    deadline = Deadline(seconds)
    out.mkdir(parents=True, exist_ok=True)
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    report: dict[str, Any] = {"date": started, **machine.describe(), "parts": {}}

    def keep(name: str, entry: dict[str, Any]) -> None:
        report["parts"][name] = entry
        report["seconds"] = deadline.spent()
        write_json(out / "gpu.json", report)
        print(f"{name}: {entry['status']}, {entry['seconds']:.0f} s", flush=True)

    run_parts(parts, deadline, environment, keep)
    print(f"\n{table.render(report)}\n\nall figures: {out / 'gpu.json'}")
    return exit_status(report)


def exit_status(report: dict[str, Any]) -> int:
    """0 if each part is ok or was skipped, else 1."""
    return int(any(part["status"] not in ("ok", "skipped") for part in report["parts"].values()))


def _environment(data_dir: Path | None) -> dict[str, str]:
    where = {"XCNN_DATA": str(data_dir.resolve())} if data_dir else {}
    return {**harness.environment(), **where}


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0]
    )
    names = ",".join(part.name for part in PARTS)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder for gpu.json")
    add("--parts", type=chosen, default=PARTS, metavar="LIST", help=f"default: {names}")
    add("--seconds", type=float, default=460, metavar="S", help="for all parts; default: 460")
    data = "folder with mnist/ in it; default: $XCNN_DATA, or the cache"
    add("--data-dir", type=Path, default=None, metavar="DIR", help=data)
    return parser.parse_args(argv)


def chosen(names: str) -> list[Part]:
    """The parts of a list such as "suite,kernels", in their usual order."""
    wanted = names.split(",")
    unknown = sorted(set(wanted) - {part.name for part in PARTS})
    if unknown:
        known = ", ".join(part.name for part in PARTS)
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: expected some of {known}")
    return [part for part in PARTS if part.name in wanted]


if __name__ == "__main__":
    sys.exit(main())
