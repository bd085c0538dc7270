"""Computing ahead in background threads."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from itertools import repeat, starmap
from queue import SimpleQueue
from typing import Any

from ..errors import DataError


def prefetch(batches: Generator[Any, None, None], depth: int) -> Generator[Any, None, None]:
    """Yield what the generator ``batches`` yields, computed in advance by one background thread.

    While the consumer uses a batch, up to ``depth`` batches are ready and one is being computed.
    Closing the generator, as leaving a for loop early does, stops and joins the thread.
    """
    end = object()
    read = parallel(lambda: next(batches, end), repeat(()), 1, depth + 1, batches.close)
    with closing(read):
        for batch in read:
            if batch is end:
                return
            yield batch


def parallel(
    function: Callable[..., Any],
    jobs: Iterable[tuple[Any, ...]],
    threads: int,
    ahead: int,
    finish: Callable[[], Any] | None = None,
) -> Generator[Any, None, None]:
    """Yield ``function(*job)`` for each of ``jobs``, in their order.

    Parameters
    ----------
    function : callable
    jobs : iterable of tuple
        Read in the consumer's thread.
    threads : int
        Number of threads that compute the results.
    ahead : int
        Results computed in advance, besides the one that is yielded.
    finish : callable, optional
        What each thread calls at its end, for contexts such as ``no_grad``, which are per thread.
    """
    if sys.is_finalizing():  # no thread can start any more
        yield from starmap(function, jobs)
        return
    # SimpleQueues: Ctrl-C inside a Queue or a Semaphore can leave its lock held forever
    tasks: SimpleQueue[tuple[tuple[Any, ...], SimpleQueue] | None] = SimpleQueue()
    stopped: list[bool] = []

    def work() -> None:
        while task := tasks.get():
            job, result = task
            try:
                result.put(None if stopped else (function(*job),))
            except BaseException as error:  # re-raised in the consumer
                result.put(error)
        if finish is not None:
            finish()

    name = "xcnn-prefetch"
    pool = [threading.Thread(target=work, name=name, daemon=True) for _ in range(threads)]
    waiting: deque[SimpleQueue] = deque()
    try:
        for thread in pool:
            thread.start()
        for job in _caught(jobs):
            waiting.append(SimpleQueue())
            if isinstance(job, Exception):  # raised after the results of the jobs before it
                waiting[-1].put(job)
            else:
                tasks.put((job, waiting[-1]))
            if len(waiting) > ahead:
                yield _result(waiting.popleft())
        while waiting:
            yield _result(waiting.popleft())
    finally:
        stopped.append(True)
        for _ in pool:
            tasks.put(None)
        # garbage collection may run this in one of the threads, or when they no longer run
        if threading.current_thread() not in pool and not sys.is_finalizing():
            for thread in pool:
                if thread.is_alive():  # Ctrl-C may come before it starts
                    thread.join()


def _caught(jobs: Iterable[Any]) -> Iterator[Any]:
    """Yield ``jobs``, and the exception that ends them, if any."""
    try:
        yield from jobs
    except Exception as error:
        yield error


def _result(queue: SimpleQueue) -> Any:
    if sys.is_finalizing() and queue.empty():
        raise DataError("the interpreter is exiting: the threads that read data have ended")
    result = queue.get()
    if isinstance(result, BaseException):
        raise result  # with the thread's traceback
    return result[0]
