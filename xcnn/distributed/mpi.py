"""Processes connected by MPI, through mpi4py.

Only non-blocking calls are made, and tested until they are complete: so a rank that waits can look
for failures of the others, and sums go on while gradients are computed. MPI works only while a
process is in one of its calls: each new sum also advances those under way. A thread that calls
``Allreduce`` takes time from the computation: with 8 sums of 1 MiB between matrix products, two
ranks on two cores take 163 ms instead of 143 ms. ``MPICH_ASYNC_PROGRESS=1`` gives MPICH a thread.

Arrays of a GPU are passed to MPI where it can read them (:func:`is_cuda_aware`), else copied
through pinned memory.
"""

from __future__ import annotations

import ctypes
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from .. import backends
from ..arrays import Array
from ..communicator import Communicator, Work
from ..errors import ArgumentError, CommunicationError, DTypeError, missing_package, show
from ..tiling import split_range
from .environment import Launch
from .failures import Watch, at_exit, ending_after
from .store import Store
from .values import decode, encode

_MOST = 2**27  # elements of one call: counts of older versions of MPI have 32 bits
_SPIN = 1e-3  # seconds of testing without a pause, which takes a core but no time
_YIELD = 0.5  # seconds of letting others run; each pause would delay the next piece of a message
_LONGEST_PAUSE = 1e-3
_LOOK = 0.2  # seconds between looks for notices
_TAGS = 2**14  # MPI promises tags up to 32767

#: a collective call: yields tests of what it waits for, and returns its result
Steps = Generator[Callable[[], bool], None, Any]
np = backends.get("cpu").xp
_let_others_run = getattr(os, "sched_yield", partial(time.sleep, 0))


def connect(launch: Launch, timeout: float) -> MPICommunicator:
    """Start MPI, or join one that was started by importing mpi4py.

    All ranks must do so within ``timeout``, else this process ends and shows where it waited.

    Raises
    ------
    MissingPackageError
        mpi4py is not installed, or there is no MPI.
    CommunicationError
        MPI does not see the processes that the launcher started.
    """
    # those of the store come first, and say more
    with ending_after(timeout if launch.connects_mpi else 2 * timeout + 1):
        return _wait_until_all_ranks_connect(launch, timeout)


def _wait_until_all_ranks_connect(launch: Launch, timeout: float) -> MPICommunicator:
    try:
        import mpi4py

        os.environ.setdefault("MPIR_CVAR_SUPPRESS_ABORT_MESSAGE", "1")  # we print a better one
        mpi4py.rc.initialize = mpi4py.rc.initialize and launch.connects_mpi
        mpi4py.rc.finalize = False  # _leave does; a fork must not
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: no library of MPI
        raise missing_package(
            f"a distributed training started by {launch.launcher}",
            "xcnn[mpi]",
            ImportError(str(error)),
        ) from error
    store = None
    if not launch.connects_mpi:
        if not MPI.Get_library_version().startswith(("MPICH", "Intel")) or MPI.Is_initialized():
            raise CommunicationError(
                f"MPI cannot join processes started by {launch.launcher} if it is not MPICH or if "
                "mpi4py.MPI was imported before xcnn.distributed.init: "
                f"{MPI.Get_library_version().splitlines()[0].strip()}; use mpiexec, or pip install "
                "mpich"
            )
        store = Store(launch.host, launch.port, launch.rank, launch.size, timeout)
        store.barrier()  # it has a timeout, MPI_Init has none
        store.lend_to_mpi()
    if not MPI.Is_initialized():
        MPI.Init_thread(MPI.THREAD_MULTIPLE)
    world = MPI.COMM_WORLD
    if world.size != launch.size:
        raise CommunicationError(
            f"{launch.launcher} started {launch.size} processes, but MPI sees {world.size}: its "
            "mpiexec is not of the MPI of mpi4py, "
            f"{MPI.Get_library_version().splitlines()[0].strip()}; use the mpiexec of that, such "
            "as the one in the folder of python"
        )
    return MPICommunicator(world, timeout, store)


