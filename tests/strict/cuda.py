"""The part of `cupy.cuda` that is offered: one device, number 0, its memory and its streams."""

import types

from . import compiler, cublas, memory, names
from .cublas import get_cublas_handle
from .memory import MemoryPointer, MemoryPool, PinnedMemoryPool, alloc_pinned_memory
from .stream import Event, Stream, get_current_stream, get_elapsed_time
from .stream import synchronize_all as _synchronize_all
from .watch import record_sync


class CUDARuntimeError(RuntimeError):
    """What CuPy raises when CUDA refuses."""


class Device:
    """A CUDA device; only number 0 can be used."""

    def __init__(self, device=None):
        self.id = 0 if device is None else int(device)

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
        self.use()
        return self

    def __exit__(self, *error):
        pass

    def __int__(self):
        return self.id

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self):
        return hash(self.id)

    def __repr__(self):
        return f"<CUDA Device {self.id}>"


def _set_device(device):
    if device != 0:
        raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")


def _synchronize():
    _synchronize_all()
    record_sync("deviceSynchronize")


def _properties(device):
    _set_device(device)
    return {
        "name": b"stand-in without a GPU",
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
    getDeviceCount=lambda: 1,
    getDevice=lambda: 0,
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
    return 0


def __getattr__(name):
    if name.startswith("__"):  # Python asks modules for such names
        raise AttributeError(name)
    listed = names.load()["modules"]["cuda"]
    if any(name in names_of_kind for names_of_kind in listed.values()):
        raise AttributeError(f"cupy.cuda.{name} exists, but the stand-in does not offer it")
    raise AttributeError(f"cupy.cuda.{name} does not exist in CuPy {names.load()['cupy']}")
