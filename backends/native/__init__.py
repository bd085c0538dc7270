"""The CPU's kernels in C++: optional, compiled when xcnn is installed.

``XCNN_NATIVE=0`` turns them off; ``XCNN_NATIVE=avx512``, ``avx2`` or ``baseline`` chooses an
instruction set, by default the best that the processor has.
"""

from __future__ import annotations

from .backend import NativeBackend
from .library import Library, load

__all__ = ["Library", "NativeBackend", "load"]
