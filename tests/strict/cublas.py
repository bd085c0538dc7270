"""The part of `cupy.cuda.cublas` that is offered: one function, which computes at addresses."""

import ctypes

import numpy as np

from .watch import record_operation

CUBLAS_COMPUTE_32F, CUBLAS_COMPUTE_32F_FAST_TF32, CUBLAS_COMPUTE_64F = 68, 77, 70
CUBLAS_GEMM_DEFAULT = -1
CUDA_R_32F, CUDA_R_64F, CUDA_R_16F = 0, 1, 2
HANDLE = 0xB1A5

_KINDS = {CUDA_R_32F: "float32", CUDA_R_64F: "float64", CUDA_R_16F: "float16"}
_ALLOWED = {  # operands, result and arithmetic, from cuBLAS's table
    (CUDA_R_16F, CUDA_R_16F, CUBLAS_COMPUTE_32F),
    (CUDA_R_16F, CUDA_R_32F, CUBLAS_COMPUTE_32F),
    (CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F),
    (CUDA_R_32F, CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32),
    (CUDA_R_64F, CUDA_R_64F, CUBLAS_COMPUTE_64F),
}

#: (kind of operands, compute type, number of matrices) of every call
CALLS = []


class CUBLASError(RuntimeError):
    """What cuBLAS refuses."""


def get_cublas_handle():
    """Return the handle of the current device."""
    return HANDLE


def gemmStridedBatchedEx(
    handle, transa, transb, m, n, k, alpha, A, Atype, lda, strideA, B, Btype, ldb, strideB,
    beta, C, Ctype, ldc, strideC, batchCount, computeType, algo,
):  # fmt: skip
    """C = alpha * op(A) @ op(B) + beta * C, of matrices stored by columns."""
    rows = (k if transa else m), (n if transb else k), m
    fits = all(ld >= max(1, r) for ld, r in zip((lda, ldb, ldc), rows, strict=True))
    if handle != HANDLE or not fits or Atype != Btype or algo != CUBLAS_GEMM_DEFAULT:
        raise CUBLASError("CUBLAS_STATUS_INVALID_VALUE")
    if (Atype, Ctype, computeType) not in _ALLOWED:
        raise CUBLASError("CUBLAS_STATUS_NOT_SUPPORTED")
    CALLS.append((Atype, computeType, batchCount))
    record_operation("matmul")
    factor = np.float64 if Ctype == CUDA_R_64F else np.float32
    one, old = (_at(p, factor, (1,), (factor().itemsize,))[0] for p in (alpha, beta))
    for i in range(batchCount):
        a = _matrix(A, Atype, i * strideA, (k, m) if transa else (m, k), lda)
        b = _matrix(B, Btype, i * strideB, (n, k) if transb else (k, n), ldb)
        c = _matrix(C, Ctype, i * strideC, (m, n), ldc)
        a, b = (x.astype(factor) for x in (a.T if transa else a, b.T if transb else b))
        with np.errstate(all="ignore"):
            product = one * (a @ b)
            c[...] = product if old == 0 else product + old * c


def _matrix(address, kind, offset, shape, ld):
    dtype = np.dtype(_KINDS[kind])
    size = dtype.itemsize
    return _at(address + offset * size, dtype, shape, (size, ld * size))


def _at(address, dtype, shape, strides):
    """A NumPy array over memory."""
    dtype = np.dtype(dtype)
    extent = sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) + dtype.itemsize
    memory = (ctypes.c_char * extent).from_address(address)
    return np.ndarray(shape, dtype, memory, strides=strides)
