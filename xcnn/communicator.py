"""How the processes of one training talk to each other; with one process, not at all.

:class:`Communicator` is the interface, and itself that of a single process. ``xcnn.distributed``
has the others, and sets the current one, which synchronised layers and the Trainer use.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from .arrays import Array


class Work:
    """A collective call that was started; it holds its array until :meth:`wait` returns."""

    def wait(self) -> None:
        """Return when the array holds the result (on a GPU: for what is queued afterwards)."""


class Communicator:
    """Collective calls among ``size`` processes, which must all make them in the same order.

    Arrays are contiguous, and replaced in place. Sums are the same on every rank, bit for bit.

    Attributes
    ----------
    engine : str
        "single", "mpi" or "nccl".
    rank, size : int
        The number of this process, from 0, and how many there are.
    local_rank, local_size : int
        The same among the processes on this machine.
    """

    engine = "single"
    rank, size = 0, 1
    local_rank, local_size = 0, 1

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which writes files and prints."""
        return self.rank == 0

    def all_reduce(self, array: Array) -> None:
        """Replace ``array`` by the sum of those of all ranks."""
        self.start_all_reduce(array).wait()

    def start_all_reduce(self, array: Array) -> Work:
        """Start :meth:`all_reduce` and go on; ``array`` must not be touched before ``wait``."""
        return Work()

    def broadcast(self, array: Array, root: int = 0) -> None:
        """Replace ``array`` by that of rank ``root``."""

    def gather(self, value: Any) -> list[Any]:
        """``value`` of each rank, on every rank: numbers, strings, NumPy arrays, lists, dicts."""
        return [value]

    def share(self, value: Any, root: int = 0) -> Any:
        """``value`` of rank ``root``, on every rank; of a type as in :meth:`gather`."""
        return value

    def barrier(self) -> None:
        """Return when every rank has called it."""

    def fail(self, text: str, status: int = 1) -> NoReturn:
        """Print ``text``, once if several ranks fail, and end all with that exit status."""
        print(text.rstrip(), file=sys.stderr)
        raise SystemExit(status)


def name_ranks(ranks: list[int], most: int | None = None) -> str:
    """``"rank 2"`` or ``"ranks 1, 2"``; of more than ``most``, only so many."""
    text = f"rank{'s'[: len(ranks) > 1]} {', '.join(map(str, ranks[:most]))}"
    left = 0 if most is None else len(ranks) - most
    return f"{text} and {left} more" if left > 0 else text


SINGLE = Communicator()
_current = SINGLE


def current() -> Communicator:
    """The communicator of this process: a single one's unless ``distributed.init`` was called."""
    return _current


@contextmanager
def using(communicator: Communicator) -> Iterator[None]:
    """A context with another current communicator."""
    global _current
    before, _current = _current, communicator
    try:
        yield
    finally:
        _current = before


def set_current(communicator: Communicator) -> None:
    """Make ``communicator`` the current one."""
    global _current
    _current = communicator
