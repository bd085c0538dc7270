// Bias and ReLU in one pass, and their backward pass with the sums for the bias gradient.
//
// Arrays are (rows, size), one row per filter; sizes and offsets count packs.

// y[:, start : start + count] += bias[:, None], then max(y, 0) if `relu`, in place.
extern "C" __global__ void __launch_bounds__(256, 4)
add_bias(scalar_t* __restrict__ y, const scalar_t* __restrict__ bias, int relu, int rows,
         index_t size, index_t start, index_t count) {
  FOR_EACH_ROW(row, rows) {
    const acc_t shift = widen(bias[row]);
    pack_t* values = (pack_t*)y + row * size + start;
    FOR_EACH(i, count) {
      pack_t value = values[i];
      for (int l = 0; l < LANES; ++l) {
        const acc_t sum = widen(value.lane[l]) + shift;
        value.lane[l] = narrow(relu && sum < acc_t(0) ? acc_t(0) : sum);  // NaN stays NaN
      }
      values[i] = value;
    }
  }
}

// dz = dy where y > 0, else 0; partial (rows, gridDim.x) sums of dz, one per block.
extern "C" __global__ void __launch_bounds__(256, 4)
bias_relu_backward(const scalar_t* __restrict__ dy, const scalar_t* __restrict__ y,
                   scalar_t* __restrict__ dz, acc_t* __restrict__ partial, int rows,
                   index_t size) {
  __shared__ acc_t shared[256];
  FOR_EACH_ROW(row, rows) {
    acc_t sum = 0;
    FOR_EACH(i, size) {
      pack_t value = ((const pack_t*)dy)[row * size + i];
      const pack_t output = ((const pack_t*)y)[row * size + i];
      for (int l = 0; l < LANES; ++l) {
        if (!(widen(output.lane[l]) > acc_t(0))) value.lane[l] = narrow(acc_t(0));
        sum += widen(value.lane[l]);
      }
      ((pack_t*)dz)[row * size + i] = value;
    }
    sum = block_sum(shared, sum);
    if (threadIdx.x == 0) partial[(index_t)row * gridDim.x + blockIdx.x] = sum;
  }
}
