"""The least time of each training step: what its multiplications and its memory traffic take.

The rates are measured in the process that also measures: of NumPy's matrix product and of a copy,
with the same number of threads. A method that multiplies less, such as Winograd's, or data that
stay in a cache can beat this floor.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import cases
from benchmarks.machine import numpy_runs_on
from benchmarks.peers import Xcnn
from xcnn import backends, nn, tiling

LENGTH, BYTES, REPEATS = 2048, 2**28, 15  # of the matrices, of the copied array
STATES = {"SGD": 1, "Adam": 2}  # arrays that an optimiser keeps for each parameter


def measure(save: Callable[[dict], None]) -> None:
    """The rates, and for each training step the multiply-adds and bytes."""
    rates, peer = {"gemm": gemm(), "copy": copy()}, Xcnn()
    trained = [case for case in cases.CASES["cpu"] if case.trains]
    save({**rates, "steps": {case.name: work(peer, *case.trains) for case in trained}})


def work(peer: Any, network: cases.Network, batch: int) -> dict[str, int]:
    """Multiply-adds of a step, multiplied directly, and the bytes that it must move.

    Only convolutions and linear layers count, as if all else were fused into them. Each one's input
    is written and read forward; backward reads it again, and writes and reads its gradient. The
    images are read twice. Parameters are read twice and updated, with a gradient and the
    optimiser's arrays, all of which are read and written.
    """
    model, layers = network.build(peer), []

    def hook(module: Any, inputs: tuple, output: Any) -> None:
        if products := module.multiply_adds(output.shape):
            layers.append((products, math.prod(inputs[0].shape[1:])))

    hooks = [(m, hook) for m in model.modules() if not list(m.children())]
    with nn.evaluating(model), nn.hooked(hooks):
        model(np.zeros((1, *network.image), np.float32))
    products, sizes = (list(column) for column in zip(*layers, strict=True))
    parameters = cases.count(model.parameters()) * (6 + 2 * STATES[network.optimizer])
    values = batch * (2 * sizes[0] + 5 * sum(sizes[1:])) + parameters
    return {"multiply_adds": batch * (3 * sum(products) - products[0]), "bytes": 4 * values}


def gemm() -> float:
    """Operations per second of a product of two square matrices."""
    a, b, c = np.random.default_rng(0).standard_normal((3, LENGTH, LENGTH), dtype=np.float32)
    return 2 * LENGTH**3 / fastest(lambda: np.matmul(a, b, out=c))


def copy() -> float:
    """Bytes per second, read and written, of a copy with as many threads as BLAS uses."""
    source, target = np.ones((2, BYTES // 4), np.float32)
    parts = tiling.split_range(len(source), numpy_runs_on().get("threads", 1))

    def part(index: slice) -> None:
        target[index] = source[index]

    return 2 * BYTES / fastest(lambda: backends.get("cpu").each(part, parts))


def fastest(call: Callable[[], object]) -> float:
    """The lowest time of a few calls."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)
