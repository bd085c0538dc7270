"""The one name for arrays in annotations."""

from typing import Any

#: a numpy.ndarray, or a cupy.ndarray or what else a backend computes with
Array = Any
