// Convolution as a matrix product: unfold the input into columns, and fold gradients back.
//
// x, dx : (channels, height, width, batch);  columns : (channels, kernel_height, kernel_width,
// rows, cols, batch) of a tile of rows by cols output pixels, which starts at window (top, left).
// `batch` counts packs.

// Each thread copies all kernel elements of one window of one channel: the position is computed
// once, and overlapping windows read x from the cache.
extern "C" __global__ void __launch_bounds__(256, 4)
im2col(const scalar_t* __restrict__ x, scalar_t* __restrict__ columns, int top, int left, int rows,
       int cols, int channels, int batch, GEOMETRY) {
  const pack_t* pixels = (const pack_t*)x;
  pack_t* out = (pack_t*)columns;
  const index_t size = (index_t)rows * cols * batch;
  FOR_EACH_ROW(channel, channels) FOR_EACH(i, size) {
    const index_t window = i / batch;
    const int n = (int)(i - window * batch);
    const int row = (int)(window / cols);
    const int first_y = (top + row) * stride_y - pad_top;
    const int first_x = (left + (int)(window - (index_t)row * cols)) * stride_x - pad_left;
    index_t target = (index_t)channel * kernel_height * kernel_width * size + i;
    for (int a = 0; a < kernel_height; ++a) {
      const int y = first_y + a * dilation_y;
      const bool inside = 0 <= y && y < height;
      const index_t line = ((index_t)channel * height + y) * width;
      for (int b = 0; b < kernel_width; ++b, target += size) {
        const int column = first_x + b * dilation_x;
        pack_t value = {};
        if (inside && 0 <= column && column < width) value = pixels[(line + column) * batch + n];
        out[target] = value;
      }
    }
  }
}

// The adjoint: each thread adds to one pixel the sum of all columns read from it, or overwrites it
// with the sum. Only a region is visited, that the tile can read or the whole image:
// region_height by region_width pixels from (first_y, first_x).
extern "C" __global__ void __launch_bounds__(256, 4)
col2im(const scalar_t* __restrict__ columns, scalar_t* __restrict__ dx, int top, int left, int rows,
       int cols, int first_y, int first_x, int region_height, int region_width, int overwrite,
       int channels, int batch, GEOMETRY) {
  const pack_t* values = (const pack_t*)columns;
  pack_t* pixels = (pack_t*)dx;
  const index_t plane = (index_t)rows * cols;
  FOR_EACH_ROW(channel, channels) FOR_EACH(i, (index_t)region_height * region_width * batch) {
    const index_t pixel = i / batch;
    const int n = (int)(i - pixel * batch);
    const int line = (int)(pixel / region_width);
    const int y = first_y + line, column = first_x + (int)(pixel - (index_t)line * region_width);
    const int from_top = y + pad_top - top * stride_y;
    const int from_left = column + pad_left - left * stride_x;
    acc_t sums[LANES];
    clear(sums);
    for (int a = 0; a < kernel_height; ++a) {
      const int row = window_of(from_top, a * dilation_y, stride_y, rows);
      if (row < 0) continue;
      for (int b = 0; b < kernel_width; ++b) {
        const int col = window_of(from_left, b * dilation_x, stride_x, cols);
        if (col < 0) continue;
        const index_t element = ((index_t)channel * kernel_height + a) * kernel_width + b;
        add(sums, values[(element * plane + (index_t)row * cols + col) * batch + n]);
      }
    }
    pack_t& target = pixels[(((index_t)channel * height + y) * width + column) * batch + n];
    if (!overwrite) add(sums, target);
    target = packed(sums);
  }
}
