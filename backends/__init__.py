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
    copy,
    find,
    of,
    of_each,
    register,
)
from .cpu import CpuBackend
from .native import NativeBackend
from .native import load as _load
from .norm import Running, Statistics

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
    "Statistics",
    "add_device",
    "as_bits",
    "available",
    "by_type",
    "copy",
    "cuda_devices",
    "diagnosis",  # imported on first use
    "find",
    "get",
    "kernels_of_cpu",
    "nccl",  # imported on first use
    "of",
    "of_each",
    "register",
    "set_cuda",
]

_library, kernels_of_cpu = _load()  # the second in words
_cpu = NativeBackend(_library) if _library else CpuBackend()
_by_name: dict[str, Backend] = {"cpu": _cpu}
_default = "cuda:0"  # the device called "cuda"
register(_cpu.xp.ndarray, _cpu)
by_library["cupy"] = lambda array: _cuda(array.device.id)


def add_device(backend: Backend) -> Backend:
    """Register ``backend`` under its ``device`` name."""
    _by_name[backend.device] = backend
    return backend


def get(device: str | Backend) -> Backend:
    """The backend called ``"cpu"``, ``"cuda"``, ``"cuda:N"`` or ``"auto"``.

    ``"cuda"`` is device 0 unless :func:`set_cuda` was called; ``"auto"`` is that device if it can
    be used, else the CPU.

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
    name = _default if name == "cuda" else name
    if name not in _by_name:
        kind, _, index = name.partition(":")
        if kind != "cuda" or not index.isdecimal():
            raise DeviceError(f'device={device!r}: expected "cpu", "cuda", "cuda:N" or "auto"')
        _cuda(int(index))
    return _by_name[name]


def set_cuda(device: str) -> None:
    """Make a CUDA device, such as "cuda:1", the one called ``"cuda"`` in this process.

    It also becomes CUDA's current device of this thread, so that nothing is put on another one.

    Raises
    ------
    DeviceError
        There is no such device.
    """
    global _default
    backend = get(device)
    if not backend.device.startswith("cuda:"):
        raise DeviceError(f"device={device!r}: expected a CUDA device, such as 'cuda:1'")
    backend.use()
    _default = backend.device


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
