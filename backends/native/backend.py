"""The CPU with compiled kernels."""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ...arrays import Array
from ...geometry import Geometry
from ..base import (
    MASK64,
    OPTIMIZER_KERNELS,
    OVERFLOW,
    SKIPPED,
    Columns,
    dropout_scale,
    dropout_threshold,
)
from ..cpu import CpuBackend
from ..norm import Running, Statistics
from .library import Library

_CHUNK = 2**14  # elements of a parameter that a thread updates at a time
_THREAD = 2**21  # multiplications of a product that are worth a thread


def address(array: Array | None) -> int:
    """The address of an array's memory, 0 of None."""
    if array is None:
        return 0
    try:  # a sixth of the time of __array_interface__, which makes a dict
        return ctypes.addressof(ctypes.c_char.from_buffer(array))
    except (TypeError, ValueError):  # read-only, empty or not contiguous
        return array.__array_interface__["data"][0]


class NativeBackend(CpuBackend):
    """NumPy arrays in main memory, with compiled kernels for float32 and float64.

    Parameters
    ----------
    library
        The kernels of an instruction set.
    """

    convolutions = (*CpuBackend.convolutions, "direct")

    def __init__(self, library: Library) -> None:
        super().__init__()
        self.library = library
        for function in library.functions.values():
            function.errcheck = _check

    def _kernel(self, name: str, dtype: Any) -> Any:
        """The kernel for arrays of a dtype; None for others than float32 and float64."""
        return self.library.functions[name, dtype.char] if self.compiles(dtype) else None

    def _threads_for(self, work: int) -> int:
        """Number of threads for ``work`` multiplications."""
        return self._threads.available if work >= 2**20 else 1  # waking one takes 10 µs

    # -- matrix products ----------------------------------------------------------------------

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        y = self._product_in_threads(a, b, out) if a.ndim == b.ndim == 2 else None
        return super().matmul(a, b, out) if y is None else y

    def _product_in_threads(self, a: Array, b: Array, out: Array | None) -> Array | None:
        """None, and nothing is computed, where one thread will do or BLAS cannot take them."""
        work, shape = a.size * b.shape[1], (len(a), b.shape[1])
        threads = min(work // _THREAD, self._threads.available) if work >= 2 * _THREAD else 1
        if threads < 2 or a.shape[1] != len(b) or min(shape) < 2:
            return None
        if out is not None:
            is_shared = np.may_share_memory(out, a) or np.may_share_memory(out, b)
            if is_shared or not out.flags.writeable:
                return None
        y = np.empty(shape, a.dtype) if out is None else out
        is_one_type = a.dtype == b.dtype == y.dtype and self.compiles(a.dtype)
        gemm = self._gemm.get(a.dtype.char) if is_one_type else None
        left, right, target = map(_matrix, (a, b, y))
        if not (gemm and left and right and target) or target[2] or y.shape != shape:
            return None
        with self._threads.hold() as held:
            if not held:
                return None
            kernel = self._kernel("product", a.dtype)
            kernel(threads, gemm, *shape, len(b), *left, *right, *target[:2])
        return y

    @cached_property
    def _gemm(self) -> dict[str, int]:
        """Addresses of NumPy's BLAS functions by ``dtype.char``; none but of OpenBLAS's wheels."""
        found = {}
        for char, letter in (("f", "s"), ("d", "d")):
            for library, prefix in itertools.product(self._threads._blas, ("scipy_", "")):
                function = getattr(library.dynlib, f"{prefix}cblas_{letter}gemm64_", None)
                if function:
                    found[char] = ctypes.cast(function, ctypes.c_void_p).value or 0
        return found

    # -- convolution --------------------------------------------------------------------------

    def convolution(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: Geometry,
        groups: int,
        relu: bool,
    ) -> Array:
        kernel = self._kernel("convolution", x.dtype)
        if kernel is None:
            return super().convolution(x, weight, bias, geometry, groups, relu)
        y = np.empty((len(weight), *geometry.output, x.shape[-1]), x.dtype)
        problem = _problem(geometry, len(x), len(y), groups, x.shape[-1])
        bias = _contiguous(bias)  # a copy has to live until the kernel returns
        threads = self._threads_for(y.size * weight[0].size)
        kernel(*map(address, (x, weight, bias, y, problem)), False, relu, threads)
        return y

    def convolution_input_gradient(
        self, dy: Array, weight: Array, geometry: Geometry, groups: int
    ) -> Array:
        kernel = self._kernel("convolution", dy.dtype)
        if kernel is None or not self.all_finite(weight):  # times the zeros around dy: NaN
            return super().convolution_input_gradient(dy, weight, geometry, groups)
        dx = np.empty((weight.shape[1] * groups, *geometry.input, dy.shape[-1]), dy.dtype)
        problem = _problem(geometry, len(dx), len(dy), groups, dy.shape[-1])
        threads = self._threads_for(dy.size * weight[0].size)
        arrays = map(address, (dy, weight, None, dx, problem))
        kernel(*arrays, True, False, threads)
        return dx

    def convolution_weight_gradient(
        self, dy: Array, x: Array, geometry: Geometry, groups: int
    ) -> Array:
        kernel = self._kernel("convolution_weight_gradient", x.dtype)
        if kernel is None:
            return super().convolution_weight_gradient(dy, x, geometry, groups)
        dweight = np.empty((len(dy), len(x) // groups, *geometry.kernel), x.dtype)
        problem = _problem(geometry, len(x), len(dy), groups, x.shape[-1])
        threads = self._threads_for(dy.size * dweight[0].size)
        kernel(*map(address, (dy, x, dweight, problem)), threads)
        return dweight

    def compiles(self, dtype: Any) -> bool:
        return dtype.char in "fd" and dtype.isnative

    def winograd(
        self,
        x: Array,
        weight: Array,
        bias: Array | None,
        geometry: Geometry,
        relu: bool = False,
        flipped: bool = False,
    ) -> Array | None:
        filters, channels = weight.shape[:2][:: -1 if flipped else 1]
        y = np.empty((filters, *geometry.output, x.shape[-1]), x.dtype)
        finite = np.empty(1, np.int64)
        sizes = _winograd_sizes(channels, filters, geometry, x.shape[-1])
        threads = self._threads_for(y.size * channels)
        arrays = (x, np.ascontiguousarray(weight), _contiguous(bias), y, finite)
        kernel = self._kernel("winograd", x.dtype)
        kernel(*map(address, arrays), *sizes, flipped, relu, threads)
        return y if finite[0] else None

    def winograd_weight_gradient(self, x: Array, dy: Array, geometry: Geometry) -> Array:
        channels, filters = len(x), len(dy)
        dweight = np.empty((filters, channels, *geometry.kernel), x.dtype)
        sizes = _winograd_sizes(channels, filters, geometry, x.shape[-1])
        kernel = self._kernel("winograd_weight_gradient", x.dtype)
        kernel(*map(address, (x, dy, dweight)), *sizes, self._threads_for(dy.size * channels))
        return dweight

    # -- normalisation ------------------------------------------------------------------------

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
        kernel = self._kernel("normalize", x.dtype)
        if kernel is None or not x.size:
            rest = fixed, residual, relu, ceiling
            return super().normalize(x, weight, bias, eps, running, *rest)
        weight, bias, strides = _weights(weight, bias)
        y, statistics = np.empty(x.shape, x.dtype), np.empty((3, *x.shape[::3]), x.dtype)
        old, momentum = ((), 0) if running is None else (running[:2], running.momentum)
        new = [np.ascontiguousarray(a, x.dtype) for a in old]
        arrays = *map(address, (x, weight, bias)), *strides, eps, *map(address, new or (None, None))
        settings = float(momentum), fixed, address(residual), relu, ceiling
        threads = self._threads_for(8 * x.size)
        kernel(threads, *x.shape, *arrays, *settings, address(y), address(statistics))
        for array, copy in zip(old, new, strict=True):
            if copy is not array and not fixed:
                array[...] = copy
        return y, Statistics(*statistics[:, :, None, None])

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
        kernel = self._kernel("normalize_backward", x.dtype)
        if kernel is None or not x.size:
            settings = fixed, with_residual, with_dx, ceiling
            return super().normalize_backward(dy, x, y, statistics, weight, *settings)
        dx = np.empty(x.shape, x.dtype) if with_dx else None
        dweight, dbias = np.empty((2, *x.shape[:2]), x.dtype)
        own = np.empty(x.shape, x.dtype) if with_residual and y is not None else None
        weight, _, strides = _weights(weight, None)
        arrays = map(address, (dy, x, y, statistics.mean, weight))
        outputs = map(address, (dx, dweight, dbias, own))
        kernel(self._threads_for(8 * x.size), *x.shape, *arrays, *strides, fixed, ceiling, *outputs)
        return dx, dweight, dbias, (dy if own is None else own) if with_residual else None

    # -- pooling ------------------------------------------------------------------------------

    def max_pool2d(
        self, x: Array, geometry: Geometry, with_argmax: bool = True
    ) -> tuple[Array, Array | None]:
        kernel = self._kernel("max_pool2d", x.dtype)
        if kernel is None:
            return super().max_pool2d(x, geometry, with_argmax)
        y = np.empty((len(x), *geometry.output, x.shape[-1]), x.dtype)
        small = math.prod(geometry.kernel) <= 256
        argmax = np.empty(y.shape, np.uint8 if small else np.int32) if with_argmax else None
        arrays = address(x), address(y), address(argmax)
        kernel(*arrays, 1 if small else 4, *self._image_arguments(geometry, x))
        return y, argmax

    def max_pool2d_backward(self, dy: Array, argmax: Array, geometry: Geometry) -> Array:
        kernel = self._kernel("max_pool2d_backward", dy.dtype)
        if kernel is None:
            return super().max_pool2d_backward(dy, argmax, geometry)
        dx = np.empty((len(dy), *geometry.input, dy.shape[-1]), dy.dtype)
        arrays = address(dy), address(argmax), address(dx)
        kernel(*arrays, argmax.itemsize, *self._image_arguments(geometry, dx))
        return dx

    def avg_pool2d(self, x: Array, geometry: Geometry, include_pad: bool) -> Array:
        kernel = self._kernel("avg_pool2d", x.dtype)
        if kernel is None:
            return super().avg_pool2d(x, geometry, include_pad)
        y = np.empty((len(x), *geometry.output, x.shape[-1]), x.dtype)
        kernel(address(x), address(y), include_pad, *self._image_arguments(geometry, x))
        return y

    def avg_pool2d_backward(self, dy: Array, geometry: Geometry, include_pad: bool) -> Array:
        kernel = self._kernel("avg_pool2d_backward", dy.dtype)
        if kernel is None:
            return super().avg_pool2d_backward(dy, geometry, include_pad)
        dx = np.empty((len(dy), *geometry.input, dy.shape[-1]), dy.dtype)
        kernel(address(dy), address(dx), include_pad, *self._image_arguments(geometry, dx))
        return dx

    def _image_arguments(self, geometry: Geometry, x: Array) -> tuple[Any, ...]:
        """The last arguments of a kernel of images x (C, H, W, N) and windows."""
        return _windows(geometry), len(x), x.shape[-1], self._threads_for(x.size)

    # -- bias, masks, copies ------------------------------------------------------------------

    def ascontiguousarray(self, x: Array) -> Array:
        if x.flags.c_contiguous or x.ndim < 2:
            return np.ascontiguousarray(x)
        kernel, rows = self._kernel("transpose", x.dtype), np.moveaxis(x, -1, 0)
        if kernel is None or not rows.flags.c_contiguous:
            return np.ascontiguousarray(x)
        y, count = np.empty(x.shape, x.dtype), x.shape[-1]
        kernel(address(x), address(y), count, x.size // count, self._threads_for(4 * x.size))
        return y

    def add_bias(self, y: Array, bias: Array | None, columns: slice, relu: bool) -> None:
        kernel = self._kernel("add_bias", y.dtype)
        if kernel is None:
            super().add_bias(y, bias, columns, relu)
            return
        rows, size = y.shape
        start, stop, _ = columns.indices(size)
        numbers = relu, rows, size, start, stop - start, self._threads_for(rows * (stop - start))
        bias = _contiguous(bias)  # a copy has to live until the kernel returns
        kernel(address(y), address(bias), *numbers)

    def relu_backward(self, dy: Array, y: Array) -> tuple[Array, Array]:
        kernel = self._kernel("relu_backward", dy.dtype)
        if kernel is None:
            return super().relu_backward(dy, y)
        dz, dbias = np.empty(dy.shape, dy.dtype), np.empty(len(dy), dy.dtype)
        arrays = address(dy), address(y), address(dz), address(dbias)
        kernel(*arrays, *dy.shape, self._threads_for(dy.size))
        return dz, dbias

    def dropout_mask(
        self, count: int, key: int, p: float, dtype: Any, part: Columns | None = None
    ) -> Array:
        mask = np.empty(count, dtype)
        kernel = self._kernel("dropout_mask", mask.dtype)
        if kernel is None:
            return super().dropout_mask(count, key, p, dtype, part)
        numbers = dropout_threshold(p), dropout_scale(p), *(part or (0, count, count))
        kernel(address(mask), count, key & MASK64, *numbers, self._threads_for(8 * count))
        return mask

    # -- losses -------------------------------------------------------------------------------

    def cross_entropy(
        self, x: Array, target: Array, with_slope: bool = True, ignore_index: int = -100
    ) -> tuple[Array, Array | None]:
        kernel = self._kernel("cross_entropy", x.dtype)
        if kernel is None:
            return super().cross_entropy(x, target, with_slope, ignore_index)
        classes, size = x.shape
        target = np.ascontiguousarray(target, np.int64)
        terms = np.empty(size, x.dtype)
        slope = np.empty(x.shape, x.dtype) if with_slope else None
        arrays = address(x), address(target), address(terms), address(slope)
        kernel(*arrays, ignore_index, classes, size, self._threads_for(8 * x.size))
        return terms, slope

    def mean_of_terms(self, terms: Array, target: Array, ignore_index: int) -> tuple[Array, Array]:
        kernel = self._kernel("mean_of_terms", terms.dtype)
        if kernel is None:
            return super().mean_of_terms(terms, target, ignore_index)
        target = np.ascontiguousarray(target, np.int64)
        mean, inverse = np.empty((), terms.dtype), np.empty((), terms.dtype)
        arrays = map(address, (terms, target, mean, inverse))
        kernel(*arrays, ignore_index, terms.size)
        return mean, inverse

    # -- optimisers ---------------------------------------------------------------------------

    def optimizer_step(
        self,
        kernel: str,
        rule: Callable[[], Callable[..., None]],
        lists: Sequence[Sequence[Array]],
        settings: Mapping[str, Any],
        scaler: Array | None = None,
        whole: bool = False,
    ) -> None:
        arrays = [a for kind in lists for a in kind]
        kinds = {a.dtype for a in arrays}
        function = self._kernel(kernel, arrays[0].dtype) if kernel and len(kinds) == 1 else None
        if function is None or not all(a.flags.c_contiguous for a in arrays):
            super().optimizer_step(kernel, rule, lists, settings, scaler, whole)
            return
        if scaler is not None:
            if scaler[OVERFLOW]:
                return
            settings = {**settings, "step": settings.get("step", 0) - int(scaler[SKIPPED])}
        addresses = tuple([address(a) for a in arrays])
        sizes = tuple([p.size for p in lists[0]])
        table = _chunks(addresses, sizes, tuple(map(bool, lists)), arrays[0].itemsize)
        threads = self._threads_for(8 * sum(sizes))
        numbers = [settings[name] for name in OPTIMIZER_KERNELS[kernel]]
        function(address(table), len(table), threads, *numbers)


def _matrix(x: Array) -> tuple[int, int, bool] | None:
    """``Matrix`` of products.cpp; None if neither rows nor columns are contiguous."""
    for matrix, transposed in ((x, False), (x.T, True)):
        step, rest = divmod(matrix.strides[0], x.itemsize)
        if matrix.strides[1] == x.itemsize and not rest and step >= matrix.shape[1]:
            return address(matrix), step, transposed
    return None


def _check(failed: int, function: Any, arguments: Any) -> None:
    if failed:
        raise MemoryError("no room for a kernel's intermediate values")


def _contiguous(vector: Array | None) -> Array | None:
    return None if vector is None else np.ascontiguousarray(vector)


@lru_cache(maxsize=1024)
def _problem(geometry: Geometry, channels: int, filters: int, groups: int, batch: int) -> Array:
    """``Problem`` of convolution.cpp."""
    return np.array([channels, filters, groups, batch, *_axes(geometry.taken)], np.int64)


def _axes(geometry: Geometry) -> list[int]:
    """``Axis`` of common.h, for the height and the width."""
    begin, end = zip(*geometry.padding, strict=True)
    rows = geometry.input, geometry.output, geometry.kernel, geometry.stride, begin, end
    return [row[axis] for axis in (0, 1) for row in (*rows, geometry.dilation)]


def _winograd_sizes(channels: int, filters: int, geometry: Geometry, batch: int) -> tuple[int, ...]:
    (top, _), (left, _) = geometry.padding
    images = *geometry.input, *geometry.output, batch
    return channels, filters, *images, top, left, geometry.kernel[0]


def _weights(weight: Array | None, bias: Array | None) -> tuple[Any, Any, tuple[int, int]]:
    """Both, contiguous, and the distances between the weights of two groups and of two rows."""
    weight, bias = _contiguous(weight), _contiguous(bias)
    shape = next((a.shape for a in (weight, bias) if a is not None), (1, 1))
    return weight, bias, (shape[1] * (shape[0] > 1), int(shape[1] > 1))


@lru_cache(maxsize=1024)
def _windows(geometry: Geometry) -> Any:
    """``Windows`` of pool.cpp."""
    return (ctypes.c_int64 * 14)(*_axes(geometry))


@lru_cache(maxsize=64)
def _chunks(
    addresses: tuple[int, ...], sizes: tuple[int, ...], used: tuple[bool, ...], itemsize: int
) -> Array:
    """The ``Chunk`` rows of optim.cpp: five addresses, 0 for lists not ``used``, and a length."""
    columns = np.zeros((5, len(sizes)), np.int64)
    columns[: len(used)][list(used)] = np.reshape(addresses, (sum(used), len(sizes)))
    rows = [
        [*(first + start * itemsize if first else 0 for first in column), min(_CHUNK, size - start)]
        for column, size in zip(columns.T.tolist(), sizes, strict=True)
        for start in range(0, size, _CHUNK)
    ]
    return np.array(rows, np.int64).reshape(-1, 6)
