"""The library's random generator; on the host, so that all devices use the same numbers.

It draws initial weights and the keys of dropout masks; :func:`manual_seed` makes both
reproducible.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from .checks import check_int, is_int
from .errors import ArgumentError, show

if TYPE_CHECKING:
    from .sharding import Part

__all__ = [
    *("generator", "get_state", "manual_seed", "next_key", "seeded", "set_state"),
    *("shard", "whole"),
]

_generator: np.random.Generator | None = None  # importing numpy.random takes a while


class _Thread(threading.local):
    part: Part | None = None  # of the batch, that this process has


_thread = _Thread()


def manual_seed(seed: int) -> None:
    """Reseed the generator: equal seeds give equal weights and dropout masks.

    Raises
    ------
    ArgumentError
        Not an int >= 0.
    """
    global _generator
    if not is_int(seed) or seed < 0:
        raise ArgumentError(f"seed={show(seed)}: expected an int >= 0")
    _generator = np.random.default_rng(seed)


def generator() -> np.random.Generator:
    """The generator that initialisers use by default; see also :func:`shard`."""
    if _thread.part is None:
        return _whole_generator()
    from .sharding import ShardGenerator

    return ShardGenerator(_whole_generator().bit_generator, _thread.part)


def _whole_generator() -> np.random.Generator:
    global _generator
    if _generator is None:
        _generator = np.random.default_rng()
    return _generator


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """A context with a generator of its own; afterwards the library's goes on where it was.

    Raises
    ------
    ArgumentError
        Not an int >= 0.
    """
    global _generator
    before = _whole_generator()
    manual_seed(seed)
    try:
        yield
    finally:
        _generator = before


def next_key() -> int:
    """A new 64-bit key for a random mask."""
    return int(_whole_generator().integers(2**64, dtype=np.uint64))


@contextmanager
def shard(start: int, count: int, total: int) -> Iterator[None]:
    """A context in which a batch is a part of a larger one, for this thread.

    The numbers drawn for a batch, such as dropout masks and noise, are those that the larger batch
    would get at these places. The generator is left in the same state, whichever the part: several
    processes that share a batch stay at the same random numbers.

    For dropout, a tensor is a part if its first axis has ``count`` rows, or k · ``count``, such as
    k tokens of each example. What :func:`xcnn.randn` and its like draw is a part if its first axis
    has ``count`` rows: draw k numbers for each example as ``randn(count, k)``, and one for all of
    them as ``rand(())``. Everything else is drawn as it is, the same in all processes.

    Parameters
    ----------
    start
        The row of the larger batch that is the first of this one.
    count
        Rows of this batch; 0 is allowed.
    total
        Rows of the larger batch.

    Raises
    ------
    ArgumentError
        Not ints >= 0, or the part exceeds the batch.

    Examples
    --------
    >>> xcnn.manual_seed(1)
    >>> whole = xcnn.rand(5, 2)
    >>> xcnn.manual_seed(1)
    >>> with xcnn.random.shard(start=3, count=2, total=5):
    ...     part = xcnn.rand(2, 2)
    >>> bool((part == whole[3:]).all())
    True
    """
    numbers = {"start": start, "count": count, "total": total}
    values = [check_int(name, value, 0) for name, value in numbers.items()]
    if values[0] + values[1] > values[2]:
        raise ArgumentError(f"start={start}, count={count}: expected rows of a batch of {total}")
    from .sharding import Part

    before = _thread.part
    _thread.part = None if count == total else Part(*values)
    try:
        yield
    finally:
        _thread.part = before


def part(length: int) -> tuple[int, int, int] | None:
    """Which rows of the whole batch's tensor one of ``length`` rows has: (start, length, total).

    None outside of :func:`shard`, or if they are not those of the batch.
    """
    own = _thread.part
    if own is None or not own.size or not length or length % own.size:
        return None
    repeats = length // own.size
    return repeats * own.start, length, repeats * own.total


def whole(rng: np.random.Generator, count: int) -> tuple[np.random.Generator, int, slice]:
    """What a loop needs that draws one row after the other: it has to run over the whole batch.

    Parameters
    ----------
    rng
        A generator of :func:`generator`, or that a DataLoader passed.
    count
        Rows of the batch.

    Returns
    -------
    rng
        The generator to draw from.
    total : int
        Rows of the whole batch, of which ``count`` may be a part.
    rows : slice
        Which of them they are.

    Examples
    --------
    In an augmentation of images ``x``:

    >>> def shifts(x, rng):
    ...     rng, total, rows = xcnn.random.whole(rng, len(x))
    ...     return [int(rng.integers(-2, 3)) for _ in range(total)][rows]
    >>> len(shifts(x_train[:5], xcnn.random.generator()))
    5
    """
    own = getattr(rng, "part", None)
    if own is None or own.size != count:
        return rng, count, slice(0, count)
    return np.random.Generator(rng.bit_generator), own.total, own.rows


def of_row(key: int, row: int) -> np.random.Generator:
    """A generator for one row, from a key of :func:`next_key`."""
    return np.random.default_rng([key, row])


def get_state() -> dict[str, Any]:
    """The generator's state, JSON-serialisable."""
    return dict(_whole_generator().bit_generator.state)


def set_state(state: dict[str, Any]) -> None:
    """Restore a state from :func:`get_state`."""
    _whole_generator().bit_generator.state = state
