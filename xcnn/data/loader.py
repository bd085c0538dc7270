"""DataLoader, and prefetching in a background thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from queue import SimpleQueue
from typing import Any

import numpy as np

from .. import threads
from ..checks import is_int
from ..errors import ArgumentError
from .dataset import Batch, as_dataset
from .transforms import apply


class DataLoader:
    """Iterate over a dataset in batches; each iteration is one epoch.

    Parameters
    ----------
    data : Dataset, tuple of array-like, or array
        Arrays are wrapped in :class:`ArrayDataset`; any other object with ``__len__`` and
        ``__getitem__`` is read item by item.
    batch_size : int, default 32
        Items per batch; the last batch may be smaller.
    shuffle : bool, default False
        Draw a new order for each epoch; it depends on ``seed`` and the epoch number only.
    seed : int, default 0
    drop_last : bool, default False
        Drop the last batch if it is incomplete.
    prefetch : int, default 2
        Batches that a background thread prepares in advance; 0 reads in the caller's thread. The
        batches are bit-identical either way.
    transform : callable, optional
        Applied to the first array of each batch, such as :class:`~xcnn.data.Normalize`, in the
        background thread. Augmentations, on their own or in a :class:`~xcnn.data.Compose`, get a
        random generator that depends on ``seed``, the epoch and the batch number only;
        :class:`~xcnn.data.MixUp` and :class:`~xcnn.data.CutMix` also change the labels.

    Attributes
    ----------
    epoch : int
        Number of the next epoch, initially 0, incremented when an iteration starts. Set it to
        resume an interrupted training run with the same order.

    Raises
    ------
    ArgumentError
        If ``batch_size``, ``seed`` or ``prefetch`` is not an integer, or too small.
    DataError
        If ``data`` has no length or cannot be indexed.

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
    ) -> None:
        self.dataset = as_dataset(data)
        self.batch_size = _check_int("batch_size", batch_size, 1)
        self.shuffle = shuffle
        self.seed = _check_int("seed", seed, 0)
        self.drop_last = drop_last
        self.prefetch = _check_int("prefetch", prefetch, 0)
        self.transform = transform
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        batches = self._batches(self.epoch, self.order(self.epoch))
        self.epoch += 1
        return prefetch(batches, self.prefetch) if self.prefetch else batches

    def order(self, epoch: int) -> np.ndarray:
        """Return the indices of all items in the order of ``epoch``: int64 (len(dataset),)."""
        count = len(self.dataset)
        if not self.shuffle:
            return np.arange(count)
        seeds = [self.seed, _check_int("epoch", epoch, 0)]
        return np.random.Generator(np.random.PCG64(seeds)).permutation(count)

    def _batches(self, epoch: int, order: np.ndarray) -> Generator[Batch, None, None]:
        for i in range(len(self)):
            batch = self.dataset.batch(order[i * self.batch_size : (i + 1) * self.batch_size])
            if self.transform is not None:
                # 1 + i: NumPy treats [seed, epoch, 0] like [seed, epoch], which seeds the order
                rng = np.random.Generator(np.random.PCG64([self.seed, epoch, 1 + i]))
                batch = apply(self.transform, batch, rng)
            yield batch


def prefetch(batches: Generator[Any, None, None], depth: int) -> Generator[Any, None, None]:
    """Yield ``batches``, a generator of tuples, computed in advance by one background thread.

    While the consumer uses a batch, up to ``depth`` batches are ready and one is being computed.
    Closing the generator, as leaving a for loop early does, stops and joins the thread.
    """
    # room gets one True per batch that may be computed, then False to stop. Both are SimpleQueues:
    # Ctrl-C inside a Queue or a Semaphore can leave its lock held forever.
    ready: SimpleQueue[Batch | BaseException | None] = SimpleQueue()
    room: SimpleQueue[bool] = SimpleQueue()
    for _ in range(depth + 1):
        room.put(True)
    stopped: list[bool] = []

    def read() -> None:
        try:
            while room.get() and not stopped:
                batch = next(batches, None)
                ready.put(batch)
                if batch is None:
                    return
        except BaseException as error:  # re-raised in the consumer
            ready.put(error)

    thread = None
    try:
        thread = threads.start(read, "xcnn-prefetch")
        if thread is None:
            yield from batches
            return
        while isinstance(item := ready.get(), tuple):
            room.put(True)
            yield item
        if item is not None:
            raise item  # with the thread's traceback
    finally:
        stopped.append(True)
        room.put(False)
        # garbage collection may run this in the thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()


def _check_int(name: str, value: Any, minimum: int) -> int:
    if not is_int(value) or value < minimum:
        raise ArgumentError(f"{name} must be an int >= {minimum}, got {value!r}")
    return int(value)
