"""CUDA C kernels on the CPU: compiled by g++ through ``cuda_shim.h``, launched on NumPy arrays.

A kernel's threads run one after another, under UBSan, which ends the process at an overflow, a
misaligned access or the like. `thread_order` turns their order round: a kernel whose result changes
lacks a barrier or races. With ``XCNN_SHIM_ASAN=1`` and libasan preloaded, as in ::

    XCNN_SHIM_ASAN=1 ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD=$(g++ -print-file-name=libasan.so)

an access outside an array ends the process, too.

Examples
--------
>>> import numpy as np
>>> from tests.shim import CpuModule
>>> source = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }'
>>> x = np.ones(3, np.float32)
>>> CpuModule(source).get_function("twice")((1,), (3,), (x,))
>>> x
array([2., 2., 2.], dtype=float32)
"""

from .launch import CpuKernel, CpuModule, thread_order
from .toolchain import CompileError, available

__all__ = ["CompileError", "CpuKernel", "CpuModule", "available", "thread_order"]
