"""The CPU with compiled kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arrays import Array
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

    # -- pooling ----------------------------------------------------------------------------

    # -- losses -----------------------------------------------------------------------------

    # -- optimisers -------------------------------------------------------------------------


def _weights(weight: Array | None, bias: Array | None) -> tuple[Any, Any, tuple[int, int]]:
    """Both, contiguous, and the distances between the weights of two groups and of two rows."""
    weight, bias = (None if a is None else np.ascontiguousarray(a) for a in (weight, bias))
    shape = next((a.shape for a in (weight, bias) if a is not None), (1, 1))
    return weight, bias, (shape[1] * (shape[0] > 1), int(shape[1] > 1))
