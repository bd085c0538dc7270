"""`cupy._core`: how matrix products may compute."""

import types

import numpy as np

_routines_linalg = types.SimpleNamespace(
    COMPUTE_TYPE_TBD=0,
    COMPUTE_TYPE_DEFAULT=1,
    COMPUTE_TYPE_PEDANTIC=2,
    COMPUTE_TYPE_FP16=3,
    COMPUTE_TYPE_FP32=4,
    COMPUTE_TYPE_FP64=5,
    COMPUTE_TYPE_BF16=6,
    COMPUTE_TYPE_TF32=7,
)

_compute_types = {}  # nothing here reads it: a test may


def set_compute_type(dtype, compute_type):
    """Choose how products of matrices of ``dtype`` compute."""
    if compute_type not in vars(_routines_linalg).values():
        raise ValueError(f"Unknown compute type: {compute_type}")
    _compute_types[_matrix_dtype(dtype)] = compute_type


def get_compute_type(dtype):
    """Return what was chosen for ``dtype``."""
    default = _routines_linalg.COMPUTE_TYPE_DEFAULT
    return _compute_types.get(_matrix_dtype(dtype), default)


def _matrix_dtype(dtype):
    dtype = np.dtype(dtype)
    if dtype.char not in "efdFD":
        raise TypeError(f"dtype is not supported: {dtype}")
    return dtype
