"""The rule that chooses how to convolve, measured anew on this machine.

    python -m benchmarks.methods [--quick] [--json FILE]

Times forward and backward of every method that applies to a table of shapes, taking turns, and
prints milliseconds, which one the rule chooses (*), and how much slower that is than the fastest.
Where that is often more than 1.2 here, ``pays`` in ``xcnn/convolution/*.py`` is what to change, or
``xcnn.config.convolution`` to set.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

if "OPENBLAS_CORETYPE" in os.environ:  # a forced core would slow NumPy; BLAS reads it when loaded
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    os.execve(
        sys.executable, [sys.executable, "-m", "benchmarks.methods", *sys.argv[1:]], environment
    )

import numpy as np

from benchmarks import harness
from xcnn import backends, convolution
from xcnn.geometry import Geometry, windows

WIDTH = 11


class Shape(NamedTuple):
    """One convolution: C → F channels, images of size², batch, kernel, stride, groups."""

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
        return (
            f"{self.channels}→{self.filters} {self.kernel}×{self.kernel}{stride}{groups} "
            f"{self.size}×{self.size} ×{self.batch}"
        )


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


def milliseconds(shape: Shape, repeats: int) -> dict[str, float]:
    """Median time of forward and backward by each method that applies."""
    backend, geometry = backends.get("cpu"), geometry_of(shape)
    rng = np.random.default_rng(0)

    def random(*size: int) -> Any:
        return rng.standard_normal(size, dtype=np.float32)

    x = random(shape.channels, shape.size, shape.size, shape.batch)
    dy = random(shape.filters, *geometry.output, shape.batch)
    weight = random(shape.filters, shape.channels // shape.groups, shape.kernel, shape.kernel)
    methods = {
        name: method
        for name, method in convolution.METHODS.items()
        if method.applies(geometry, shape.groups, shape.channels)
    }
    times: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(repeats + 1):
        for name, method in methods.items():
            start = time.perf_counter()
            method.forward(backend, x, weight, geometry, shape.groups, None)
            method.backward(backend, dy, x, weight, geometry, shape.groups, (True, True))
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(found[1:]) for name, found in times.items()}  # first: warm-up


def geometry_of(shape: Shape) -> Geometry:
    """Its windows, padded to keep the size."""
    return windows((shape.size, shape.size), shape.kernel, shape.stride, shape.kernel // 2)


def chosen(shape: Shape) -> str:
    """What the rule chooses."""
    sizes = shape.groups, shape.channels, shape.filters, shape.batch
    method = convolution.choose(backends.get("cpu"), geometry_of(shape), *sizes)
    return method.__name__.rsplit(".", 1)[-1]


def line(shape: Shape, times: dict[str, float]) -> str:
    """One line of the table."""
    name = chosen(shape)
    cells = [
        f"{times[m]:.3g}{'*' if m == name else ' '}" if m in times else ""
        for m in convolution.METHODS
    ]
    factor = times[name] / min(times.values())
    return f"{shape!s:28}" + "".join(f"{cell:>{WIDTH}}" for cell in cells) + f"{factor:9.2f}"


def main(arguments: list[str] | None = None) -> int:
    """Measure, print, and write the figures if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="3 instead of 9 repeats")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    options = parser.parse_args(arguments)
    print(" " * 28 + "".join(f"{name:>{WIDTH}}" for name in convolution.METHODS) + "   /best")
    found = []
    for shape in SHAPES:
        times = milliseconds(shape, 3 if options.quick else 9)
        print(line(shape, times), flush=True)
        found.append({"shape": shape._asdict(), "milliseconds": times, "chosen": chosen(shape)})
    factors = [f["milliseconds"][f["chosen"]] / min(f["milliseconds"].values()) for f in found]
    mean, beyond = statistics.geometric_mean(factors), sum(f > 1.2 for f in factors)
    print(f"the rule's choice takes {mean:.2f} times the fastest one's time in the geometric mean,")
    print(f"and more than 1.2 times in {beyond} of {len(factors)} shapes")
    machine = harness.machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "shapes": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
