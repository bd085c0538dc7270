"""What ends all ranks when one of them fails, with one message.

A rank with an uncaught exception sends a notice to the others, prints, and aborts all. Ranks that
fail within half a second of each other read each other's notices first, and only the lowest prints.
A rank that waits in a collective call for longer than the timeout asks the others where they are:
those in a collective call answer within a second, the others are named. Processes that were killed
are noticed by mpiexec, or by the store (:mod:`xcnn.distributed.store`), within a second.
"""

from __future__ import annotations

import atexit
import faulthandler
import json
import os
import sys
import threading
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, NoReturn, Protocol

from ..communicator import SINGLE, name_ranks, set_current
from .store import Store

_POLITE = 0.5  # seconds in which a rank looks for failures of lower ranks before it prints
_ANSWER = 1.0  # seconds in which ranks that are in a collective call answer
_PAUSE = 0.02


class Channel(Protocol):
    """How notices reach the other ranks, whatever these do."""

    rank: int
    size: int

    def tell(self, text: str) -> None:
        """Send ``text`` to all others, without waiting for them."""

    def told(self) -> list[tuple[int, str]]:
        """The texts that have arrived since the last call, with the ranks that sent them."""

    def abort(self, status: int) -> None:
        """End all processes at once."""


class StoreChannel:
    """Notices through the store."""

    def __init__(self, store: Store) -> None:
        self._store, self.rank, self.size = store, store.rank, store.size
        self.abort = store.abort
        self._counts = [0] * store.size  # of notices put or read, by rank

    def tell(self, text: str) -> None:
        self._store.put(f"notice/{self.rank}/{self._counts[self.rank]}", text)
        self._counts[self.rank] += 1

    def told(self) -> list[tuple[int, str]]:
        found = []
        for rank in set(range(self.size)) - {self.rank}:
            while (text := self._store.look(f"notice/{rank}/{self._counts[rank]}")) is not None:
                self._counts[rank] += 1
                found.append((rank, text))
        return found


class Watch:
    """The part of a communicator that notices failures.

    Parameters
    ----------
    channel
        For notices.
    timeout
        Seconds for which a collective call may wait.
    """

    def __init__(self, channel: Channel, timeout: float) -> None:
        self.channel, self.timeout = channel, timeout
        self._notices: dict[str, dict[int, str]] = defaultdict(dict)  # by kind and rank
        self._is_failing = threading.Lock()
        sys.excepthook = self._on_error
        threading.excepthook = lambda args: self._on_error(
            args.exc_type, args.exc_value, args.exc_traceback
        )
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_be_single)

    def fail(self, text: str, status: int = 1) -> NoReturn:
        """Print ``text`` after the number of this rank, unless a lower one prints; end all."""
        if self._is_failing.acquire(blocking=False):
            text = text if text.startswith("\n") else f" {text}"
            self._tell("failed")
            if self._first_below("failed", _POLITE) is None:
                complain(f"rank {self.channel.rank} of {self.channel.size}:{text.rstrip()}\n")
            else:
                time.sleep(_POLITE)  # let it print
            self.channel.abort(status)
        time.sleep(10)  # another thread ends this process
        os._exit(status)

    def look(self, what: str, number: int) -> None:
        """Read notices, from time to time while this rank waits in the call ``what``.

        ``number`` counts the collective calls: a rank that left after it may be part of it.
        """
        asked = len(self._notices["asks"])
        self._read()
        if len(self._notices["asks"]) > asked:
            self._tell("waits", what)
        left = sorted(r for r, calls in self._notices["left"].items() if int(calls) < number)
        if left and not self._notices["failed"]:
            self.fail(f"{name_ranks(left)} ended before {what}, for which this rank waits")

    def blame(self, what: str) -> NoReturn:
        """End all ranks: this one has waited in the call ``what`` for too long."""
        self._tell("asks", what)
        if self._first_below("asks", _ANSWER) is not None:
            time.sleep(_ANSWER)  # that rank prints
        waiting = self._notices["waits"] | self._notices["asks"] | {self.channel.rank: what}
        silent = sorted(set(range(self.channel.size)) - waiting.keys())
        if silent:
            others = "" if len(silent) + 1 == self.channel.size else "; the other ranks wait"
            reason = (
                f"{name_ranks(silent)} did not come to {what} within {self.timeout:g} s (stopped, "
                f"hanging, or computing for longer: distributed.init(timeout=...)){others}"
            )
        else:
            places = ", ".join(f"rank {rank} in {waiting[rank]}" for rank in sorted(waiting))
            reason = (
                f"the ranks wait for each other: {places}; all ranks must make the same calls in "
                "the same order, with arrays of the same size"
            )
        self.fail(reason)

    def leave(self, calls: int) -> None:
        """Say that this rank ends, after so many collective calls."""
        self._tell("left", str(calls))

    def _tell(self, kind: str, text: str = "") -> None:
        with suppress(Exception):  # the others end anyway
            self.channel.tell(json.dumps([kind, text]))

    def _read(self) -> None:
        for rank, text in self.channel.told():
            kind, said = json.loads(text)
            self._notices[kind][rank] = said

    def _first_below(self, kind: str, seconds: float) -> int | None:
        """The first lower rank that sends such a notice; all others are read meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with suppress(Exception):
                self._read()
            lower = [rank for rank in self._notices[kind] if rank < self.channel.rank]
            if lower or (kind == "failed" and self.channel.rank == 0):
                return min(lower, default=None)
            time.sleep(_PAUSE)
        return None

    def _on_error(
        self, kind: type[BaseException], error: Any, origin: TracebackType | None
    ) -> None:
        if issubclass(kind, KeyboardInterrupt):
            self.fail("stopped", 130)
        self.fail("\n" + "".join(traceback.format_exception(kind, error, origin)))


def _be_single() -> None:
    """What a fork of a rank is: it must not speak for that rank."""
    set_current(SINGLE)
    sys.excepthook, threading.excepthook = sys.__excepthook__, threading.__excepthook__


def at_exit(leave: Callable[[], Any]) -> None:
    """Call ``leave`` when this process ends, but not when a fork of it does."""
    process = os.getpid()
    atexit.register(lambda: os.getpid() == process and leave())


@contextmanager
def ending_after(timeout: float) -> Iterator[None]:
    """End this process if the block takes longer, also while MPI holds Python; say where it is."""
    faulthandler.dump_traceback_later(timeout, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def complain(text: str) -> None:
    """Print to standard error at once, from any thread."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError, ValueError):
            stream.flush()
    os.write(2, text.encode(errors="backslashreplace"))
