"""Collective calls by NCCL, for one process on each GPU."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from .. import backends, threads
from ..arrays import Array
from ..backends import nccl
from ..communicator import Communicator, Work
from ..errors import CommunicationError, DeviceError

_POLL = 0.1  # seconds between two looks at what was queued


class NCCLCommunicator(Communicator):
    """Arrays on GPUs through NCCL, host arrays and other values through ``host``.

    Calls are queued on a stream of their own: they run while the GPU computes, and neither they nor
    :meth:`Work.wait` make the host wait. A background thread looks for failures 10 times a second.

    Parameters
    ----------
    host
        A communicator among the same processes.
    backend
        The GPU of this process; by default the device "cuda".
    timeout
        Seconds after which a call that has not ended is taken to hang.
    fail
        Called with a text, in the background thread, when a call has failed or hangs; by default
        the next call of this process raises CommunicationError.

    Raises
    ------
    DeviceError
        On every rank: one has no NCCL, two use the same GPU, or versions differ.
    """

    engine = "nccl"

    def __init__(
        self,
        host: Communicator,
        backend: backends.Backend | None = None,
        timeout: float = 300.0,
        fail: Callable[[str], Any] | None = None,
    ) -> None:
        self.host, self.backend, self.timeout = host, backend or backends.get("cuda"), timeout
        self.rank, self.size = host.rank, host.size
        self.local_rank, self.local_size = host.local_rank, host.local_size
        _check(host.gather(nccl.identity(self.backend)))
        name = host.share(nccl.unique_id(self.backend).hex() if self.is_main else None)
        self._nccl = nccl.Collectives(self.backend, bytes.fromhex(name), self.rank, self.size)
        self._fail, self._failure, self._count = fail, "", 0
        self._started: deque[tuple[float, str, nccl.Queued]] = deque()
        self._is_closed = threading.Event()
        threads.start(self._watch, "xcnn nccl")

    def start_all_reduce(self, array: Array) -> Work:
        if not self._is_mine(array):
            return self.host.start_all_reduce(array)
        return self._follow("all-reduce", self._nccl.all_reduce(array)) if array.size else Work()

    def broadcast(self, array: Array, root: int = 0) -> None:
        if not self._is_mine(array):
            self.host.broadcast(array, root)
        elif array.size:
            self._follow("broadcast", self._nccl.broadcast(array, root)).wait()

    def gather(self, value: Any) -> list[Any]:
        self._check_failure()
        return self.host.gather(value)

    def share(self, value: Any, root: int = 0) -> Any:
        self._check_failure()
        return self.host.share(value, root)

    def barrier(self) -> None:
        self._check_failure()
        self.host.barrier()

    def close(self) -> None:
        """End the background thread, and calls that have not ended; none can follow."""
        self._is_closed.set()
        self._failure = self._failure or "the communicator is closed"
        self._nccl.abort()

    def _is_mine(self, array: Array) -> bool:
        """Whether an array is on this process's GPU, else in the host's memory."""
        self._check_failure()
        owner = backends.of(array)
        if owner is not self.backend and owner is not backends.get("cpu"):
            raise DeviceError(
                f"array: it is on {owner.device}, the GPU of rank {self.rank} is "
                f"{self.backend.device}; move it there"
            )
        return owner is self.backend

    def _follow(self, name: str, queued: nccl.Queued) -> nccl.Queued:
        self._count += 1
        self._started.append((time.monotonic(), f"{name} number {self._count}", queued))
        return queued

    def _check_failure(self) -> None:
        if self._failure:
            raise CommunicationError(self._failure)

    def _watch(self) -> None:
        """Look for failures until there is one; then end what is queued: the host may wait."""
        while not (self._failure or self._is_closed.wait(_POLL)):
            try:
                self._failure = self._overdue()
                self._nccl.check()
            except DeviceError as error:
                self._failure = f"rank {self.rank} of {self.size}: {error}"
        if not self._is_closed.is_set():
            if self._fail:
                self._fail(self._failure)
            self._nccl.abort()

    def _overdue(self) -> str:
        while self._started and self._started[0][2].is_done:
            self._started.popleft()
        if not self._started or time.monotonic() - self._started[0][0] < self.timeout:
            return ""
        return (
            f"rank {self.rank} of {self.size} waits for {self._started[0][1]} since more "
            f"than {self.timeout:g} s: another rank did not call it, or hangs"
        )


def _check(found: list[dict[str, Any]]) -> None:
    """Require a usable NCCL, of one version, and a GPU for each rank."""
    for rank, one in enumerate(found):
        if one["problem"]:
            raise DeviceError(
                f"NCCL cannot be used on rank {rank} of {len(found)}: {one['problem']}. "
                'engine="mpi" works without it'
            )
    gpu, users = Counter(one["gpu"] for one in found).most_common(1)[0]
    if users > 1:
        ranks = [str(rank) for rank, one in enumerate(found) if one["gpu"] == gpu]
        raise DeviceError(
            f"ranks {', '.join(ranks)} use the same GPU, but NCCL needs one for each: start as "
            'many processes on a machine as it has GPUs, or use engine="mpi"'
        )
    versions = sorted({one["version"] for one in found})
    if len(versions) > 1:
        texts = [f"{v // 10000}.{v // 100 % 100}.{v % 100}" for v in versions]
        raise DeviceError(
            f"NCCL has versions {' and '.join(texts)} on different ranks: install one"
        )
