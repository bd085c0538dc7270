"""Several parts of an operation at once on a CPU.

NumPy's own loops run on one thread, and BLAS splits only products that are large. Here each part
of an operation, such as a band of an image, takes a Python thread through all of its steps: NumPy
and BLAS release the interpreter's lock while they compute. BLAS is held to one thread meanwhile,
also for products by themselves, because its own threads wait for the next product by spinning, and
would take the processor from these (decision 12).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


class Threads:
    """A pool of as many threads as BLAS uses; they start with the first work."""

    def __init__(self) -> None:
        self._busy = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    @cached_property
    def count(self) -> int:
        """Threads that BLAS used at first (``OPENBLAS_NUM_THREADS``); 1 where that is unknown."""
        return self._allowed()

    @property
    def busy(self) -> bool:
        """Whether parts are being computed, which hold BLAS to one thread."""
        return self._busy.locked()

    def run(self, function: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
        """``[function(part) for part in parts]``: at once, unless other work is being done so or
        BLAS has been limited to one thread.
        """
        if len(parts) < 2:
            return _in_turn(function, parts)
        with self.hold() as held:
            return (self._at_once if held else _in_turn)(function, parts)

    @contextmanager
    def hold(self) -> Iterator[bool]:
        """A context in which BLAS uses one thread: whether it is this call that holds it so."""
        if not self._busy.acquire(blocking=False):
            yield False
            return
        try:
            allowed = self._allowed()
            if min(self.count, allowed) < 2:
                yield False
                return
            self._limit(1)
            try:
                yield True
            finally:
                self._limit(allowed)
        finally:
            self._busy.release()

    def _at_once(self, function: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
        if self._pool is None:
            from concurrent.futures import ThreadPoolExecutor  # 5 ms, only when needed

            self._pool = ThreadPoolExecutor(self.count, "xcnn")
        # the context holds what numpy.errstate has set
        others = [self._pool.submit(copy_context().run, function, part) for part in parts[1:]]
        try:
            first = function(parts[0])
        finally:
            for other in others:  # none may still write when the caller goes on
                other.exception()
        return [first, *(other.result() for other in others)]

    @cached_property
    def _blas(self) -> list[Any]:
        from threadpoolctl import ThreadpoolController  # likewise

        return ThreadpoolController().select(user_api="blas").lib_controllers

    def _allowed(self) -> int:
        return max((library.get_num_threads() or 1 for library in self._blas), default=1)

    def _limit(self, threads: int) -> None:
        for library in self._blas:
            library.set_num_threads(threads)

    def _forget(self) -> None:
        """In a child process there are no threads, and nobody holds the lock."""
        self._busy, self._pool = threading.Lock(), None


def _in_turn(function: Callable[[Any], Any], parts: Sequence[Any]) -> list[Any]:
    return [function(part) for part in parts]
