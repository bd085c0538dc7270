"""The CPU: NumPy, with the few primitives that NumPy itself does better than plain xp code."""

from __future__ import annotations

import os

import numpy as np

from ..geometry import Geometry
from .base import Array, Backend

_MASK64 = 0xFFFFFFFFFFFFFFFF


class CpuBackend(Backend):
    """NumPy arrays in main memory."""

    def __init__(self) -> None:
        super().__init__(np, "cpu")

    def memory(self) -> dict[str, int]:
        if not hasattr(os, "sysconf"):
            return {}
        return {"total": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}

    def max_pool2d(
        self, x: Array, geometry: Geometry, with_argmax: bool = True
    ) -> tuple[Array, Array | None]:
        y = self._window_maxima(x, geometry)
        if not with_argmax:
            return y, None
        # one look at y tells whether the slower search that minds NaN is needed
        return y, self._window_argmax(x, y, geometry, nan=bool(np.isnan(y).any()))

    def random_bits(self, count: int, key: int) -> Array:
        generator = np.random.Philox(key=np.array([key & _MASK64, 0], np.uint64))
        words = generator.random_raw(-(-count // 2)).astype("<u8", copy=False)
        return words.view("<u4")[:count]
