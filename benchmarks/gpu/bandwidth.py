"""A GPU's peak throughput, and the bandwidth of each primitive relative to a copy.

Traffic is counted as the minimum: each input read once, each output written once. The sizes are
those of VGG and ResNet.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

import xcnn
from benchmarks.gpu.clock import Clock, median_seconds, of_cupy
from benchmarks.outcome import Failed, attempt
from xcnn.backends import Backend
from xcnn.geometry import window_geometry
from xcnn.tiling import Tile

Array = Any
SIZE = 8192  # of the matrices
TOLERANCES = {"float32": 1e-5, "float16": 1e-2}  # relative to the largest value
MAX_SETS = 8


def ceilings(save: Callable[[dict], None]) -> None:
    backend = xcnn.backends.get("cuda")
    clock = of_cupy(backend.xp)
    result: dict[str, Any] = {"copy": copy(backend.xp, clock), "gemm": {}}
    for precision in ("float32", "tf32", "float16"):
        result["gemm"][precision] = product(backend, clock, precision)
        save(result)


def copy(cupy: Any, clock: Clock) -> dict[str, Any]:
    """A device-to-device copy: bytes read and written per second."""
    free, _ = cupy.cuda.runtime.memGetInfo()
    source = random(cupy, (min(2**30, free // 8) // 4,))
    target = cupy.empty_like(source)
    seconds = median_seconds([lambda: cupy.copyto(target, source)], clock, repeats=31)
    traffic = source.nbytes + target.nbytes
    return {"bytes": traffic, "seconds": seconds, "bytes_per_second": traffic / seconds}


def product(backend: Any, clock: Clock, precision: str) -> dict[str, Any]:
    """A square matrix product of random numbers: operations per second."""
    dtype = "float16" if precision == "float16" else "float32"
    with backend.precision(precision):
        a, b = (random(backend.xp, (SIZE, SIZE), dtype, seed) for seed in (0, 1))
        seconds = median_seconds([lambda: a @ b], clock, repeats=11)
    return {"size": SIZE, "seconds": seconds, "flops_per_second": 2 * SIZE**3 / seconds}


def random(xp: Any, shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> Any:
    """Normal numbers on the device: a block from the host, repeated (cuRAND may be missing)."""
    size = math.prod(shape)
    rng = np.random.default_rng(seed)
    block = xp.asarray(rng.standard_normal(min(size, 2**20 + 7), dtype=np.float32).astype(dtype))
    return xp.concatenate([block] * -(-size // len(block)))[:size].reshape(shape)


# -- primitives ----------------------------------------------------------------------------

# channels, height, width, batch; kernel, stride, padding
CONVOLUTIONS = [
    ((64, 56, 56, 32), (3, 1, 1)),
    ((128, 28, 28, 64), (3, 1, 1)),
    ((512, 14, 14, 64), (3, 1, 1)),
    ((64, 56, 56, 33), (3, 1, 1)),  # not a multiple of 4, so not processed in packs
    ((64, 56, 56, 32), (3, 2, 1)),
    ((3, 224, 224, 32), (7, 2, 3)),
]
POOLS = [
    ((64, 112, 112, 32), (2, 2, 0)),
    ((64, 112, 112, 32), (3, 2, 1)),
    ((64, 112, 112, 33), (2, 2, 0)),
]
DEPTHWISE = [
    ((64, 112, 112, 32), (3, 1, 1)),
    ((144, 56, 56, 32), (3, 2, 1)),
    ((960, 7, 7, 64), (5, 1, 2)),
]
MATRIX = [((64, 56 * 56 * 32),)]
# primitive: its arguments (see Primitive.arguments), the index of the one it updates, its sizes
PRIMITIVES: dict[str, tuple[str, int | None, list[Any]]] = {
    "im2col": ("x geometry tile empty_columns", None, CONVOLUTIONS),
    "col2im": ("columns geometry tile x", 3, CONVOLUTIONS),
    "max_pool2d": ("x geometry", None, POOLS),
    "max_pool2d_backward": ("y argmax geometry", None, POOLS),
    "add_bias": ("x bias slice true", 0, MATRIX),
    "relu_backward": ("x x", None, MATRIX),
    "avg_pool2d": ("x geometry true", None, POOLS),
    "avg_pool2d_backward": ("y geometry true", None, POOLS),
    "convolution": ("x taps bias geometry channels true", None, DEPTHWISE),
    "convolution_input_gradient": ("y taps geometry channels", None, DEPTHWISE),
    "convolution_weight_gradient": ("y x geometry channels", None, DEPTHWISE),
    "cross_entropy": ("x labels", None, [((1000, 32768),)]),
    "random_bits": ("count key", None, [((2**26,),)]),
    "dropout_mask": ("count key probability dtype", None, [((2**26,),)]),
    "SGD": ("", None, [((2**25,),)]),
    "Adam": ("", None, [((2**25,),)]),
}
FLOAT16 = list(PRIMITIVES)[:6]
OPTIMIZERS: dict[str, Callable] = {
    "SGD": partial(xcnn.optim.SGD, lr=1e-3, momentum=0.9),
    "Adam": partial(xcnn.optim.Adam, lr=1e-3),
}


def work() -> Iterator[Primitive]:
    """All primitives to measure, in order."""
    for dtype, names in (("float32", [*PRIMITIVES]), ("float16", FLOAT16)):
        for name in names:
            yield from (Primitive(name, *size, dtype=dtype) for size in PRIMITIVES[name][2])


class Prepared(NamedTuple):
    """A call that returns the arrays it writes, and the arrays it reads."""

    call: Callable[[], tuple[Array, ...]]
    reads: list[Array]


@dataclass(frozen=True)
class Primitive:
    """One primitive at one size; ``window`` is (kernel, stride, padding)."""

    name: str
    shape: tuple[int, ...]
    window: tuple[int, int, int] | None = None
    dtype: str = "float32"

    @property
    def title(self) -> str:
        window = "{0}×{0} /{1} +{2} ".format(*self.window) if self.window else ""
        return f"{self.name} {window}{self.shape} {self.dtype}"

    def small(self) -> Primitive:
        """The same primitive at a size that NumPy computes quickly."""
        if not self.window:
            return replace(self, shape=tuple(map(min, self.shape, (7, 37)[-len(self.shape) :])))
        channels, height, width, batch = self.shape
        side = 2 * self.window[0] + 7
        shape = (min(channels, 3), min(height, side), min(width, side + 1), 5 if batch % 4 else 8)
        return replace(self, shape=shape)

    def prepare(self, backend: Backend, is_reference: bool = False) -> Prepared:
        """Create the inputs.

        The numbers are the same on every backend; a reference computes in float32 with numbers
        rounded to the dtype.
        """
        seeds = itertools.count()

        def normal(*shape: int) -> Array:
            array = random(backend.xp, shape, self.dtype, next(seeds))
            return array.astype("float32") if is_reference else array

        if self.name in OPTIMIZERS:
            return optimizer_step(self.name, normal(*self.shape), normal(*self.shape))
        names, updated, _ = PRIMITIVES[self.name]
        makers = self.arguments(backend, normal)
        arguments = [makers[name]() for name in names.split()]

        def call() -> tuple[Array, ...]:
            result = getattr(backend, self.name)(*arguments)
            result = result if updated is None else arguments[updated]
            return result if isinstance(result, tuple) else (result,)

        written = names.split().index("empty_columns") if "empty_columns" in names else None
        arrays = [a for i, a in enumerate(arguments) if hasattr(a, "nbytes") and i != written]
        return Prepared(call, arrays)

    def arguments(self, backend: Backend, normal: Callable[..., Array]) -> dict[str, Callable]:
        """By name: a function that creates the argument."""
        first, *others = self.shape
        makers: dict[str, Callable[[], Any]] = {
            "x": lambda: normal(*self.shape),
            "bias": lambda: normal(first),
            "labels": lambda: backend.asarray(np.arange(*others) % first),
            "slice": lambda: slice(0, *others),
            "true": lambda: True,
            "count": lambda: first,
            "key": lambda: 2**40 + 3,
            "probability": lambda: 0.3,
            "dtype": lambda: np.dtype(self.dtype),
        }
        if self.window is None:
            return makers
        kernel, *stride_and_padding = self.window
        geometry = window_geometry(self.shape[1:3], kernel, *stride_and_padding)
        height, width = geometry.output
        columns = (first, kernel, kernel, height, width, self.shape[3])
        return makers | {
            "geometry": lambda: geometry,
            "tile": lambda: Tile(0, height, 0, width),
            "y": lambda: normal(first, height, width, self.shape[3]),
            "argmax": lambda: backend.max_pool2d(normal(*self.shape), geometry)[1],
            "taps": lambda: normal(first, 1, kernel, kernel),
            "channels": lambda: first,
            "columns": lambda: normal(*columns),
            "empty_columns": lambda: backend.xp.full(columns, np.nan, self.dtype),
        }


def optimizer_step(name: str, value: Array, gradient: Array) -> Prepared:
    """A step after the first one, which creates the optimiser's state."""
    leaf = xcnn.Tensor(value, requires_grad=True)
    leaf.grad = gradient
    optimizer = OPTIMIZERS[name]([leaf])
    optimizer.step()
    arrays = (leaf.data, *(slot[0] for slot in optimizer.state.values() if slot[0] is not None))
    return Prepared(lambda: optimizer.step() or arrays, [*arrays, gradient])


