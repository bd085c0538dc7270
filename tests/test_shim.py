"""The shim runs CUDA C kernels on the CPU, and catches what a GPU would do wrong in silence."""

import os
import subprocess
import sys
import textwrap

import numpy as np
import pytest

from tests import shim
from tests.strict import count_launches, count_syncs
from tests.strict import cupy as cp

pytestmark = pytest.mark.skipif(shim.available() is not True, reason=str(shim.available()))

FLOAT = np.float32

SUMS = r"""
template <int THREADS>
__device__ __forceinline__ float block_sum(float value) {
  __shared__ float shared[THREADS];
  shared[threadIdx.x] = value;
  __syncthreads();
  for (int half = THREADS / 2; half > 0; half /= 2) {
    if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
    __syncthreads();
  }
  return shared[0];
}

extern "C" __global__ void __launch_bounds__(256)
sums(const float* __restrict__ x, float* __restrict__ y, int size) {
  float sum = 0;
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < size; i += gridDim.x * blockDim.x)
    sum += x[i];
  sum = block_sum<256>(sum);
  if (threadIdx.x == 0) y[blockIdx.x] = sum;
}
"""

SCALE = 'extern "C" __global__ void scale(float* x, float by, int size) { x[threadIdx.x] *= by; }'


def kernel(source, name, options=(), order=None):
    return shim.CpuModule(source, options, order).get_function(name)


def run(source, name, *args, threads=32, blocks=1, **settings):
    kernel(source, name, **settings)((blocks,), (threads,), args)


def subprocess_run(script, **environment):
    """What a Python script that is to die writes to standard error."""
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=root,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0, done.stdout
    return done.stderr


def test_min_and_max_are_cudas():
    source = r"""
    extern "C" __global__ void bounds(float* x, long long* n) {
      x[0] = max(x[0], 1.f);
      x[1] = min(x[1], 1.f);
      n[0] = min((int)n[0], n[1]);
      if (isnan(x[2]) && isfinite(x[0])) x[2] = -INFINITY;
    }
    """
    x, n = np.full(3, np.nan, FLOAT), np.array([5, -7])
    run(source, "bounds", x, n, threads=1)
    assert x.tolist() == [1, 1, -np.inf]
    assert n[0] == -7


# Refused launches


@pytest.mark.parametrize(
    ("args", "error", "message"),
    [
        ((), TypeError, "scale: 0 arguments for 3"),
        (("x", 2.0, "n"), TypeError, "scale: argument 1 is float64, the kernel takes float32"),
        (("x", "by", 3), TypeError, "scale: argument 2 is int64, the kernel takes int32"),
        (("x", "by", np.uint32(3)), TypeError, "argument 2 is uint32, the kernel takes int32"),
        (("x", "by", True), TypeError, "argument 2 is bool, the kernel takes int32"),
        (("x", "by", None), TypeError, "argument 2 is NoneType, the kernel takes int32"),
        (("x", "x", "n"), TypeError, "argument 1 is ndarray, the kernel takes float32"),
        ((7, "by", "n"), TypeError, "argument 0 is int, the kernel takes a pointer to float32"),
        ((np.zeros(4), "by", "n"), TypeError, "array of float64, the kernel takes a pointer to f"),
        ((np.zeros(4, "int32"), "by", "n"), TypeError, "argument 0 is an array of int32"),
        ((np.zeros(8, FLOAT)[::2], "by", "n"), ValueError, "argument 0 is not C-contiguous"),
        ((np.zeros((2, 2), FLOAT).T, "by", "n"), ValueError, "argument 0 is not C-contiguous"),
    ],
)
def test_a_wrong_argument_is_named(args, error, message):
    good = {"x": np.zeros((2, 2), FLOAT), "by": FLOAT(2), "n": np.int32(4)}
    args = [good[a] if isinstance(a, str) else a for a in args]
    with pytest.raises(error, match=message):
        run(SCALE, "scale", *args, threads=4)


@pytest.mark.parametrize(
    ("grid", "block"),
    [
        ((0,), (32,)),
        ((1,), (0,)),
        ((2**31,), (1,)),
        ((1, 65536), (1,)),
        ((1, 1, 65536), (1,)),
        ((1,), (1025,)),
        ((1,), (32, 33)),
        ((1,), (1, 1, 65)),
        ((), (1,)),
        ((1, 1, 1, 1), (1,)),
    ],
)
def test_a_launch_beyond_cudas_limits_is_refused(grid, block):
    x = np.zeros(1, FLOAT)
    with pytest.raises(ValueError, match=r"scale: (grid|block)"):
        kernel(SCALE, "scale")(grid, block, (x, FLOAT(1), np.int32(1)))


def test_structs_need_aligned_whole_elements():
    source = r"""
    struct alignas(4 * sizeof(float)) pack { float lane[4]; };
    extern "C" __global__ void copy(const pack* x, pack* y) { y[threadIdx.x] = x[threadIdx.x]; }
    """
    x, y = np.arange(8, dtype=FLOAT), np.zeros(8, FLOAT)
    run(source, "copy", x, y, threads=2)
    np.testing.assert_array_equal(y, x)
    for wrong in (x[1:5], x[:6]):
        with pytest.raises(TypeError, match="a struct of 16 bytes aligned to 16"):
            run(source, "copy", wrong, y, threads=1)


# Wrong kernels


