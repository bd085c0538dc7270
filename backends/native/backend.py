"""The CPU with compiled kernels."""

from __future__ import annotations

import itertools
from functools import lru_cache
from typing import Any

import numpy as np

from ...arrays import Array
from ...geometry import Geometry
from ..cpu import CpuBackend
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

    # -- convolution ------------------------------------------------------------------------

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

    # -- normalisation ----------------------------------------------------------------------

    # -- pooling ----------------------------------------------------------------------------

    # -- losses -----------------------------------------------------------------------------

    # -- optimisers -------------------------------------------------------------------------


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
