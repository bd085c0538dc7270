"""The shim runs CUDA C kernels on the CPU, and catches what a GPU would do wrong in silence."""

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

from tests import shim
from tests.shim import toolchain
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

extern "C" __global__ void warp_sums(const float* x, float* y) {
  float sum = x[threadIdx.x];
  for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(~0u, sum, mask);
  if (threadIdx.x % 32 == 0) atomicAdd(y, sum);
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


# Running kernels


@pytest.mark.parametrize("order", [0, 1])
def test_block_reduction(order):
    x = np.random.default_rng(0).integers(-8, 8, 10007).astype(FLOAT)
    y = np.zeros(4, FLOAT)
    run(SUMS, "sums", x, y, np.int32(x.size), threads=256, blocks=4, order=order)
    padded = np.zeros(10 * 1024, FLOAT)
    padded[: x.size] = x
    np.testing.assert_array_equal(y, padded.reshape(10, 4, 256).sum(axis=(0, 2)))


@pytest.mark.parametrize("order", [0, 1])
def test_warp_shuffles(order):
    x, y = np.arange(96, dtype=FLOAT), np.zeros(1, FLOAT)
    run(SUMS, "warp_sums", x, y, threads=96, order=order)
    assert y[0] == x.sum()


@pytest.mark.parametrize("order", [0, 1])
def test_grids_and_blocks_of_three_axes(order):
    source = r"""
    extern "C" __global__ void where(int* out, int* count) {
      int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
      int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
      __syncthreads();
      out[block * 24 + thread] = (*count)++;
    }
    """
    out, count = np.full(6 * 24, -1, np.int32), np.zeros(1, np.int32)
    kernel(source, "where", order=order)((3, 2, 1), (4, 3, 2), (out, count))
    expected = np.arange(6 * 24)
    np.testing.assert_array_equal(out, expected[::-1] if order else expected)


def test_threads_that_return_early_do_not_hold_up_a_barrier():
    source = r"""
    extern "C" __global__ void shift(int* x, int size) {
      if (threadIdx.x >= size) return;
      int next = x[(threadIdx.x + 1) % size];
      __syncthreads();
      x[threadIdx.x] = next;
    }
    """
    x = np.arange(40, dtype=np.int32)
    run(source, "shift", x, np.int32(40), threads=64)
    np.testing.assert_array_equal(x, np.roll(np.arange(40), -1))


def test_kernels_written_by_macros_are_found():
    source = r"""
    #define UNARY(name, f) \
      extern "C" __global__ void __launch_bounds__(32 * (1 + 1)) \
      name(SCALAR* x) { x[threadIdx.x] = f(x[threadIdx.x]); }
    UNARY(root, sqrt)
    UNARY(size, fabs)
    """
    module = shim.CpuModule(source, ("-std=c++17", "-DSCALAR=double", "--use_fast_math"))
    x = np.array([4.0, 9.0])
    module.get_function("root")((1,), (2,), (x,))
    assert x.tolist() == [2, 3]
    with pytest.raises(ValueError, match="more than 64 threads"):
        module.get_function("size")((1,), (65,), (x,))
    with pytest.raises(LookupError, match="void cube"):
        module.get_function("cube")


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


def test_scalars_by_value():
    source = r"""
    #include <cuda_fp16.h>
    extern "C" __global__ void keep(double* out, bool b, signed char i, unsigned long long u,
                                    double d, __half h, long long n) {
      out[0] = b; out[1] = i; out[2] = u; out[3] = d; out[4] = __half2float(h); out[5] = n;
    }
    """
    out = np.zeros(6)
    run(source, "keep", out, True, np.int8(-3), np.uint64(7), 0.5, np.float16(1.5), 9, threads=1)
    assert out.tolist() == [1, -3, 7, 0.5, 1.5, 9]


def test_arrays_of_addresses():
    source = r"""
    extern "C" __global__ void fill(const unsigned long long* addresses, float value) {
      ((float*)addresses[blockIdx.x])[threadIdx.x] = value;
    }
    """
    parts = [np.zeros(3, FLOAT), np.zeros(3, FLOAT)]
    addresses = np.array([part.ctypes.data for part in parts], np.uint64)
    run(source, "fill", addresses, FLOAT(2), threads=3, blocks=2)
    assert [part.tolist() for part in parts] == [[2, 2, 2], [2, 2, 2]]


def test_launches_from_several_threads():
    launch = kernel(SUMS, "sums")
    arrays = [np.full(4096, i, FLOAT) for i in range(4)]
    sums = [np.zeros(2, FLOAT) for _ in arrays]

    def work(x, y):
        for _ in range(5):
            launch((2,), (256,), (x, y, np.int32(x.size)))

    workers = [threading.Thread(target=work, args=pair) for pair in zip(arrays, sums, strict=True)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [y.sum() for y in sums] == [4096 * i for i in range(4)]


def test_libraries_are_built_once(monkeypatch):
    path = toolchain.build(SCALE)
    monkeypatch.setattr(toolchain, "_gcc", lambda *args: pytest.fail("built again"))
    assert toolchain.build(SCALE) == path
    assert path.parent.stat().st_mode & 0o077 == 0


def test_a_compile_error_shows_the_compilers_output():
    with pytest.raises(shim.CompileError, match=r"kernel\.cu:2:.*no_such_name"):
        shim.CpuModule('extern "C" __global__ void f(int* x) {\n*x = no_such_name; }')


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


def test_an_empty_array_is_a_pointer():
    source = 'extern "C" __global__ void f(const float* x, int* y) { *y = 1; }'
    y = np.zeros(1, np.int32)
    run(source, "f", np.zeros((0, 3), FLOAT), y)
    assert y[0] == 1


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

CONVERSIONS = r"""
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#define EACH int i = blockIdx.x * blockDim.x + threadIdx.x; if (i < n)
extern "C" __global__ void widen_half(const __half* x, float* y, int n) {
  EACH y[i] = __half2float(x[i]);
}
extern "C" __global__ void narrow_half(const float* x, __half* y, int n) {
  EACH y[i] = __float2half(x[i]);
}
extern "C" __global__ void widen_bfloat16(const __nv_bfloat16* x, float* y, int n) {
  EACH y[i] = __bfloat162float(x[i]);
}
extern "C" __global__ void narrow_bfloat16(const float* x, __nv_bfloat16* y, int n) {
  EACH y[i] = __float2bfloat16(x[i]);
}
"""
ALL_BITS = np.arange(1 << 16, dtype=np.uint16)


def convert(name, x, dtype):
    y = np.zeros(x.shape, dtype)
    blocks = (x.size + 255) // 256
    run(CONVERSIONS, name, x, y, np.int32(x.size), threads=256, blocks=blocks)
    return y


def floats():
    """Floats of every sign and exponent, ties between neighbours in 16 bits among them."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 1 << 32, 1 << 17, dtype=np.uint32)
    halves = ALL_BITS.view(np.float16).astype(FLOAT)
    midpoints = (halves[:-1] + halves[1:]) / 2  # exact in a float
    upper = ALL_BITS.astype(np.uint32) << 16
    ties = np.concatenate([upper | 0x8000, upper | 0x7FFF, upper | 0x8001])
    return np.concatenate([bits.view(FLOAT), ties.view(FLOAT), halves, midpoints])


def round_to_bfloat16(x):
    """The bits of the nearest bfloat16, the even one of two, by arithmetic on exact doubles."""
    bits = x.view(np.uint32)
    lower = (bits >> 16).astype(np.uint16)  # towards zero
    upper = lower + np.uint16(1)

    def value(b):
        wide = (b.astype(np.uint32) << 16).view(FLOAT).astype(np.float64)
        # Infinity stands where the next number would, for overflow by rounding
        return np.where(np.isinf(wide), np.copysign(2.0**128, wide), wide)

    exact = x.astype(np.float64)
    down, up = np.abs(exact - value(lower)), np.abs(value(upper) - exact)
    nearest = np.where(down < up, lower, upper)
    nearest = np.where(down == up, np.where(lower % 2 == 0, lower, upper), nearest)
    return np.where(np.isinf(x), lower, np.where(np.isnan(x), np.uint16(0x7FFF), nearest))


def test_every_half_widens():
    with np.errstate(invalid="ignore"):
        expected = ALL_BITS.view(np.float16).astype(FLOAT)
    np.testing.assert_array_equal(
        convert("widen_half", ALL_BITS.view(np.float16), FLOAT), expected, strict=True
    )


def test_floats_narrow_to_half():
    with np.errstate(all="ignore"):
        x = floats()
        expected = x.astype(np.float16).view(np.uint16)
    expected[np.isnan(x)] = 0x7FFF
    np.testing.assert_array_equal(convert("narrow_half", x, np.float16).view(np.uint16), expected)


def test_every_bfloat16_widens():
    y = convert("widen_bfloat16", ALL_BITS, FLOAT).view(np.uint32)
    np.testing.assert_array_equal(y, ALL_BITS.astype(np.uint32) << 16)


def test_floats_narrow_to_bfloat16():
    with np.errstate(all="ignore"):
        x = floats()
        expected = round_to_bfloat16(x)
    np.testing.assert_array_equal(convert("narrow_bfloat16", x, np.uint16), expected)


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


def test_raw_kernel():
    twice = cp.RawKernel(SCALE, "scale", options=("-std=c++17",))
    x = device(1, 2)
    twice((1,), (2,), (x, FLOAT(2), np.int32(2)))
    assert x.tolist() == [2, 4]
    assert (twice.name, twice.code, twice.options) == ("scale", SCALE, ("-std=c++17",))


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


def test_addresses_of_device_arrays():
    x = cp.zeros((3, 4), "float32")
    assert x[1:].data.ptr == x.data.ptr + 16
    assert x.T.data.ptr == x.data.ptr
    source = """
    extern "C" __global__ void fill(const unsigned long long* addresses) {
      *(float*)addresses[threadIdx.x] = 1 + threadIdx.x;
    }
    """
    addresses = cp.asarray(np.array([x[1].data.ptr, x[2, 3].data.ptr], np.uint64))
    cp.RawKernel(source, "fill")((1,), (2,), (addresses,))
    assert (x[1, 0].item(), x[2, 3].item(), x.sum().item()) == (1, 2, 3)
