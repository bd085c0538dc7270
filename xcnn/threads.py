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
    parts that were begun. So it never waits for a thread that cannot run: work within work, after
    the end of the main thread, in ``__del__`` at the exit of the interpreter.
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

        If a part raises an error, parts that were not begun are left out, and the error of the
        first part that has one is raised.
        """
        todo = deque((i, partial(function, part)) for i, part in enumerate(parts))
        done: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()

        failed: list[bool] = []

        def work() -> None:
            with suppress(IndexError):
                while True:
                    i, compute = todo.popleft()
                    try:
                        done.put((i, None if failed else compute(), None))
                    except BaseException as error:  # raised below, in the calling thread
                        failed.append(True)
                        done.put((i, None, error))

        for _ in range(min(count, len(parts)) - 1):
            self._queue.put(partial(copy_context().run, work))  # it carries numpy.errstate
        self._start_helpers(count - 1)
        work()
        outcomes = sorted((done.get() for _ in parts), key=lambda outcome: outcome[0])
        errors = [error for _, _, error in outcomes if error is not None]
        if errors:
            raise errors[0]
        return [result for _, result, _ in outcomes]

    def _start_helpers(self, count: int) -> None:
        while self._helpers < count and start(partial(_help, self._queue), self._name):
            self._helpers += 1


def _help(queue: SimpleQueue[Callable[[], Any]]) -> None:
    while True:
        queue.get()()
