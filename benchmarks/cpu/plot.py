"""The ratios as a picture."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

LESS, MORE = "#1b7f5c", "#b3541e"
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.4, 2, 3, 5, 10, 20, 50, 100)


def draw(report: dict[str, Any], path: Path) -> None:
    """A dot for each ratio at the end of a line from 1.0, from top to bottom."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in report["cases"] if row.get("ratio")]
    figure = Figure(figsize=(8, 1.2 + 0.27 * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for y, row in enumerate(rows):
        _dot(axes, y, row["ratio"])
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    _ratio_axis(axes, *limits([row["ratio"] for row in rows]))
    figure.savefig(path, dpi=150)


def limits(ratios: list[float]) -> tuple[float, float]:
    """Ends of a logarithmic axis with 1.0 on it and room for a number beside each dot."""
    low, high = math.log(min([*ratios, 0.8])), math.log(max([*ratios, 1.25]))
    margin = 0.12 * (high - low)
    return math.exp(low - margin), math.exp(high + margin)


def _dot(axes: Any, y: int, ratio: float) -> None:
    color, side = (MORE, 1) if ratio > 1 else (LESS, -1)
    axes.hlines(y, 1, ratio, color=color, linewidth=2)
    axes.plot(ratio, y, "o", color=color)
    axes.annotate(
        f"{ratio:.2f}",
        (ratio, y),
        (7 * side, 0),
        textcoords="offset points",
        ha="left" if side > 0 else "right",
        va="center",
        fontsize=8,
    )


def _ratio_axis(axes: Any, low: float, high: float) -> None:
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    ticks = [tick for tick in TICKS if low < tick < high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("xcnn / PyTorch; left of 1, xcnn takes less")
