"""The measurements behind the first design decisions (``docs/decisions``), in plain NumPy.

``python -m benchmarks choices [NAME...]`` prints the median milliseconds of each variant, and the
ratio to the chosen one.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks import machine
from benchmarks.cases import select
from benchmarks.methods import in_turns, passes

Variants = dict[str, Callable[[], object]]
rng = np.random.default_rng(0)


def random(*shape: int) -> np.ndarray:
    return rng.standard_normal(shape, dtype=np.float32)


def memory_order() -> Variants:
    """Convolution 16@5×5 of 6×14×14 images, batch 128: position of the batch axis in memory."""
    n, c, f, k, size = 128, 6, 16, 5, 14
    out = size - k + 1
    weight = random(f, c * k * k)
    last = random(c, size, size, n)
    first = np.ascontiguousarray(last.transpose(3, 0, 1, 2))

    def convolve(images: np.ndarray, columns: np.ndarray, before: tuple[slice, ...]) -> np.ndarray:
        for i, j in np.ndindex(k, k):
            columns[*before, i, j] = images[*before, i : i + out, j : j + out]
        return weight @ columns.reshape(*columns.shape[: len(before) - 1], c * k * k, -1)

    def batch_last() -> np.ndarray:
        return convolve(last, np.empty((c, k, k, out, out, n), np.float32), (slice(None),))

    def batch_first() -> np.ndarray:
        return convolve(first, np.empty((n, c, k, k, out, out), np.float32), (slice(None),) * 2)

    return {"batch innermost": batch_last, "batch outermost": batch_first}


def tile_size() -> Variants:
    """Forward and backward of a convolution 32@3×3 of 32×32×32 images, batch 64: tile size."""
    from xcnn import backends

    backend, chosen = backends.get("cpu"), backends.CpuBackend.column_budget
    x, weight, dy = random(32, 32, 32, 64), random(32, 32, 3, 3), random(32, 32, 32, 64)

    def run(budget: int) -> object:
        backend.column_budget = budget
        result = passes("im2col", x, weight, dy, padding="same")
        backend.column_budget = chosen
        return result

    sizes = {f"{s / 2**20:.4g} MiB": s for s in (chosen, 2**18, 2**20, 2**22, 2**24)}
    return {name: partial(run, size) for name, size in (sizes | {"one buffer": 2**40}).items()}


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
        "columns @ dᵀ": lambda: (columns @ d.T).T,
        "d @ columnsᵀ": lambda: d @ columns.T,
    }


def argmax() -> Variants:
    """Argmax of each 2×2 window: 6×28×28 images, batch 128."""
    x = random(6, 28, 28, 128)
    elements = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    y = np.maximum.reduce(elements)

    def count() -> np.ndarray:
        searching = np.ones(y.shape, bool)
        index = np.zeros(y.shape, np.uint8)
        for element in elements[:-1]:
            searching &= element != y
            index += searching.view(np.uint8)
        return index

    def masked_copy() -> np.ndarray:
        index = np.zeros(y.shape, np.uint8)
        for k in (3, 2, 1, 0):
            np.copyto(index, k, where=elements[k] == y)
        return index

    return {
        "count the misses": count,
        "masked copies": masked_copy,
        "argmax of stacked windows": lambda: np.argmax(np.stack(elements), axis=0),
    }


CHOICES = {f.__name__: f for f in (memory_order, tile_size, thin_product, argmax)}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: {', '.join(CHOICES)}")
    parser.add_argument("--repeats", type=int, default=75, metavar="N", help="default: 75")


def main(options: argparse.Namespace) -> int:
    for name in select(options.names, list(CHOICES)):
        print(f"{name}: {CHOICES[name].__doc__}")
        times = in_turns(CHOICES[name](), options.repeats)
        chosen = next(iter(times.values()))
        for variant, ms in times.items():
            print(f"  {variant:<28}{ms:>9.3f} ms {ms / chosen:>6.2f}")
    facts = {**machine.numpy_runs_on(), **machine.describe()}
    print(", ".join(f"{k} {v}" for k, v in facts.items()))
    return 0
