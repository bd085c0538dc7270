"""Collective calls by NCCL, for one process on each GPU."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from importlib.util import find_spec
from typing import Any

from .. import backends, threads
from ..arrays import Array
from ..backends import nccl
from ..communicator import Communicator, Work, name_ranks
from ..errors import DeviceError
from . import mpi
from .environment import Launch
from .failures import StoreChannel, Watch, at_exit
from .store import Store
from .tcp import StoreCommunicator

_POLL = 0.1  # seconds between two looks at what was queued
_LOOK = 0.5  # seconds after which a call that goes on is worth a look at the other ranks


def connect(launch: Launch, timeout: float) -> NCCLCommunicator:
    """NCCL among the processes that were launched, each on the GPU with its number there.

    They find each other by MPI if mpi4py is installed, else through the store.

    Raises
    ------
    DeviceError
        A rank has no GPU of its own, or no NCCL.
    MissingPackageError
        mpiexec started them, and mpi4py is not installed.
    """
    host: Communicator
    if launch.connects_mpi or find_spec("mpi4py"):
        host = mpi.connect(launch, timeout)
        watch = host.watch
    else:
        store = Store(launch.host, launch.port, launch.rank, launch.size, timeout)
        at_exit(store.close)
        host = StoreCommunicator(store, launch.local_rank, launch.local_size)
        watch = Watch(StoreChannel(store), timeout)
    # Slurm may show each process only its own GPU
    backends.set_cuda(f"cuda:{host.local_rank % max(1, len(backends.cuda_devices()))}")
    return NCCLCommunicator(host, watch, backends.get("cuda"))


class NCCLCommunicator(Communicator):
    """Arrays on GPUs through NCCL, host arrays and other values through ``host``.

    Calls are queued on a stream of their own: they run while the GPU computes, and neither they nor
    :meth:`Work.wait` make the host wait. A background thread looks for failures 10 times a second.

    Parameters
    ----------
    host
        A communicator among the same processes.
    watch
        What ends all processes: after an error of NCCL, or if a call takes longer than its timeout.
    backend
        The GPU of this process.

    Raises
    ------
    DeviceError
        On every rank: one has no NCCL, two use the same GPU, or versions differ.
    """

    engine = "nccl"

    def __init__(self, host: Communicator, watch: Watch, backend: backends.Backend) -> None:
        self.host, self.watch, self.backend = host, watch, backend
        self.fail = watch.fail  # type: ignore[method-assign]
        self.rank, self.size = host.rank, host.size
        self.local_rank, self.local_size = host.local_rank, host.local_size
        _check(host.gather(nccl.identity(backend)))
        name = host.share(nccl.unique_id(backend).hex() if self.is_main else None)
        self._nccl = nccl.Collectives(backend, bytes.fromhex(name), self.rank, self.size)
        self._count = 0
        self._started: deque[tuple[float, str, nccl.Queued]] = deque()
        self._is_closed = threading.Event()
        self._thread = threads.start(self._look_for_failures, "xcnn nccl")
        at_exit(self.close)

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
        return self.host.gather(value)

    def share(self, value: Any, root: int = 0) -> Any:
        return self.host.share(value, root)

    def barrier(self) -> None:
        self.host.barrier()

    def close(self) -> None:
        """Let calls that were queued end; none can follow."""
        if not self._is_closed.is_set():
            self._is_closed.set()
            if self._thread:
                self._thread.join(5)  # it must not ask a closed NCCL
            self._nccl.close()

    def _is_mine(self, array: Array) -> bool:
        """Whether an array is on this process's GPU, else in the host's memory."""
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

    def _look_for_failures(self) -> None:
        """In the background, since the host may be waiting for the GPU."""
        while not self._is_closed.wait(_POLL):
            try:
                self._nccl.check()
            except DeviceError as error:
                self.watch.fail(str(error))
            while self._started and self._started[0][2].is_done:
                self._started.popleft()
            if self._started:
                begin, what = self._started[0][:2]  # not the call: it keeps its array
                seconds = time.monotonic() - begin
                if seconds > self.watch.timeout:
                    self.watch.blame(what)
                elif seconds > _LOOK:
                    self.watch.look(what, 0)


def _check(found: list[dict[str, Any]]) -> None:
    """Require a usable NCCL, of one version, and a GPU for each rank."""
    for rank, one in enumerate(found):
        if one["problem"]:
            raise DeviceError(
                f'NCCL cannot be used on rank {rank} of {len(found)}, engine="mpi" works without '
                f"it: {one['problem']}"
            )
    gpu, users = Counter(one["gpu"] for one in found).most_common(1)[0]
    if users > 1:
        ranks = name_ranks([rank for rank, one in enumerate(found) if one["gpu"] == gpu])
        raise DeviceError(
            f"{ranks} use the same GPU, but NCCL needs one for each: start as many processes on a "
            'machine as it has GPUs, or use engine="mpi"'
        )
    versions = sorted({one["version"] for one in found})
    if len(versions) > 1:
        texts = [f"{v // 10000}.{v // 100 % 100}.{v % 100}" for v in versions]
        raise DeviceError(
            f"NCCL has versions {' and '.join(texts)} on different ranks: install one"
        )
