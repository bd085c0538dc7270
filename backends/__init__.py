"""Devices: one :class:`Backend` object each, found from an array's type or from a name.

>>> backends.get("cpu")          # by name: "cpu", "cuda", "cuda:1" or "auto"
>>> backends.of(array)           # by the type of an array

A library that is not imported yet cannot have made the array, so nothing is imported to find out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ..errors import DeviceError, DTypeError
from .base import PRECISIONS, Backend
from .cpu import CpuBackend

__all__ = [
    "PRECISIONS",
    "Backend",
    "CpuBackend",
    "add_device",
    "available",
    "cuda_devices",
    "diagnosis",  # imported on first use
    "get",
    "of",
    "register",
]

_cpu = CpuBackend()
_by_name: dict[str, Backend] = {"cpu": _cpu}
_by_type: dict[type, Callable[[Any], Backend]] = {_cpu.xp.ndarray: lambda array: _cpu}


def register(array_type: type, backend_of: Callable[[Any], Backend]) -> None:
    """Make arrays of ``array_type`` belong to the backend that ``backend_of(array)`` returns.

    :func:`add_device` makes its name known to :func:`get` and ``Module.to``.
    """
    _by_type[array_type] = backend_of


def add_device(backend: Backend) -> Backend:
    """Make ``backend`` known under its ``device`` name."""
    _by_name[backend.device] = backend
    return backend


def find(array: Any) -> Backend | None:
    """The backend whose arrays are of this type, or None if it is not an array at all."""
    backend_of = _by_type.get(type(array))
    if backend_of is None:
        backend_of = _discover(type(array))
        if backend_of is None:
            return None
        _by_type[type(array)] = backend_of
    return backend_of(array)


def of(array: Any) -> Backend:
    """The backend that ``array`` lives on.

    Raises
    ------
    DTypeError
        Not an array of a known library.
    """
    backend = find(array)
    if backend is None:
        raise DTypeError(
            f"expected a NumPy or CuPy array, got {type(array).__name__}; convert it with "
            "numpy.asarray(...) first"
        )
    return backend


def get(device: str | Backend) -> Backend:
    """The backend called ``"cpu"``, ``"cuda"`` (device 0), ``"cuda:N"`` or ``"auto"``.

    ``"auto"`` is the first CUDA device that answers, else the CPU.

    Raises
    ------
    DeviceError
        No such device here; the text says what is missing and how to get it.
    """
    if isinstance(device, Backend):
        return device
    if device == "auto":
        from .diagnosis import problem

        return get("cpu" if problem() else "cuda:0")
    name = "cuda:0" if device == "cuda" else device
    if name not in _by_name:
        kind, _, index = str(name).partition(":")
        if kind != "cuda" or not index.isdecimal():
            raise DeviceError(f'device={device!r}: expected "cpu", "cuda", "cuda:N" or "auto"')
        _cuda(int(index))
    return _by_name[name]


def available() -> dict[str, str]:
    """Each kind of device with ``"ok"`` or the reason why it cannot be used."""
    from .diagnosis import problem

    return {"cpu": "ok", "cuda": problem() or "ok"}


def cuda_devices() -> list[str]:
    """Names of the CUDA devices that answer, "cuda:0" and so on."""
    from .diagnosis import problem

    if problem():
        return []
    import cupy

    return [f"cuda:{index}" for index in range(cupy.cuda.runtime.getDeviceCount())]


def _cuda(index: int) -> Backend:
    from .cuda import open_device

    name = f"cuda:{index}"
    return _by_name[name] if name in _by_name else add_device(open_device(index))


def _discover(array_type: type) -> Callable[[Any], Backend] | None:
    """Look ``array_type`` up among libraries already imported (subclasses included)."""
    for known, backend_of in list(_by_type.items()):
        if issubclass(array_type, known):
            return backend_of
    cupy = sys.modules.get("cupy")
    if cupy is not None and issubclass(array_type, cupy.ndarray):
        return lambda array: _cuda(array.device.id)
    return None
