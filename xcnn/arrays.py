"""The array type alias, dtypes and their range, and plain numbers."""

from __future__ import annotations

from typing import Any

Array = Any
"""A numpy.ndarray, or another backend's array, such as a cupy.ndarray.

An alias of Any: NumPy and CuPy arrays share their methods, but no static base type.
"""


def sum_dtype(dtype: Any) -> Any:
    """The accumulation dtype for sums of ``dtype`` elements: at least float32."""
    return dtype if dtype.itemsize >= 4 else "float32"


def in_range(xp: Any, value: float, dtype: Any) -> float:
    """The positive number closest to ``value`` that ``dtype`` holds: neither 0 nor infinite."""
    limits = xp.finfo(dtype)
    return min(max(value, float(limits.tiny)), float(limits.max))


def finite(xp: Any, value: float, dtype: Any) -> float:
    """The number closest to ``value`` that ``dtype`` holds: not infinite, and 0 times it is 0."""
    largest = float(xp.finfo(dtype).max)
    return min(max(value, -largest), largest)


def plain(value: Any) -> Any:
    """A setting with Python's numbers for NumPy's, so that JSON keeps it; a list is copied.

    An array or a Tensor of one number is a number too; one of several stays, for a check to refuse.
    """
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    shape = getattr(value, "shape", None)
    return value.item() if isinstance(shape, tuple) and set(shape) <= {1} else value
