"""The loader that draws batches from a data set."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Generator, Iterator
from queue import SimpleQueue
from typing import Any

import numpy as np

from ..errors import ArgumentError
from .dataset import Batch, as_dataset
from .transforms import apply


class DataLoader:
    """Draws batches from a data set; each iteration over it is one epoch.

    Parameters
    ----------
    data : Dataset, tuple of array-like, or array
        Arrays are wrapped in :class:`ArrayDataset`; any other object with ``__len__`` and
        ``__getitem__`` is read item by item.
    batch_size : int, default 32
        Items in a batch; the last batch holds what is left.
    shuffle : bool, default False
        Draw a new order for each epoch, from ``seed`` and the number of the epoch alone.
    seed : int, default 0
    drop_last : bool, default False
        Leave out a last batch that is not full.
    prefetch : int, default 2
        Batches that one background thread keeps ready; 0 reads in the caller's thread. The batches
        are the same, bit for bit.
    transform : callable, optional
        Called with the first array of each batch, such as :class:`~xcnn.data.Normalize`; what it
        returns takes its place. Runs in the background thread. Augmentations, also inside a
        :class:`~xcnn.data.Compose`, get random numbers made from ``seed``, the epoch and the number
        of the batch alone; :class:`~xcnn.data.MixUp` and :class:`~xcnn.data.CutMix` change the
        labels too.

    Attributes
    ----------
    epoch : int
        Number of the next epoch, 0 at first, advanced whenever an iteration starts. Set it to go
        on where an interrupted training stopped, with the same order.

    Raises
    ------
    ArgumentError
        If ``batch_size``, ``seed`` or ``prefetch`` is not an integer in its range.
    DataError
        If ``data`` is nothing that can be read by number.

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
        self.batch_size = _integer("batch_size", batch_size, 1)
        self.shuffle = shuffle
        self.seed = _integer("seed", seed, 0)
        self.drop_last = drop_last
        self.prefetch = _integer("prefetch", prefetch, 0)
        self.transform = transform
        self.epoch = 0

    def __len__(self) -> int:
        """Batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        batches = self._batches(self.epoch, self.order(self.epoch))
        self.epoch += 1
        return ahead(batches, self.prefetch) if self.prefetch else batches

    def order(self, epoch: int) -> np.ndarray:
        """Indices of all items, int64 (len(dataset),), in the order of the epoch ``epoch``."""
        count = len(self.dataset)
        if not self.shuffle:
            return np.arange(count)
        seeds = [self.seed, _integer("epoch", epoch, 0)]
        return np.random.Generator(np.random.PCG64(seeds)).permutation(count)

    def _batches(self, epoch: int, order: np.ndarray) -> Generator[Batch, None, None]:
        for i in range(len(self)):
            chosen = order[i * self.batch_size : (i + 1) * self.batch_size]
            batch = self.dataset.batch(chosen)
            if self.transform is not None:
                # from 1 on: NumPy takes [seed, epoch, 0] for the seed of the order, [seed, epoch]
                rng = np.random.Generator(np.random.PCG64([self.seed, epoch, 1 + i]))
                batch = apply(self.transform, batch, rng)
            yield batch


def ahead(batches: Generator[Any, None, None], depth: int) -> Generator[Any, None, None]:
    """Yield ``batches``, tuples read by one background thread.

    While one is used, ``depth`` others may be ready and one more is being read.

    Closing the generator, as leaving a for loop early does, stops the thread and waits for it.
    ``room`` holds True for each batch that may be read, and at last False. Only SimpleQueue will
    do: Ctrl-C in the midst of a Queue or a Semaphore can leave its lock taken for ever.
    """
    ready: SimpleQueue[Batch | BaseException | None] = SimpleQueue()
    room: SimpleQueue[bool] = SimpleQueue()
    for _ in range(depth + 1):  # one of them is being read
        room.put(True)
    stopped: list[bool] = []

    def read() -> None:
        try:
            while room.get() and not stopped:
                batch = next(batches, None)
                ready.put(batch)
                if batch is None:
                    return
        except BaseException as error:  # the consumer raises it, whatever it is
            ready.put(error)

    thread = threading.Thread(target=read, name="xcnn-prefetch", daemon=True)
    try:
        thread.start()
        while isinstance(item := ready.get(), tuple):
            room.put(True)
            yield item
        if item is not None:
            raise item  # with the traceback from the thread
    finally:
        stopped.append(True)
        room.put(False)
        # a garbage collection may run in the thread; Ctrl-C may come before it is alive
        if thread.is_alive() and thread is not threading.current_thread():
            thread.join()


def _integer(name: str, value: Any, lowest: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        number = lowest - 1
    if isinstance(value, bool) or number < lowest:
        raise ArgumentError(f"{name} must be an integer of at least {lowest}, got {value!r}")
    return number
