"""The CPU with compiled kernels."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any

import numpy as np

from ...arrays import Array
from ...geometry import Geometry
from ..cpu import CpuBackend
from ..norm import Running, Statistics
from .library import Library, address


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

    def _kernel(self, name: str, dtype: Any) -> Any:
        """The kernel for arrays of a dtype; None for others than float32 and float64."""
        return self.library.kernel(name, dtype) if dtype.char in "fd" else None

    def _threads_for(self, work: int) -> int:
        """Number of threads for ``work`` multiplications."""
        return self._threads.available if work >= 2**16 else 1

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
        bias = None if bias is None else np.ascontiguousarray(bias)
        y = np.empty((len(weight), *geometry.output, x.shape[-1]), x.dtype)
        problem = _problem(geometry, len(x), len(y), groups, x.shape[-1])
        threads = self._threads_for(y.size * weight[0].size)
        arrays = map(address, (x, weight, bias, y, problem))
        kernel(*arrays, False, relu, threads)
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
        return dtype.char in "fd"

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
        y = self.xp.empty((filters, *geometry.output, x.shape[-1]), x.dtype)
        finite = self.xp.empty(1, self.xp.int64)
        sizes = _winograd_sizes(channels, filters, geometry, x.shape[-1])
        threads = self._threads_for(y.size * channels)
        arrays = (x, self.xp.ascontiguousarray(weight), bias, y, finite)
        kernel = self._kernel("winograd", x.dtype)
        kernel(*map(address, arrays), *sizes, flipped, relu, threads)
        return y if finite[0] else None

    def winograd_weight_gradient(self, x: Array, dy: Array, geometry: Geometry) -> Array:
        channels, filters = len(x), len(dy)
        dweight = self.xp.empty((filters, channels, *geometry.kernel), x.dtype)
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
    ) -> tuple[Array, Statistics]:
        kernel = self._kernel("normalize", x.dtype)
        if kernel is None or not x.size:
            return super().normalize(x, weight, bias, eps, running, fixed, residual, relu)
        weight, bias, strides = _weights(weight, bias)
        y, statistics = np.empty(x.shape, x.dtype), np.empty((3, *x.shape[::3]), x.dtype)
        old, momentum = ((), 0) if running is None else (running[:2], running.momentum)
        new = [np.ascontiguousarray(a, x.dtype) for a in old]
        arrays = *map(address, (x, weight, bias)), *strides, eps, *map(address, new or (None, None))
        settings = float(momentum), fixed, address(residual), relu
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
    ) -> tuple[Array | None, Array, Array, Array | None]:
        kernel, settings = (
            self._kernel("normalize_backward", x.dtype),
            (fixed, with_residual, with_dx),
        )
        if kernel is None or not x.size:
            return super().normalize_backward(dy, x, y, statistics, weight, *settings)
        dx = np.empty(x.shape, x.dtype) if with_dx else None
        dweight, dbias = np.empty((2, *x.shape[:2]), x.dtype)
        own = np.empty(x.shape, x.dtype) if with_residual and y is not None else None
        weight, _, strides = _weights(weight, None)
        arrays = map(address, (dy, x, y, statistics.mean, weight))
        outputs = map(address, (dx, dweight, dbias, own))
        kernel(self._threads_for(8 * x.size), *x.shape, *arrays, *strides, fixed, *outputs)
        return dx, dweight, dbias, (dy if own is None else own) if with_residual else None

    # -- pooling ------------------------------------------------------------------------------

    # -- losses -------------------------------------------------------------------------------

    # -- optimisers ---------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def _problem(geometry: Geometry, channels: int, filters: int, groups: int, batch: int) -> Array:
    """``Problem`` of convolution.cpp."""
    axes = zip(
        geometry.input,
        geometry.output,
        geometry.kernel,
        geometry.stride,
        (begin for begin, _ in geometry.padding),
        geometry.dilation,
        strict=True,
    )
    return np.array([channels, filters, groups, batch, *itertools.chain(*axes)], np.int64)


def _winograd_sizes(channels: int, filters: int, geometry: Geometry, batch: int) -> tuple[int, ...]:
    (top, _), (left, _) = geometry.padding
    images = *geometry.input, *geometry.output, batch
    return channels, filters, *images, top, left, geometry.kernel[0]


def _weights(weight: Array | None, bias: Array | None) -> tuple[Any, Any, tuple[int, int]]:
    """Both, contiguous, and the distances between the weights of two groups and of two rows."""
    weight, bias = (None if a is None else np.ascontiguousarray(a) for a in (weight, bias))
    shape = next((a.shape for a in (weight, bias) if a is not None), (1, 1))
    return weight, bias, (shape[1] * (shape[0] > 1), int(shape[1] > 1))
