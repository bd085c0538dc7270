"""The short table that is printed last."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

MIB, GIB, GIGA, TERA = 1024**2, 1024**3, 1e9, 1e12
SHOWN = 10  # failed tests


def render(report: dict[str, Any]) -> str:
    """A line or a few for each part of the report."""
    lines = list(head(report))
    for name, part in report["parts"].items():
        lines += [f"{name:<12} {part['status']:<9} {part['seconds']:>4.0f} s  {why(part)}".rstrip()]
        if part.get("result"):
            lines += [f"  {line}".rstrip() for line in BODIES[name](part["result"])]
    return "\n".join(lines)


def head(report: dict[str, Any]) -> Iterator[str]:
    """The machine and the versions."""
    gpu, host, versions, commit = (report[k] for k in ("gpu", "host", "versions", "commit"))
    yield (
        f"{gpu['name']}, compute capability {gpu['compute_capability']}, "
        f"{gpu['multiprocessors']} multiprocessors, {gpu['memory'] / GIB:.1f} GiB; "
        f"{host['processor']}, {host['cores']} cores"
    )
    known = [f"{name.replace('_', ' ')} {v}" for name, v in versions.items() if v is not None]
    state = ", changed" if commit["dirty"] else ""
    yield ", ".join(known)
    yield f"commit {commit['id'][:12]}{state}; {report['date']}"


def why(part: dict[str, Any]) -> str:
    """The first line of what went wrong, or of why a part was skipped."""
    text = part.get("reason") or part.get("error") or ""
    return text.splitlines()[0][:200] if text else ""


def suite(found: dict[str, Any]) -> Iterator[str]:
    counts = [f"{found[key]:,} {key}" for key in ("passed", "failed", "error", "skipped")]
    yield f"{', '.join(counts)} of {found['selected']:,} tests"
    for name, error in list(found["failures"].items())[:SHOWN]:
        yield f"{name}: {error}"[:200]
    if len(found["failures"]) > SHOWN:
        yield f"and {len(found['failures']) - SHOWN} more in the report"
    for name, error in found["missing"].items():
        yield f"{name} was left out: {error}"


def ceilings(found: dict[str, Any]) -> Iterator[str]:
    products = [
        f"{name} {product['flops_per_second'] / TERA:.1f}"
        for name, product in found["gemm"].items()
    ]
    yield (
        f"copy {found['copy']['bytes_per_second'] / GIGA:,.0f} GB/s; "
        f"matrix product, TFLOP/s: {', '.join(products)}"
    )


def kernels(found: dict[str, Any]) -> Iterator[str]:
    yield f"{'':<58}{'ms':>8}{'GB/s':>8}{'of a copy':>11}"
    for row in found["rows"]:
        if row["status"] == "ok":
            figures = f"{row['seconds'] * 1e3:>8.3f}{row['bytes_per_second'] / GIGA:>8,.0f}"
            yield f"{row['title']:<58}{figures}{row['of_copy']:>11.2f}"
        else:
            yield f"{row['title']:<58}  {row['status']}: {why(row)}"
    yield from left_out(found["left_out"])


def training(found: dict[str, Any]) -> Iterator[str]:
    heads = ("step, ms", 15), ("ratio", 7), ("on GPU, ms", 15), ("to queue, ms", 15), ("MiB", 13)
    yield f"{'xcnn / PyTorch':<26}{''.join(f'{text:>{width}}' for text, width in heads)}"
    for row in found["rows"]:
        if row["status"] != "ok":
            yield f"{row['title']:<26}  {row['status']}: {why(row)}"
            continue
        ratio = f"{row['ratio']:.2f}" if row["ratio"] else ""
        cells = [
            f"{both(row, 'seconds', 1e3, 2):>15}{ratio:>7}",
            f"{both(row, 'gpu', 1e3, 2):>15}{both(row, 'queue', 1e3, 2):>15}",
            f"{both(row, 'peak', 1 / MIB, 0):>13}",
        ]
        yield f"{row['title']:<26}{''.join(cells)}"
    for peer, answer in found["peers"].items():
        yield f"{peer}: {why(answer) or facts(answer['runs_on'])}"
    yield from (f"{title}: left out, {reason}" for title, reason in found["left_out"].items())


def both(row: dict[str, Any], key: str, factor: float, digits: int) -> str:
    """A figure of xcnn and, if it was measured, of PyTorch."""
    values = [figures[key] for figures in row["peers"].values()]
    return " / ".join("–" if v is None else f"{v * factor:.{digits}f}" for v in values)


def facts(found: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())


def determinism(found: dict[str, Any]) -> Iterator[str]:
    count, different = found["parameters"], found["differing"]
    same = f"all {count} parameters are equal, bit by bit"
    told = f"{len(different)} of {count} parameters differ: {', '.join(different)}"
    yield f"two runs of {found['steps']} steps: {same if found['equal'] else told}"


def mnist(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['accuracy']:.2%} after {found['epochs']} epochs in {found['seconds']:.1f} s"


def left_out(titles: list[str]) -> Iterator[str]:
    if titles:
        yield f"left out, no time: {', '.join(titles)}"


BODIES: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    f.__name__: f for f in (suite, ceilings, kernels, determinism, mnist, training)
}
