"""Reading ahead in background threads."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import starmap
from queue import SimpleQueue
from typing import Any

from ..errors import DataError

# Queues below hold a result as a tuple of one, an exception, or None at the end. All are
# SimpleQueues: Ctrl-C inside a Queue or a Semaphore can leave its lock held forever.
# While the interpreter exits, threads neither start nor run, and joining one would never end.


def prefetch(batches: Generator[Any, None, None], depth: int) -> Generator[Any, None, None]:
    """Yield what the generator ``batches`` yields, computed in advance by one background thread.

    While the consumer uses a batch, up to ``depth`` batches are ready and one is being computed.
    Closing the generator, as leaving a for loop early does, stops and joins the thread.
    """
    if sys.is_finalizing():
        yield from batches
        return
    ready: SimpleQueue[tuple[Any] | BaseException | None] = SimpleQueue()
    room: SimpleQueue[bool] = SimpleQueue()  # one True per batch that may be computed, False: stop
    for _ in range(depth + 1):
        room.put(True)
    stopped: list[bool] = []

    def read() -> None:
        try:
            with closing(batches):  # in this thread: contexts such as no_grad are per thread
                while room.get() and not stopped:
                    ready.put((next(batches),))
        except StopIteration:
            ready.put(None)
        except BaseException as error:  # re-raised in the consumer
            ready.put(error)

    thread = threading.Thread(target=read, name="xcnn-prefetch", daemon=True)
    try:
        thread.start()
        while isinstance(item := _get(ready), tuple):
            room.put(True)
            yield item[0]
        if item is not None:
            raise item  # with the thread's traceback
    finally:
        stopped.append(True)
        room.put(False)
        _join(thread)


def parallel(
    function: Callable[..., Any], jobs: Iterable[tuple[Any, ...]], threads: int
) -> Generator[Any, None, None]:
    """Yield ``function(*job)`` for each of ``jobs``, in their order, computed by ``threads``.

    Up to ``threads`` results beyond the one that is yielded are computed in advance. ``jobs`` is
    read in the consumer's thread.
    """
    if sys.is_finalizing():
        yield from starmap(function, jobs)
        return
    tasks: SimpleQueue[tuple[Any, SimpleQueue] | None] = SimpleQueue()
    stopped: list[bool] = []

    def work() -> None:
        while task := tasks.get():
            job, result = task
            try:
                result.put(None if stopped else (function(*job),))
            except BaseException as error:  # re-raised in the consumer
                result.put(error)

    pool = [threading.Thread(target=work, name="xcnn-worker", daemon=True) for _ in range(threads)]
    waiting: deque[SimpleQueue] = deque()
    try:
        for thread in pool:
            thread.start()
        for job in _caught(jobs):
            waiting.append(SimpleQueue())
            if isinstance(job, Exception):  # after the results of the jobs before it
                waiting[-1].put(job)
            else:
                tasks.put((job, waiting[-1]))
            if len(waiting) > threads:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    finally:
        stopped.append(True)
        for _ in pool:
            tasks.put(None)
        _join(*pool)


def _caught(jobs: Iterable[Any]) -> Iterator[Any]:
    """Yield ``jobs``, and the exception that ends them, if any."""
    try:
        yield from jobs
    except Exception as error:
        yield error


def _result(queue: SimpleQueue) -> Any:
    item = _get(queue)
    if isinstance(item, BaseException):
        raise item  # with the worker's traceback
    return item[0]


def _get(queue: SimpleQueue) -> Any:
    if sys.is_finalizing() and queue.empty():
        raise DataError("the interpreter is exiting: the thread that reads data has ended")
    return queue.get()


def _join(*threads: threading.Thread) -> None:
    """Wait for ``threads``, except in one of them, where garbage collection may call this."""
    if sys.is_finalizing() or threading.current_thread() in threads:
        return
    for thread in threads:
        if thread.is_alive():  # Ctrl-C may come before a thread starts
            thread.join()
