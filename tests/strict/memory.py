"""`cupy.cuda.memory` and the pinned host memory, as far as they are offered."""

import ctypes
import weakref

DEVICE_BYTES = 16 << 30  # what the device claims to have


class OutOfMemoryError(MemoryError):
    """What CuPy raises where device memory or the pool's limit does not do.

    Parameters
    ----------
    size, total : int
        Bytes asked for, and bytes allocated so far.
    limit : int
        The pool's limit in bytes, or 0.
    """

    def __init__(self, size, total, limit=0):
        self._size, self._total, self._limit = size, total, limit
        limited = f", limit set to: {limit:,} bytes" if limit else ""
        super().__init__(
            f"Out of memory allocating {size:,} bytes (allocated so far: {total:,} bytes{limited})."
        )

    def __reduce__(self):
        return type(self), (self._size, self._total, self._limit)


class MemoryPointer:
    """An address of device memory: ``array.data``."""

    def __init__(self, ptr, device=0):
        self.ptr = ptr
        self.device_id = device

    def __int__(self):
        return self.ptr


class MemoryPool:
    """A pool that holds nothing.

    Of its limit, only one thing is modelled: a single new array of more bytes than the limit is
    refused. What other arrays take does not count.
    """

    def __init__(self, allocator=None):
        self._limit = 0

    def used_bytes(self):
        """Bytes: always 0."""
        return 0

    free_bytes = total_bytes = n_free_blocks = used_bytes

    def free_all_blocks(self, stream=None):
        """Give unused memory back."""

    def set_limit(self, size=None, fraction=None):
        """Set the most bytes it may take, or a fraction of the device's memory."""
        if size is not None and fraction is not None:
            raise ValueError("size and fraction cannot be specified at the same time")
        if fraction is not None:
            if not 0 <= fraction <= 1:
                raise ValueError(f"memory limit fraction out of range: {fraction}")
            size = int(fraction * DEVICE_BYTES)
        size = size or 0
        if size < 0:
            raise ValueError(f"memory limit size out of range: {size}")
        self._limit = size

    def get_limit(self):
        """Return the limit in bytes; 0 for none."""
        return self._limit


class PinnedMemoryPool:
    """A pool of pinned host memory that holds nothing."""

    def n_free_blocks(self):
        """Blocks: always 0."""
        return 0

    def free_all_blocks(self):
        """Give unused memory back."""


def alloc_pinned_memory(size):
    """Return a buffer for `memoryview` and `numpy.frombuffer`, larger than asked for, as CuPy's."""
    granted = max(512, 1 << (size - 1).bit_length())
    # A class of one's own cannot be a buffer before Python 3.12, a subclass of a ctypes array can.
    pointer = type("PinnedMemoryPointer", (ctypes.c_ubyte * granted,), {})()
    ctypes.memset(pointer, 0xFF, granted)  # old values, as far as a test can tell
    pointer.ptr = ctypes.addressof(pointer)
    pointer.size = lambda: granted
    return pointer


_asked_for = weakref.WeakValueDictionary()  # arrays, by address


def pointer(array):
    """The address of an array, for code that passes it to a library."""
    address = array._a.ctypes.data
    _asked_for[address] = array
    return MemoryPointer(address, array._last_use.device)


def at(address):
    """The array whose address was asked for, or None if there is none any more."""
    return _asked_for.get(address)


pool = MemoryPool()
pinned_pool = PinnedMemoryPool()


def allocate(nbytes):
    """Refuse a new array that alone is over the pool's limit."""
    if pool._limit and nbytes > pool._limit:
        raise OutOfMemoryError(nbytes, pool.total_bytes(), pool._limit)
