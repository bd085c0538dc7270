// Depthwise convolution: filter f reads channel f / multiplier only.
//
// x, dx : (channels, height, width, batch);  y, dy : (filters, out_height, out_width, batch);
// weight : (filters, kernel_height, kernel_width). `batch` counts packs. Each sum is that of one
// thread, or of one block.

// y = sum over the window of weight * x, + bias if `with_bias`, then max(y, 0) if `relu`.
extern "C" __global__ void __launch_bounds__(256, 4)
depthwise(scalar_t* __restrict__ y, const scalar_t* __restrict__ x,
          const scalar_t* __restrict__ weight, const scalar_t* __restrict__ bias, int with_bias,
          int relu, int multiplier, int filters, int batch, GEOMETRY) {
  const index_t size = (index_t)out_height * out_width * batch;
  FOR_EACH_ROW(filter, filters) FOR_EACH(i, size) {
    const scalar_t* taps = weight + (index_t)filter * kernel_height * kernel_width;
    const index_t window = i / batch;
    const int n = (int)(i - window * batch), row = (int)(window / out_width);
    const int first_y = row * stride_y - pad_top;
    const int first_x = (int)(window - (index_t)row * out_width) * stride_x - pad_left;
    acc_t sums[LANES];
    clear(sums);
    for (int a = 0; a < kernel_height; ++a) {
      const int line = first_y + a * dilation_y;
      const index_t start = ((index_t)(filter / multiplier) * height + line) * width;
      for (int b = 0; b < kernel_width; ++b) {
        const int column = first_x + b * dilation_x;
        const acc_t tap = widen(taps[a * kernel_width + b]);
        pack_t value = {};  // padding, which makes NaN of a weight that is not finite
        if (line >= 0 && line < height && column >= 0 && column < width)
          value = ((const pack_t*)x)[(start + column) * batch + n];
        add_product(sums, tap, value);
      }
    }
    const acc_t shift = with_bias ? widen(bias[filter]) : acc_t(0);
    for (int l = 0; l < LANES; ++l) {
      sums[l] += shift;
      if (relu && sums[l] < acc_t(0)) sums[l] = acc_t(0);  // NaN stays NaN
    }
    ((pack_t*)y)[filter * size + i] = packed(sums);
  }
}

// dx = sum over the windows that read the pixel of weight * dy.
extern "C" __global__ void __launch_bounds__(256, 4)
depthwise_input_gradient(scalar_t* __restrict__ dx, const scalar_t* __restrict__ dy,
                         const scalar_t* __restrict__ weight, int multiplier, int channels,
                         int batch, GEOMETRY) {
  const index_t size = (index_t)height * width * batch;
  FOR_EACH_ROW(channel, channels) FOR_EACH(i, size) {
    const index_t pixel = i / batch;
    const int n = (int)(i - pixel * batch), line = (int)(pixel / width);
    const int from_top = line + pad_top;
    const int from_left = (int)(pixel - (index_t)line * width) + pad_left;
    acc_t sums[LANES];
    clear(sums);
    for (int filter = channel * multiplier; filter < (channel + 1) * multiplier; ++filter)
      for (int a = 0; a < kernel_height; ++a) {
        const int row = window_of(from_top, a * dilation_y, stride_y, out_height);
        if (row < 0) continue;
        for (int b = 0; b < kernel_width; ++b) {
          const int col = window_of(from_left, b * dilation_x, stride_x, out_width);
          if (col < 0) continue;
          const index_t tap = ((index_t)filter * kernel_height + a) * kernel_width + b;
          const index_t window = ((index_t)filter * out_height + row) * out_width + col;
          add_product(sums, widen(weight[tap]), ((const pack_t*)dy)[window * batch + n]);
        }
      }
    ((pack_t*)dx)[channel * size + i] = packed(sums);
  }
}

// dweight = sum over the windows of dy * x, one block per kernel element and filter.
extern "C" __global__ void __launch_bounds__(256, 4)
depthwise_weight_gradient(const scalar_t* __restrict__ dy, const scalar_t* __restrict__ x,
                          acc_t* __restrict__ dweight, int multiplier, int filters, int batch,
                          GEOMETRY) {
  __shared__ acc_t shared[256];
  const index_t size = (index_t)out_height * out_width * batch;
  const int taps = kernel_height * kernel_width;
  FOR_EACH_ROW(filter, filters) for (int tap = blockIdx.x; tap < taps; tap += gridDim.x) {
    const int a = tap / kernel_width, b = tap - a * kernel_width;
    const pack_t* pixels = (const pack_t*)x + (index_t)(filter / multiplier) * height * width * batch;
    acc_t sum = 0;
    for (index_t i = threadIdx.x; i < size; i += blockDim.x) {
      const index_t window = i / batch;
      const int n = (int)(i - window * batch), row = (int)(window / out_width);
      const int col = (int)(window - (index_t)row * out_width);
      const int line = row * stride_y - pad_top + a * dilation_y;
      const int column = col * stride_x - pad_left + b * dilation_x;
      pack_t value = {};  // padding, which makes NaN of a gradient that is not finite
      if (line >= 0 && line < height && column >= 0 && column < width)
        value = pixels[((index_t)line * width + column) * batch + n];
      const pack_t gradient = ((const pack_t*)dy)[filter * size + i];
      for (int l = 0; l < LANES; ++l) sum += widen(gradient.lane[l]) * widen(value.lane[l]);
    }
    sum = block_sum(shared, sum);
    if (threadIdx.x == 0) dweight[(index_t)filter * taps + tap] = sum;
  }
}
