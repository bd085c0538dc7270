"""The array type alias, and the accumulation dtype of sums."""

from __future__ import annotations

from typing import Any

Array = Any
"""A numpy.ndarray, or another backend's array, such as a cupy.ndarray.

An alias of Any: NumPy and CuPy arrays share their methods, but no static base type.
"""


def sum_dtype(dtype: Any) -> Any:
    """The accumulation dtype for sums of ``dtype`` elements: at least float32."""
    return dtype if dtype.itemsize >= 4 else "float32"
