"""`cupy.cuda.nccl`: NCCL among threads of one process, or among processes.

A collective call takes effect where a real one is certain to have: when its stream, or an event
recorded on the stream afterwards, is waited for. Until then the array holds poison, the call reads
and writes nothing else, and the stand-in's streams report other uses of it as a data race. What all
ranks must agree on is checked: the order of the calls, counts, types, operations and roots.
"""

import collections
import functools
import pickle
import secrets
import threading
import time

import numpy as np

from . import memory
from . import stream as streams
from .array import poison

available = True
NCCL_SUM, NCCL_PROD, NCCL_MAX, NCCL_MIN, NCCL_AVG = range(5)
NCCL_INT8, NCCL_UINT8, NCCL_INT32, NCCL_UINT32, NCCL_INT64, NCCL_UINT64 = range(6)
NCCL_FLOAT16, NCCL_FLOAT32, NCCL_FLOAT64 = range(6, 9)
_TYPES = [np.dtype(f"{kind}{bits // 8}") for bits in (8, 32, 64) for kind in "iu"]
_TYPES += [np.dtype(f"f{size}") for size in (2, 4, 8)]
_REDUCTIONS = {NCCL_SUM: np.add, NCCL_PROD: np.multiply, NCCL_MAX: np.maximum, NCCL_MIN: np.minimum}
_STATES = ["SUCCESS", "UNHANDLED_CUDA_ERROR", "SYSTEM_ERROR", "INTERNAL_ERROR"]
_STATES += ["INVALID_ARGUMENT", "INVALID_USAGE", "REMOTE_ERROR"]
_PATIENCE = 20.0  # seconds of real time before a wait is taken for a deadlock


class NcclError(RuntimeError):
    """What CuPy raises when NCCL refuses."""

    def __init__(self, status):
        self.status = status
        super().__init__(f"NCCL_ERROR_{_STATES[status]}: from the stand-in")


def get_version():
    """The version as a number: 2.27.7."""
    return 22707


get_build_version = get_version


def get_unique_id():
    """128 bytes that name a communicator."""
    return secrets.token_bytes(128)


class Threads:
    """How ranks exchange what they queue: here through the memory that threads share."""

    _shared = collections.defaultdict(dict)  # by name of a communicator
    _changed = threading.Condition()

    def __init__(self, name, rank, size):
        self._values, self._rank, self._ranks = self._shared[name], rank, range(size)

    def put(self, number, value):
        """Send this rank's value of a call to the others."""
        with self._changed:
            self._values[number, self._rank] = value
            self._changed.notify_all()

    def has(self, number):
        """Whether all ranks have sent theirs."""
        return all((number, rank) in self._values for rank in self._ranks)

    def get(self, number):
        """The values of all ranks, once :meth:`has`."""
        return [self._values[number, rank] for rank in self._ranks]


class Processes:
    """The same through files in ``Processes.folder``, which must be set."""

    folder = None

    def __init__(self, name, rank, size):
        self._path, self._rank, self._ranks = self.folder / name[:16].hex(), rank, range(size)
        self._path.mkdir(exist_ok=True)

    def put(self, number, value):
        """Send this rank's value of a call to the others."""
        path = self._file(number, self._rank)
        path.with_suffix(".new").write_bytes(pickle.dumps(value))
        path.with_suffix(".new").rename(path)

    def has(self, number):
        """Whether all ranks have sent theirs."""
        return all(self._file(number, rank).exists() for rank in self._ranks)

    def get(self, number):
        """The values of all ranks, once :meth:`has`."""
        return [pickle.loads(self._file(number, rank).read_bytes()) for rank in self._ranks]

    def _file(self, number, rank):
        return self._path / f"{number}-{rank}"


