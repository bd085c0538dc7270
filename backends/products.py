"""Matrix products by cuBLAS where CuPy's ``matmul`` would copy or convert its operands.

CuPy copies operands and results that are slices of larger matrices, and transposed ones in a stack;
it broadcasts stacks by tables of addresses, and computes stacks of float16 in float32 and of
float32 without TF32. cuBLAS needs none of this: it takes any distance between rows and between
matrices, 0 included.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..arrays import Array

_FACTORS = {name: np.array([0, 1], name) for name in ("float32", "float64")}


class _Matrices(NamedTuple):
    """How cuBLAS finds a stack of matrices: distances in elements."""

    transposed: int
    row: int
    matrix: int
    number: int


def multiply(cupy: Any, a: Array, b: Array, out: Array | None, add: bool = False) -> Array | None:
    """The product of (..., n, k) and (..., k, m), written or added to ``out``.

    None, and nothing is computed, if cuBLAS cannot take the arrays as they are. ``out`` may be
    float32 where the operands are float16.
    """
    if min(a.ndim, b.ndim) < 2 or a.dtype != b.dtype or a.dtype.kind != "f":
        return None
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    shape = *stack, a.shape[-2], b.shape[-1]
    result = cupy.empty(shape, a.dtype) if out is None else out
    dtypes = a.dtype.name, result.dtype.name
    if 0 in (*shape, a.shape[-1]) or (dtypes[0] != dtypes[1] and dtypes != ("float16", "float32")):
        return None
    arrays = [cupy.broadcast_to(x, (*stack, *x.shape[-2:])) for x in (a, b)]
    left, right, target = map(_describe, (*arrays, result))
    if left is None or right is None or target is None or target.transposed:
        return None
    blas, kinds = cupy.cuda.cublas, [_kind(cupy, dtype) for dtype in dtypes]
    factors = _FACTORS["float64" if dtypes[0] == "float64" else "float32"]
    one, beta = factors[1:].ctypes.data, factors[int(add) :].ctypes.data
    # to cuBLAS, which stores columns, rows are columns: it computes the transposed product
    blas.gemmStridedBatchedEx(
        *(cupy.cuda.get_cublas_handle(), right.transposed, left.transposed),
        *(shape[-1], shape[-2], a.shape[-1], one),
        *(b.data.ptr, kinds[0], right.row, right.matrix),
        *(a.data.ptr, kinds[0], left.row, left.matrix, beta),
        *(result.data.ptr, kinds[1], target.row, target.matrix, target.number),
        *(_compute_type(cupy, dtypes[0]), blas.CUBLAS_GEMM_DEFAULT),
    )
    return result


def _describe(x: Array) -> _Matrices | None:
    """Where the matrices of x (..., rows, columns), which is not empty, are; None if nowhere."""
    *stack, rows, columns = x.shape
    *matrices, down, across = (stride // x.itemsize for stride in x.strides)
    count, distance = 1, 0
    for length, stride in zip(reversed(stack), reversed(matrices), strict=True):
        if length == 1:
            continue
        if count == 1:
            distance = stride
        elif stride != distance * count:
            return None
        count *= length
    if (across == 1 or columns == 1) and (down >= columns or rows == 1):
        return _Matrices(0, max(down, columns), distance, count)
    if (down == 1 or rows == 1) and (across >= rows or columns == 1):
        return _Matrices(1, max(across, rows), distance, count)
    return None


def _kind(cupy: Any, dtype: str) -> int:
    runtime = cupy.cuda.runtime
    kinds = {"float16": runtime.CUDA_R_16F, "float32": runtime.CUDA_R_32F}
    return kinds.get(dtype, runtime.CUDA_R_64F)


def _compute_type(cupy: Any, dtype: str) -> int:
    blas, core = cupy.cuda.cublas, cupy._core
    if dtype == "float64":
        return blas.CUBLAS_COMPUTE_64F
    tf32 = core.get_compute_type(np.float32) == core._routines_linalg.COMPUTE_TYPE_TF32
    is_tf32 = dtype == "float32" and tf32
    return blas.CUBLAS_COMPUTE_32F_FAST_TF32 if is_tf32 else blas.CUBLAS_COMPUTE_32F
