"""Launches of compiled kernels: CUDA's checks and the ones that CUDA does not make."""

import contextlib
import ctypes
import re
import threading

import numpy as np

from . import toolchain

_GRID_LIMITS = (2**31 - 1, 65535, 65535)
_BLOCK_LIMITS = (1024, 1024, 64)
_SHARED_LIMIT = 48 << 10  # bytes of dynamic shared memory without opting in to more

_lock = threading.Lock()  # the shim keeps the state of a launch in globals
_default_order = 0


@contextlib.contextmanager
def thread_order(order):
    """Run the launches in the block with threads and blocks forward (0) or in reverse (1)."""
    global _default_order
    previous, _default_order = _default_order, order
    try:
        yield
    finally:
        _default_order = previous


class CpuModule:
    """CUDA C source, compiled for the CPU.

    Parameters
    ----------
    code : str
        The source; entry points read ``extern "C" __global__ void name(...)``.
    options : tuple of str
        Compiler options; ``-D``, ``-U`` and ``-std`` count, others are ignored.
    order : {None, 0, 1}
        Threads and blocks forward (0) or in reverse (1); None: as `thread_order` says.
    """

    def __init__(self, code, options=(), order=None):
        self._library = ctypes.CDLL(str(toolchain.build(code, options)))
        self._order = order

    def get_function(self, name):
        """Return the entry point of that name."""
        if not hasattr(self._library, f"launch_{name}"):
            raise LookupError(f'the source has no extern "C" __global__ void {name}')
        return CpuKernel(self._library, name, self._order)


class CpuKernel:
    """An entry point: ``kernel(grid, block, args)`` runs it on NumPy arrays."""

    def __init__(self, library, name, order=None):
        self.name = name
        self._order = order
        describe = library[f"signature_{name}"]
        describe.restype = ctypes.c_char_p
        self._parameters = describe().decode().split()
        self._max_threads = library[f"bound_{name}"]()
        self._launch = library[f"launch_{name}"]
        self._launch.restype = ctypes.c_char_p
        pointers = ctypes.POINTER(ctypes.c_uint), ctypes.POINTER(ctypes.c_void_p)
        self._launch.argtypes = [pointers[0], ctypes.c_int, ctypes.c_size_t, pointers[1]]

    def __call__(self, grid, block, args, shared_mem=0):
        """Run the kernel; ``args`` are C-contiguous arrays and scalars of the exact type."""
        sizes = (ctypes.c_uint * 6)(*_launch_sizes(self.name, grid, block, self._max_threads))
        if not 0 <= shared_mem <= _SHARED_LIMIT:
            raise ValueError(f"{self.name}: {shared_mem} bytes of dynamic shared memory")
        if len(args) != len(self._parameters):
            raise TypeError(f"{self.name}: {len(args)} arguments for {len(self._parameters)}")
        values = [
            _argument(f"{self.name}: argument {i}", value, parameter)
            for i, (value, parameter) in enumerate(zip(args, self._parameters, strict=True))
        ]
        addresses = (ctypes.c_void_p * max(1, len(values)))(*(v.ctypes.data for v in values))
        order = _default_order if self._order is None else self._order
        with _lock:
            failure = self._launch(sizes, order, shared_mem, addresses).decode()
        if failure:
            raise RuntimeError(f"{self.name}: {failure}")


def _launch_sizes(name, grid, block, max_threads):
    """Return three sizes of the grid and three of the block, checked against CUDA's limits."""
    sizes = []
    for what, given, limits in (("grid", grid, _GRID_LIMITS), ("block", block, _BLOCK_LIMITS)):
        if not 1 <= len(given) <= 3:
            raise ValueError(f"{name}: {what} {given} has not 1 to 3 sizes")
        full = (*given, 1, 1)[:3]
        if not all(1 <= size <= limit for size, limit in zip(full, limits, strict=True)):
            raise ValueError(f"{name}: {what} {given} is outside 1 to {limits}")
        sizes += full
    if sizes[3] * sizes[4] * sizes[5] > max_threads:
        raise ValueError(f"{name}: block {block} has more than {max_threads} threads")
    return sizes


def _argument(place, value, parameter):
    """Return a NumPy array whose memory holds the argument as the kernel reads it."""
    if parameter.startswith("*"):
        _check_array(place, value, parameter[1:])
        return np.array(value.ctypes.data, np.uintp)
    if isinstance(value, np.ndarray) or not isinstance(value, (bool, int, float, np.generic)):
        raise TypeError(f"{place} is {type(value).__name__}, the kernel takes {_say(parameter)}")
    if type(value) is int:
        value = np.int64(value)  # as CuPy passes it
    scalar = np.asarray(value)
    if not _same_scalar(scalar.dtype, parameter):
        raise TypeError(f"{place} is {scalar.dtype}, the kernel takes {_say(parameter)}")
    return scalar


def _same_scalar(dtype, parameter):
    kind, size = parameter[0], int(re.match(r"\d+", parameter[1:])[0])
    kinds = {"w": "uV"}.get(kind, kind)  # NumPy has no bfloat16: its bits, or another library's
    return dtype.kind in kinds and dtype.itemsize == size


def _check_array(place, value, pointee):
    """Refuse what a kernel cannot read through a pointer to ``pointee``."""
    if not isinstance(value, np.ndarray):
        wanted = _say("*" + pointee)
        raise TypeError(f"{place} is {type(value).__name__}, the kernel takes {wanted}")
    if not value.flags.c_contiguous:
        raise ValueError(f"{place} is not C-contiguous, and kernels do not see strides")
    if not _readable_as(value, pointee):
        raise TypeError(
            f"{place} is an array of {value.dtype}, the kernel takes {_say('*' + pointee)}"
        )


def _readable_as(array, pointee):
    if not pointee:  # void
        return True
    if pointee[0] in "*V":  # addresses; or a struct, which may hold several elements
        size, alignment = (8, 8) if pointee[0] == "*" else map(int, pointee[1:].split("/"))
        return array.nbytes % size == 0 and array.ctypes.data % alignment == 0
    kinds = {"f": "f", "w": "uV"}.get(pointee[0], "iub")  # signs do not matter in memory
    return array.dtype.kind in kinds and array.dtype.itemsize == int(pointee[1:])


def _say(parameter):
    """Return a description such as ``f4`` as words: ``float32``."""
    if parameter.startswith("*"):
        return f"a pointer to {_say(parameter[1:]) if parameter[1:] else 'void'}"
    if parameter[0] == "V":
        return "a struct of {} bytes aligned to {}".format(*parameter[1:].split("/"))
    return "bfloat16" if parameter[0] == "w" else str(np.dtype(parameter))
