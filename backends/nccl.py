"""Collective calls among GPUs by NCCL, through CuPy: one process and one communicator per GPU.

They are queued on a stream of their own, so that they run beside the kernels that compute.
"""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any

from ..arrays import Array
from ..communicator import Work
from ..errors import ArgumentError, DeviceError, DTypeError
from .base import Backend

#: NCCL's types for sums, by dtype; it has none of 16 bits for integers
_TYPES = {
    **{f"float{bits}": f"NCCL_FLOAT{bits}" for bits in (16, 32, 64)},
    **{
        f"{kind}{bits}": f"NCCL_{kind.upper()}{bits}"
        for kind in ("int", "uint")
        for bits in (8, 32, 64)
    },
}


def library(backend: Backend) -> tuple[Any, str]:
    """CuPy's module of NCCL, and why it cannot be used with ``backend``, or an empty string."""
    cuda = getattr(backend.xp, "cuda", None)
    if cuda is None:
        return None, f"it works on CUDA GPUs, not on {backend.device}"
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        module = import_module(f"{cuda.__name__}.nccl")
    if module.available:
        return module, ""
    texts = [" ".join(str(warning.message).split()) for warning in found]  # with what to install
    return module, "; ".join(texts) or "CuPy cannot load it"


def identity(backend: Backend) -> dict[str, Any]:
    """The ``gpu``, which must differ among processes, NCCL's ``version``, and the ``problem``."""
    module, problem = library(backend)
    if problem:
        return {"gpu": "", "version": 0, "problem": problem}
    index = int(backend.device.partition(":")[2] or 0)
    runtime = backend.xp.cuda.runtime
    # both: machines may have equal addresses, and CuPy cuts the other off at a zero
    gpu = runtime.deviceGetPCIBusId(index) + runtime.getDeviceProperties(index)["uuid"].hex()
    return {"gpu": gpu, "version": module.get_version(), "problem": ""}


def unique_id(backend: Backend) -> bytes:
    """A new name by which the processes of one communicator find each other."""
    return library(backend)[0].get_unique_id()


class Queued(Work):
    """A collective call on the stream of communication; it keeps the array until :meth:`wait`."""

    def __init__(self, backend: Backend, array: Array, done: Any) -> None:
        self._backend, self._array, self._done = backend, array, done

    def wait(self) -> None:
        """Let the current stream wait, not the host."""
        with self._backend.active():
            self._backend.xp.cuda.get_current_stream().wait_event(self._done)
        self._array = None  # freed memory is used again after what was queued before

    @property
    def is_done(self) -> bool:
        """Whether the GPU has carried it out."""
        with self._backend.active():
            return self._done.done


class Collectives:
    """NCCL among ``size`` GPUs, on a stream of this one.

    Returns when all processes have called it with the same ``name``.

    Raises
    ------
    DeviceError
        NCCL cannot connect the GPUs.
    """

    def __init__(self, backend: Backend, name: bytes, rank: int, size: int) -> None:
        self._backend, (self._nccl, _) = backend, library(backend)
        with backend.active():
            self._stream = backend.xp.cuda.Stream(non_blocking=True)
            try:
                self._communicator = self._nccl.NcclCommunicator(size, name, rank)
            except self._nccl.NcclError as error:
                raise _failure(
                    error, f"connect {backend.device} with those of other ranks"
                ) from error

    def all_reduce(self, array: Array) -> Queued:
        """Queue the sum over all ranks, in place.

        Raises
        ------
        DTypeError
            A type that NCCL cannot add.
        """
        if array.dtype.name not in _TYPES:
            raise DTypeError(
                f"NCCL cannot add arrays of {array.dtype}: convert to one of {', '.join(_TYPES)}"
            )
        kind = getattr(self._nccl, _TYPES[array.dtype.name])
        return self._queue("allReduce", array, array.size, kind, self._nccl.NCCL_SUM)

    def broadcast(self, array: Array, root: int) -> Queued:
        """Queue a copy of rank ``root``'s array to the others, in place."""
        return self._queue("broadcast", array, array.nbytes, self._nccl.NCCL_UINT8, root)

    def _queue(self, call: str, array: Array, *arguments: int) -> Queued:
        if not array.flags.c_contiguous:
            raise ArgumentError(
                f"array: expected a contiguous one, got strides {array.strides} for shape "
                f"{array.shape}; pass a copy, from ascontiguousarray"
            )
        cuda, address = self._backend.xp.cuda, array.data.ptr
        with self._backend.active():
            ready, done = (cuda.Event(disable_timing=True) for _ in range(2))
            ready.record()
            self._stream.wait_event(ready)  # for what computes the array
            try:
                getattr(self._communicator, call)(address, address, *arguments, self._stream.ptr)
            except self._nccl.NcclError as error:
                raise _failure(error, f"queue {call} on {self._backend.device}") from error
            done.record(self._stream)
        return Queued(self._backend, array, done)

    def check(self) -> None:
        """Raise DeviceError if a call has failed, as where another process has ended."""
        try:
            with self._backend.active():
                self._communicator.check_async_error()
        except self._nccl.NcclError as error:
            raise _failure(error, "go on") from error

    def close(self) -> None:
        """Let calls that were queued end; none can follow."""
        with self._backend.active():
            self._communicator.destroy()


def _failure(error: Exception, what: str) -> DeviceError:
    return DeviceError(f"NCCL cannot {what} ({error}); with NCCL_DEBUG=INFO it says more")
