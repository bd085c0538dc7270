"""What the stand-in watches: operations of the device, host synchronisations, float64 arrays."""

import collections
import contextlib
import os
import sys

from .costs import cost
from .names import words

#: One line per host synchronisation since the process started.
SYNCS = []

#: The entry point's name per launch of a raw kernel since the process started.
LAUNCHES = []

_listeners = [SYNCS]
_launch_listeners = [LAUNCHES]
_operation_listeners = []
_float64_forbidden = 0


def record_sync(what):
    """Note that ``what`` made the host wait for the device, and which line asked for it."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals.get("__package__") == __package__:
        frame = frame.f_back
    place = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
    for lines in _listeners:
        lines.append(f"{what} at {place}")


def record_launch(name):
    """Note that the raw kernel ``name`` was launched."""
    for launches in _launch_listeners:
        launches.append(name)
    record_operation(name)


def record_operation(name, inputs=(), outs=()):
    """Note that the device was given ``name`` to do, on the stand-in's arrays."""
    if _operation_listeners:
        count = cost(name, *([x._a for x in arrays if x is not None] for arrays in (inputs, outs)))
        for operations in _operation_listeners:
            operations[name] += count


@contextlib.contextmanager
def _listen(listeners, received=None):
    """Yield an empty list, or what is given, that is among the ``listeners`` during the block."""
    received = [] if received is None else received
    listeners.append(received)
    try:
        yield received
    finally:
        # By identity: two nested lists may be equal.
        listeners[:] = [other for other in listeners if other is not received]


def count_syncs():
    """Yield an empty list that receives a line for every host synchronisation in the block.

    A line reads ``"item at optim.py:31"``: the operation and the caller's file and line.
    """
    return _listen(_listeners)


def count_launches():
    """Yield an empty list that receives the entry point's name per raw kernel's launch.

    Other operations of CuPy that launch kernels do not count.
    """
    return _listen(_launch_listeners)


def count_operations():
    """Yield an empty Counter that receives, by name, what the block queues on the device.

    Each takes the host about as long: an elementwise function, a reduction, a fill, a copy or cast,
    a product, a raw kernel, and a copy "to device" or "to host". Views count nothing; functions
    that queue several operations count as `costs.py` says.
    """
    return _listen(_operation_listeners, collections.Counter())


@contextlib.contextmanager
def forbid_float64():
    """Raise AssertionError where an operation in the block makes a float64 or complex128 array."""
    global _float64_forbidden
    _float64_forbidden += 1
    try:
        yield
    finally:
        _float64_forbidden -= 1


def check_float64(dtype, operation):
    """Raise AssertionError if ``dtype`` is forbidden just now; ``operation`` goes in the text."""
    if _float64_forbidden and dtype.char in "dD":
        raise AssertionError(f"{operation} made a {dtype} array where float64 is forbidden")


def syncs(name, arguments):
    """Whether CuPy's function ``name`` waits for the device when called with ``arguments``.

    Read from the sources of CuPy 14.2. ``arguments`` maps parameter names to values.
    """
    if name in _ALWAYS:
        return True
    condition = _SOMETIMES.get(name)
    return condition is not None and condition(arguments)


def _device_quantile(arguments):
    return hasattr(arguments.get("q"), "get")


_ALWAYS = words(
    """
    argwhere array2string array_repr array_str asarray_chkfinite bincount choose compress delete
    dump dumps extract flatnonzero histogram histogram2d histogramdd intersect1d linalg.cond
    mask_indices nanmax nanmin nonzero place real_if_close save savetxt savez savez_compressed
    setdiff1d setxor1d tobytes tofile tril_indices tril_indices_from trim_zeros triu_indices
    triu_indices_from union1d unique unique_all unique_counts unique_inverse unique_values
    unravel_index
    """
)

_SOMETIMES = {
    "array_equal": lambda arguments: bool(arguments.get("equal_nan")),
    "percentile": _device_quantile,
    "quantile": _device_quantile,
    "ravel_multi_index": lambda arguments: arguments.get("mode") == "raise",
    "repeat": lambda arguments: not isinstance(arguments["repeats"], int),
    "take": lambda arguments: isinstance(arguments["indices"], (list, tuple)),  # an upload
    "where": lambda arguments: arguments.get("x") is None,
}
