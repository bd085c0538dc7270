// Prepended to every kernel file; the options of a Variant (__init__.py) set the macros.
//
//   SCALAR  type of the arrays: float, double, __half (FLOAT16) or __nv_bfloat16 (BFLOAT16)
//   INDEX   type of element indices: int, or int64 where a count may reach 2^31
//   LANES   adjacent elements that one thread loads or stores at once, up to 16 bytes
//
// Images are batch-last, (channels, height, width, batch), so that adjacent threads work on
// adjacent images and their memory accesses coalesce. No kernel uses warp intrinsics or atomics:
// the order of every sum is fixed and independent of the warp size.

typedef long long int64;
typedef unsigned long long uint64;
typedef unsigned int uint32;
typedef unsigned char uint8;
typedef INDEX index_t;

#ifndef INFINITY  // NVRTC has no <math.h>
#define INFINITY __int_as_float(0x7f800000)
#define NAN __int_as_float(0x7fffffff)
#endif

// Sums and comparisons use acc_t: half types are for storage only.
#if defined(FLOAT16)
#include <cuda_fp16.h>
typedef SCALAR scalar_t;
typedef float acc_t;
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ __half narrow(float x) { return __float2half(x); }
#elif defined(BFLOAT16)
#include <cuda_bf16.h>
typedef SCALAR scalar_t;
typedef float acc_t;
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ __forceinline__ __nv_bfloat16 narrow(float x) { return __float2bfloat16(x); }
#else
typedef SCALAR scalar_t;
typedef SCALAR acc_t;
__device__ __forceinline__ acc_t widen(scalar_t x) { return x; }
__device__ __forceinline__ scalar_t narrow(acc_t x) { return x; }
#endif

// LANES adjacent elements, loaded and stored in one access.
struct alignas(LANES * sizeof(scalar_t)) pack_t {
  scalar_t lane[LANES];
};

__device__ __forceinline__ void clear(acc_t (&sums)[LANES]) {
  for (int i = 0; i < LANES; ++i) sums[i] = acc_t(0);
}
__device__ __forceinline__ void add(acc_t (&sums)[LANES], const pack_t& values) {
  for (int i = 0; i < LANES; ++i) sums[i] += widen(values.lane[i]);
}
__device__ __forceinline__ void add_product(acc_t (&sums)[LANES], acc_t factor,
                                            const pack_t& values) {
  for (int i = 0; i < LANES; ++i) sums[i] += factor * widen(values.lane[i]);
}
__device__ __forceinline__ pack_t packed(const acc_t (&sums)[LANES]) {
  pack_t result;
  for (int i = 0; i < LANES; ++i) result.lane[i] = narrow(sums[i]);
  return result;
}

// The sum over a block of 256 threads, which all of them get, in a fixed order.
template <class T>
__device__ __forceinline__ T block_sum(T* shared, T value) {
  __syncthreads();
  shared[threadIdx.x] = value;
  for (int half = 128; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
  }
  __syncthreads();
  return shared[0];
}

// The windows of a convolution or pooling; window o reads pixel o * stride + k * dilation - pad at
// kernel element k. Sizes in pixels.
#define GEOMETRY                                                                           \
  int height, int width, int out_height, int out_width, int kernel_height, int kernel_width, \
      int stride_y, int stride_x, int pad_top, int pad_bottom, int pad_left, int pad_right,  \
      int dilation_y, int dilation_x

// A grid-stride loop over `count` elements.
#define FOR_EACH(i, count)                                                      \
  for (index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x; i < (count); \
       i += (index_t)gridDim.x * blockDim.x)

#define FOR_EACH_ROW(row, rows) for (int row = blockIdx.y; row < (rows); row += gridDim.y)

// The index of the window that reads the pixel `at`, counted from the start of the first window, at
// the offset `shift` from the window's start; -1 if none of the `windows` does.
__device__ __forceinline__ int window_of(int at, int shift, int stride, int windows) {
  const int start = at - shift;
  if (start < 0) return -1;
  const int window = start / stride;
  return window * stride == start && window < windows ? window : -1;
}
