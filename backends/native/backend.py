"""The CPU with compiled kernels."""

from __future__ import annotations

from typing import Any

from ...geometry import Geometry
from ..base import Array
from ..cpu import CpuBackend
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


def _winograd_sizes(channels: int, filters: int, geometry: Geometry, batch: int) -> tuple[int, ...]:
    (top, _), (left, _) = geometry.padding
    images = *geometry.input, *geometry.output, batch
    return channels, filters, *images, top, left, geometry.kernel[0]
