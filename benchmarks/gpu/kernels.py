"""Each primitive beside the bandwidth of a copy, at the sizes of VGG and ResNet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import xcnn
from benchmarks.gpu import ceilings, primitives
from benchmarks.gpu.clock import Call, EventClock, median_seconds
from benchmarks.gpu.outcome import Deadline, Failed, Skipped, attempt, fail_if_any
from benchmarks.gpu.primitives import Maker, Primitive
from xcnn.backends import Backend

TOLERANCES = {"float32": 1e-5, "float16": 1e-2}  # of the largest value; NumPy sums in float32
MOST_SETS = 8
RESERVE = 3.0  # seconds that one more row may take

# channels, height, width, batch; kernel, stride, padding
CONVOLUTIONS = [
    ((64, 56, 56, 32), 3, 1, 1),
    ((128, 28, 28, 64), 3, 1, 1),
    ((512, 14, 14, 64), 3, 1, 1),
    ((64, 56, 56, 33), 3, 1, 1),  # no multiple of 4: not in packs of numbers
    ((64, 56, 56, 32), 3, 2, 1),
    ((3, 224, 224, 32), 7, 2, 3),
]
POOLS = [
    ((64, 112, 112, 32), 2, 2, 0),
    ((64, 112, 112, 32), 3, 2, 1),
    ((64, 112, 112, 33), 2, 2, 0),
]


def work() -> Iterator[Primitive]:
    """Everything that is measured, in order."""
    for dtype in ("float32", "float16"):
        for kind in (primitives.Im2col, primitives.Col2im):
            yield from (kind(shape, dtype, *window) for shape, *window in CONVOLUTIONS)
        for kind in (primitives.MaxPool, primitives.MaxPoolBackward):
            yield from (kind(shape, dtype, *window) for shape, *window in POOLS)
        for kind in (primitives.AddBias, primitives.ReluBackward):
            yield kind((64, 56 * 56 * 32), dtype)
    for kind in (primitives.AvgPool, primitives.AvgPoolBackward):
        yield from (kind(shape, "float32", *window) for shape, *window in POOLS)
    yield primitives.CrossEntropy((1000, 32768))
    yield from (kind((2**26,)) for kind in (primitives.RandomBits, primitives.DropoutMask))
    yield from (kind((2**25,)) for kind in (primitives.Sgd, primitives.Adam))


class Device(NamedTuple):
    """What the primitives run on: caches and ``memory`` in bytes, ``copy`` in bytes per second."""

    backend: Backend
    clock: Callable[[Call], float]
    copy: float
    cache: int
    memory: int


def run(deadline: Deadline, save: Callable[[dict], None]) -> None:
    device = open_device()
    found: dict[str, Any] = {"copy_bytes_per_second": device.copy, "rows": [], "left_out": []}
    for primitive in work():
        if deadline.left() < RESERVE:
            found["left_out"].append(primitive.title)
        else:
            found["rows"].append(row(device, primitive))
        save(found)
    fail_if_any(found["rows"], "primitives")


def open_device() -> Device:
    import cupy

    clock = EventClock(cupy)
    copy = ceilings.copy(cupy, clock)["bytes_per_second"]
    cupy.get_default_memory_pool().free_all_blocks()
    free, _ = cupy.cuda.runtime.memGetInfo()
    cache = cupy.cuda.runtime.getDeviceProperties(0)["l2CacheSize"]
    return Device(xcnn.backends.get("cuda"), clock, copy, cache, free)


def row(device: Device, primitive: Primitive) -> dict[str, Any]:
    """One primitive's figures, or why there are none."""
    fitting = primitive.fitting(device.memory // 2)
    head = {"title": fitting.title, "method": primitive.method, "dtype": primitive.dtype}
    return {**head, **attempt(partial(figures, device, fitting))}


def figures(device: Device, primitive: Primitive) -> dict[str, Any]:
    """Check a primitive, then time it."""
    if getattr(device.backend, primitive.method, None) is None:
        raise Skipped(f"the backend has no {primitive.method}")
    difference = check(device.backend, primitive.small())
    size = primitive.bytes()
    count = sets(size, device.cache, device.memory // 2)
    inputs = [primitive.arrays(Maker(device.backend, primitive.dtype)) for _ in range(count)]
    calls = [partial(primitive.call, device.backend, *arrays) for arrays in inputs]
    seconds = median_seconds(calls, device.clock)
    rate = size / seconds
    return {
        "difference": difference,
        "bytes": size,
        "input_sets": count,
        "seconds": seconds,
        "bytes_per_second": rate,
        "of_copy": rate / device.copy,
    }


def sets(size: int, cache: int, limit: int) -> int:
    """Sets of inputs to take turns with, so that none is still in the cache from its last turn."""
    if size >= 4 * cache:
        return 1
    wanted = min(MOST_SETS, max(3, math.ceil(4 * cache / size)))
    return max(1, min(wanted, limit // size))


def check(backend: Backend, primitive: Primitive) -> float:
    """The largest difference from the plain NumPy primitive, relative to the largest value.

    Raises
    ------
    Failed
        It is too large, or an output has a NaN, another shape or another type.
    """
    host = Backend(np, "generic")
    arrays = primitive.arrays(Maker(host, primitive.dtype))
    on_device = [backend.asarray(array) for array in arrays]
    expected = primitive.call(host, *map(in_float32, arrays))
    poison = [backend.asarray(np.full(e.shape, np.nan, primitive.dtype)) for e in expected]
    del poison  # new outputs are made in the memory that it leaves
    actual = [backend.to_host(a) for a in primitive.call(backend, *on_device)]
    return max(difference(a, e, primitive.dtype) for a, e in zip(actual, expected, strict=True))


def in_float32(array: Any) -> Any:
    """A copy in float32 of a float16 array; other arrays as they are, copied."""
    return array.astype(np.float32 if array.dtype == np.float16 else array.dtype)


def difference(actual: Any, expected: Any, dtype: str) -> float:
    """Of one output; integers must be equal."""
    is_float = expected.dtype.kind == "f"
    # sums of float16 may stay in float32
    types = {np.dtype(dtype), expected.dtype} if is_float else {expected.dtype}
    if actual.shape != expected.shape or actual.dtype not in types:
        wanted = f"{' or '.join(map(str, types))} {expected.shape}"
        raise Failed(f"an output is {actual.dtype} {actual.shape}, expected {wanted}")
    expected = expected.astype(np.float64)
    largest = max(1.0, np.abs(expected).max())
    found = float(np.abs(actual.astype(np.float64) - expected).max() / largest)
    if not found <= (TOLERANCES[dtype] if is_float else 0):  # nor NaN
        raise Failed(f"differs from NumPy by {found:.1e} of the largest value")
    return found
