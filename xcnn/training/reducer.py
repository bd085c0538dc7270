"""Summing the gradients of all ranks while backward goes on.

Source: Li et al. 2020, "PyTorch Distributed: experiences on accelerating data parallel training",
arXiv:2006.15704, section 3.2.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..arrays import Array
from ..communicator import Communicator, Work
from ..errors import GradientError
from ..tensor import Tensor

BUCKET = 2**22  # bytes: large enough for the bandwidth, small enough to start early
COMPRESSIONS = ("float16",)


class Flat:
    """One array with a part for each of some tensors, so that one call sends all."""

    def __init__(self, tensors: Sequence[Tensor], dtype: Any, extra: int = 0) -> None:
        self.tensors, self.backend = tensors, tensors[0].backend
        size = sum(tensor.numel() for tensor in tensors)
        with self.backend.active():
            self.array = self.backend.xp.zeros(size + extra, dtype)
        self.parts: list[Array] = []
        start = 0
        for tensor in tensors:
            self.parts.append(self.array[start : start + tensor.numel()].reshape(tensor.shape))
            start += tensor.numel()
        self.extra = self.array[start:]

    def load(self) -> None:
        """Copy the tensors into the array."""
        with self.backend.active():
            for tensor, part in zip(self.tensors, self.parts, strict=True):
                part[...] = tensor.data

    def store(self) -> None:
        """Copy the array into the tensors."""
        with self.backend.active():
            for tensor, part in zip(self.tensors, self.parts, strict=True):
                tensor.data[...] = part


def flats(tensors: Iterable[Tensor]) -> list[Flat]:
    """A :class:`Flat` for the tensors of each dtype."""
    by_dtype: dict[str, list[Tensor]] = {}
    for tensor in tensors:
        by_dtype.setdefault(tensor.dtype.name, []).append(tensor)
    return [Flat(group, dtype) for dtype, group in by_dtype.items()]


def broadcast(communicator: Communicator, tensors: Iterable[Tensor]) -> None:
    """Replace the tensors by those of rank 0."""
    for flat in flats(tensors):
        flat.load()
        communicator.broadcast(flat.array)
        flat.store()


class _Bucket(Flat):
    """The gradients of some parameters; ``extra`` counts, for each, the ranks that have one."""

    def __init__(self, params: list[Tensor], dtype: Any) -> None:
        super().__init__(params, dtype, extra=len(params))
        self.reset()

    def reset(self) -> None:
        self.copied: set[int] = set()
        self.extra.fill(1)

    def add(self, i: int) -> None:
        """Copy the gradient of parameter ``i``, or 0 if it has none."""
        gradient = self.tensors[i].grad
        self.copied.add(i)
        if gradient is None:
            self.parts[i].fill(0)
            self.extra[i] = 0
        else:
            self.parts[i][...] = gradient.data

    def take(self) -> None:
        """Set the gradients to the sums; a parameter that has none on any rank keeps none."""
        for i, (param, part) in enumerate(zip(self.tensors, self.parts, strict=True)):
            if param.grad is not None or float(self.extra[i]):
                param.grad = Tensor(part.astype(param.dtype, copy=False))


class Reducer:
    """Replaces the gradients of parameters by their sums over all ranks.

    Gradients are copied into flat buckets, the last layers' first, and each bucket is sent as soon
    as it and all before it are full, while backward computes the others. The order of the buckets
    is the same on all ranks. A parameter may have a gradient on some ranks only; if it has none on
    any, it keeps none.

    Parameters
    ----------
    communicator
        That of the ranks; they must have the same parameters in the same order.
    params
        Leaves, in the order in which the model uses them; they become those of rank 0.
    averaged
        Arrays that are replaced by their means over the ranks, such as running statistics.
    compression
        "float16": send gradients in half precision, half as many bytes.
    bucket_size
        Bytes of gradients that are sent together.
    """

    def __init__(
        self,
        communicator: Communicator,
        params: Iterable[Tensor],
        averaged: Sequence[Tensor] = (),
        compression: str | None = None,
        bucket_size: int = BUCKET,
    ) -> None:
        self.communicator = communicator
        self._buckets: list[_Bucket] = []
        self._places: dict[int, tuple[_Bucket, int]] = {}
        group: list[Tensor] = []
        size = 0
        for param in reversed(list(params)):
            if group and (param.dtype != group[0].dtype or size >= bucket_size):
                self._add(group, compression)
                group, size = [], 0
            group.append(param)
            size += param.data.nbytes
        if group:
            self._add(group, compression)
        self._handles = [
            param.register_post_accumulate_grad_hook(self._ready)
            for bucket in self._buckets
            for param in bucket.tensors
        ]
        self._means = flats(averaged)
        broadcast(communicator, (p for bucket in self._buckets for p in bucket.tensors))
        self._is_started = False
        self._works: list[Work] = []
        self._sent = 0  # buckets

    def _add(self, params: list[Tensor], compression: str | None) -> None:
        bucket = _Bucket(params, compression or params[0].dtype)
        self._buckets.append(bucket)
        self._places |= {id(param): (bucket, i) for i, param in enumerate(params)}

    def start(self) -> None:
        """Send each bucket as soon as the next backward has filled it: the last one of a step."""
        self._is_started, self._works, self._sent = True, [], 0
        for bucket in self._buckets:
            bucket.reset()
        for flat in self._means:
            flat.load()
            self._send(flat)

    def _ready(self, param: Tensor) -> None:
        if not self._is_started:
            return
        bucket, i = self._places[id(param)]
        if i in bucket.copied:
            raise GradientError(
                "backward was called twice in the last part of a step: its gradients are being "
                "sent; call it once, or use accumulate"
            )
        bucket.add(i)
        self._send_full()

    def _send_full(self) -> None:
        """Send the buckets that are full, in their order."""
        while self._sent < len(self._buckets):
            bucket = self._buckets[self._sent]
            if len(bucket.copied) < len(bucket.tensors):
                return
            self._send(bucket)
            self._sent += 1

    def _send(self, flat: Flat) -> None:
        self._works.append(self.communicator.start_all_reduce(flat.array))

    def finish(self) -> None:
        """Send what is left, wait, and set the gradients to the sums."""
        if not self._is_started:
            self.start()
        for bucket in self._buckets[self._sent :]:
            for i in range(len(bucket.tensors)):
                if i not in bucket.copied:
                    bucket.add(i)
        self._send_full()
        self._is_started = False
        for work in self._works:
            work.wait()
        for bucket in self._buckets:
            bucket.take()
        for flat in self._means:
            flat.array /= self.communicator.size
            flat.store()

    def close(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()