class Device(NamedTuple):
    """Where the primitives run: ``cache`` and ``memory`` in bytes, ``copy`` in bytes per second."""

    backend: Backend
    clock: Callable[[Callable], float | None]
    copy: float
    cache: int
    memory: int


def kernels(save: Callable[[dict], None]) -> None:
    backend = xcnn.backends.get("cuda")
    cupy, clock = backend.xp, of_cupy(backend.xp)
    bandwidth = copy(cupy, clock)["bytes_per_second"]
    cupy.get_default_memory_pool().free_all_blocks()
    free, _ = cupy.cuda.runtime.memGetInfo()
    cache = cupy.cuda.runtime.getDeviceProperties(0)["l2CacheSize"]
    measure(Device(backend, clock, bandwidth, cache, free), work(), save)


def measure(device: Device, primitives: Iterator[Primitive], save: Callable[[dict], None]) -> None:
    result: dict[str, Any] = {"copy_bytes_per_second": device.copy, "rows": []}
    for primitive in primitives:
        outcome = attempt(partial(figures, device, primitive))
        result["rows"].append({"title": primitive.title, **outcome})
        save(result)
    failed = [f"{row['title']}: {row['error']}" for row in result["rows"] if "error" in row]
    if failed:
        raise Failed(f"{len(failed)} of {len(result['rows'])} primitives failed; {failed[0]}")


