// Counter-based random numbers: Philox4x64-10 (Salmon et al. 2011), key (key, 0), counters 1, 2, ...
// Each thread computes the 256 bits of one counter: numbers depend only on the key and position.

struct Block {
  uint64 word[4];
};

__device__ __forceinline__ Block philox(Block x, uint64 key0, uint64 key1) {
  for (int round = 0; round < 10; ++round) {
    const uint64 multiplier0 = 0xD2E7470EE14C6C93ull, multiplier1 = 0xCA5A826395121157ull;
    const uint64 high0 = __umul64hi(multiplier0, x.word[0]), low0 = multiplier0 * x.word[0];
    const uint64 high1 = __umul64hi(multiplier1, x.word[2]), low1 = multiplier1 * x.word[2];
    x = {{high1 ^ x.word[1] ^ key0, low1, high0 ^ x.word[3] ^ key1, low0}};
    key0 += 0x9E3779B97F4A7C15ull;
    key1 += 0xBB67AE8584CAA73Bull;
  }
  return x;
}

// The eight 32-bit numbers of a block, the low half of each word first.
__device__ __forceinline__ uint32 half_word(const Block& block, int i) {
  return (uint32)(block.word[i / 2] >> (i % 2 * 32));
}

extern "C" __global__ void __launch_bounds__(256, 4)
random_bits(uint32* __restrict__ out, uint64 key, index_t count) {
  FOR_EACH(i, (count + 7) / 8) {
    const Block block = philox({{(uint64)i + 1, 0, 0, 0}}, key, 0);
#pragma unroll
    for (int j = 0; j < 8; ++j)
      if (i * 8 + j < count) out[i * 8 + j] = half_word(block, j);
  }
}

// `scale` where the random number is at least `threshold`, else 0.
extern "C" __global__ void __launch_bounds__(256, 4)
dropout_mask(scalar_t* __restrict__ mask, uint64 key, uint32 threshold, double scale,
             index_t count) {
  FOR_EACH(i, (count + 7) / 8) {
    const Block block = philox({{(uint64)i + 1, 0, 0, 0}}, key, 0);
#pragma unroll
    for (int j = 0; j < 8; ++j)
      if (i * 8 + j < count)
        mask[i * 8 + j] = narrow(half_word(block, j) >= threshold ? (acc_t)scale : acc_t(0));
  }
}