class NcclCommunicator:
    """One rank's end of a communicator."""

    def __init__(self, ndev, commId, rank, config=None):
        if not isinstance(commId, bytes):
            raise TypeError(
                f"Argument 'commId' has incorrect type (expected bytes, got {commId!r})"
            )
        if len(commId) != 128 or not 0 <= rank < ndev:
            raise NcclError(4)
        self._exchange = (Processes if Processes.folder else Threads)(commId, rank, ndev)
        self._rank, self._size, self._count = rank, ndev, 0
        self._is_open, self._async_error = True, 0
        self._call("init", (ndev,)).finish()

    def allReduce(self, sendbuf, recvbuf, count, datatype, op, stream):
        """Queue a reduction."""
        self._queue("allReduce", sendbuf, recvbuf, (count, datatype, op), stream)

    def broadcast(self, sendbuff, recvbuff, count, datatype, root, stream):
        """Queue a copy."""
        self._queue("broadcast", sendbuff, recvbuff, (count, datatype, root), stream)

    def check_async_error(self):
        """Raise what went wrong in the background."""
        if not self._is_open:
            raise NcclError(4)
        if self._async_error:
            raise NcclError(self._async_error)

    def abort(self):
        """End all calls."""
        self._is_open = False

    def destroy(self):
        """Free it; a real one lets calls end first, the stand-in's need no such time."""
        self._is_open = False

    def break_connection(self):
        """For tests: as if another process had been killed."""
        self._async_error = 6

    def _queue(self, name, send, receive, arguments, handle):
        for value in (send, receive, *arguments, handle):
            if type(value) is not int:
                raise TypeError(f"an integer is required, got {value!r}")
        if send != receive:
            raise NotImplementedError("the stand-in works in place only")
        stream, owner = streams.by_handle(handle), memory.at(send)
        if owner is None or stream is None:
            raise NcclError(4)  # memory of the host, or freed
        count, kind = arguments[0], _TYPES[arguments[1]]
        if not owner._a.flags.c_contiguous or count * kind.itemsize > owner._a.nbytes:
            raise AssertionError(f"NCCL uses {count} {kind} in a row, not {owner._a.strides}")
        array = owner._a.reshape(-1).view("u1")[: count * kind.itemsize].view(kind)
        for call in stream._pending:
            if np.shares_memory(call.array, array):
                call.finish()
        owner._last_use.update(stream)
        stream._pending.append(self._call(name, arguments, array))
        stream._pending = [call for call in stream._pending if not call.is_done]

    def _call(self, name, arguments, array=None):
        if not self._is_open:
            raise NcclError(4)
        sent = None if array is None else array.copy()
        self._exchange.put(self._count, ((name, *arguments), sent))
        if array is not None:
            poison(array)
        self._count += 1
        return _Call(self, self._count - 1, array)


class _Call:
    """A call in a stream's queue."""

    def __init__(self, communicator, number, array):
        self._communicator, self._number, self.array = communicator, number, array
        self._lock, self.is_done = threading.Lock(), False

    @property
    def is_ready(self):
        """Whether it has ended on a GPU: all ranks have called it, or it was aborted."""
        ready = self.is_done or not self._communicator._is_open
        return ready or self._communicator._exchange.has(self._number)

    def finish(self):
        """Wait until all ranks have called it, and write the result."""
        end = time.monotonic() + _PATIENCE
        while not self.is_ready:
            if time.monotonic() > end:
                raise AssertionError(f"call number {self._number}: another rank did not make it")
            time.sleep(0.0005)
        with self._lock:
            if not self.is_done and self._communicator._is_open:
                self._write(self._communicator._exchange.get(self._number))
            self.is_done = True

    def _write(self, values):
        calls, arrays = zip(*values, strict=True)
        if len(set(calls)) > 1:
            raise AssertionError(f"ranks differ in call number {self._number}: {calls}")
        name, *arguments = calls[0]
        if name == "broadcast":
            self.array[...] = arrays[arguments[2]]
        elif name == "allReduce":
            self.array[...] = functools.reduce(_REDUCTIONS[arguments[2]], arrays)
