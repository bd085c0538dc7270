// The part of CUDA's cuda_fp16.h that kernels use. No implicit conversions and no arithmetic: half
// types only store.
#pragma once
#include <string.h>

struct alignas(2) __half {
  unsigned short bits;
};
typedef __half half;

static inline __half __ushort_as_half(unsigned short bits) { return {bits}; }
static inline unsigned short __half_as_ushort(__half x) { return x.bits; }

static inline float __half2float(__half x) {
  _Float16 value;
  memcpy(&value, &x, 2);
  return (float)value;
}

// To nearest, ties to even; every NaN becomes 0x7fff, as on the device.
static inline __half __double2half(double x) {
  if (x != x) return {0x7fff};
  const _Float16 value = (_Float16)x;
  __half result;
  memcpy(&result, &value, 2);
  return result;
}
static inline __half __float2half(float x) { return __double2half(x); }
static inline __half __float2half_rn(float x) { return __double2half(x); }
