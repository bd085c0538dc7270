"""The CPU with compiled kernels."""

from __future__ import annotations

from typing import Any

from ..cpu import CpuBackend
from .library import Library


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

    # -- pooling ----------------------------------------------------------------------------

    # -- losses -----------------------------------------------------------------------------

    # -- optimisers -------------------------------------------------------------------------
