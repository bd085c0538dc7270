"""CUDA GPUs, under the names of ``torch.cuda``; :mod:`xcnn.backends` does the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import backends, hints
from .random import manual_seed

__all__ = [
    "current_device",
    "device_count",
    "is_available",
    "manual_seed",
    "manual_seed_all",
    "memory_allocated",
    "set_device",
    "synchronize",
]

manual_seed_all = manual_seed  # one generator, on the host, serves all devices


def is_available() -> bool:
    """Whether CuPy finds a usable CUDA GPU; ``xcnn doctor`` says what is missing."""
    return bool(backends.cuda_devices())


def device_count() -> int:
    """The number of usable CUDA GPUs."""
    return len(backends.cuda_devices())


def set_device(device: Any) -> None:
    """Make a GPU, such as 1 or "cuda:1", the one that "cuda" and "auto" mean in this process.

    Raises
    ------
    DeviceError
        There is no such GPU.
    """
    backends.set_cuda(_name(device))


def current_device() -> int:
    """The number of the GPU that "cuda" means."""
    return int(backends.get("cuda").device.partition(":")[2])


def synchronize(device: Any = None) -> None:
    """Wait until a GPU (default: "cuda") has finished all work."""
    backends.get(_name(device)).synchronize()


def memory_allocated(device: Any = None) -> int:
    """Bytes of a GPU (default: "cuda") that arrays use."""
    return backends.get(_name(device)).memory()["used"]


def _name(device: Any) -> Any:
    return "cuda" if device is None else f"cuda:{device}" if isinstance(device, int) else device


if not TYPE_CHECKING:  # a type checker that saw it would accept every name
    __getattr__ = hints.getter("xcnn.cuda", hints.CUDA, __all__)
