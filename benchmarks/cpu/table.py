"""What is printed last."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

UNITS = {"seconds": ("ms", 1e3), "memory": ("MiB", 2.0**-20)}
WIDTH = 24  # of a name


def render(report: dict[str, Any]) -> str:
    """All of the report: cases, means, growth, what it ran on."""
    parts = [cases, means, growth, peers, machine]
    return "\n".join(line.rstrip() for part in parts for line in part(report))


def cases(report: dict[str, Any]) -> Iterator[str]:
    if not report["cases"]:
        return
    yield f"{'':<{WIDTH}}{'xcnn':>12}{'PyTorch':>12}{'ratio':>8}   of each process"
    for row in report["cases"]:
        if row.get("status", "ok") == "ok" and "peers" in row:
            yield line(row)
        else:
            yield f"{row['name']:<{WIDTH}}  {why(row)}"


def line(row: dict[str, Any]) -> str:
    """One case: best figures, their ratio, and xcnn's figures / PyTorch's."""
    unit, scale = UNITS[row["measure"]]
    cells = [
        f"{digits(found[row['measure']] * scale)} {unit}" if found else "–"
        for found in (row["peers"].get(peer) for peer in ("xcnn", "torch"))
    ]
    ratio = f"{row['ratio']:.2f}" if row["ratio"] else ""
    spreads = [[digits(v * scale) for v in f["spread"]] for f in row["peers"].values()]
    spread = " / ".join(" ".join(spread) for spread in spreads)
    return f"{row['name']:<{WIDTH}}{cells[0]:>12}{cells[1]:>12}{ratio:>8}   {spread}"


def why(row: dict[str, Any]) -> str:
    """Why there are no figures."""
    if row.get("status") == "skipped":
        return f"left out: {row['reason']}"
    error = row.get("error", "")
    return f"failed: {error.splitlines()[0][:200]}" if error else "not measured"


def digits(value: float) -> str:
    """Three significant digits, and no exponent."""
    if value <= 0:
        return f"{value:.0f}"
    rounded = float(f"{value:.3g}")  # 9.996 has the digits of 10.0
    return f"{value:.{max(0, 2 - math.floor(math.log10(rounded)))}f}"


def means(report: dict[str, Any]) -> Iterator[str]:
    for name, ratio in report["means"].items():
        members = sum(
            row.get("mean") == name and row.get("ratio") is not None for row in report["cases"]
        )
        if members > 1:
            yield f"geometric mean of {members} ratios, {name}: {ratio:.2f}"


def growth(report: dict[str, Any]) -> Iterator[str]:
    """A block for each axis; a factor is per doubling of the work."""
    found = report.get("growth")
    if not found:
        return
    base = ", ".join(f"{name} {value}" for name, value in found["base"].items())
    yield f"growth of xcnn's step per doubling of the work; else {base}"
    heads = ("work", "step", "factor", "memory", "factor")
    yield f"{'':<{WIDTH}}{''.join(f'{head:>12}' for head in heads)}"
    for axis, points in found["axes"].items():
        for point in points:
            cells = [
                f"{digits(point['work'] / points[0]['work'])}×",
                f"{digits(point['seconds'] * 1e3)} ms",
                factor(point["seconds_factor"]),
                f"{digits(point['memory'] / 2**20)} MiB",
                factor(point["memory_factor"]),
            ]
            title = f"{axis} {point['value']}"
            yield f"{title:<{WIDTH}}{''.join(f'{cell:>12}' for cell in cells)}"


def factor(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def peers(report: dict[str, Any]) -> Iterator[str]:
    for name, met in report["peers"].items():
        if met["status"] == "ok":
            facts = ", ".join(f"{key} {value}" for key, value in met["runs_on"].items())
            yield f"{name}: {facts}"
        else:
            yield f"{name}: {why(met)}"


def machine(report: dict[str, Any]) -> Iterator[str]:
    effort = report["effort"]
    steps = effort["steps"] or "each case's"
    yield ", ".join(f"{key} {value}" for key, value in report["machine"].items())
    yield (
        f"best of {effort['processes']} processes of each peer, medians of {effort['rounds']} "
        f"turns, {steps} steps a turn; {report['seconds']:.0f} s in all"
    )
