"""Copies batches to a GPU while it works on the batch before."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Array


class Slot:
    """A fixed place on the device for one batch, and pinned host memory to copy it from.

    With two slots in turn, one is filled while a training step reads the other. Pinned memory is
    what a GPU can fetch by itself; the copy runs on a stream of its own, and events keep its order
    with the steps: nothing waits but the thread that fills, and that only if the GPU lags behind.

    Parameters
    ----------
    cupy
        The CuPy module; its current device must be the one meant.
    stream
        The stream to copy on.
    """

    def __init__(self, cupy: Any, stream: Any) -> None:
        self._cupy = cupy
        self._stream = stream
        self._copied = cupy.cuda.Event(disable_timing=True)
        self._used = cupy.cuda.Event(disable_timing=True)
        self._buffers: list[tuple[Any, Any]] = []  # pinned and device memory of each array
        self._arrays: list[Array] = []

    def fill(self, batch: Sequence[Any], dtype: Any) -> None:
        """Start to copy a batch, floating-point arrays as ``dtype``; arrays that are not NumPy's
        are taken as they are.
        """
        self._copied.synchronize()  # the pinned memory may still be read by the copy before
        self._stream.wait_event(self._used)  # and the device memory by the step before
        self._arrays = [
            self._copy(i, a, dtype) if isinstance(a, np.ndarray) else a for i, a in enumerate(batch)
        ]
        self._copied.record(self._stream)

    def take(self) -> list[Array]:
        """The batch on the device, for work on the current stream; valid until the next fill."""
        self._cupy.cuda.get_current_stream().wait_event(self._copied)
        return self._arrays

    def release(self) -> None:
        """Note that all work on the batch has been queued on the current stream."""
        self._used.record(self._cupy.cuda.get_current_stream())

    def _copy(self, number: int, host: np.ndarray, dtype: Any) -> Array:
        kind = np.dtype(dtype) if host.dtype.kind == "f" else host.dtype
        size = host.size * kind.itemsize
        pinned, device = self._buffer(number, size)
        staged = np.frombuffer(pinned, kind, host.size).reshape(host.shape)
        np.copyto(staged, host, casting="same_kind")
        array = device[:size].view(kind).reshape(host.shape)
        array.set(staged, stream=self._stream)
        return array

    def _buffer(self, number: int, size: int) -> tuple[Any, Array]:
        """Memory for the array of that number; new only if it has outgrown what there is."""
        while len(self._buffers) <= number:
            self._buffers.append((None, None))
        if self._buffers[number][0] is None or self._buffers[number][1].size < size:
            size = max(size, 1)
            pinned = self._cupy.cuda.alloc_pinned_memory(size)
            self._buffers[number] = pinned, self._cupy.empty(size, "uint8")
        return self._buffers[number]
