"""The report as text, and the command ``show``, which prints or plots a stored report."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.cases import AIMS

UNITS = {"seconds": ("ms", 1e3), "memory": ("MiB", 2.0**-20)}
TITLES = {"torch": "PyTorch", "pydynet": "PyDyNet"}
WIDTH = 24  # of a name
SHOWN = 10  # failed tests
FASTER, SLOWER = "#1b7f5c", "#b3541e"
TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.4, 2, 3, 5, 10, 20, 50, 100)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("report", type=Path, help="a file written by --json")
    parser.add_argument("--plot", type=Path, metavar="FILE.png", help="plot the ratios")


def main(options: argparse.Namespace) -> int:
    report = json.loads(options.report.read_text())
    print(render(report))
    if options.plot:
        draw(report, options.plot)
    return 0


def render(report: dict[str, Any]) -> str:
    """The whole report: parts, cases, means, floor, growth, versions and machine."""
    sections = [parts, cases, means, floor, growth, peers, machine]
    return "\n".join(line.rstrip() for section in sections for line in section(report))


def why(outcome: dict[str, Any]) -> str:
    """Why there are no figures."""
    text = (outcome.get("reason") or outcome.get("error") or "not measured").splitlines()[0][:200]
    status = outcome.get("status", "")
    return f"{status}: {text}" if status else text


def parts(report: dict[str, Any]) -> Iterator[str]:
    """The parts of a GPU run; an unfinished part shows its results so far."""
    for row in report["cases"]:
        if row["name"] in PARTS:
            ending = "" if row["status"] == "ok" else f"  {why(row)}"
            yield f"{row['name']:<12} {row.get('took', 0):>4.0f} s{ending}"
            if row.get("result"):
                yield from (f"  {line}" for line in PARTS[row["name"]](row["result"]))


def cases(report: dict[str, Any]) -> Iterator[str]:
    rows = [row for row in report["cases"] if row["name"] not in PARTS]
    other = next((title for name, title in TITLES.items() if name in report["peers"]), "")
    if rows:
        yield f"{'':<{WIDTH}}{'xcnn':>12}{other:>12}{'ratio':>8}{'aim':>7}   of each process"
    for row in rows:
        is_measured = row.get("status", "ok") == "ok" and "peers" in row
        yield figures(row) if is_measured else f"{row['name']:<{WIDTH}}  {why(row)}"


def figures(row: dict[str, Any]) -> str:
    """One case: the best figures, their ratio, and the figures of all processes or the GPU."""
    unit, scale = UNITS[row["measure"]]
    best = [f"{digits(f[row['measure']] * scale)} {unit}" for f in row["peers"].values()]
    ours, theirs = [*best, "–"][:2]
    ratio = f"{row['ratio']:.2f}" if row["ratio"] else ""
    aim = f"≤{row['aim']:.2f}" if row.get("aim") else ""
    cells = f"{row['name']:<{WIDTH}}{ours:>12}{theirs:>12}{ratio:>8}{aim:>7}   "
    if "queue" in row["peers"]["xcnn"]:
        times = f"GPU {both(row, 'gpu', 1e3)} ms, to queue {both(row, 'queue', 1e3)} ms"
        return f"{cells}{times}, {both(row, 'peak', 2.0**-20)} MiB"
    spreads = [" ".join(digits(v * scale) for v in f["spread"]) for f in row["peers"].values()]
    return cells + " / ".join(spreads)


def both(row: dict[str, Any], key: str, scale: float) -> str:
    """A figure of each library; "host-bound" if the GPU waits for the host."""
    values = [f[key] for f in row["peers"].values()]
    return " / ".join("host-bound" if v is None else digits(v * scale) for v in values)


def digits(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value <= 0:
        return f"{value:.0f}"
    rounded = float(f"{value:.3g}")  # 9.996 is printed as 10.0
    return f"{value:.{max(0, 2 - math.floor(math.log10(rounded)))}f}"


def means(report: dict[str, Any]) -> Iterator[str]:
    for name, mean in report["means"].items():
        count = sum(row.get("mean") == name and bool(row.get("ratio")) for row in report["cases"])
        if count > 1:
            aim = f", aim ≤{AIMS[name]:.2f}" if name in AIMS else ""
            yield f"geometric mean of {count} ratios, {name}: {mean:.2f}{aim}"


def floor(report: dict[str, Any]) -> Iterator[str]:
    """The rates, and the share of each step's time that the floor makes up."""
    result = report.get("floor", {})
    if "steps" not in result:
        yield from [f"{'floor':<{WIDTH}}  {why(result)}"] if result else []
        return
    gemm, copied = result["gemm"] / 1e9, result["copy"] / 1e9
    yield f"floor: matrix product {digits(gemm)} GFLOP/s, copy {digits(copied)} GB/s"
    heads = ("multiply-adds", "moved", "floor", "of a step: xcnn / PyTorch")
    yield f"{'':<{WIDTH}}{heads[0]:>15}{heads[1]:>12}{heads[2]:>12}   {heads[3]}"
    for name, step in result["steps"].items():
        row = next((row for row in report["cases"] if row["name"] == name), {})
        shares = [f"{step['seconds'] / f['seconds']:.2f}" for f in row.get("peers", {}).values()]
        cells = [f"{digits(step['bytes'] / 2**20)} MiB", f"{digits(1e3 * step['seconds'])} ms"]
        work = f"{step['multiply_adds'] / 1e6:,.0f}M"
        yield f"{name:<{WIDTH}}{work:>15}{cells[0]:>12}{cells[1]:>12}   {' / '.join(shares)}"


