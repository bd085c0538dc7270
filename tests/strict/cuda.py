"""The part of `cupy.cuda` that asks about the device and waits for it: one device, number 0."""

import types

from . import names
from .watch import record_sync

_MEMORY = 16 << 30  # bytes that the device claims to have


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


class Stream:
    """A stream whose work is always done."""

    null = None
    ptr = 0

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        pass

    def use(self):
        """Make it the current stream."""
        return self

    def synchronize(self):
        """Wait for its work."""
        record_sync("Stream.synchronize")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass


Stream.null = Stream(null=True)


class MemoryPool:
    """A pool that holds nothing."""

    def __init__(self):
        self._limit = 0

    def used_bytes(self):
        """Bytes: always 0."""
        return 0

    free_bytes = total_bytes = n_free_blocks = used_bytes

    def free_all_blocks(self, stream=None):
        """Give unused memory back."""

    def set_limit(self, size=None, fraction=None):
        """Set the most bytes it may take, or a fraction of the device's memory."""
        self._limit = int(fraction * _MEMORY) if size is None else size

    def get_limit(self):
        """Return the limit in bytes; 0 for none."""
        return self._limit


def _set_device(device):
    if device != 0:
        raise CUDARuntimeError("cudaErrorInvalidDevice: invalid device ordinal")


def _properties(device):
    _set_device(device)
    return {
        "name": b"stand-in without a GPU",
        "totalGlobalMem": _MEMORY,
        "multiProcessorCount": 1,
        "major": 9,
        "minor": 0,
        "warpSize": 32,
    }


runtime = types.SimpleNamespace(
    CUDARuntimeError=CUDARuntimeError,
    getDeviceCount=lambda: 1,
    getDevice=lambda: 0,
    setDevice=_set_device,
    getDeviceProperties=_properties,
    deviceSynchronize=lambda: record_sync("deviceSynchronize"),
    memGetInfo=lambda: (_MEMORY, _MEMORY),
    runtimeGetVersion=lambda: 13000,
    driverGetVersion=lambda: 13000,
)


def is_available():
    """Whether a device answers: always."""
    return True


def get_device_id():
    """Return the current device's number."""
    return 0


def get_current_stream(device_id=-1):
    """Return the null stream."""
    return Stream.null


def __getattr__(name):
    if name.startswith("__"):  # Python asks modules for such names
        raise AttributeError(name)
    listed = names.load()["modules"]["cuda"]
    if any(name in names_of_kind for names_of_kind in listed.values()):
        raise AttributeError(f"cupy.cuda.{name} exists, but the stand-in does not offer it")
    raise AttributeError(f"cupy.cuda.{name} does not exist in CuPy {names.load()['cupy']}")
