// Max and average pooling, forward and backward; ARGMAX is the type of saved positions.
//
// x, dx : (channels, height, width, batch);  y, dy, argmax : (channels, out_height, out_width,
// batch). `batch` counts packs. argmax is the row-major index of an element in its window.

// Alignment is capped: arrays are aligned to 16 bytes only.
struct alignas(LANES * sizeof(ARGMAX) < 16 ? LANES * sizeof(ARGMAX) : 16) positions_t {
  ARGMAX lane[LANES];
};

// The position of element i: image pack n at (row, column) of a plane `columns` wide.
struct Place {
  int n, row, column;
};
__device__ __forceinline__ Place place_of(index_t i, int batch, int columns) {
  const index_t position = i / batch;
  const int row = (int)(position / columns);
  return {(int)(i - position * batch), row, (int)(position - (index_t)row * columns)};
}

// Padding is never chosen, NaN always wins, and of equal maxima the first.
extern "C" __global__ void __launch_bounds__(256, 4)
max_pool2d(const scalar_t* __restrict__ x, scalar_t* __restrict__ y, ARGMAX* __restrict__ argmax,
           int with_argmax, int channels, int batch, GEOMETRY) {
  const pack_t* pixels = (const pack_t*)x;
  const index_t size = (index_t)out_height * out_width * batch;
  FOR_EACH_ROW(channel, channels) FOR_EACH(i, size) {
    const Place at = place_of(i, batch, out_width);
    const int first_y = at.row * stride_y - pad_top, first_x = at.column * stride_x - pad_left;
    acc_t best[LANES];
    int chosen[LANES];
    for (int l = 0; l < LANES; ++l) best[l] = -INFINITY, chosen[l] = -1;
    for (int a = 0; a < kernel_height; ++a) {
      const int line = first_y + a * dilation_y;
      if (line < 0 || line >= height) continue;
      for (int b = 0; b < kernel_width; ++b) {
        const int column = first_x + b * dilation_x;
        if (column < 0 || column >= width) continue;
        const index_t pixel = ((index_t)channel * height + line) * width + column;
        const pack_t values = pixels[pixel * batch + at.n];
        for (int l = 0; l < LANES; ++l) {
          const acc_t value = widen(values.lane[l]);
          const bool first_nan = value != value && best[l] == best[l];
          if (chosen[l] < 0 || value > best[l] || first_nan)
            best[l] = value, chosen[l] = a * kernel_width + b;
        }
      }
    }
    ((pack_t*)y)[channel * size + i] = packed(best);
    if (!with_argmax) continue;
    const int last = kernel_height * kernel_width - 1;  // if the window is all padding
    positions_t positions;
    for (int l = 0; l < LANES; ++l)
      positions.lane[l] = (ARGMAX)(chosen[l] < 0 ? last : chosen[l]);
    ((positions_t*)argmax)[channel * size + i] = positions;
  }
}

// Each thread sums, for one pixel, the gradients of the windows that chose it.
extern "C" __global__ void __launch_bounds__(256, 4)
max_pool2d_backward(const scalar_t* __restrict__ dy, const ARGMAX* __restrict__ argmax,
                    scalar_t* __restrict__ dx, int channels, int batch, GEOMETRY) {
  const pack_t* gradients = (const pack_t*)dy;
  const positions_t* choices = (const positions_t*)argmax;
  const index_t size = (index_t)height * width * batch;
  FOR_EACH_ROW(channel, channels) FOR_EACH(i, size) {
    const Place at = place_of(i, batch, width);
    acc_t sums[LANES];
    clear(sums);
    for (int a = 0; a < kernel_height; ++a) {
      const int row = window_of(at.row + pad_top, a * dilation_y, stride_y, out_height);
      if (row < 0) continue;
      for (int b = 0; b < kernel_width; ++b) {
        const int column = window_of(at.column + pad_left, b * dilation_x, stride_x, out_width);
        if (column < 0) continue;
        const index_t window = ((index_t)channel * out_height + row) * out_width + column;
        const positions_t chosen = choices[window * batch + at.n];
        const pack_t values = gradients[window * batch + at.n];
        for (int l = 0; l < LANES; ++l)
          if (chosen.lane[l] == a * kernel_width + b) sums[l] += widen(values.lane[l]);
      }
    }
    ((pack_t*)dx)[channel * size + i] = packed(sums);
  }
}

// Number of pixels in the mean of the window that starts at `start`, along one axis.
__device__ __forceinline__ int counted(int start, int kernel, int size, int before, int after,
                                       int include_pad) {
  const int low = include_pad ? -before : 0, high = include_pad ? size + after : size;
  return min(start + kernel, high) - max(start, low);
}

extern "C" __global__ void __launch_bounds__(256, 4)
avg_pool2d(const scalar_t* __restrict__ x, scalar_t* __restrict__ y, int include_pad, int channels,
           int batch, GEOMETRY) {
  const pack_t* pixels = (const pack_t*)x;
  const index_t size = (index_t)out_height * out_width * batch;
  FOR_EACH_ROW(channel, channels) FOR_EACH(i, size) {
    const Place at = place_of(i, batch, out_width);
    const int first_y = at.row * stride_y - pad_top, first_x = at.column * stride_x - pad_left;
    acc_t sums[LANES];
    clear(sums);
    for (int line = max(first_y, 0); line < min(first_y + kernel_height, height); ++line)
      for (int column = max(first_x, 0); column < min(first_x + kernel_width, width); ++column) {
        const index_t pixel = ((index_t)channel * height + line) * width + column;
        add(sums, pixels[pixel * batch + at.n]);
      }
    const int pixels_counted =
        counted(first_y, kernel_height, height, pad_top, pad_bottom, include_pad) *
        counted(first_x, kernel_width, width, pad_left, pad_right, include_pad);
    const acc_t share = acc_t(1) / (acc_t)pixels_counted;
    for (int l = 0; l < LANES; ++l) sums[l] *= share;
    ((pack_t*)y)[channel * size + i] = packed(sums);
  }
}

extern "C" __global__ void __launch_bounds__(256, 4)
avg_pool2d_backward(const scalar_t* __restrict__ dy, scalar_t* __restrict__ dx, int include_pad,
                    int channels, int batch, GEOMETRY) {
  const pack_t* gradients = (const pack_t*)dy;
  const index_t size = (index_t)height * width * batch;
  FOR_EACH_ROW(channel, channels) FOR_EACH(i, size) {
    const Place at = place_of(i, batch, width);
    acc_t sums[LANES];
    clear(sums);
    for (int a = 0; a < kernel_height; ++a) {
      const int row = window_of(at.row + pad_top, a, stride_y, out_height);
      if (row < 0) continue;
      const int lines = counted(row * stride_y - pad_top, kernel_height, height, pad_top,
                                pad_bottom, include_pad);
      for (int b = 0; b < kernel_width; ++b) {
        const int column = window_of(at.column + pad_left, b, stride_x, out_width);
        if (column < 0) continue;
        const int columns = counted(column * stride_x - pad_left, kernel_width, width, pad_left,
                                    pad_right, include_pad);
        const index_t window = ((index_t)channel * out_height + row) * out_width + column;
        const pack_t values = gradients[window * batch + at.n];
        const acc_t share = acc_t(1) / (acc_t)(lines * columns);
        for (int l = 0; l < LANES; ++l) sums[l] += widen(values.lane[l]) * share;
      }
    }
    ((pack_t*)dx)[channel * size + i] = packed(sums);
  }
}
