"""Copies batches to a GPU while it processes the previous batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Array
from .base import Mirror, check_numbers


class PinnedMirror(Mirror):
    """A device array in pinned host memory, or directly, if the library can read it.

    Parameters
    ----------
    cupy
        The CuPy module; its current device must be that of the array.
    stream
        The stream to copy on.
    array
        The device array, computed on the current stream.
    direct
        Whether to make no copy.
    """

    def __init__(self, cupy: Any, stream: Any, array: Array, direct: bool) -> None:
        super().__init__(array)
        self._cupy, self._stream, self._source = cupy, stream, array
        self._event = cupy.cuda.get_current_stream().record()
        if not direct:
            self._pinned = cupy.cuda.alloc_pinned_memory(max(array.nbytes, 1))
            self.array = np.frombuffer(self._pinned, array.dtype, array.size).reshape(array.shape)
            stream.wait_event(self._event)
            array.get(stream=stream, out=self.array, blocking=False)
            self._event = stream.record()

    def is_ready(self) -> bool:
        return self._event.done

    def restore(self) -> None:
        if self.array is not self._source:
            self._source.set(self.array, stream=self._stream)
            self._stream.synchronize()  # the pinned memory is reused after this


class Slot:
    """Device memory for one batch, and pinned host memory to copy it from.

    With two alternating slots, one is filled while a training step reads the other. A GPU reads
    pinned memory directly; the copy runs on a separate stream, and events order it with the steps.
    Only the filling thread ever waits, and only if the GPU lags behind.

    Parameters
    ----------
    cupy
        The CuPy module; its current device must be the target device.
    stream
        The stream to copy on.
    """

    def __init__(self, cupy: Any, stream: Any) -> None:
        self._cupy = cupy
        self._stream = stream
        self._copied = cupy.cuda.Event(disable_timing=True)
        self._used = cupy.cuda.Event(disable_timing=True)
        self._buffers: dict[int, tuple[Any, Array]] = {}  # pinned and device memory of each array
        self._arrays: list[Any] = []

    def drain(self) -> None:
        """Wait for the last copy, before the slot is dropped: CuPy reuses freed memory at once."""
        self._copied.synchronize()

    def fill(self, batch: Sequence[Any], dtype: Any) -> None:
        """Start copying a batch, with floating-point arrays converted to ``dtype``.

        Arrays that are not NumPy's are passed through.
        """
        self._copied.synchronize()  # the previous copy may still read the pinned memory
        self._stream.wait_event(self._used)  # the previous step may still read the device memory
        self._arrays = [
            self._copy(i, a, dtype) if isinstance(a, np.ndarray) else a for i, a in enumerate(batch)
        ]
        self._copied.record(self._stream)

    def take(self) -> list[Any]:
        """The batch on the device, for work on the current stream; valid until the next fill."""
        self._cupy.cuda.get_current_stream().wait_event(self._copied)
        return self._arrays

    def release(self) -> None:
        """Mark that all work on the batch has been queued on the current stream."""
        self._used.record(self._cupy.cuda.get_current_stream())

    def _copy(self, number: int, host: np.ndarray, dtype: Any) -> Array:
        check_numbers(host)
        kind = np.dtype(dtype) if host.dtype.kind == "f" else host.dtype
        size = host.size * kind.itemsize
        pinned, device = self._buffer(number, size)
        staged = np.frombuffer(pinned, kind, host.size).reshape(host.shape)
        np.copyto(staged, host, casting="same_kind")
        array = device[:size].view(kind).reshape(host.shape)
        array.set(staged, stream=self._stream)
        return array

    def _buffer(self, number: int, size: int) -> tuple[Any, Array]:
        """Memory for the array at position ``number``, reallocated only if it is too small."""
        if number not in self._buffers or self._buffers[number][1].size < size:
            size = max(size, 1)
            pinned = self._cupy.cuda.alloc_pinned_memory(size)
            self._buffers[number] = pinned, self._cupy.empty(size, "uint8")
            # the pool may return a block that kernels queued on the current stream still read
            self._stream.wait_event(self._cupy.cuda.get_current_stream().record())
        return self._buffers[number]