def figures(device: Device, primitive: Primitive) -> dict[str, Any]:
    """Check a primitive, then time it."""
    difference = check(device.backend, primitive.small())
    first = primitive.prepare(device.backend)
    traffic = sum(array.nbytes for array in (*first.reads, *first.call()))
    others = range(1, sets(traffic, device.cache, device.memory // 2))
    calls = [first.call, *(primitive.prepare(device.backend).call for _ in others)]
    seconds = median_seconds(calls, device.clock)
    result = {"difference": difference, "bytes": traffic, "input_sets": len(calls)}
    rate = traffic / seconds
    return {**result, "seconds": seconds, "bytes_per_second": rate, "of_copy": rate / device.copy}


def sets(traffic: int, cache: int, limit: int) -> int:
    """Number of input sets to alternate, so that none is still in the cache when reused."""
    wanted = min(MAX_SETS, max(3, math.ceil(4 * cache / traffic))) if traffic < 4 * cache else 1
    return max(1, min(wanted, limit // traffic))


def check(backend: Backend, primitive: Primitive) -> float:
    """The largest difference from the plain NumPy primitive, relative to the largest value.

    Raises
    ------
    Failed
        The difference is too large, or an output has a NaN or the wrong shape or dtype.
    """
    expected = primitive.prepare(Backend(np, "generic"), is_reference=True).call()
    call, _ = primitive.prepare(backend)
    poison = [backend.asarray(np.full(e.shape, np.nan, primitive.dtype)) for e in expected]
    del poison  # new outputs reuse its memory
    actual = [backend.to_host(array) for array in call()]
    return max(difference(a, e, primitive.dtype) for a, e in zip(actual, expected, strict=True))


def difference(actual: Any, expected: Any, dtype: str) -> float:
    """The relative difference of one output; integers must be equal."""
    is_float = expected.dtype.kind == "f"
    # sums of float16 may be float32
    dtypes = {np.dtype(dtype), expected.dtype} if is_float else {expected.dtype}
    if actual.shape != expected.shape or actual.dtype not in dtypes:
        wanted = f"{' or '.join(map(str, dtypes))} {expected.shape}"
        raise Failed(f"an output is {actual.dtype} {actual.shape}, expected {wanted}")
    expected = expected.astype(np.float64)
    largest = max(1.0, np.abs(expected).max())
    relative = float(np.abs(actual.astype(np.float64) - expected).max() / largest)
    if not relative <= (TOLERANCES[dtype] if is_float else 0):  # also catches NaN
        raise Failed(f"differs from NumPy by {relative:.1e} of the largest value")
    return relative
