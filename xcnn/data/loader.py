"""DataLoader, and threads that compute in advance."""

from __future__ import annotations

import copy
import hashlib
import operator
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing
from itertools import count, islice, repeat, starmap
from queue import SimpleQueue
from typing import Any, TypeAlias, cast

import numpy as np

from .. import hints
from ..checks import check_callable, check_flag, check_int, loads_state
from ..errors import ArgumentError, DataError, StateDictError
from ..sharding import Part, ShardGenerator
from ..threads import start
from .dataset import IterableDataset, arrays_of, as_dataset, describe, map_arrays, name_of
from .samplers import BlockOrder
from .transforms import BatchTransform, apply

_MOST = 2**12  # threads, and batches in memory
Job: TypeAlias = tuple[int, int, Any]


class DataLoader:
    """Iterate over a dataset in batches; each iteration is one epoch.

    Parameters
    ----------
    data : Dataset, array, tuple or dict of array-like, sequence of items, or iterable
        Arrays are wrapped in :class:`ArrayDataset`; any other object with ``__len__`` and
        ``__getitem__`` is read item by item. Iterables and generator functions are wrapped in
        :class:`IterableDataset`. Batches have the structure of the items.
    batch_size : int, default 32
        Items per batch; the last batch may be smaller.
    shuffle : bool, default False
        Draw a new order for each epoch; it depends on ``seed`` and the epoch number only. For an
        iterable, items are drawn from a buffer of the next ``shuffle_buffer`` items. For
        :class:`ShardFolder`, the shards come in random order, and items are shuffled within blocks
        of ``shuffle_buffer``, so that reading stays in a few shards at a time.
    seed : int, default 0
    drop_last : bool, default False
        Drop the last batch if it is incomplete.
    prefetch : int, default 2
        Batches that a background thread prepares in advance; 0 reads in the caller's thread. The
        batches are bit-identical either way.
    transform : callable, optional
        Applied to the first array of each batch, such as :class:`~xcnn.data.Normalize`, in the
        background thread; first in the order of the parts of tuples and the keys of dicts, for
        example ``"image"`` of ``({"image": x, "size": s}, y)``. Augmentations, on their own or in
        a :class:`~xcnn.data.Compose`, get a random generator that depends on ``seed``, the epoch
        and the batch number only; :class:`~xcnn.data.MixUp` and :class:`~xcnn.data.CutMix` also
        change the labels.
    sampler : object, optional
        Sets the order instead of ``shuffle``, such as :class:`WeightedRandomSampler`: any object
        with ``__len__`` and ``order(epoch)``, which returns the indices of an epoch.
    workers : int, default 0
        Threads that each read and transform a batch, for datasets whose reading releases Python's
        global lock, such as decoding images; 0 reads in a single thread. The batches are
        bit-identical for any number, if items and transforms may be computed in several threads.
    shuffle_buffer : int, optional
        By default 1,000 items of an iterable; 10,000 for shards, of which only the numbers are in
        memory.

    Attributes
    ----------
    epoch : int
        Number of the next epoch, initially 0, incremented when an iteration starts.
    start : int
        Number of batches that the next iteration skips without reading them, initially 0; reset
        to 0 when an iteration starts. With ``epoch``, it resumes an interrupted run: the remaining
        batches are bit-identical to those of the whole epoch.

    Raises
    ------
    ArgumentError
        If a number is not an integer, or too small; an argument is unknown; or if ``sampler`` has
        no ``order``, or is combined with ``shuffle`` or an iterable.
    DataError
        If ``data`` cannot be read; when iterating, if items cannot be stacked. An exception that
        the dataset raises has a note with the number of the item.

    Examples
    --------
    >>> for x, y in DataLoader((np.zeros((5, 2)), np.arange(5)), batch_size=2):
    ...     print(x.shape, y)
    (2, 2) [0 1]
    (2, 2) [2 3]
    (1, 2) [4]
    """

    def __init__(
        self,
        data: Any,
        batch_size: int = 32,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        prefetch: int = 2,
        transform: Callable[..., Any] | None = None,
        sampler: Any = None,
        workers: int = 0,
        shuffle_buffer: int | None = None,
        **others: Any,
    ) -> None:
        for name in others:
            hint = hints.LOADER.get(name, "see help(xcnn.data.DataLoader)")
            raise ArgumentError(f"DataLoader has no argument {name!r}; {hint}")
        self.dataset = as_dataset(data)
        self.batch_size = check_int("batch_size", batch_size, 1)
        self.shuffle = check_flag("shuffle", shuffle)
        self.seed = check_int("seed", seed, 0)
        self.drop_last = check_flag("drop_last", drop_last)
        self.prefetch = check_int("prefetch", prefetch, 0)
        self.transform = transform
        if transform is not None and not isinstance(transform, BatchTransform):
            check_callable("transform", transform)
        self.sampler = sampler
        self.workers = check_int("workers", workers, 0)
        usual = 1000 if self.dataset.bounds is None else 10_000
        self.shuffle_buffer = check_int(
            "shuffle_buffer", usual if shuffle_buffer is None else shuffle_buffer
        )
        for name in ("prefetch", "workers"):
            if getattr(self, name) > _MOST:
                raise ArgumentError(f"{name}={getattr(self, name)}: expected at most {_MOST}")
        self._in_order = isinstance(self.dataset, IterableDataset)
        if sampler is not None:
            if not (hasattr(sampler, "order") and hasattr(sampler, "__len__")):
                raise ArgumentError(
                    f"sampler is {type(sampler).__name__}: expected one with len() and order(epoch)"
                )
            if shuffle or self._in_order:
                other = "shuffle=True" if shuffle else "data that have no index"
                raise ArgumentError(f"a sampler sets the order of items: got it with {other}")
        self.epoch = 0
        self.start = 0
        self._shard = (0, 1)

    def shard(self, rank: int, ranks: int) -> DataLoader:
        """A copy that gives rank ``rank`` of ``ranks`` its part of each batch.

        Of a batch of n items, that is items ``rank * n // ranks`` up to ``(rank + 1) * n // ranks``
        in their order; with fewer items than ranks, some parts are empty. Together, the parts are
        the batches of this loader, bit for bit, whatever the number of ranks: augmentations draw
        as for the whole batch, and of the others' items nothing is read. Only
        :class:`~xcnn.data.MixUp` and :class:`~xcnn.data.CutMix` take their partners from the part,
        and of an iterable every rank reads all items, and keeps its own.

        Length, order, position and state stay those of the whole batches.

        Raises
        ------
        ArgumentError
            If ``ranks`` is below 1, there is no such rank, or this loader is a part already.

        Examples
        --------
        >>> loader = DataLoader(np.arange(5), batch_size=3)
        >>> [x.tolist() for (x,) in loader.shard(0, 2)], [x.tolist() for (x,) in loader.shard(1, 2)]
        ([[0], [3]], [[1, 2], [4]])
        """
        check_int("ranks", ranks)
        if check_int("rank", rank, 0) >= ranks:
            raise ArgumentError(f"rank={rank}: expected an int from 0 to {ranks - 1}")
        if self._shard != (0, 1):
            own, of = self._shard
            raise ArgumentError(
                f"shard: this loader is part {own} of {of} already; shard the whole"
            )
        part = copy.copy(self)
        part._shard = rank, ranks
        return part

    def __len__(self) -> int:
        """Return the number of batches per epoch.

        Raises
        ------
        DTypeError
            If the data are an iterable of unknown length.
        """
        items = len(self.dataset if self.sampler is None else self.sampler)
        full, rest = divmod(items, self.batch_size)
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        epoch, start = self.epoch, check_int("start", self.start, 0)
        jobs = self._streamed(epoch, start) if self._in_order else self._indexed(epoch, start)
        self.epoch, self.start = epoch + 1, 0
        if not self.workers:
            batches = (self._batch(*job) for job in jobs)
            return prefetch(batches, self.prefetch) if self.prefetch else batches
        if self._in_order:
            jobs = prefetch(jobs, self.workers)
        return parallel(self._batch, jobs, self.workers, self.workers + self.prefetch)

    def order(self, epoch: int) -> np.ndarray:
        """Return the indices of all items in the order of ``epoch``: int64 (len(dataset),).

        Raises
        ------
        DataError
            If the sampler gives other than ``len(sampler)`` indices of items.
        """
        return np.asarray(self._order(epoch)[:], np.int64)

    def _order(self, epoch: int) -> Any:
        """A sequence of the indices of an epoch, of which slices are taken."""
        count = len(self.dataset)
        if self.sampler is not None:
            order = np.asarray(self.sampler.order(epoch))
            valid = order.shape == (len(self.sampler),) and order.dtype.kind in "iu"
            if not valid or (order.size and not 0 <= order.min() <= order.max() < count):
                raise DataError(
                    f"{type(self.sampler).__name__}.order({epoch}) gave {order.dtype} "
                    f"{order.shape}: expected {len(self.sampler)} indices from 0 to {count - 1}"
                )
            return order.astype(np.int64)
        if not self.shuffle:
            return range(count)
        if self.dataset.bounds is not None:
            return BlockOrder(self.dataset.bounds, self.shuffle_buffer, (self.seed, epoch))
        return self._generator(epoch).permutation(count)

    def _bits(self, epoch: int, *number: int) -> np.random.PCG64:
        return np.random.PCG64([self.seed, check_int("epoch", epoch, 0), *number])

    def _generator(self, epoch: int) -> np.random.Generator:
        return np.random.Generator(self._bits(epoch))

    def _indexed(self, epoch: int, start: int) -> Generator[Job, None, None]:
        """Epoch, number and indices of each batch."""
        if start > len(self):
            raise ArgumentError(f"start={start}: an epoch has {len(self)} batches")
        order, size = self._order(epoch), self.batch_size
        parts = (order[i * size : (i + 1) * size] for i in range(start, len(self)))
        return ((epoch, i, np.asarray(part)) for i, part in enumerate(parts, start))

    def _streamed(self, epoch: int, start: int) -> Generator[Job, None, None]:
        """Epoch, number and items of each batch."""
        items = _numbered(cast(IterableDataset, self.dataset))
        if self.shuffle:
            items = _shuffled(items, self.shuffle_buffer, self._generator(epoch))
        for i in count():
            chunk = list(islice(items, self.batch_size))
            if len(chunk) < (self.batch_size if self.drop_last else 1):
                if i < start:
                    raise ArgumentError(f"start={start}: the epoch has {i} batches")
                return
            if i >= start:
                yield epoch, i, chunk

    def _batch(self, epoch: int, i: int, items: Any) -> Any:
        dataset = self.dataset
        read = dataset.stack if isinstance(dataset, IterableDataset) else dataset.batch
        part = own = Part.of(len(items), *self._shard)
        if own.size == 0:  # an item shows shapes and dtypes
            part = own._replace(start=0, size=1)
        items = items[part.rows]
        batch: Any = read(items)
        if not isinstance(batch, tuple | Mapping):
            batch = tuple(batch) if isinstance(batch, list) else (batch,)
        for array in arrays_of(batch):
            if getattr(array, "shape", ())[:1] != (len(items),):
                raise DataError(
                    f"{name_of(self.dataset)}.batch returned {describe(array)} for {len(items)} "
                    f"items: expected arrays of shape ({len(items)}, ...)"
                )
        if self.transform is not None:
            # 1 + i: NumPy treats [seed, epoch, 0] like [seed, epoch], which seeds the order
            rng = ShardGenerator(self._bits(epoch, 1 + i), part)
            batch = apply(self.transform, batch, rng)
        return batch if own.size else map_arrays(lambda array: array[:0], batch)

    def state_dict(self) -> dict[str, Any]:
        """Return the position and the settings that decide the batches, JSON-serialisable.

        The position is that of the next iteration. To continue inside an epoch, set its number and
        the number of batches that were used: ``{**state, "epoch": 3, "start": 120}``.
        """
        length = operator.length_hint(self.dataset, -1)
        is_buffered = self._in_order or self.dataset.bounds is not None
        settings: dict[str, Any] = {
            "batch_size": self.batch_size,
            "shuffle": self.shuffle,
            "seed": self.seed,
            "drop_last": self.drop_last,
            "length": None if length < 0 else length,
            "sampler": None,
            "shuffle_buffer": self.shuffle_buffer if self.shuffle and is_buffered else None,
        }
        if self.sampler is not None:  # its settings are its own, what they give can be compared
            digest = hashlib.sha256(self.order(0).tobytes()).hexdigest()
            settings["sampler"] = f"{type(self.sampler).__name__} {digest[:16]}"
        return {"epoch": self.epoch, "start": self.start, **settings}

    @loads_state
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at the position in ``state``, from :meth:`state_dict`.

        Raises
        ------
        StateDictError
            If a key is missing, or a setting differs: the batches would be others.
        """
        own = self.state_dict()
        compared = own.keys() - {"epoch", "start"}
        wrong = [k for k in own if k not in state or (k in compared and own[k] != state[k])]
        if wrong:
            found = (f"{k}={own[k]!r}, in the state {state.get(k, 'missing')!r}" for k in wrong)
            raise StateDictError(
                f"the DataLoader has {'; '.join(found)}: it would give other batches; create it "
                "with the settings of the state, or start a new run"
            )
        self.epoch, self.start = (check_int(key, state[key], 0) for key in ("epoch", "start"))


def _numbered(items: Iterable[Any]) -> Iterator[Any]:
    """Yield ``items``; an exception gets a note with the number of its item."""
    number = 0
    try:
        for item in items:
            yield item
            number += 1
    except Exception as error:
        error.add_note(f"item {number} of {name_of(items)}")
        raise


def _shuffled(items: Iterator[Any], size: int, rng: np.random.Generator) -> Iterator[Any]:
    """Yield ``items`` in random order, from a buffer of the next ``size``."""
    buffer = list(islice(items, size))
    for item in items:
        place = rng.integers(size)
        yield buffer[place]
        buffer[place] = item
    for place in rng.permutation(len(buffer)):
        yield buffer[place]


# -- threads -------------------------------------------------------------------------------


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

    pool: list[threading.Thread] = []
    waiting: deque[SimpleQueue] = deque()
    try:
        pool += filter(None, (start(work, "xcnn-prefetch") for _ in range(threads)))
        if not pool:  # no thread can start any more
            yield from starmap(function, jobs)
            return
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
        for _ in range(threads):
            tasks.put(None)
        # garbage collection may run this in one of the threads, or when they no longer run
        if threading.current_thread() not in pool and not sys.is_finalizing():
            for thread in pool:
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
