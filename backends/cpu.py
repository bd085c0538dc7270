"""The CPU: NumPy, overriding the few primitives that NumPy does faster than generic xp code.

NumPy's loops run on one thread, and BLAS splits only large products. Here each part of an
operation, such as a band of an image, goes through all of its steps in one Python thread: NumPy and
BLAS release the GIL while they compute. Meanwhile BLAS is limited to one thread, also for single
products: its idle threads spin while they wait for the next product, and would take CPU time from
ours (decision 12).
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache, cached_property
from typing import Any

import numpy as np

from ..errors import OutOfMemoryError
from ..threads import Pool
from ..tiling import split_range
from .base import MASK64, Array, Backend, Columns

# multiplications of a product: below the first, OpenBLAS uses one thread; below the second, threads
# cost more than they save
_SHARED_BY_BLAS, _WORTH_SHARING = 2**18, 2**24
_DOT = 2**13  # terms of a dot product: OpenBLAS splits longer ones among its threads
_RUN = 2**7  # rows that column_sums adds at a time: rounding errors grow with their number
_QUIET: Any = {"divide": "ignore", "over": "ignore", "invalid": "ignore"}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # from glibc's malloc.h


class Threads:
    """A pool of as many threads as BLAS uses, started on first use."""

    def __init__(self) -> None:
        self._busy = threading.Lock()
        self._held = 0  # threads that BLAS gets back at the end of hold()
        self._pool = Pool("xcnn")
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)

    @cached_property
    def count(self) -> int:
        """Initial number of BLAS threads (``OPENBLAS_NUM_THREADS``); 1 if unknown."""
        return self._blas_threads()

    @property
    def available(self) -> int:
        """Number of threads for work outside BLAS: fewer if the user limited BLAS since."""
        return 1 if self.busy else min(self.count, self._blas_threads())

    def limit(self, count: int) -> None:
        """Use ``count`` threads from now on, also in BLAS."""
        self.count = count
        self._set_blas_threads(count)

    @property
    def busy(self) -> bool:
        """Whether parts are being computed, with BLAS limited to one thread."""
        return self._busy.locked()

    def run(self, function: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
        """``[function(part) for part in parts]``, in parallel if possible.

        Serially while other work runs in parallel, or if the user limited BLAS to one thread.
        """
        if len(parts) > 1:
            with self.hold() as limited:
                if limited:
                    return self._pool.run(function, parts, self.count)
        return [function(part) for part in parts]

    @contextmanager
    def hold(self) -> Iterator[bool]:
        """A context in which BLAS uses one thread; yields whether this call set that limit."""
        busy = self._busy
        if not busy.acquire(blocking=False):
            yield False
            return
        try:
            allowed = self._blas_threads()
            if min(self.count, allowed) < 2:
                yield False
                return
            self._held = allowed
            try:
                self._set_blas_threads(1)
                yield True
            finally:
                self._set_blas_threads(allowed)
                self._held = 0
        finally:
            busy.release()

    @cached_property
    def _blas(self) -> list[Any]:
        from threadpoolctl import ThreadpoolController

        return ThreadpoolController().select(user_api="blas").lib_controllers

    def _blas_threads(self) -> int:
        return max([library.get_num_threads() or 1 for library in self._blas], default=1)

    def _set_blas_threads(self, threads: int) -> None:
        for library in self._blas:
            library.set_num_threads(threads)

    def _reset(self) -> None:
        """Reset after a fork: nothing holds BLAS in the child process."""
        self._busy = threading.Lock()
        if self._held:  # another thread of the parent was computing
            self._set_blas_threads(self._held)
            self._held = 0


class CpuBackend(Backend):
    """NumPy arrays in main memory."""

    def __init__(self) -> None:
        super().__init__(np, "cpu")
        self._threads = Threads()
        keep_freed_memory()

    def limit_threads(self, count: int) -> None:
        """Use at most ``count`` threads, also in BLAS."""
        self._threads.limit(min(count, self._threads.count))

    def quiet_overflow(self) -> AbstractContextManager:
        return np.errstate(**_QUIET)

    active = quiet_overflow

    @np.errstate(**_QUIET)  # as a decorator, half as slow as in a with statement
    def run(self, function: Callable[..., Array], *arrays: Any) -> Array:
        try:
            return function(self, *arrays)
        except MemoryError as error:
            raise OutOfMemoryError(f"cpu is out of memory: {error}; use smaller arrays") from error

    def memory(self) -> dict[str, int]:
        if not hasattr(os, "sysconf"):
            return {}
        return {"total": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")}

    def _may_hold_nan(self, y: Array) -> bool:
        return bool(np.isnan(y).any())

    def all_finite(self, x: Array) -> bool:
        # by BLAS, a third of the time of isfinite
        return math.isfinite(np.vdot(x, x) if x.size <= _DOT else np.vecdot(x, x).sum())

    def _may_hold_true(self, mask: Array) -> bool:
        return bool(mask.any())

    def shares(self, work: int) -> int:
        return self._threads.count if work >= _WORTH_SHARING else 1

    def each(self, function: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
        return self._threads.run(function, parts)

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        if self._threads.busy:  # one of many small products within a part
            return np.matmul(a, b, out=out)
        stack = a.shape[:-2] or b.shape[:-2]
        work = math.prod(stack) * a.shape[-2] * a.shape[-1] * b.shape[-1]
        if work < _SHARED_BY_BLAS:
            return np.matmul(a, b, out=out)
        if len(stack) < 2 and self.shares(work) > 1:
            return self._product_in_parts(a, b, out, self.shares(work))
        with self._threads.hold():
            return np.matmul(a, b, out=out)

    def _product_in_parts(self, a: Array, b: Array, out: Array | None, count: int) -> Array:
        """Split the product along the stack, or else along the longest of the three lengths."""
        stack, (rows, terms), columns = a.shape[:-2] or b.shape[:-2], a.shape[-2:], b.shape[-1]
        longest = max(stack or (rows, terms, columns))
        parts = split_range(longest, count)
        if out is None:
            out = np.empty((*stack, rows, columns), np.result_type(a, b))
        if not stack and longest not in (rows, columns):
            first, *rest = self.each(lambda part: a[:, part] @ b[part], parts)
            return np.add(sum(rest), first, out=out)

        def compute(part: slice) -> None:
            if stack:
                left, right = (m[part] if m.ndim > 2 else m for m in (a, b))
                np.matmul(left, right, out=out[part])
            elif rows == longest:
                np.matmul(a[part], b, out=out[part])
            else:
                np.matmul(a, b[:, part], out=out[:, part])

        self.each(compute, parts)
        return out

    def row_sums(self, a: Array, b: Array | None = None) -> Array:
        """BLAS dot products: three times as fast as NumPy's sum."""
        if a.dtype.itemsize < 4 or (b is not None and b.dtype != a.dtype):
            return super().row_sums(a, b)  # BLAS has no dot product for these types
        length = a.shape[1]
        if length <= _DOT:
            return np.vecdot(a, _ones(a.dtype)[:length] if b is None else b)
        end = length - length % _DOT
        blocks = (len(a), end // _DOT, _DOT)
        factors = _ones(a.dtype) if b is None else b[:, :end].reshape(blocks)
        total = np.vecdot(a[:, :end].reshape(blocks), factors).sum(axis=1)
        if end < length:
            total += self.row_sums(a[:, end:], None if b is None else b[:, end:])
        return total

    def column_sums(self, a: Array) -> Array:
        """BLAS products with rows of ones: 2 to 9 times as fast as NumPy's sum, and more exact."""
        if a.dtype.itemsize < 4:
            return super().column_sums(a)
        rows, length, size = a.shape
        if length == 1:
            return a[:, 0]
        if length <= _RUN:
            return self.matmul(_ones(a.dtype)[None, :length], a)[:, 0]
        end = length - length % _RUN
        blocks = a[:, :end].reshape(rows, end // _RUN, _RUN, size)
        total = self.matmul(_ones(a.dtype)[None, :_RUN], blocks)[:, :, 0].sum(axis=1)
        if end < length:
            total += self.column_sums(a[:, end:])
        return total

    def sum_rows(self, rows: Array, places: Array, count: int) -> Array:
        """One after the other: fast in NumPy if all is 1-D."""
        width = rows.shape[1]
        sums = np.zeros(count * width, rows.dtype)
        flat = (places[:, None] * width + np.arange(width)).reshape(-1)
        np.add.at(sums, flat, rows.reshape(-1))
        return sums.reshape(count, width)

    def random_bits(self, count: int, key: int, part: Columns | None = None) -> Array:
        if part is not None:
            return super().random_bits(count, key, part)
        generator = np.random.Philox(key=np.array([key & MASK64, 0], np.uint64))
        words = generator.random_raw(-(-count // 2)).astype("<u8", copy=False)
        return words.view("<u4")[:count]


@cache
def _ones(dtype: Any) -> Array:
    return np.ones(_DOT, dtype)


def keep_freed_memory() -> bool:
    """Let the C library reuse the memory of freed arrays instead of returning it to the system.

    Each training step allocates and frees the same large arrays. By default glibc returns them to
    the system at once, and every page of the next one costs a page fault: half of the time of a
    LeNet-5 step. Up to 1 GiB of freed memory is kept, process-wide.

    Returns
    -------
    bool
        Whether it was done: not with another C library, with malloc variables set by the user, or
        with ``XCNN_KEEP_MEMORY=0``.
    """
    set_by_user = any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if sys.platform != "linux" or set_by_user or os.environ.get("XCNN_KEEP_MEMORY") == "0":
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    largest = 32 * 1024**2  # the maximum; larger arrays still go back to the system
    done = libc.mallopt(_M_MMAP_THRESHOLD, largest) and libc.mallopt(_M_TRIM_THRESHOLD, 1024**3)
    return bool(done)
