"""Background threads, and what to do where none can start, as at the exit of the interpreter."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import SimpleQueue
from typing import Any


def start(work: Callable[[], Any], name: str) -> threading.Thread | None:
    """Call ``work`` in a new daemon thread; None if the interpreter cannot start one any more."""
    if sys.is_finalizing():  # before Python 3.12 start() would wait forever for the new thread
        return None
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError:  # from Python 3.12 on at exit; or the system has no more threads
        return None
    return thread


class Pool:
    """Threads that help the calling thread, started on first use.

    They take parts from a list that the caller works through as well, and the caller waits only for
    parts that have been started. So it never waits for a thread that cannot run: in nested work,
    after the end of the main thread, in ``__del__`` at the exit of the interpreter.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)  # a fork has none of the threads

    def _forget(self) -> None:
        self._queue: SimpleQueue[Callable[[], Any]] = SimpleQueue()  # unlike Queue, reentrant
        self._helpers = 0

    def run(self, function: Callable[[Any], Any], parts: Sequence[Any], count: int) -> list[Any]:
        """``[function(part) for part in parts]`` in at most ``count`` threads.

        If a part raises an error, parts that have not started are skipped, and the error of the
        first part that failed is raised.
        """
        # without a reference to the parts, a helper that comes too late keeps no array alive
        todo = deque((i, partial(function, part)) for i, part in enumerate(parts))
        results, errors, done = [None] * len(parts), dict[int, BaseException](), SimpleQueue[None]()

        def work() -> None:
            with suppress(IndexError):
                while True:
                    i, compute = todo.popleft()
                    try:
                        results[i] = None if errors else compute()
                    except BaseException as error:  # raised below, in the calling thread
                        errors[i] = error
                    done.put(None)

        while self._helpers < count - 1 and start(partial(_help, self._queue), self._name):
            self._helpers += 1
        for _ in range(min(count - 1, len(parts) - 1, self._helpers)):
            self._queue.put(partial(copy_context().run, work))  # it carries numpy.errstate
        work()
        for _ in parts:
            done.get()
        if errors:
            raise errors[min(errors)]
        return results


def _help(queue: SimpleQueue[Callable[[], Any]]) -> None:
    while True:
        queue.get()()
