"""Streams and events of `cupy.cuda`: work is done as soon as it is asked for, but for NCCL's.

The order that a GPU would guarantee between streams is tracked by vector clocks: a stream's time is
the number of events recorded on it, and an event holds the times that are past when it is reached.
"""

import collections
import itertools
import threading
import time
import weakref

from .watch import record_sync

_handles = itertools.count(16, 16)  # 0, 1 and 2 are CUDA's default streams
_times = collections.Counter()  # by handle of a stream
_waited_for = collections.defaultdict(collections.Counter)  # the times a stream has waited for
_lock = threading.Lock()
_streams = weakref.WeakValueDictionary()  # by handle
_HOST = "host"  # its entry holds the times that the host has waited for


class _ThreadState(threading.local):
    """Each thread's device and stream, and the streams that its ``with`` blocks return to."""

    def __init__(self):
        self.device = 0
        self.current = Stream.null
        self.stack = [Stream.null]


class Stream:
    """A stream whose work is always done, but for calls of NCCL."""

    null = None

    def __init__(self, null=False, non_blocking=False, ptds=False, priority=None):
        self.ptr = 0 if null else 2 if ptds else next(_handles)
        self.device_id = -1 if null or ptds else _thread.device
        self.is_non_blocking = non_blocking
        self._pending = []  # calls of NCCL
        with _lock:
            _streams[self.ptr] = self
            _times[self.ptr] += 0

    def use(self):
        """Make it the current stream of this thread."""
        _thread.current = self
        return self

    @property
    def done(self):
        """Whether all its work is done: always."""
        return True

    def synchronize(self):
        """Wait for its work."""
        finish(self._pending)
        _wait(_HOST, _past(self))
        record_sync("Stream.synchronize")

    def record(self, event=None):
        """Record an event, or a new one, and return it."""
        event = Event() if event is None else event
        event.record(self)
        return event

    def wait_event(self, event):
        """Let later work wait for an event."""
        if not isinstance(event, Event):
            raise TypeError(f"{type(event).__name__} is not an event")
        finish(event._pending)
        _wait(self.ptr, event._past)

    def __enter__(self):
        _thread.stack.append(self)
        return self.use()

    def __exit__(self, *error):
        _thread.stack.pop()
        _thread.current = _thread.stack[-1]

    def __eq__(self, other):
        return isinstance(other, Stream) and self.ptr == other.ptr

    def __hash__(self):
        return self.ptr

    def __repr__(self):
        return f"<Stream {self.ptr} (device {self.device_id})>"


Stream.null = Stream(null=True)
Stream.ptds = Stream(ptds=True)
_thread = _ThreadState()


def get_current_stream(device_id=-1):
    """Return this thread's current stream."""
    return _thread.current


class Event:
    """A point in a stream's work; but for calls of NCCL, it is reached when it is recorded."""

    def __init__(self, block=False, disable_timing=False, interprocess=False):
        if interprocess and not disable_timing:
            raise ValueError("Timing must be disabled for interprocess events")
        self.ptr = next(_handles)
        self._timed, self._device = not disable_timing, _thread.device
        self._pending = []
        self._time = None
        self._past = collections.Counter()

    @property
    def done(self):
        """Whether the work before it is done, as all but NCCL's always is; then the host knows."""
        is_done = all(call.is_ready for call in self._pending)
        if is_done:
            _wait(_HOST, self._past)
        return is_done

    def record(self, stream=None):
        """Record it on a stream; by default on this thread's current one."""
        if not isinstance(stream, (Stream, type(None))):
            raise TypeError(f"{type(stream).__name__} is not a stream")
        stream = _thread.current if stream is None else stream
        if self._device not in (stream.device_id, _thread.device if stream.device_id < 0 else -1):
            raise AssertionError(f"an event of device {self._device} is recorded on {stream}")
        self._time = time.perf_counter()
        self._past, self._pending = _past(stream), list(stream._pending)

    def synchronize(self):
        """Wait for the work before it."""
        finish(self._pending)
        _wait(_HOST, self._past)
        record_sync("Event.synchronize")


def _wait(waiting, past):
    """Note that a stream or the host has waited; other threads may be reading the old times."""
    with _lock:
        _waited_for[waiting] = _waited_for[waiting] | past


def _past(stream):
    """Advance a stream's time, and return all times that are past for what follows."""
    with _lock:
        _times[stream.ptr] += 1
    return _waited_for[stream.ptr] | collections.Counter({stream.ptr: _times[stream.ptr]})


def by_handle(ptr):
    """The stream with a handle, or None."""
    return _streams.get(ptr)


def current_device():
    """The device of this thread."""
    return _thread.device


def set_device(device):
    """Make a device that of this thread."""
    _thread.device = device


def finish(calls):
    """Wait for calls of NCCL."""
    for call in calls:
        call.finish()


def synchronize_all():
    """Let the host wait for all streams of its device."""
    with _lock:
        mine = [s for s in _streams.values() if s.device_id in (-1, _thread.device)]
    for stream in mine:
        finish(stream._pending)
    with _lock:
        for ptr in _times:
            _times[ptr] += 1
        past = _times.copy()
    _wait(_HOST, past)


class LastUse:
    """The stream that last used a block of memory, and when; arrays that share memory share it.

    A new block counts as used by the stream that allocates it: CuPy's pool reuses a freed block
    while queued kernels of that stream may still read it.
    """

    __slots__ = ("device", "stream", "time")

    def __init__(self):
        self.device = _thread.device
        self.stream = _thread.current
        self.time = _times[self.stream.ptr]

    def update(self, stream=None):
        """Use the memory on a stream, by default on this thread's current one.

        Raises
        ------
        AssertionError
            Nothing orders it after the last use, on another stream; or another device is current.
        """
        if self.device != _thread.device:
            raise AssertionError(
                f"memory of device {self.device} is used while {_thread.device} is current"
            )
        stream = _thread.current if stream is None else stream
        if stream.ptr != self.stream.ptr and not self._is_before(stream):
            raise AssertionError(
                f"data race: {stream} uses memory of {self.stream} and does not wait for it"
            )
        self.stream, self.time = stream, _times[stream.ptr]

    def _is_before(self, stream):
        pair = self.stream, stream
        if Stream.null in pair and not any(s.is_non_blocking for s in pair):
            return True  # the null stream and blocking streams wait for each other
        past = _waited_for[stream.ptr] | _waited_for[_HOST]
        return past[self.stream.ptr] > self.time


def get_elapsed_time(start_event, end_event):
    """Return the milliseconds between two recorded events with timing."""
    from .cuda import CUDARuntimeError

    if not (start_event._timed and end_event._timed) or None in (
        start_event._time,
        end_event._time,
    ):
        raise CUDARuntimeError("cudaErrorInvalidResourceHandle: invalid resource handle")
    return 1000 * (end_event._time - start_event._time)
