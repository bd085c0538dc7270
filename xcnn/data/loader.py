"""DataLoader: batches of a dataset in order, shuffled or sampled."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any

import numpy as np

from ..checks import check_int
from ..errors import ArgumentError, StateDictError
from .dataset import Batch, as_dataset
from .threads import prefetch
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
        Number of the next epoch, initially 0, incremented when an iteration starts.
    start : int
        Number of batches that the next iteration skips without reading them, initially 0; reset
        to 0 when an iteration starts. With ``epoch``, it resumes an interrupted run: the remaining
        batches are bit-identical to those of the whole epoch.

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
        self.batch_size = check_int("batch_size", batch_size, 1)
        self.shuffle = shuffle
        self.seed = check_int("seed", seed, 0)
        self.drop_last = drop_last
        self.prefetch = check_int("prefetch", prefetch, 0)
        self.transform = transform
        self.epoch = 0
        self.start = 0

    def __len__(self) -> int:
        """Return the number of batches per epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        epoch, start = self.epoch, check_int("start", self.start, 0)
        if start > len(self):
            raise ArgumentError(f"start={start}: an epoch has {len(self)} batches")
        batches = self._batches(epoch, start, self.order(epoch))
        self.epoch, self.start = epoch + 1, 0
        return prefetch(batches, self.prefetch) if self.prefetch else batches

    def order(self, epoch: int) -> np.ndarray:
        """Return the indices of all items in the order of ``epoch``: int64 (len(dataset),)."""
        count, epoch = len(self.dataset), check_int("epoch", epoch, 0)
        if not self.shuffle:
            return np.arange(count)
        return np.random.Generator(np.random.PCG64([self.seed, epoch])).permutation(count)

    def state_dict(self) -> dict[str, Any]:
        """Return the position and the settings that decide the batches, JSON-serialisable.

        The position is that of the next iteration. To continue inside an epoch, set its number and
        the number of batches that were used: ``{**state, "epoch": 3, "start": 120}``.
        """
        settings = {
            "batch_size": self.batch_size,
            "shuffle": bool(self.shuffle),
            "seed": self.seed,
            "drop_last": bool(self.drop_last),
            "length": len(self.dataset),
        }
        return {"epoch": self.epoch, "start": self.start, **settings}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue at the position in ``state``, from :meth:`state_dict`.

        Raises
        ------
        StateDictError
            If a key is missing, or a setting differs: the batches would be others.
        """
        own = self.state_dict()
        missing = [key for key in own if key not in state]
        if missing:
            raise StateDictError(f"the state of a DataLoader lacks {', '.join(missing)}")
        differing = [
            f"{key}={own[key]!r}, in the state {state[key]!r}"
            for key in own
            if key not in ("epoch", "start") and own[key] != state[key]
        ]
        if differing:
            raise StateDictError(
                f"the DataLoader has {'; '.join(differing)}: it would give other batches; create "
                "it with the settings of the state, or start a new run"
            )
        self.epoch, self.start = (check_int(key, state[key], 0) for key in ("epoch", "start"))

    def _batches(self, epoch: int, start: int, order: np.ndarray) -> Generator[Batch, None, None]:
        for i in range(start, len(self)):
            batch = self.dataset.batch(order[i * self.batch_size : (i + 1) * self.batch_size])
            if self.transform is not None:
                # 1 + i: NumPy treats [seed, epoch, 0] like [seed, epoch], which seeds the order
                rng = np.random.Generator(np.random.PCG64([self.seed, epoch, 1 + i]))
                batch = apply(self.transform, batch, rng)
            yield batch
