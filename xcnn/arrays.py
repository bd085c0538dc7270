"""The alias for arrays in annotations, and the type in which arrays are summed."""

from __future__ import annotations

from typing import Any

Array = Any
"""A numpy.ndarray, or the array of another backend, such as a cupy.ndarray.

Static types stop here: NumPy and CuPy share their methods, but no common type.
"""


def sum_dtype(dtype: Any) -> Any:
    """The type in which many numbers of ``dtype`` are summed: at least float32."""
    return dtype if dtype.itemsize >= 4 else "float32"