def growth(report: dict[str, Any]) -> Iterator[str]:
    """A block for each axis; factors are per doubling of the work."""
    result = report.get("growth") or {"axes": {}}
    if "axes" not in result:
        yield f"{'growth':<{WIDTH}}  {why(result)}"
    elif result["axes"]:
        base = ", ".join(f"{name} {value}" for name, value in result["base"].items())
        yield f"growth of xcnn's step per doubling of the work; otherwise {base}"
        threads = f"{result.get('threads', 'all')} threads"
        heads = ("work", threads, "factor", "1 thread", "speed-up", "memory", "factor")
        yield f"{'':<{WIDTH}}{''.join(f'{head:>12}' for head in heads)}"
    for axis, points in result.get("axes", {}).items():
        for point in points:
            step = [f"{digits(point['seconds'] * 1e3)} ms", factor(point["seconds_factor"])]
            alone = point.get("alone")  # not in older reports
            step += [f"{digits(alone * 1e3)} ms", factor(alone / point["seconds"])] if alone else []
            size = [f"{digits(point['memory'] / 2**20)} MiB", factor(point["memory_factor"])]
            cells = [f"{digits(point['work'] / points[0]['work'])}×", *step, *size]
            title = f"{axis} {point['value']}"
            yield f"{title:<{WIDTH}}{''.join(f'{cell:>12}' for cell in cells)}"


def factor(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def peers(report: dict[str, Any]) -> Iterator[str]:
    for name, outcome in report["peers"].items():
        yield f"{name}: {facts(outcome['runs_on']) if 'runs_on' in outcome else why(outcome)}"


def facts(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def machine(report: dict[str, Any]) -> Iterator[str]:
    effort = report["effort"]
    yield facts(report["machine"])
    yield (
        f"best of {effort['processes']} processes of each library, medians of {effort['rounds']} "
        f"turns, {effort['steps'] or '0.2 s of'} steps a turn; {report['seconds']:.0f} s in all"
    )


# -- plot ----------------------------------------------------------------------------------


def draw(report: dict[str, Any], path: Path) -> None:
    """Plot each ratio as a dot at the end of a line from 1.0, and its aim as a dash."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in report["cases"] if row.get("ratio")]
    if not rows:
        print(f"no ratio was measured: {path} is not written")
        return
    figure = Figure(figsize=(8, 1.2 + 0.27 * len(rows)), layout="constrained")
    axes = FigureCanvasAgg(figure).figure.add_subplot()
    for y, row in enumerate(rows):
        ratio, aim = row["ratio"], row.get("aim") or math.nan
        axes.plot(aim, y, "|", color="black")
        color, side, align = (SLOWER, 7, "left") if ratio > 1 else (FASTER, -7, "right")
        axes.plot([1, ratio], [y, y], color=color, linewidth=2, marker="o", markevery=[1])
        place = {"xytext": (side, 0), "textcoords": "offset points", "fontsize": 8}
        axes.annotate(f"{ratio:.2f}", (ratio, y), ha=align, va="center", **place)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=9)
    low, high = limits([row["ratio"] for row in rows])
    axes.set(xscale="log", xlim=(low, high), ylim=(len(rows) - 0.4, -0.6))
    ticks = [tick for tick in TICKS if low < tick < high]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.grid(axis="x", alpha=0.3)
    axes.set_xlabel("xcnn / PyTorch; left of 1, xcnn takes less")
    figure.savefig(path, dpi=150)


def limits(ratios: list[float]) -> tuple[float, float]:
    """Limits of a logarithmic axis that includes 1.0, with room for a number next to each dot."""
    low, high = math.log(min([*ratios, 0.8])), math.log(max([*ratios, 1.25]))
    margin = 0.12 * (high - low)
    return math.exp(low - margin), math.exp(high + margin)


# -- parts of a GPU run --------------------------------------------------------------------


def suite(result: dict[str, Any]) -> Iterator[str]:
    counts = [f"{result[key]:,} {key}" for key in ("passed", "failed", "error", "skipped")]
    yield f"{', '.join(counts)} of {result['selected']:,} tests"
    failures = [f"{name}: {error}"[:200] for name, error in result["failures"].items()]
    yield from failures[:SHOWN]
    if failures[SHOWN:]:
        yield f"and {len(failures) - SHOWN} more in the report"
    for name, error in result["missing"].items():
        yield f"{name} was left out: {error}"


def ceilings(result: dict[str, Any]) -> Iterator[str]:
    products = [f"{k} {p['flops_per_second'] / 1e12:.1f}" for k, p in result["gemm"].items()]
    copy = result["copy"]["bytes_per_second"] / 1e9
    yield f"copy {copy:,.0f} GB/s; matrix product, TFLOP/s: {', '.join(products)}"


def kernels(result: dict[str, Any]) -> Iterator[str]:
    yield f"{'':<58}{'ms':>8}{'GB/s':>8}{'of a copy':>11}"
    for row in result["rows"]:
        if row["status"] == "ok":
            times = f"{row['seconds'] * 1e3:>8.3f}{row['bytes_per_second'] / 1e9:>8,.0f}"
            yield f"{row['title']:<58}{times}{row['of_copy']:>11.2f}"
        else:
            yield f"{row['title']:<58}  {why(row)}"


def determinism(result: dict[str, Any]) -> Iterator[str]:
    count, different = result["parameters"], result["differing"]
    equal = f"all {count} parameters are bitwise equal"
    unequal = f"{len(different)} of {count} parameters differ: {', '.join(different)}"
    yield f"two runs of {result['steps']} steps: {unequal if different else equal}"


def mnist(result: dict[str, Any]) -> Iterator[str]:
    yield f"{result['accuracy']:.2%} after {result['epochs']} epochs in {result['seconds']:.1f} s"


PARTS: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    f.__name__: f for f in (suite, ceilings, kernels, determinism, mnist)
}
