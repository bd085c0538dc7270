"""The part of `cupy.cuda` that is offered: devices, their memory and their streams."""

import sys
import types

from . import compiler, cublas, memory, names
from . import nccl as _nccl
from .cublas import get_cublas_handle
from .memory import MemoryPointer, MemoryPool, PinnedMemoryPool, alloc_pinned_memory
from .stream import (
    Event,
    Stream,
    get_current_stream,
    get_elapsed_time,
)
from .stream import current_device as _current_device
from .stream import set_device as _set_current
from .stream import synchronize_all as _synchronize_all
from .watch import record_sync


class CUDARuntimeError(RuntimeError):
    """What CuPy raises when CUDA refuses."""


#: how many devices there are; tests of several set it
_devices = 1


class Device:
    """A CUDA device."""

    def __init__(self, device=None):
        self.id = _current_device() if device is None else int(device)
        self._before = []

    def use(self):
        """Make it the current device."""
        runtime.setDevice(self.id)

    def synchronize(self):
        """Wait for all its work."""
        self.use()
        _synchronize_all()
        record_sync("Device.synchronize")

    @property
    def mem_info(self):
        """Free and total memory in bytes."""
        return runtime.memGetInfo()

    @property
    def compute_capability(self):
        """The architecture, ``"90"`` for sm_90."""
        return "90"

    def __enter__(self):
        self._before.append(_current_device())
        self.use()
        return self

    def __exit__(self, *error):
        runtime.setDevice(self._before.pop())

    def __int__(self):
        return self.id

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self):
        return hash(self.id)

    def __repr__(self):
        return f"<CUDA Device {self.id}>"


def _set_device(device):
    _check_device(device)
    _set_current(device)


def _check_device(device):
    if not 0 <= device < _devices:
        raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")


def _synchronize():
    _synchronize_all()
    record_sync("deviceSynchronize")


def _properties(device):
    _check_device(device)
    return {
        "name": b"stand-in without a GPU",
        "uuid": b"stand-in" + bytes([device]),
        "totalGlobalMem": memory.DEVICE_BYTES,
        "multiProcessorCount": 1,
        "major": 9,
        "minor": 0,
        "warpSize": 32,
        "maxThreadsPerBlock": 1024,
        "maxThreadsPerMultiProcessor": 2048,
        "sharedMemPerBlock": 48 << 10,
    }


runtime = types.SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    getDeviceCount=lambda: _devices,
    getDevice=_current_device,
    deviceGetPCIBusId=lambda device: f"0000:{device:02X}:00.0",
    setDevice=_set_device,
    getDeviceProperties=_properties,
    deviceSynchronize=_synchronize,
    memGetInfo=lambda: (memory.DEVICE_BYTES, memory.DEVICE_BYTES),
    runtimeGetVersion=lambda: 13000,
    driverGetVersion=lambda: 13000,
    CUDA_R_16F=cublas.CUDA_R_16F,
    CUDA_R_32F=cublas.CUDA_R_32F,
    CUDA_R_64F=cublas.CUDA_R_64F,
)


sys.modules[f"{__name__}.nccl"] = _nccl  # as in CuPy, to be imported


__all__ = [
    "Device",
    "Event",
    "MemoryPointer",
    "MemoryPool",
    "PinnedMemoryPool",
    "Stream",
    "alloc_pinned_memory",
    "compiler",
    "cublas",
    "get_cublas_handle",
    "get_current_stream",
    "get_device_id",
    "get_elapsed_time",
    "is_available",
    "memory",
    "runtime",
]


def is_available():
    """Whether a device answers: always."""
    return True


def get_device_id():
    """Return the current device's number."""
    return _current_device()


def __getattr__(name):
    if name.startswith("__"):  # Python asks modules for such names
        raise AttributeError(name)
    listed = names.load()["modules"]["cuda"]
    if any(name in names_of_kind for names_of_kind in listed.values()):
        raise AttributeError(f"cupy.cuda.{name} exists, but the stand-in does not offer it")
    raise AttributeError(f"cupy.cuda.{name} does not exist in CuPy {names.load()['cupy']}")
