"""What the GPU can do at best: bytes per second of a copy, operations of a matrix product."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from benchmarks.gpu.clock import EventClock, median_seconds
from benchmarks.gpu.outcome import Deadline

GIB = 1024**3
SIZES = (8192, 4096, 2048)  # of the matrices: the largest that takes less than a second
PRECISIONS = ("float32", "tf32", "float16")


def run(deadline: Deadline, save: Callable[[dict], None]) -> None:
    import cupy

    clock = EventClock(cupy)
    found: dict[str, Any] = {"copy": copy(cupy, clock), "gemm": {}}
    for precision in PRECISIONS:
        found["gemm"][precision] = product(cupy, clock, precision)
        save(found)


def copy(cupy: Any, clock: Callable) -> dict[str, Any]:
    """A copy from device to device: bytes read and written per second."""
    free, _ = cupy.cuda.runtime.memGetInfo()
    size = min(GIB, free // 8) // 4
    source, target = random(cupy, (size,)), cupy.empty(size, "float32")
    seconds = median_seconds([lambda: cupy.copyto(target, source)], clock, repeats=31)
    return {"bytes": copied(size), "seconds": seconds, "bytes_per_second": copied(size) / seconds}


def copied(size: int) -> int:
    """Bytes that a copy of float32 reads and writes."""
    return 2 * 4 * size


def product(cupy: Any, clock: Callable, precision: str) -> dict[str, Any]:
    """A square matrix product of random numbers: operations per second."""
    dtype = "float16" if precision == "float16" else "float32"
    with compute_type(precision):
        for size in SIZES:
            a, b = random(cupy, (size, size), dtype), random(cupy, (size, size), dtype)
            (a @ b)[0, 0].get()  # the first one loads cuBLAS
            if clock(lambda a=a, b=b: a @ b) < 1:
                break
        seconds = median_seconds([lambda: a @ b], clock)
    return {"size": size, "seconds": seconds, "flops_per_second": 2 * size**3 / seconds}


@contextmanager
def compute_type(precision: str) -> Iterator[None]:
    """Products of float32 matrices in full precision, or in TF32 with ``"tf32"``."""
    from cupy._core import _routines_linalg as linalg
    from cupy._core import get_compute_type, set_compute_type

    before = get_compute_type(np.float32)
    tf32 = precision == "tf32"
    set_compute_type(np.float32, linalg.COMPUTE_TYPE_TF32 if tf32 else linalg.COMPUTE_TYPE_DEFAULT)
    try:
        yield
    finally:
        set_compute_type(np.float32, before)


def random(xp: Any, shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> Any:
    """Normal numbers on the device: a million of the host, repeated (cuRAND may be missing)."""
    size = int(np.prod(shape))
    some = np.random.default_rng(seed).standard_normal(min(size, 2**20 + 7), dtype=np.float32)
    block = xp.asarray(some.astype(dtype))
    return xp.concatenate([block] * -(-size // len(some)))[:size].reshape(shape)
