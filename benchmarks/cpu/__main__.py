"""xcnn beside PyTorch on this machine's CPU, and how its cost grows: some ten minutes.

    python -m benchmarks.cpu [--case NAME...] [--json FILE] [--plot FILE.png]

needs PyTorch for the ratios xcnn / PyTorch (below 1: faster or smaller); without it xcnn is
measured alone. Exit status: 0 all is well, 1 a case or a peer failed.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import importlib.util
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import harness
from benchmarks.cpu import cases, footprint, growth, plot, table
from benchmarks.cpu.turns import Effort, Session, means
from benchmarks.gpu.outcome import Failed, write_json


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(argv)
    try:
        names = cases.select(options.case)
    except ValueError as error:
        parser.error(str(error))
    if options.list:
        print("\n".join(f"{name:<{table.WIDTH}}{title(name)}" for name in names))
        return 0
    _check(parser, options)
    return measure(names, Effort(options.processes, options.rounds, options.steps), options)


def measure(names: Sequence[str], effort: Effort, options: argparse.Namespace) -> int:
    """Run the cases, print the table, write what was asked for: the exit status."""
    start = time.monotonic()
    report: dict[str, Any] = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": harness.machine(),
        "effort": dataclasses.asdict(effort),
        "peers": {},
        "cases": [],
        "means": {},
    }
    try:
        fill(report, names, effort)
    except Failed as failure:
        say(f"benchmarks.cpu: {failure}")
        return 1
    finally:  # also of a run that was stopped
        report["seconds"] = time.monotonic() - start
        if options.json:
            write_json(options.json, report)
    print(table.render(report))
    if options.plot:
        _draw(report, options.plot)
    outcomes = [*report["cases"], *report["peers"].values()]
    return int(any(outcome["status"] == "failed" for outcome in outcomes))


def fill(report: dict[str, Any], names: Sequence[str], effort: Effort) -> None:
    """Measure everything that ``names`` tells into the report."""
    chosen = [cases.BY_NAME[name] for name in names if name in cases.BY_NAME]
    session = Session(chosen, effort, say, report["peers"], report["cases"])
    try:
        if chosen:
            session.run()
            report["means"] = means(report["cases"])
        peers = session.names() or session.meet()
    finally:
        session.leave()
    for name, work in (("memory", footprint.memory), ("import", footprint.imports)):
        if name in names:
            say(name)
            report["cases"].append(work(peers, effort))
    if "growth" in names:
        report["growth"] = growth.run(effort, say)


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def title(name: str) -> str:
    return cases.BY_NAME[name].title if name in cases.BY_NAME else cases.OTHERS[name]


def _draw(report: dict[str, Any], path: Path) -> None:
    if any(row.get("ratio") for row in report["cases"]):
        plot.draw(report, path)
    else:
        say(f"benchmarks.cpu: no ratio was measured, so {path} is not drawn")


def _check(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Refuse at once what would fail after ten minutes."""
    for path in (options.json, options.plot):
        if path and not path.parent.is_dir():
            parser.error(f"{path}: there is no folder {path.parent}")
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install matplotlib")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.cpu", description=(__doc__ or "").splitlines()[0]
    )
    add, effort = parser.add_argument, Effort()
    patterns = 'names, prefixes or globs such as "conv-*-both"; default: all'
    add("--case", nargs="+", action="extend", default=[], metavar="NAME", help=patterns)
    add("--list", action="store_true", help="tell what the cases are, and measure nothing")
    add("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    add("--plot", type=Path, metavar="FILE.png", help="draw the ratios; needs matplotlib")
    processes = f"of each peer; the best counts; default: {effort.processes}"
    add("--processes", type=positive, default=effort.processes, metavar="N", help=processes)
    rounds = f"turns of each process, after one to warm up; default: {effort.rounds}"
    add("--rounds", type=positive, default=effort.rounds, metavar="N", help=rounds)
    add("--steps", type=positive, metavar="N", help="per turn; default: as each case has it")
    return parser


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 1 on")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
