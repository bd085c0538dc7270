"""CUDA GPUs through CuPy.

CuPy is imported when a device is first asked for, never by ``import xcnn``. The primitives are
the generic ones of :class:`Backend`; a kernel replaces one by overriding its method here.
"""

from __future__ import annotations

import importlib.util
from contextlib import AbstractContextManager
from typing import Any

from ..errors import DeviceError
from .base import Array, Backend

INSTALL = "pip install cupy-cuda13x   (for a driver of CUDA 13; cupy-cuda12x for CUDA 12)"


class CudaBackend(Backend):
    """One CUDA device.

    Parameters
    ----------
    cupy
        The CuPy module.
    index
        Number of the device, from 0.
    """

    column_budget = 256 * 1024**2

    def __init__(self, cupy: Any, index: int = 0) -> None:
        super().__init__(cupy, f"cuda:{index}")
        self._device = cupy.cuda.Device(index)

    def active(self) -> AbstractContextManager:
        return self._device

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        with self.active():
            return self.xp.asarray(array, dtype)

    def to_host(self, array: Array) -> Any:
        return self.xp.asnumpy(array)

    def synchronize(self) -> None:
        self._device.synchronize()

    def memory(self) -> dict[str, int]:
        _, total = self._device.mem_info
        return {"used": self.xp.get_default_memory_pool().used_bytes(), "total": total}

    def check_class_indices(self, indices: Array, classes: int) -> None:
        """Nothing: reading a value would make the host wait. The Trainer checks labels on the
        host, and cross_entropy gives NaN for a class that does not exist.
        """


def problem() -> str:
    """Why no CUDA device can be used here and what to do about it; empty if one can."""
    if importlib.util.find_spec("cupy") is None:
        return f"CuPy is not installed; install it with: {INSTALL}"
    try:
        import cupy
    except ImportError as error:
        return f"CuPy is installed but cannot be imported ({error}); reinstall it with: {INSTALL}"
    if not cupy.is_available():
        try:
            cupy.cuda.runtime.getDeviceCount()
        except Exception as error:  # CuPy raises CUDARuntimeError, or its loader's own errors
            return (
                f"CuPy {cupy.__version__} is installed, but the CUDA driver does not answer "
                f"({error}); install NVIDIA's driver (Debian, Ubuntu: sudo apt install "
                "nvidia-driver) and check it with: nvidia-smi"
            )
        return "CuPy is installed, but no CUDA device is visible; check with: nvidia-smi"
    return ""


def open_device(index: int) -> CudaBackend:
    """The backend of CUDA device ``index``.

    Raises
    ------
    DeviceError
        CuPy, the driver or the device is missing.
    """
    missing = problem()
    if missing:
        raise DeviceError(f"device cuda:{index} is not available: {missing}")
    import cupy

    count = cupy.cuda.runtime.getDeviceCount()
    if index >= count:
        raise DeviceError(f"device cuda:{index} does not exist: this machine has {count} (from 0)")
    return CudaBackend(cupy, index)
