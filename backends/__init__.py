"""Devices: one :class:`Backend` object each, looked up by name or by array type.

Examples
--------
>>> from xcnn import backends
>>> backends.get("cpu").device  # by name: "cpu", "cuda", "cuda:1" or "auto"
'cpu'
>>> backends.of(np.zeros(3)).device  # by the type of an array
'cpu'
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import hints
from ..errors import DeviceError
from .base import (
    GOOD,
    OVERFLOW,
    PRECISIONS,
    SCALE,
    SKIPPED,
    Backend,
    as_bits,
    by_library,
    by_type,
    find,
    of,
    of_each,
    register,
)
from .cpu import CpuBackend
from .native import NativeBackend
from .native import load as _load
from .norm import Running

__all__ = [
    "GOOD",
    "OVERFLOW",
    "PRECISIONS",
    "SCALE",
    "SKIPPED",
    "Backend",
    "CpuBackend",
    "NativeBackend",
    "Running",
    "add_device",
    "as_bits",
    "available",
    "by_type",
    "cuda_devices",
    "diagnosis",  # imported on first use
    "find",
    "get",
    "kernels_of_cpu",
    "of",
    "of_each",
    "prefer_gpu",
    "register",
]

_library, kernels_of_cpu = _load()  # the second in words
_cpu = NativeBackend(_library) if _library else CpuBackend()
_by_name: dict[str, Backend] = {"cpu": _cpu}
_gpu = "cuda:0"  # what "cuda" means
register(_cpu.xp.ndarray, _cpu)
by_library["cupy"] = lambda array: _cuda(array.device.id)


def add_device(backend: Backend) -> Backend:
    """Register ``backend`` under its ``device`` name."""
    _by_name[backend.device] = backend
    return backend


def get(device: str | Backend) -> Backend:
    """The backend called ``"cpu"``, ``"cuda"`` (:func:`prefer_gpu`; 0), ``"cuda:N"`` or ``"auto"``.

    ``"auto"`` is the first usable CUDA device, else the CPU.

    Raises
    ------
    DeviceError
        No such device; the message says what is missing and how to get it.
    """
    if isinstance(device, Backend):
        return device
    name = device if isinstance(device, str) else ""  # anything else may not be hashable
    if name == "auto":
        from .diagnosis import problem

        return get("cpu" if problem() else "cuda")
    name = _gpu if name == "cuda" else name
    if name not in _by_name:
        kind, _, index = name.partition(":")
        if kind != "cuda" or not index.isdecimal():
            raise DeviceError(f'device={device!r}: expected "cpu", "cuda", "cuda:N" or "auto"')
        _cuda(int(index))
    return _by_name[name]


def prefer_gpu(index: int) -> None:
    """Let "cuda" and "auto" mean GPU ``index``, in a process that has one of several."""
    global _gpu
    _gpu = f"cuda:{index}"


def available() -> dict[str, str]:
    """Each kind of device with ``"ok"`` or the reason why it cannot be used."""
    from .diagnosis import problem

    return {"cpu": "ok", "cuda": problem() or "ok"}


def cuda_devices() -> list[str]:
    """Names of the usable CUDA devices, "cuda:0" and so on."""
    from .diagnosis import problem

    if problem():
        return []
    import cupy

    return [f"cuda:{index}" for index in range(cupy.cuda.runtime.getDeviceCount())]


def _cuda(index: int) -> Backend:
    from .cuda import open_device

    name = f"cuda:{index}"
    return _by_name[name] if name in _by_name else add_device(open_device(index))


if not TYPE_CHECKING:  # a type checker that saw it would accept every name
    __getattr__ = hints.getter("xcnn.backends", hints.BACKENDS, __all__)