class MPICommunicator(Communicator):
    """The processes of an MPI communicator.

    Parameters
    ----------
    world
        The communicator of mpi4py; its duplicates are used.
    timeout
        Seconds for which a collective call may wait before all ranks end.
    store
        Through which MPI found the processes, if not through mpiexec.
    """

    engine = "mpi"

    def __init__(self, world: Any, timeout: float, store: Store | None = None) -> None:
        from mpi4py import MPI

        self._mpi, self._comm = MPI, world.Dup()
        self.rank, self.size = world.rank, world.size
        machine = world.Split_type(MPI.COMM_TYPE_SHARED, key=world.rank)
        self.local_rank, self.local_size = machine.rank, machine.size
        machine.Barrier()  # all have opened it
        if self.local_rank == 0:
            _unlink_shared_memory()
        self._is_cuda_aware = is_cuda_aware()
        self._works: deque[_Work] = deque()
        self._counts = dict.fromkeys(("all-reduce", "broadcast", "gather", "share", "barrier"), 0)
        self._signature = 0  # of the calls so far
        self._lock = threading.RLock()
        self._notices = _Notices(world.Dup(), MPI, store)
        self.watch = Watch(self._notices, timeout)
        self.fail = self.watch.fail  # type: ignore[method-assign]
        at_exit(partial(self._leave, store))

    def start_all_reduce(self, array: Array) -> Work:
        self._check(array, "fiu")
        self._sign(f"sum {array.dtype} {array.size}")
        return self._start("all-reduce", self._sum(array, self._counts["all-reduce"] % _TAGS))

    def broadcast(self, array: Array, root: int = 0) -> None:
        self._check(array, "fiubc")
        self._sign(f"broadcast {array.nbytes} {root}")
        self._start("broadcast", self._spread(array, root)).wait()

    def gather(self, value: Any) -> list[Any]:
        return self._start("gather", self._collect(encode(value))).wait()

    def share(self, value: Any, root: int = 0) -> Any:
        data = encode(value) if self.rank == root else b""
        return self._start("share", self._share(data, root)).wait()

    def barrier(self) -> None:
        self._start("barrier", self._collect(encode(None))).wait()

    # -- the calls: each posts requests to MPI and yields their tests

    def _sum(self, array: Array, number: int) -> Steps:
        half = array.dtype == "float16"
        mirror = backends.of(array).mirror(array, direct=self._is_cuda_aware and not half)
        yield mirror.is_ready
        values = mirror.array.reshape(-1)
        if half:
            yield from self._sum_half(values, 2 * number)
        else:
            total, parts = self._mpi.IN_PLACE, _parts(values)
            yield self._test([self._comm.Iallreduce(total, part) for part in parts])
        mirror.restore()

    def _sum_half(self, values: Array, tag: int) -> Steps:
        """Each rank sums a share in float32, which is rounded once; MPI has no float16."""
        bounds = [rank * len(values) // self.size for rank in range(self.size + 1)]
        shares = [values[a:b].view("uint8") for a, b in pairwise(bounds)]
        mine = values[bounds[self.rank] : bounds[self.rank + 1]]
        received = np.empty((self.size, mine.size), "float16")
        received[self.rank] = mine
        others = [rank for rank in range(self.size) if rank != self.rank]
        arriving = [self._comm.Irecv(received[r].view("uint8"), r, tag) for r in others]
        yield self._test([*arriving, *(self._comm.Isend(shares[r], r, tag) for r in others)])
        with backends.get("cpu").quiet_overflow():
            mine[...] = received.sum(0, dtype="float32")
        arriving = [self._comm.Irecv(shares[r], r, tag + 1) for r in others]
        mine = shares[self.rank]
        yield self._test([*arriving, *(self._comm.Isend(mine, r, tag + 1) for r in others)])

    def _spread(self, array: Array, root: int) -> Steps:
        mirror = backends.of(array).mirror(array, direct=self._is_cuda_aware)
        yield mirror.is_ready
        parts = _parts(mirror.array.reshape(-1))
        yield self._test([self._comm.Ibcast(part.view("uint8"), root) for part in parts])
        if self.rank != root:
            mirror.restore()

    def _collect(self, data: bytes) -> Steps:
        calls = [*self._counts.values()]
        heads = np.full((self.size, 2 + len(calls)), -1)  # stays if a rank is in another call
        head = np.array([len(data), self._signature, *calls])
        yield self._test([self._comm.Iallgather(head, heads)])
        self._compare(heads, head)
        sizes = heads[:, 0].tolist()
        everything = np.empty(sum(sizes), "uint8")
        target = [everything, sizes, self._mpi.BYTE]
        yield self._test([self._comm.Iallgatherv([data, self._mpi.BYTE], target)])
        bounds = pairwise([0, *accumulate(sizes)])
        return [decode(everything[start:end].data) for start, end in bounds]

    def _share(self, data: bytes, root: int) -> Steps:
        size = np.full(1, len(data))
        yield self._test([self._comm.Ibcast(size, root)])
        array = np.frombuffer(data, "uint8").copy() if data else np.empty(int(size[0]), "uint8")
        yield self._test([self._comm.Ibcast(part, root) for part in _parts(array)])
        return decode(array.data)

    def _compare(self, heads: Array, own: Array) -> None:
        """Require that all ranks have made the same calls; MPI does not notice most differences."""
        if (heads[:, 1:] != own[1:]).any():
            is_head = (heads[self.rank] == own).all()  # not the array of another call
            made = "; ".join(
                f"rank {rank}: "
                + ", ".join(f"{n} {name}" for name, n in zip(self._counts, row[2:], strict=True))
                if row[2:].sum() > 0
                else f"rank {rank}: in another call"
                for rank, row in (enumerate(heads) if is_head else [(self.rank, own)])
            )
            raise CommunicationError(
                "the ranks have made different collective calls, or with arrays of different "
                f"types and sizes, so their results are wrong ({made}): all ranks must make the "
                "same calls in the same order"
            )

    def _test(self, requests: Sequence[Any]) -> Callable[[], bool]:
        return lambda: self._mpi.Request.Testall(requests)

    def _sign(self, call: str) -> None:
        self._signature = zlib.crc32(call.encode(), self._signature)

    def _check(self, array: Array, kinds: str) -> None:
        if not array.flags.c_contiguous:
            raise ArgumentError(
                f"{show(array)} is not C-contiguous: pass a contiguous copy, since it is replaced "
                "in place"
            )
        if array.dtype.kind not in kinds or not array.dtype.isnative:
            raise DTypeError(f"{show(array)}: expected an array of numbers in native byte order")
        if not getattr(array.flags, "writeable", True):  # CuPy's always are
            raise ArgumentError(
                f"{show(array)} is read-only, but is replaced in place: pass a copy"
            )

    # -- progress

    def _start(self, name: str, steps: Steps) -> _Work:
        with self._one_thread():
            self._counts[name] += 1
            number = sum(self._counts.values())
            work = _Work(self, f"{name} number {self._counts[name]}", number, steps)
            self._works.append(work)
            self._advance()
        return work

    @contextmanager
    def _one_thread(self) -> Iterator[None]:
        """Two would make their calls in another order on each rank."""
        if not self._lock.acquire(blocking=False):
            raise CommunicationError(
                f"two threads of rank {self.rank} make collective calls at the same time: make "
                "all from one thread, since their order must be the same on all ranks"
            )
        try:
            yield
        finally:
            self._lock.release()

    def _advance(self) -> None:
        """Go on with all calls under way; MPI wants them posted in the same order on all ranks."""
        for work in tuple(self._works):
            work.advance()
            if not work.is_posted:
                break
        while self._works and self._works[0].is_done:
            self._works.popleft()

    def complete(self, work: _Work) -> None:
        """Wait for ``work``, and look for failures of other ranks meanwhile."""
        begin = time.monotonic()
        look, pause = begin + _LOOK, 1e-5
        while not work.is_done:
            self._advance()
            now = time.monotonic()
            if now - begin > _YIELD:
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            elif now - begin > _SPIN:
                _let_others_run()
            if now > look:
                look = now + _LOOK
                self.watch.look(work.what, work.number)
            if now - begin > self.watch.timeout:
                self.watch.blame(work.what)

    def _leave(self, store: Store | None) -> None:
        """Wait for the end of the others, without taking a core; MPI_Finalize would."""
        if self._mpi.Is_finalized():
            return
        self.watch.leave(sum(self._counts.values()))
        request = self._notices.everyone_left()
        while not request.Test():
            self._advance()  # sums that others wait for
            time.sleep(0.01)
        self._mpi.Finalize()
        if store:
            store.close()


class _Work(Work):
    """A collective call under way."""

    def __init__(self, owner: MPICommunicator, what: str, number: int, steps: Steps) -> None:
        self.what, self.number, self.is_done = what, number, False
        self._owner, self._steps, self._stage = owner, steps, 0
        self._result: Any = None
        self._test: Callable[[], bool] = lambda: True

    @property
    def is_posted(self) -> bool:
        """Whether its first request was posted: sums wait for a GPU first."""
        return self.is_done or self._stage > 1

    def advance(self) -> None:
        """Go on as far as possible without waiting."""
        try:
            while not self.is_done and self._test():
                self._stage += 1
                self._test = next(self._steps)
        except StopIteration as end:
            self.is_done, self._result = True, end.value
        except self._owner._mpi.Exception as error:
            raise CommunicationError(
                f"{self.what} on rank {self._owner.rank}: {error}; all ranks must make the same "
                "calls in the same order, with arrays of the same size"
            ) from error

    def wait(self) -> Any:
        with self._owner._one_thread():
            self._owner.complete(self)
        return self._result


class _Notices:
    """Notices as messages of MPI, on a communicator of their own."""

    def __init__(self, comm: Any, mpi: Any, store: Store | None) -> None:
        self._comm, self._mpi = comm, mpi
        self.abort = store.abort if store else comm.Abort
        self.rank, self.size = comm.rank, comm.size
        self._sent: list[Any] = []

    def tell(self, text: str) -> None:
        data = text.encode()
        for rank in range(self.size):
            if rank != self.rank:
                self._sent.append(self._comm.Isend([data, self._mpi.BYTE], rank))

    def told(self) -> list[tuple[int, str]]:
        found, status = [], self._mpi.Status()
        while (message := self._comm.Improbe(status=status)) is not None:
            data = bytearray(status.Get_count(self._mpi.BYTE))
            message.Recv([data, self._mpi.BYTE])
            found.append((status.source, data.decode()))
        return found

    def everyone_left(self) -> Any:
        """A request that is complete when all ranks have made this call."""
        return self._comm.Ibarrier()


def _parts(values: Array) -> list[Array]:
    """A flat array in parts whose number of bytes fits into 32 bits."""
    if not values.size:
        return []
    return [values[part] for part in split_range(len(values), -(-len(values) // _MOST))]


def _unlink_shared_memory() -> None:
    """Let the memory that MPICH shares on this machine end with the processes, also killed ones.

    MPICH removes its name only at a regular end: each failed run would leave some megabytes.
    """
    with suppress(OSError):  # another system than Linux
        for line in Path("/proc/self/maps").read_text().splitlines():
            path = line.split()[-1]
            if path.startswith("/dev/shm/mpich_shm_"):
                Path(path).unlink(missing_ok=True)


def is_cuda_aware() -> bool:
    """Whether the MPI of mpi4py, which must have been started, reads the memory of GPUs.

    MPI is asked; the environment variable ``XCNN_MPI_CUDA`` (0 or 1) overrides its answer.
    """
    setting = os.environ.get("XCNN_MPI_CUDA")
    if setting is not None:
        return setting == "1"
    from mpi4py import MPI

    with suppress(AttributeError, OSError):  # a library without that function
        return bool(ctypes.CDLL(MPI.__file__).MPIX_Query_cuda_support())
    return False
