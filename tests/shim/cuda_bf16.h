// The part of CUDA's cuda_bf16.h that kernels use. No implicit conversions and no arithmetic: half
// types only store.
#pragma once
#include <string.h>

struct alignas(2) __nv_bfloat16 {
  unsigned short bits;
};

static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return {bits}; }
static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x) { return x.bits; }

// A bfloat16 is the upper half of a float.
static inline float __bfloat162float(__nv_bfloat16 x) {
  const unsigned bits = (unsigned)x.bits << 16;
  float result;
  memcpy(&result, &bits, 4);
  return result;
}

// To nearest, ties to even; every NaN becomes 0x7fff, as on the device.
static inline __nv_bfloat16 __float2bfloat16(float x) {
  if (x != x) return {0x7fff};
  unsigned bits;
  memcpy(&bits, &x, 4);
  return {(unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x) { return __float2bfloat16(x); }
