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

template <class T>
struct alignas(16) Pack {
  static const int size = 16 / sizeof(T);
  T lane[size];
};

// Store eight values, 16 bytes at once, or what is left of `count` one by one; out is aligned.
template <class T>
__device__ __forceinline__ void store(T* out, const T (&values)[8], index_t first, index_t count) {
  if (first + 8 <= count) {
#pragma unroll
    for (int p = 0; p < 8 / Pack<T>::size; ++p) {
      Pack<T> pack;
#pragma unroll
      for (int l = 0; l < Pack<T>::size; ++l) pack.lane[l] = values[p * Pack<T>::size + l];
      ((Pack<T>*)(out + first))[p] = pack;
    }
  } else {
#pragma unroll
    for (int j = 0; j < 8; ++j)
      if (first + j < count) out[first + j] = values[j];
  }
}

extern "C" __global__ void __launch_bounds__(256, 4)
random_bits(uint32* __restrict__ out, uint64 key, index_t count) {
  FOR_EACH(i, (count + 7) / 8) {
    const Block block = philox({{(uint64)i + 1, 0, 0, 0}}, key, 0);
    uint32 values[8];
#pragma unroll
    for (int j = 0; j < 8; ++j) values[j] = half_word(block, j);
    store(out, values, i * 8, count);
  }
}

// Columns `start` to `start + width` of a matrix of numbers with rows of `total`: (rows, width).
// Each thread has a block of eight numbers, of which a row's first and last may use a part.
extern "C" __global__ void __launch_bounds__(256, 4)
random_columns(uint32* __restrict__ out, uint64 key, index_t rows, uint64 start, uint64 width,
               uint64 total) {
  const uint64 blocks = (width + 14) / 8;  // that a row can touch
  FOR_EACH(i, rows * (index_t)blocks) {
    const uint64 row = i / blocks, begin = row * total + start;
    const uint64 number = begin / 8 + i % blocks;
    const Block block = philox({{number + 1, 0, 0, 0}}, key, 0);
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const uint64 column = number * 8 + j - begin;  // before the row's first: a huge number
      if (column < width) out[row * width + column] = half_word(block, j);
    }
  }
}

// `scale` where the random number is at least `threshold`, else 0.
extern "C" __global__ void __launch_bounds__(256, 4)
dropout_mask(scalar_t* __restrict__ mask, uint64 key, uint32 threshold, double scale,
             index_t count) {
  FOR_EACH(i, (count + 7) / 8) {
    const Block block = philox({{(uint64)i + 1, 0, 0, 0}}, key, 0);
    scalar_t values[8];
#pragma unroll
    for (int j = 0; j < 8; ++j)
      values[j] = narrow(half_word(block, j) >= threshold ? (acc_t)scale : acc_t(0));
    store(mask, values, i * 8, count);
  }
}
