"""The module that stands in for ``cupy``."""

import sys
import types

import numpy as np

from . import _core, cuda, names
from .array import finish, ndarray, ufunc, unwrap
from .dlpack import from_dlpack
from .namespace import Namespace, RandomNamespace
from .raw import RawKernel, RawModule

# The rest of what it offers, `dir` lists.
__all__ = ["RawKernel", "RawModule", "_core", "cuda", "from_dlpack", "ndarray", "ufunc"]
__version__ = names.load()["cupy"]

linalg = Namespace("linalg", np.linalg)
fft = Namespace("fft", np.fft)
random = RandomNamespace()
lib = types.SimpleNamespace(
    stride_tricks=Namespace("lib.stride_tricks", np.lib.stride_tricks),
)
_top = Namespace("", np)
is_available = cuda.is_available


def __getattr__(name):
    if name.startswith("__"):  # Python asks modules for such names
        raise AttributeError(name)
    return getattr(_top, name)


def __dir__():
    return sorted({*globals(), *dir(_top)})


def array(obj, dtype=None, copy=True, order="K", subok=False, ndmin=0, *, blocking=False):
    """Create an array from a host object or from arrays on the device."""
    if isinstance(obj, ndarray):
        result = np.array(obj._a, dtype, copy=copy, order=order, ndmin=ndmin)
        return finish(result, "array", [obj], ordered=True)
    if copy is False:
        raise ValueError("Unable to avoid copy while creating an array as requested.")
    host = np.asarray(unwrap(obj, host=True), dtype)
    if order in (None, "K", "A"):  # an upload keeps no other layout than C or F
        order = "F" if host.flags.fnc else "C"
    return finish(np.array(host, order=order, ndmin=ndmin), "array", ordered=True)


def asarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    """Return ``a`` itself if it is on the device and fits, else a new array."""
    return array(a, dtype, copy, order or "K")


def asanyarray(a, dtype=None, order=None, *, copy=None, blocking=False):
    """Do as `asarray`."""
    return array(a, dtype, copy, order or "K")


def ascontiguousarray(a, dtype=None):
    """Return ``a`` itself if it is C-contiguous on the device, else a C-contiguous array."""
    return array(a, dtype, None, "C")


def asfortranarray(a, dtype=None):
    """Return ``a`` itself if it is F-contiguous on the device, else an F-contiguous array."""
    return array(a, dtype, None, "F")


def asnumpy(a, stream=None, order="C", out=None, *, blocking=True):
    """Return a NumPy array: a copy of a device array, a host object as NumPy sees it."""
    if isinstance(a, ndarray):
        return a.get(stream, order, out, blocking)
    host = np.asarray(a, order=order)
    if out is None:
        return host
    out[...] = host
    return out


def get_array_module(*args):
    """Return this module if any argument is on the device, else NumPy."""
    return sys.modules[__name__] if any(isinstance(a, ndarray) for a in args) else np


def get_default_memory_pool():
    """Return the device memory pool."""
    return cuda.memory.pool


def get_default_pinned_memory_pool():
    """Return the pinned host memory pool."""
    return cuda.memory.pinned_pool
