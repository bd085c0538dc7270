"""Batches copied to the device ahead of the training step."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from typing import Any

from ..backends import Backend
from ..data.arrays import Batch
from ..data.loader import ahead


def on_device(
    batches: Iterable[Batch], backend: Backend, dtype: Any
) -> Iterator[tuple[Batch, tuple]]:
    """Yield each batch with its arrays on the device.

    On a GPU a background thread copies the next batch while the step on this one runs; a batch's
    arrays on the device are overwritten later, so do not keep them.

    Parameters
    ----------
    batches
        Tuples of NumPy arrays.
    backend
        Of the device, which must be the active one.
    dtype
        What floating-point arrays become on their way to a GPU.
    """
    slots = backend.slots()
    if not slots:
        for batch in batches:
            yield batch, batch
        return
    for batch, slot in ahead(_filled(batches, backend, dtype, slots), depth=0):
        yield batch, tuple(slot.take())
        slot.release()


def _filled(
    batches: Iterable[Batch], backend: Backend, dtype: Any, slots: list
) -> Generator[Any, None, None]:
    with backend.active():  # in the background thread
        for number, batch in enumerate(batches):
            slot = slots[number % len(slots)]
            slot.fill(batch, dtype)
            yield batch, slot