@pytest.mark.parametrize(
    "body",
    [
        "if (threadIdx.x < 3) __syncthreads(); else __syncwarp();",
        "if (threadIdx.x < 3) {\n__syncthreads(); } else {\n__syncthreads(); }",
    ],
)
def test_a_divergent_barrier(body):
    launch = kernel(f'extern "C" __global__ void f(int* x) {{ {body} *x = 1; }}', "f")
    for _ in range(2):  # a failed launch leaves nothing behind
        with pytest.raises(RuntimeError, match="f: divergent barrier"):
            launch((1,), (40,), (np.zeros(1, np.int32),))


def test_a_missing_barrier_shows_in_the_order_of_threads():
    store = "shared[threadIdx.x] = value;\n  __syncthreads();"
    assert store in SUMS
    broken = SUMS.replace(store, "shared[threadIdx.x] = value;")
    x = np.random.default_rng(0).standard_normal(1000).astype(FLOAT)
    results = []
    for order in (0, 1):
        y = np.zeros(1, FLOAT)
        with shim.thread_order(order):
            run(broken, "sums", x, y, np.int32(x.size), threads=256)
        results.append(y[0])
    assert not np.array_equal(*results, equal_nan=True)


def test_shared_memory_is_not_zero_and_does_not_outlive_its_block():
    source = r"""
    template <class T> __device__ T* memory() { __shared__ T shared[8]; return shared; }
    extern "C" __global__ void old(float* x, int* n) {
      __shared__ int counts[8];
      x[blockIdx.x] = memory<float>()[3];
      n[blockIdx.x] = counts[3];
      memory<float>()[3] = counts[3] = 1;
    }
    """
    x, n = np.zeros(3, FLOAT), np.zeros(3, np.int32)
    run(source, "old", x, n, threads=1, blocks=3)
    assert np.isnan(x).all()
    assert n.tolist() == [-1, -1, -1]


DIES = """
import numpy as np
from tests.shim import CpuModule
code = 'extern "C" __global__ void f(int* x, int n) {{ {body} }}'
x = np.zeros(64, np.int32)
CpuModule(code).get_function("f")((1,), (1,), (x[1:], np.int32(2**30)))
"""


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("x[0] = n * 4;", "signed integer overflow"),
        ("x[0] = 1 << (n / 1000);", "shift exponent"),
        ("x[0] = 1 / (n - n);", "division by zero"),
        ("*(long long*)x = 1;", "misaligned address"),
        ("int a[4] = {{}}; x[0] = a[n / (1 << 27)];", "out of bounds"),
        ("__syncthreads(); x[0] = n + n;", "signed integer overflow"),
    ],
)
def test_undefined_behaviour_ends_the_process(body, message):
    stderr = subprocess_run(DIES.format(body=body))
    assert message in stderr
    assert "kernel.cu:1" in stderr


@pytest.mark.exhaustive
@pytest.mark.parametrize("body", ["x[63] = 1;", "__syncthreads(); x[0] = x[-2];"])
def test_an_access_outside_an_array_ends_the_process_under_asan(body):
    found = subprocess.run(["g++", "-print-file-name=libasan.so"], capture_output=True, text=True)
    stderr = subprocess_run(
        DIES.format(body=body),
        XCNN_SHIM_ASAN="1",
        ASAN_OPTIONS="detect_leaks=0",
        LD_PRELOAD=found.stdout.strip(),
    )
    assert "heap-buffer-overflow" in stderr


# 16-bit types

# Behind CuPy's names


def device(*values, dtype="float32"):
    return cp.asarray(np.array(values, dtype=dtype))


def test_raw_module_launches_and_counts():
    module = cp.RawModule(code=SCALE, options=("-std=c++17",))
    scale = module.get_function("scale")
    x = device(1, 2, 3, 4)
    with count_launches() as outer, count_syncs() as syncs:
        scale((1,), (4,), (x, FLOAT(2), np.int32(4)))
        with count_launches() as inner, cp.cuda.Stream() as stream:
            scale((1,), (2,), (x[2:], FLOAT(3), np.int32(2)), shared_mem=0, stream=stream)
    assert x.tolist() == [2, 4, 18, 24]
    assert (outer, inner, syncs) == (["scale", "scale"], ["scale"], [])


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda: cp.RawModule(), TypeError),
        (lambda: cp.RawModule(code=SCALE, path="x.cubin"), TypeError),
        (lambda: cp.RawModule(code=SCALE, options=["-std=c++17"]), TypeError),
        (lambda: cp.RawModule(code=SCALE, name_expressions=("f<int>",)), NotImplementedError),
        (lambda: cp.RawModule(code="int f(").get_function("f"), cp.cuda.compiler.CompileException),
    ],
)
def test_a_module_that_cannot_be(use, error):
    with pytest.raises(error):
        use()


@pytest.mark.parametrize(
    ("grid", "block", "args", "message"),
    [
        ([1], (2,), ("x", FLOAT(2), np.int32(2)), "Expected tuple, got list"),
        ((1,), (2,), (np.zeros(2, FLOAT), FLOAT(2), np.int32(2)), "argument 0 has unsupported"),
        ((1,), (2,), ("x", 2.0, np.int32(2)), "argument 1 is float64"),
        ((1,), (2,), ("x", FLOAT(2), None), "argument 2 has unsupported"),
    ],
)
def test_a_launch_that_a_gpu_would_get_wrong(grid, block, args, message):
    x = device(1, 2)
    scale = cp.RawModule(code=SCALE).get_function("scale")
    with pytest.raises(TypeError, match=message):
        scale(grid, block, [x if isinstance(a, str) else a for a in args])
