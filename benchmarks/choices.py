"""The measurements behind the first decisions, in plain NumPy: ``docs/decisions``.

    python -m benchmarks.choices [NAME...]

Each line is a variant, its median milliseconds, and its ratio to the one that was chosen.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable

if "OPENBLAS_CORETYPE" in os.environ:  # a forced core would slow NumPy; BLAS reads it when loaded
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}
    os.execve(
        sys.executable, [sys.executable, "-m", "benchmarks.choices", *sys.argv[1:]], environment
    )

import numpy as np

from benchmarks import harness

Variants = dict[str, Callable[[], object]]
rng = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def memory_order() -> Variants:
    """Convolution 16@5×5 of 6×14×14 images, batch 128: where the batch lies in memory."""
    n, c, f, k, size = 128, 6, 16, 5, 14
    out = size - k + 1
    weight = random(f, c * k * k)
    last, first = random(c, size, size, n), random(n, c, size, size)

    def batch_last() -> np.ndarray:
        columns = np.empty((c, k, k, out, out, n), np.float32)
        for i in range(k):
            for j in range(k):
                columns[:, i, j] = last[:, i : i + out, j : j + out]
        return weight @ columns.reshape(c * k * k, -1)

    def batch_first() -> np.ndarray:
        columns = np.empty((n, c, k, k, out, out), np.float32)
        for i in range(k):
            for j in range(k):
                columns[:, :, i, j] = first[:, :, i : i + out, j : j + out]
        return weight @ columns.reshape(n, c * k * k, -1)

    return {"batch innermost": batch_last, "batch outermost": batch_first}


def tile_size() -> Variants:
    """Training pass of one convolution, 32@3×3 of 32×32×32 images, batch 64: bytes per tile."""
    from xcnn import backends
    from xcnn.convolution import im2col
    from xcnn.geometry import windows

    backend = backends.CpuBackend()
    x, weight = random(32, 32, 32, 64), random(32, 32, 3, 3)
    geometry = windows((32, 32), 3, padding="same")
    dy = random(32, 32, 32, 64)

    def pass_with(budget: int) -> Callable[[], object]:
        def run() -> object:
            backend.column_budget = budget
            im2col.forward(backend, x, weight, geometry, 1, None)
            return im2col.backward(backend, dy, x, weight, geometry, 1, (True, True))

        return run

    chosen = backends.CpuBackend.column_budget
    sizes = [chosen, 2**18, 2**20, 2**22, 2**24, 2**40]
    return {f"{s / 2**20:.4g} MiB" if s < 2**40 else "one buffer": pass_with(s) for s in sizes}


def thin_product() -> Variants:
    """Weight gradient of LeNet-5's first convolution: 6×25 from 20,000 positions."""
    d, columns = random(6, 20_000), random(25, 20_000)

    def pieces() -> np.ndarray:
        total = np.zeros((6, 25), np.float32)
        for start in range(0, 20_000, 4096):
            piece = slice(start, start + 4096)
            total += (columns[:, piece] @ d[:, piece].T).T
        return total

    return {
        "columns @ dᵀ in pieces": pieces,
        "columns @ dᵀ": lambda: columns @ d.T,
        "d @ columnsᵀ": lambda: d @ columns.T,
    }


def argmax() -> Variants:
    """Which element of each 2×2 window is the maximum: 6×28×28 images, batch 128."""
    x = random(6, 28, 28, 128)
    parts = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    y = np.maximum(np.maximum(parts[0], parts[1]), np.maximum(parts[2], parts[3]))

    def count() -> np.ndarray:
        searching = np.ones(y.shape, bool)
        found = np.zeros(y.shape, np.uint8)
        for part in parts[:-1]:
            searching &= part != y
            found += searching.view(np.uint8)
        return found

    def masked_copy() -> np.ndarray:
        found = np.zeros(y.shape, np.uint8)
        for k in (3, 2, 1, 0):
            np.copyto(found, k, where=parts[k] == y)
        return found

    return {
        "count the misses": count,
        "masked copies": masked_copy,
        "argmax of stacked windows": lambda: np.argmax(np.stack(parts), axis=0),
    }


CHOICES = {f.__name__: f for f in (memory_order, tile_size, thin_product, argmax)}


def median_ms(run: Callable[[], object], repeats: int = 15) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {', '.join(CHOICES)}")
    for name in parser.parse_args().names or CHOICES:
        variants = CHOICES[name]()
        print(f"{name}: {CHOICES[name].__doc__}")
        rounds: dict[str, list[float]] = {variant: [] for variant in variants}
        for _ in range(5):  # in turns, so that a busy moment hits all alike
            for variant, run in variants.items():
                run()
                rounds[variant].append(median_ms(run))
        best = {variant: min(times) for variant, times in rounds.items()}
        chosen = next(iter(best.values()))
        for variant, ms in best.items():
            print(f"  {variant:<28}{ms:>9.3f} ms {ms / chosen:>6.2f}")
    runs_on = {**harness.numpy_runs_on(), **harness.machine()}
    print(", ".join(f"{k} {v}" for k, v in runs_on.items()))


if __name__ == "__main__":
    main()
