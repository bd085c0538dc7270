"""Checks the rule that chooses a convolution method on this machine.

``python -m benchmarks methods`` times forward and backward for a table of shapes, alternating
between all methods that apply. It prints milliseconds, marks the method that the rule chooses (*),
and gives its time relative to the fastest. If that is often above 1.2, change ``pays`` in
``xcnn/convolution/*.py``, or set ``xcnn.config.convolution``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import xcnn
from benchmarks import machine
from xcnn import backends, convolution
from xcnn.geometry import window_geometry

WIDTH = 11


class Shape(NamedTuple):
    """A convolution: C → F channels, images of size², batch, kernel, stride, groups."""

    channels: int
    filters: int
    size: int
    batch: int
    kernel: int = 3
    stride: int = 1
    groups: int = 1

    def __str__(self) -> str:
        stride = f"/{self.stride}" if self.stride > 1 else ""
        groups = f" g{self.groups}" if self.groups > 1 else ""
        kernel = f"{self.kernel}×{self.kernel}{stride}{groups}"
        return f"{self.channels}→{self.filters} {kernel} {self.size}×{self.size} ×{self.batch}"


SHAPES = [
    *(Shape(32, 32, 32, n) for n in (1, 8, 16, 64)),
    *(Shape(128, 128, 16, n) for n in (1, 4, 8, 32)),
    *(Shape(256, 256, 8, n) for n in (1, 16, 32, 128)),
    *(Shape(c, c, 16, 64) for c in (3, 8, 16, 64)),
    *(Shape(64, 64, size, 64) for size in (2, 4, 5, 8, 56)),
    *(Shape(1, 6, 28, n, kernel=5) for n in (1, 128)),
    *(Shape(6, 16, 14, n, kernel=5) for n in (1, 128)),
    *(Shape(c, c, 16, 64, kernel=5) for c in (16, 32, 64)),
    Shape(3, 32, 32, 64),
    Shape(3, 64, 112, 8, kernel=7, stride=2),
    Shape(64, 128, 32, 32, stride=2),
    Shape(64, 128, 16, 64, kernel=1),
    Shape(64, 128, 16, 64, kernel=1, stride=2),
    Shape(64, 64, 32, 32, groups=64),
    Shape(64, 64, 16, 32, groups=4),
]


def candidates(shape: Shape) -> tuple[list[str], str]:
    """The methods that apply, and the one that the rule chooses."""
    geometry = window_geometry(
        (shape.size, shape.size), shape.kernel, shape.stride, shape.kernel // 2
    )
    sizes = shape.groups, shape.channels, shape.filters, shape.batch
    problem, methods = convolution.Problem(geometry, *sizes), convolution.METHODS
    chosen = convolution.choose(problem, backends.get("cpu").convolutions)
    applying = [name for name, method in methods.items() if method.applies(problem)]
    return applying, next(name for name, method in methods.items() if method is chosen)


def passes(method: str, x: Any, weight: Any, dy: Any, **settings: Any) -> tuple[Any, ...]:
    """(y, dx, dweight) of a convolution by one method; arrays are batch-last, (C, H, W, N)."""
    before, xcnn.config.convolution = xcnn.config.convolution, method
    try:
        x, dy = (np.moveaxis(array, -1, 0) for array in (x, dy))
        y, pullback = xcnn.vjp(xcnn.functional.conv2d, x, weight, **settings)
        return (y, *pullback(dy))
    finally:
        xcnn.config.convolution = before


def milliseconds(shape: Shape, repeats: int) -> dict[str, float]:
    """Median time of forward and backward by each method that applies."""
    rng = np.random.default_rng(0)
    out = (shape.size + 2 * (shape.kernel // 2) - shape.kernel) // shape.stride + 1
    image = (shape.channels, shape.size, shape.size, shape.batch)
    kernel = (shape.filters, shape.channels // shape.groups, shape.kernel, shape.kernel)
    sizes = (image, kernel, (shape.filters, out, out, shape.batch))
    arrays = [rng.standard_normal(size, dtype=np.float32) for size in sizes]
    settings = {"stride": shape.stride, "padding": shape.kernel // 2, "groups": shape.groups}
    call = partial(passes, **settings)
    return in_turns({name: partial(call, name, *arrays) for name in candidates(shape)[0]}, repeats)


def in_turns(variants: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median milliseconds of each call, alternating, after one warm-up call each."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats + 1):
        for name, call in variants.items():
            start = time.perf_counter()
            call()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(ms[1:]) for name, ms in times.items()}


def line(shape: Shape, times: dict[str, float], chosen: str) -> str:
    """One row of the table."""
    text = {m: f"{ms:.3g}{'*' if m == chosen else ' '}" for m, ms in times.items()}
    cells = "".join(f"{text.get(method, ''):>{WIDTH}}" for method in convolution.METHODS)
    return f"{shape!s:28}{cells}{times[chosen] / min(times.values()):9.2f}"


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="3 instead of 9 repeats")


def main(options: argparse.Namespace) -> int:
    print(" " * 28 + "".join(f"{name:>{WIDTH}}" for name in convolution.METHODS) + "   /best")
    factors = []
    for shape in SHAPES:
        times, (_, chosen) = milliseconds(shape, 3 if options.quick else 9), candidates(shape)
        print(line(shape, times, chosen), flush=True)
        factors.append(times[chosen] / min(times.values()))
    mean, beyond = statistics.geometric_mean(factors), sum(f > 1.2 for f in factors)
    print(f"the chosen method takes {mean:.2f} times as long as the fastest (geometric mean),")
    print(f"and more than 1.2 times as long for {beyond} of {len(factors)} shapes")
    facts = {**machine.numpy_runs_on(), **machine.describe()}
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    return 0
