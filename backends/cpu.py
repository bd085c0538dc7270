"""The CPU: NumPy, with the few primitives that NumPy itself does better than plain xp code."""

from __future__ import annotations

import ctypes
import math
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any

import numpy as np

from ..tiling import parts
from .base import MASK64, Array, Backend
from .threads import Threads

# products of this many multiplications: OpenBLAS shares smaller ones with no thread, and what its
# threads save below the second is less than what they cost afterwards
_SHARED_BY_BLAS, _WORTH_SHARING = 2**18, 2**24
_DOT = 2**13  # terms of a scalar product: OpenBLAS shares longer ones with its threads
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


class CpuBackend(Backend):
    """NumPy arrays in main memory."""

    def __init__(self) -> None:
        super().__init__(np, "cpu")
        self._threads = Threads()
        keep_freed_memory()

    def quiet_overflow(self) -> AbstractContextManager:
        return np.errstate(over="ignore", invalid="ignore")

    def memory(self) -> dict[str, int]:
        if not hasattr(os, "sysconf"):
            return {}
        return {"total": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}

    def _may_hold_nan(self, y: Array) -> bool:
        return bool(np.isnan(y).any())

    def _may_hold_true(self, mask: Array) -> bool:
        return bool(mask.any())

    def shares(self, work: int) -> int:
        return self._threads.count if work >= _WORTH_SHARING else 1

    def each(self, function: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
        return self._threads.run(function, parts)

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        if self._threads.busy:  # one of many small products of a part
            return np.matmul(a, b, out=out)
        stacks = a.shape[:-2] or b.shape[:-2]
        work = math.prod(stacks) * a.shape[-2] * a.shape[-1] * b.shape[-1]
        if work < _SHARED_BY_BLAS:
            return np.matmul(a, b, out=out)
        if len(stacks) < 2 and self.shares(work) > 1:
            return self._product_in_parts(a, b, out, self.shares(work))
        with self._threads.hold():
            return np.matmul(a, b, out=out)

    def _product_in_parts(self, a: Array, b: Array, out: Array | None, count: int) -> Array:
        """Cut along the stack, or else along the longest of the three lengths."""
        stacks, (rows, terms), columns = a.shape[:-2] or b.shape[:-2], a.shape[-2:], b.shape[-1]
        longest = max(stacks or (rows, terms, columns))
        shares = parts(longest, count)
        if out is None:
            out = np.empty((*stacks, rows, columns), np.result_type(a, b))
        if stacks:
            cut_a, cut_b = a.ndim > 2, b.ndim > 2

            def compute(part: slice) -> None:
                np.matmul(a[part] if cut_a else a, b[part] if cut_b else b, out=out[part])
        elif rows == longest:

            def compute(part: slice) -> None:
                np.matmul(a[part], b, out=out[part])
        elif columns == longest:

            def compute(part: slice) -> None:
                np.matmul(a, b[:, part], out=out[:, part])
        else:
            first, *others = self.each(lambda part: a[:, part] @ b[part], shares)
            return np.add(sum(others), first, out=out)
        self.each(compute, shares)
        return out

    def row_sums(self, a: Array, b: Array | None = None) -> Array:
        """By scalar products of BLAS, three times as fast as NumPy's sum."""
        if a.dtype.itemsize < 4 or (b is not None and b.dtype != a.dtype):
            return super().row_sums(a, b)  # BLAS has none in these types
        length = a.shape[1]
        if length <= _DOT:
            return np.vecdot(a, _ones(a.dtype)[:length] if b is None else b)
        whole = length - length % _DOT
        blocks = (len(a), whole // _DOT, _DOT)
        others = _ones(a.dtype) if b is None else b[:, :whole].reshape(blocks)
        total = np.vecdot(a[:, :whole].reshape(blocks), others).sum(axis=1)
        if whole < length:
            total += self.row_sums(a[:, whole:], None if b is None else b[:, whole:])
        return total

    def random_bits(self, count: int, key: int) -> Array:
        generator = np.random.Philox(key=np.array([key & MASK64, 0], np.uint64))
        words = generator.random_raw(-(-count // 2)).astype("<u8", copy=False)
        return words.view("<u4")[:count]


@cache
def _ones(dtype: Any) -> Array:
    return np.ones(_DOT, dtype)


def keep_freed_memory() -> bool:
    """Let the C library reuse the memory of freed arrays instead of returning it to the system.

    A training step makes and frees the same large arrays again and again. By default glibc gives
    them back at once, and every page of the next one costs a page fault: half of the time of a
    step of LeNet-5. Up to 1 GiB of freed memory is kept, for the whole process.

    Returns
    -------
    bool
        Whether it was done: not where the C library is another one, where the user set malloc's
        own variables, nor with ``XCNN_KEEP_MEMORY=0``.
    """
    own = any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ
    if sys.platform != "linux" or own or os.environ.get("XCNN_KEEP_MEMORY") == "0":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    largest = 32 * 1024**2  # more is refused; larger arrays still go back to the system
    done = libc.mallopt(_M_MMAP_THRESHOLD, largest) and libc.mallopt(_M_TRIM_THRESHOLD, 1024**3)
    return bool(done)
