"""CUDA GPUs: CuPy, with custom kernels.

CuPy is imported when a device is first used, never by ``import xcnn``. Primitives that are not
overridden here are the generic ones of :class:`Backend`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property, lru_cache
from importlib import import_module
from math import gcd, prod
from typing import Any

import numpy as np

from ..arrays import Array, sum_dtype
from ..errors import ArgumentError, DeviceError, OutOfMemoryError
from ..geometry import Geometry
from ..tiling import Tile
from . import kernels
from .base import (
    MASK64,
    OPTIMIZER_KERNELS,
    PRECISIONS,
    Backend,
    Columns,
    dropout_scale,
    dropout_threshold,
)
from .diagnosis import problem
from .kernels import Variant
from .launch import BLOCK, CHUNK, Kernels, grid, lane_tiles, launches, row_tiles
from .norm import Running, Statistics, summed_moments
from .products import multiply
from .transfer import PinnedMirror, Slot

# the lowest compute capability whose matrix units support each precision
_CAPABILITY = {"float32": 0, "float16": 70, "tf32": 80}
_FLAGS = ("nesterov", "decoupled")  # ints among the settings of optimisers, the others are doubles
_ONE_BLOCK = 2**18  # elements up to which one block is faster than several launches


class CudaBackend(Backend):
    """One CUDA device.

    Parameters
    ----------
    cupy
        The CuPy module.
    index
        Number of the device, from 0.
    """

    column_budget = 256 * 1024**2
    thin_product = 2**62  # one product is one launch
    optimizer_piece = 2**62
    norm_piece = 2**62
    # the others multiply by zeros, or have not been measured on GPUs: see Method.forward
    convolutions = ("pointwise", "depthwise")

    def __init__(self, cupy: Any, index: int = 0) -> None:
        super().__init__(cupy, f"cuda:{index}")
        self._index = index
        self._kernels = Kernels(cupy)
        self._no_scaling: Array = None
        self._ones: dict[str, Array] = {}
        self._largest = (0, "")  # bytes and description of the largest array so far

    @property
    def _device(self) -> Any:
        return self.xp.cuda.Device(self._index)

    # -- arrays and memory ------------------------------------------------------------------

    def use(self) -> None:
        self._device.use()

    def active(self) -> AbstractContextManager:
        return _Active(self)

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        with self.active():
            return super().asarray(array, dtype)

    def one(self, dtype: Any) -> Array:
        if dtype.char not in self._ones:
            self._ones[dtype.char] = super().one(dtype)
        return self._ones[dtype.char]

    def to_host(self, array: Array) -> Any:
        return self.xp.asnumpy(array)

    def slots(self) -> list[Any]:
        stream = self.xp.cuda.Stream(non_blocking=True)
        return [Slot(self.xp, stream) for _ in range(2)]

    def mirror(self, array: Array, direct: bool = False) -> PinnedMirror:
        with self.active():
            return PinnedMirror(self.xp, self._copies, array, direct)

    @cached_property
    def _copies(self) -> Any:
        return self.xp.cuda.Stream(non_blocking=True)

    def synchronize(self) -> None:
        self._device.synchronize()

    @property
    def special(self) -> Any:
        return import_module(f"{self.xp.__name__}x.scipy.special")  # CuPy or a stand-in

    def memory(self) -> dict[str, int]:
        _, total = self._device.mem_info
        with self._device:
            return {"used": self._pool.used_bytes(), "total": total}

    def limit_memory(self, size: int) -> None:
        _, total = self._device.mem_info
        if not 0 < size <= total:
            raise ArgumentError(
                f"memory limit {_bytes(size)}: {self.device} has {_bytes(total)}; give a size "
                "above 0 and up to that"
            )
        with self._device:
            self._pool.set_limit(size=size)
        self.column_budget = min(self.column_budget, size // 8)

    @property
    def _pool(self) -> Any:
        return self.xp.get_default_memory_pool()

    def run(self, function: Callable[..., Array], *arrays: Any) -> Array:
        with self.active():
            result = function(self, *arrays)
        size = getattr(result, "nbytes", 0)
        if size > self._largest[0]:
            operation = type(getattr(function, "__self__", function)).__name__
            self._largest = size, f"the output of {operation}, {result.dtype} {result.shape}"
        return result

    def _out_of_memory(self, error: Exception) -> OutOfMemoryError:
        """CuPy's error, with the memory in use and ways to need less."""
        free, total = self._device.mem_info
        with self._device:
            used, pooled = self._pool.used_bytes(), self._pool.free_bytes()
            limit = self._pool.get_limit()
        size, name = self._largest
        largest = f"The largest array so far, {name}, takes {_bytes(size)}; " if size else ""
        return OutOfMemoryError(
            f"{self.device} is out of memory: {str(error).rstrip('.')}. Arrays use "
            f"{_bytes(used)}, the pool holds {_bytes(pooled)} more for reuse, {_bytes(free)} of "
            f"{_bytes(total)} are free on the device, and the memory limit is "
            f"{_bytes(limit) if limit else 'not set'}. {largest}im2col takes up to "
            f"{_bytes(self.column_budget)}. A smaller --batch-size (batch_size) needs "
            "proportionally less; --memory-limit (limit_memory) sets the limit and im2col's share"
        )

    def warmup(self) -> Iterator[str]:
        for variant in kernels.variants(("float32", "float64", "float16")):
            with self.active():
                self._kernels.compile(variant)
            yield f"{variant.file}.cu for {variant.dtype}"

    def check_class_indices(
        self, indices: Array, classes: int, ignore_index: int | None = None
    ) -> None:
        """Do nothing: reading a value would make the host wait.

        The Trainer checks labels on the host, and cross_entropy returns NaN for a class that does
        not exist.
        """

    def check_indices(self, name: str, indices: Array, length: int, negative: bool = False) -> None:
        """Do nothing: reading a value would make the host wait. CuPy wraps indices around."""

    def check_divisor(self, name: str, divisor: Array) -> None:
        """Do nothing: reading a value would make the host wait. Integers divided by 0 give 0."""

    @contextmanager
    def precision(self, name: str) -> Iterator[None]:
        capability = int(self._device.compute_capability)
        if name not in PRECISIONS:
            super().precision(name)
        if capability < _CAPABILITY[name]:
            raise ArgumentError(
                f"precision={name!r} needs a GPU of compute capability {_CAPABILITY[name] / 10}, "
                f"{self.device} has {capability / 10}; use float32"
            )
        core = self.xp._core  # the public setting, CUPY_TF32, is read only once
        kinds = core._routines_linalg
        before = core.get_compute_type(np.float32)
        kind = kinds.COMPUTE_TYPE_TF32 if name == "tf32" else kinds.COMPUTE_TYPE_DEFAULT
        core.set_compute_type(np.float32, kind)
        try:
            yield
        finally:
            core.set_compute_type(np.float32, before)

    # -- convolution ------------------------------------------------------------------------

    def im2col(self, x: Array, geometry: Geometry, tile: Tile, out: Array) -> Array:
        rows, columns = tile.bottom - tile.top, tile.right - tile.left
        settings = tile.top, tile.left, rows, columns
        self._launch_images("im2col", "im2col", (x, out), settings, rows * columns, geometry)
        return out

    def col2im(
        self, columns: Array, geometry: Geometry, tile: Tile, dx: Array, first: bool = False
    ) -> None:
        region = [(0, size) for size in geometry.input] if first else _region(geometry, tile)
        (first_y, last_y), (first_x, last_x) = region
        height, width = max(0, last_y - first_y), max(0, last_x - first_x)
        windows = tile.top, tile.left, tile.bottom - tile.top, tile.right - tile.left
        settings = *windows, first_y, first_x, height, width, int(first)
        self._launch_images("im2col", "col2im", (columns, dx), settings, height * width, geometry)

    def convolution(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: Geometry,
        groups: int,
        relu: bool,
    ) -> Array:
        if groups != len(x):
            return super().convolution(x, weight, bias, geometry, groups, relu)
        y = self.xp.empty((len(weight), *geometry.output, x.shape[-1]), x.dtype)
        shift = weight if bias is None else self.xp.ascontiguousarray(bias)
        settings = int(bias is not None), int(relu), len(weight) // max(1, groups)
        arrays, count = (y, x, weight, shift), prod(geometry.output)
        self._launch_images("depthwise", "depthwise", arrays, settings, count, geometry)
        return y

    def convolution_input_gradient(
        self, dy: Array, weight: Array, geometry: Geometry, groups: int
    ) -> Array:
        if weight.shape[1] != 1:
            return super().convolution_input_gradient(dy, weight, geometry, groups)
        dx = self.xp.empty((groups, *geometry.input, dy.shape[-1]), dy.dtype)
        name, settings = "depthwise_input_gradient", (len(weight) // max(1, groups),)
        arrays, count = (dx, dy, weight), prod(geometry.input)
        self._launch_images("depthwise", name, arrays, settings, count, geometry)
        return dx

    def convolution_weight_gradient(
        self, dy: Array, x: Array, geometry: Geometry, groups: int
    ) -> Array:
        if groups != len(x):
            return super().convolution_weight_gradient(dy, x, geometry, groups)
        dweight = self.xp.empty((len(dy), 1, *geometry.kernel), sum_dtype(x.dtype))
        name, settings = "depthwise_weight_gradient", (len(dy) // max(1, groups),)
        blocks = prod(geometry.kernel)
        self._launch_images("depthwise", name, (dy, x, dweight), settings, 0, geometry, blocks)
        return dweight

    def as_dtypes(self, arrays: Sequence[Array], dtypes: Sequence[Any]) -> list[Array]:
        """Half arrays are widened in one launch."""
        result, half = list(arrays), [a.dtype == "float16" for a in arrays]
        widened = [i for i, dtype in enumerate(dtypes) if half[i] and dtype == "float32"]
        for i in widened:
            result[i] = self.xp.empty(arrays[i].shape, "float32")
        halves, wide = [arrays[i] for i in widened], [result[i] for i in widened]
        self._launch_lists("widen_gradients", [[], halves, wide])
        return super().as_dtypes(result, dtypes)

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        is_direct = out is None or (out.flags.c_contiguous and out.dtype == a.dtype)
        if is_direct and max(a.ndim, b.ndim) <= 2 and a.flags.forc and b.flags.forc:
            return super().matmul(a, b, out)
        product = multiply(self.xp, a, b, out)
        return super().matmul(a, b, out) if product is None else product

    def add_product(self, sums: Array, a: Array, b: Array, first: bool) -> None:
        b = b.swapaxes(-1, -2)
        if first:
            self.matmul(a, b, out=sums)
        elif multiply(self.xp, a, b, sums, add=True) is None:
            sums += self.matmul(a, b)

    def add_bias(self, y: Array, bias: Array | None, columns: slice, relu: bool) -> None:
        rows, size = y.shape
        xp = self.xp
        bias = xp.zeros(rows, y.dtype) if bias is None else xp.ascontiguousarray(bias)
        start, stop, _ = columns.indices(size)
        variant = self._kernels.variant("bias", y.dtype, [y], gcd(size, start, stop))
        count, lanes = (stop - start) // variant.lanes, variant.lanes
        places = map(variant.index, (size // lanes, start // lanes, count))
        arguments = y, bias, np.int32(relu), np.int32(rows), *places
        self._kernels.launch(variant, "add_bias", grid(count, rows), arguments)

    def relu_backward(self, dy: Array, y: Array) -> tuple[Array, Array]:
        rows, size = y.shape
        variant = self._kernels.variant("bias", y.dtype, [dy, y], size)
        count = size // variant.lanes
        # enough blocks to fill a GPU, few enough to add up their sums quickly
        blocks = max(1, min(-(-count // BLOCK), max(8, 4096 // max(1, rows))))
        dz = self.xp.empty(y.shape, y.dtype)
        partial = (self.xp.empty if count else self.xp.zeros)((rows, blocks), sum_dtype(y.dtype))
        arguments = dy, y, dz, partial, np.int32(rows), variant.index(count)
        launch_grid = (blocks, grid(count, rows)[1]) if count else (0, 0)
        self._kernels.launch(variant, "bias_relu_backward", launch_grid, arguments)
        return dz, partial.reshape(rows) if blocks == 1 else partial.sum(axis=1)

    # -- normalisation ----------------------------------------------------------------------

    def normalize(
        self,
        x: Array,
        weight: Array | None,
        bias: Array | None,
        eps: float,
        running: Running | None = None,
        fixed: bool = False,
        residual: Array | None = None,
        relu: bool = False,
        ceiling: float = math.inf,
    ) -> tuple[Array, Statistics]:
        xp, (groups, _, pixels, lanes) = self.xp, x.shape
        if not x.size:
            settings = fixed, residual, relu, ceiling
            return super().normalize(x, weight, bias, eps, running, *settings)
        dtype = np.dtype(sum_dtype(x.dtype))
        tiles, launch_grid = lane_tiles(x.shape)
        variant = self._kernels.variant("norm", x.dtype, [x])
        y, statistics = xp.empty(x.shape, x.dtype), xp.empty((4, groups, 1, 1, lanes), dtype)
        numbers = np.int32(groups), variant.index(x[0].size // lanes), np.int32(lanes), tiles
        partial, parts = statistics, 0
        if not fixed:
            partial, parts = self._moments(x), launch_grid[0]
        old = running[:2] if running else ()
        kept = [xp.ascontiguousarray(a, dtype) for a in old] or [statistics, statistics]
        rate: Any = running.momentum if running and lanes == 1 else -1.0
        cumulative = xp.ascontiguousarray(rate, dtype) if hasattr(rate, "dtype") else statistics
        momentum = 2 if cumulative is not statistics else rate
        weights, flags, strides = self._weights(x, weight, bias, residual, relu)
        arrays = x, partial, *weights, *kept, cumulative, y, statistics
        settings = *map(np.float64, (eps, momentum, ceiling)), np.int32(parts), flags, *numbers
        arguments = *arrays, *settings, variant.index(pixels), *strides
        self._kernels.launch(variant, "norm_forward", launch_grid, arguments)
        mean, rest, scale, var = statistics
        if running and not fixed and lanes > 1:
            running.update(mean + rest, var, x[0].size // lanes)
        for array, copy in zip(old, kept, strict=False):
            if copy is not array and not fixed and lanes == 1:
                array[...] = copy
        return y, Statistics(mean, rest, scale)

    def moments(self, x: Array) -> Array:
        if not x.size:
            return super().moments(x)
        count, mean, m2 = (self._moments(x)[..., i] for i in range(3))
        first = x[:, :1, 0, 0].astype("float64")  # which the means are relative to
        return summed_moments(self.xp, count, first + mean, m2 / self.xp.maximum(count, 1))

    def _moments(self, x: Array) -> Array:
        """Of each part of each lane of each group, (groups * lanes, parts, 3)."""
        groups, _, _, lanes = x.shape
        tiles, launch_grid = lane_tiles(x.shape)
        variant = self._kernels.variant("norm", x.dtype, [x])
        partial = self.xp.empty((groups * lanes, launch_grid[0], 3), sum_dtype(x.dtype))
        numbers = np.int32(groups), variant.index(x[0].size // lanes), np.int32(lanes), tiles
        self._kernels.launch(variant, "norm_moments", launch_grid, (x, partial, *numbers))
        return partial

    def normalize_backward(
        self,
        dy: Array,
        x: Array,
        y: Array | None,
        statistics: Statistics,
        weight: Array | None,
        fixed: bool = False,
        with_residual: bool = False,
        with_dx: bool = True,
        ceiling: float = math.inf,
    ) -> tuple[Array | None, Array, Array, Array | None]:
        xp, (groups, rows, pixels, lanes) = self.xp, x.shape
        if not x.size:
            settings = fixed, with_residual, with_dx, ceiling
            return super().normalize_backward(dy, x, y, statistics, weight, *settings)
        tiles, launch_grid = lane_tiles(x.shape)
        variant = self._kernels.variant("norm", x.dtype, [x])
        table = statistics.mean  # followed by the others
        partial = xp.empty((groups * lanes, launch_grid[0], 2), table.dtype)
        dx = xp.empty(x.shape, x.dtype) if with_dx else None
        own = xp.empty(x.shape, x.dtype) if with_residual and y is not None else None
        (weight_or_x, _, _), flags, strides = self._weights(x, weight, None, own, y is not None)
        flags |= np.int32(16 * fixed + 32 * (rows == lanes == 1) + 64 * with_dx)
        numbers = np.int32(groups), variant.index(x[0].size // lanes), np.int32(lanes), tiles
        more, top = (*numbers, variant.index(pixels), *strides), np.float64(ceiling)
        arrays = dy, x, x if y is None else y, table, weight_or_x, partial
        self._kernels.launch(variant, "norm_sums", launch_grid, (*arrays, top, flags, *more))
        width, weights_grid = row_tiles(x.shape)
        gradients = xp.empty((2, groups, rows, weights_grid[0]), table.dtype)
        outputs = *(x if a is None else a for a in (dx, own)), gradients
        last = *outputs, top, np.int32(launch_grid[0]), flags, *more
        self._kernels.launch(variant, "norm_backward", launch_grid, (*arrays, *last))
        if rows * lanes > 1:
            sizes = *map(np.int32, (groups, rows)), variant.index(pixels), np.int32(lanes), width
            arguments = *arrays[:4], gradients, top, flags, *sizes
            self._kernels.launch(variant, "norm_weights", weights_grid, arguments)
        parts = gradients[..., 0] if weights_grid[0] == 1 else gradients.sum(axis=3)
        return dx, parts[0], parts[1], (dy if own is None else own) if with_residual else None

    def _weights(
        self, x: Array, weight: Array | None, bias: Array | None, residual: Array | None, relu: bool
    ) -> tuple[list[Array], Any, tuple[Any, Any]]:
        """The arrays, x for those that are None; flags; strides of the weights by group and row."""
        arrays = weight, bias, residual
        flags = sum(2**i for i, a in enumerate((*arrays, relu or None)) if a is not None)
        shape = next((a.shape for a in (weight, bias) if a is not None), (1, 1))
        strides = np.int32(shape[1] * (shape[0] > 1)), np.int32(shape[1] > 1)
        filled = [x if a is None else self.xp.ascontiguousarray(a) for a in arrays]
        return filled, np.int32(flags), strides

    # -- pooling ----------------------------------------------------------------------------

    def max_pool2d(
        self, x: Array, geometry: Geometry, with_argmax: bool = True
    ) -> tuple[Array, Array | None]:
        y = self.xp.empty((len(x), *geometry.output, x.shape[-1]), x.dtype)
        large = _has_large_windows(geometry)
        argmax = self.xp.empty(y.shape if with_argmax else 0, "int32" if large else "uint8")
        arrays, settings, count = (x, y, argmax), (int(with_argmax),), prod(geometry.output)
        self._launch_images("pool", "max_pool2d", arrays, settings, count, geometry)
        return y, argmax if with_argmax else None

    def max_pool2d_backward(self, dy: Array, argmax: Array, geometry: Geometry) -> Array:
        dx = self.xp.empty((len(dy), *geometry.input, dy.shape[-1]), dy.dtype)
        arrays, count = (dy, argmax, dx), prod(geometry.input)
        self._launch_images("pool", "max_pool2d_backward", arrays, (), count, geometry)
        return dx

    def avg_pool2d(self, x: Array, geometry: Geometry, include_pad: bool) -> Array:
        y = self.xp.empty((len(x), *geometry.output, x.shape[-1]), x.dtype)
        settings, count = (int(include_pad),), prod(geometry.output)
        self._launch_images("pool", "avg_pool2d", (x, y), settings, count, geometry)
        return y

    def avg_pool2d_backward(self, dy: Array, geometry: Geometry, include_pad: bool) -> Array:
        dx = self.xp.empty((len(dy), *geometry.input, dy.shape[-1]), dy.dtype)
        settings, count = (int(include_pad),), prod(geometry.input)
        self._launch_images("pool", "avg_pool2d_backward", (dy, dx), settings, count, geometry)
        return dx

    def _launch_images(
        self,
        file: str,
        name: str,
        arrays: tuple[Array, ...],
        settings: tuple[int, ...],
        positions: int,
        geometry: Geometry,
        blocks: int = 0,
    ) -> None:
        """Launch a kernel with a thread per pixel or window (``positions``) and pack of images.

        Or with a number of blocks, per channel. The first array is (channels, ..., batch).
        """
        channels, batch = len(arrays[0]), arrays[0].shape[-1]
        large = file == "pool" and _has_large_windows(geometry)
        variant = self._kernels.variant(file, arrays[0].dtype, arrays, batch, large)
        packs = batch // variant.lanes
        numbers = map(np.int32, (*settings, channels, packs))
        arguments = (*arrays, *numbers, *_geometry_arguments(geometry))
        size = grid(blocks * BLOCK or positions * packs, channels)
        self._kernels.launch(variant, name, size, arguments)

    # -- random numbers and losses ----------------------------------------------------------

    def random_bits(self, count: int, key: int, part: Columns | None = None) -> Array:
        out, seed = self.xp.empty(count, "uint32"), np.uint64(key & MASK64)
        variant = self._kernels.variant("random", np.dtype("float32"), [out])
        if part is None:
            size, arguments = -(-count // 8), (out, seed, variant.index(count))
            self._kernels.launch(variant, "random_bits", grid(size), arguments)
            return out
        rows, blocks = count // part[1], (part[1] + 14) // 8
        arguments = out, seed, variant.index(rows), *map(np.uint64, part)
        self._kernels.launch(variant, "random_columns", grid(rows * blocks), arguments)
        return out

    def dropout_mask(
        self, count: int, key: int, p: float, dtype: Any, part: Columns | None = None
    ) -> Array:
        if part is not None:
            return super().dropout_mask(count, key, p, dtype, part)
        mask = self.xp.empty(count, dtype)
        variant = self._kernels.variant("random", mask.dtype, [mask])
        scale = mask.dtype.type(dropout_scale(p))  # rounded once, as on the host
        keep = np.uint32(dropout_threshold(p)), np.float64(scale)
        arguments = mask, np.uint64(key & MASK64), *keep, variant.index(count)
        self._kernels.launch(variant, "dropout_mask", grid(-(-count // 8)), arguments)
        return mask

    def cross_entropy(
        self, x: Array, target: Array, with_slope: bool = True, ignore_index: int = -100
    ) -> tuple[Array, Array | None]:
        classes, size = x.shape
        terms = self.xp.empty(size, x.dtype)
        slope = self.xp.empty(x.shape if with_slope else 0, x.dtype)
        target = self.xp.ascontiguousarray(target, "int64")
        variant = self._kernels.variant("loss", x.dtype, [x])
        numbers = np.int64(ignore_index), np.int32(with_slope), np.int32(classes)
        blocks = (-(-size // 32),)  # a block processes 32 columns
        arguments = x, target, terms, slope, *numbers, variant.index(size)
        self._kernels.launch(variant, "cross_entropy", blocks, arguments)
        return terms, slope if with_slope else None

    def mean_of_terms(self, terms: Array, target: Array, ignore_index: int) -> tuple[Array, Array]:
        if terms.size > _ONE_BLOCK:
            return super().mean_of_terms(terms, target, ignore_index)
        result = self.xp.empty(2, terms.dtype)
        target = self.xp.ascontiguousarray(target, "int64")
        variant = self._kernels.variant("loss", terms.dtype, [terms])
        arguments = terms, target, result, np.int64(ignore_index), variant.index(terms.size)
        self._kernels.launch(variant, "mean_of_terms", (1,), arguments)
        return result[0], result[1]

    def add_class_totals(
        self, totals: Sequence[Array], x: Array, target: Array, loss: Array, ignore_index: int
    ) -> None:
        if x.size > _ONE_BLOCK:
            super().add_class_totals(totals, x, target, loss, ignore_index)
            return
        classes, size = x.shape
        arrays = self.xp.ascontiguousarray(x), self.xp.ascontiguousarray(target, "int64"), loss
        variant = self._kernels.variant("loss", x.dtype, [x])
        numbers = np.int64(ignore_index), np.int32(classes), variant.index(size)
        self._kernels.launch(variant, "add_class_totals", (1,), (*arrays, *totals, *numbers))

    # -- optimisers -------------------------------------------------------------------------

    def optimizer_step(
        self,
        kernel: str,
        rule: Callable[[], Callable[..., None]],
        lists: Sequence[Sequence[Array]],
        settings: Mapping[str, Any],
        scaler: Array | None = None,
        whole: bool = False,
    ) -> None:
        if not kernel:
            super().optimizer_step(kernel, rule, lists, settings, scaler, whole)
            return
        numbers = [
            np.int32(settings[name]) if name in _FLAGS else np.float64(settings[name])
            for name in OPTIMIZER_KERNELS[kernel]
        ]
        self._launch_lists(kernel, lists, self._scaler(scaler), *numbers)

    def unscale(self, grads: Sequence[Array], scaler: Array) -> None:
        self._launch_lists("unscale", [[], grads], scaler)

    def update_scale(self, scaler: Array, growth: float, backoff: float, interval: int) -> None:
        numbers = np.float32(growth), np.float32(backoff), np.int32(interval)
        self._kernels.launch(Variant("optim"), "update_scale", (1,), (scaler, *numbers), block=1)

    def norm(self, arrays: Sequence[Array], norm_type: float = 2.0) -> Array:
        if norm_type != 2 or len({x.dtype for x in arrays}) > 1:
            return super().norm(arrays, norm_type)
        with _in_c_order(self.xp, [[], arrays]) as ordered:
            return self.xp.sqrt(self._square_sum(ordered))

    def _square_sum(self, lists: Sequence[Sequence[Array]]) -> Array:
        """The sum of squares of all arrays of one dtype in C order."""
        arrays, first = lists[1], 0
        count = sum(-(-x.size // CHUNK) for x in arrays)
        sums = self.xp.empty(count, sum_dtype(arrays[0].dtype))
        for name, argument, blocks in launches(lists):
            arguments = argument, sums, np.int32(first)
            self._kernels.launch(Variant("optim", name), "square_sums", (blocks,), arguments)
            first += blocks
        return sums.sum()

    def clip_norm(self, grads: Sequence[Array], max_norm: float, norm_type: float) -> Array:
        if norm_type != 2 or len({g.dtype for g in grads}) > 1:
            return super().clip_norm(grads, max_norm, norm_type)
        with _in_c_order(self.xp, [[], grads]) as ordered:
            total = self._square_sum(ordered)
            norm = self.xp.empty((), total.dtype)
            self._launch_lists("clip_norm", ordered, total, norm, np.float64(max_norm))
        return norm

    def average(self, averages: Sequence[Array], arrays: Sequence[Array], rate: float) -> None:
        pairs = list(zip(averages, arrays, strict=True))
        floats = [pair for pair in pairs if pair[1].dtype.kind == "f"]
        others = [pair for pair in pairs if pair[1].dtype.kind != "f"]
        super().average(*_columns(others), rate)
        averages, arrays = _columns(floats)
        self._launch_lists("average", [arrays, [], averages], np.float64(rate))

    def _scaler(self, scaler: Array | None) -> Array:
        """The state of a loss scaler; without one, of scale 1 and no overflow."""
        if scaler is None and self._no_scaling is None:
            self._no_scaling = self.xp.asarray(np.array([1, 0, 0, 0], "float32"))
        return self._no_scaling if scaler is None else scaler

    def _launch_lists(self, name: str, lists: Sequence[Sequence[Array]], *arguments: Any) -> None:
        """Launch a kernel of optim.cu over all arrays: one launch per dtype and 72 arrays."""
        with _in_c_order(self.xp, lists) as ordered:
            for dtype, argument, blocks in launches(ordered):
                variant = Variant("optim", dtype)
                self._kernels.launch(variant, name, (blocks,), (argument, *arguments))


def _columns(pairs: list[tuple[Array, Array]]) -> tuple[list[Array], list[Array]]:
    return [a for a, _ in pairs], [b for _, b in pairs]


class _Active:
    """Makes a device current, and adds details to its out-of-memory errors."""

    __slots__ = ("_backend", "_device")

    def __init__(self, backend: CudaBackend) -> None:
        self._backend = backend
        self._device = backend._device  # not shared: CuPy's Device keeps a stack

    def __enter__(self) -> None:
        self._device.__enter__()

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        self._device.__exit__(kind, error, traceback)
        if isinstance(error, self._backend.xp.cuda.memory.OutOfMemoryError):
            raise self._backend._out_of_memory(error) from error


@contextmanager
def _in_c_order(xp: Any, lists: Sequence[Sequence[Array]]) -> Iterator[list[list[Array]]]:
    """The arrays, C-contiguous and in the dtypes of the first nonempty list.

    The third list and later ones, the state, are at least float32. Other arrays are copied, and the
    copies written back at the end.
    """
    dtypes = [a.dtype for a in next(filter(None, lists), [])]
    kinds = [dtypes, dtypes, *[[sum_dtype(dtype) for dtype in dtypes]] * 3]
    ordered = [
        [xp.ascontiguousarray(a, dtype) for a, dtype in zip(arrays, wanted, strict=False)]
        for arrays, wanted in zip(lists, kinds, strict=False)
    ]
    yield ordered
    for arrays, copies in zip(lists, ordered, strict=True):
        for array, copy in zip(arrays, copies, strict=True):
            if copy is not array:
                array[...] = copy


def _region(geometry: Geometry, tile: Tile) -> list[tuple[int, int]]:
    """Per axis, the first pixel that the windows of ``tile`` can read, and one past the last."""
    starts, stops = (tile.top, tile.left), (tile.bottom, tile.right)
    region = []
    for axis in (0, 1):
        stride, before = geometry.stride[axis], geometry.padding[axis][0]
        reach = geometry.dilation[axis] * (geometry.kernel[axis] - 1) + 1
        first = max(0, starts[axis] * stride - before)
        last = min(geometry.input[axis], (stops[axis] - 1) * stride - before + reach)
        region.append((first, last))
    return region


@lru_cache(maxsize=1024)
def _geometry_arguments(geometry: Geometry) -> tuple[np.int32, ...]:
    """In the order of the GEOMETRY parameters of kernels/common.cuh."""
    geometry, ((top, bottom), (left, right)) = geometry.taken, geometry.padding
    pairs = (geometry.input, geometry.output, geometry.kernel, geometry.stride)
    numbers = *(n for pair in pairs for n in pair), top, bottom, left, right, *geometry.dilation
    return tuple(map(np.int32, numbers))


def _has_large_windows(geometry: Geometry) -> bool:
    return prod(geometry.kernel) > 256


def _bytes(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def open_device(index: int) -> CudaBackend:
    """The backend of CUDA device ``index``.

    Raises
    ------
    DeviceError
        CuPy, the driver or the device is missing.
    """
    reason = problem()
    if reason:
        raise DeviceError(f"device cuda:{index} is not available: {reason}")
    import cupy

    count = cupy.cuda.runtime.getDeviceCount()
    if index >= count:
        raise DeviceError(f"device cuda:{index} does not exist: this machine has {count} (from 0)")
    return CudaBackend(cupy, index)
