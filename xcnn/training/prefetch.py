"""Prefetch batches to the device."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

from ..backends import Backend
from ..data import Batch, arrays_of, map_arrays, prefetch


def on_device(
    batches: Iterable[Batch], backend: Backend, dtype: Any, slots: list
) -> Generator[tuple[Batch, tuple], None, None]:
    """Yield each batch with its arrays on a GPU.

    A background thread copies the next batch while the step on this one runs; a batch's arrays on
    the device are overwritten later, so do not keep them. Close the generator where you leave it
    early: that stops the thread and waits for the last copy.

    Parameters
    ----------
    batches
        NumPy arrays in nested tuples and dicts.
    backend
        The device's backend; must be active.
    dtype
        Dtype of floating-point arrays on the device.
    slots
        ``backend.slots()``.
    """
    try:
        with closing(prefetch(_filled(batches, backend, dtype, slots), depth=0)) as filled:
            for batch, slot in filled:
                yield batch, map_arrays(partial(_next, iter(slot.take())), batch)
                slot.release()
    finally:
        for slot in slots:
            slot.drain()


def _next(arrays: Iterator[Any], _: Any) -> Any:
    return next(arrays)


def _filled(
    batches: Iterable[Batch], backend: Backend, dtype: Any, slots: list
) -> Generator[tuple[Batch, Any], None, None]:
    with backend.active():  # in the background thread
        for number, batch in enumerate(batches):
            slot = slots[number % len(slots)]
            slot.fill(tuple(arrays_of(batch)), dtype)
            yield batch, slot
