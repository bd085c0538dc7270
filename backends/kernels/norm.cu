// Batch, layer, group and instance normalisation, with residual add and ReLU, forward and backward.
//
// x is (groups, rows * pixels, lanes): each lane of a group has a mean and a variance, each row of
// pixels a weight. A tile is 1 to 32 lanes of a group, `width` of them side by side in a block; the
// other threads share its elements, as do the gridDim.x blocks of a tile. Blocks leave partial
// results for the next kernel, whose blocks each add them up, in the same order.
//
// Moments are added by Chan's formula, relative to the lane's first element, which keeps every
// digit where the mean is large. A thread sums relative to its own first element.

#define THREADS 256

// Where a thread works: its lane, and every how many elements of that lane.
#define TILE(tile)                                                                          \
  const int tiles = (lanes + width - 1) / width, shares = THREADS / width;                  \
  const int group = (tile) / tiles, slot = threadIdx.x % width, share = threadIdx.x / width; \
  const int lane = (tile) % tiles * width + slot;                                           \
  const bool live = lane < lanes;                                                           \
  const index_t column = (index_t)group * lanes + lane;                                     \
  const index_t start = (index_t)group * size * lanes + lane;                               \
  (void)start

#define FOR_EACH_OF_LANE(i)                                                                \
  for (index_t i = (index_t)blockIdx.x * shares + share; live && i < size;                 \
       i += (index_t)gridDim.x * shares)

struct Moments {
  acc_t count, mean, m2;
};

__device__ __forceinline__ Moments join(Moments a, const Moments b) {
  if (b.count == acc_t(0)) return a;
  const acc_t count = a.count + b.count, part = b.count / count, d = b.mean - a.mean;
  return {count, a.mean + d * part, a.m2 + b.m2 + d * d * (a.count * part)};
}

// Join the values of all threads of a slot, in every thread: f(a, b) of the threads' shared memory.
template <class V, class F>
__device__ __forceinline__ V joined(V* shared, V value, int width, F f) {
  __syncthreads();
  shared[threadIdx.x] = value;
  __syncthreads();
  for (int half = THREADS / 2; half >= width; half /= 2) {
    if (threadIdx.x < half) shared[threadIdx.x] = f(shared[threadIdx.x], shared[threadIdx.x + half]);
    __syncthreads();
  }
  return shared[threadIdx.x % width];
}

// partial (groups * lanes, gridDim.x, 3): the moments of each block's elements.
extern "C" __global__ void __launch_bounds__(256, 4)
norm_moments(const scalar_t* __restrict__ x, acc_t* __restrict__ partial, int groups, index_t size,
             int lanes, int width) {
  __shared__ Moments shared[THREADS];
  for (int tile = blockIdx.y; tile < groups * ((lanes + width - 1) / width); tile += gridDim.y) {
    TILE(tile);
    const acc_t first = live ? widen(x[start]) : acc_t(0);
    acc_t own = 0, sum = 0, square = 0, count = 0;
    FOR_EACH_OF_LANE(i) {
      const acc_t value = widen(x[start + i * lanes]);
      if (count == acc_t(0)) own = value;
      const acc_t d = value - own;
      sum += d;
      square += d * d;
      count += acc_t(1);
    }
    Moments m = {count, acc_t(0), acc_t(0)};
    if (count > acc_t(0)) m = {count, own - first + sum / count, square - sum * (sum / count)};
    m = joined(shared, m, width, join);
    if (live && share == 0) {
      acc_t* out = partial + (column * gridDim.x + blockIdx.x) * 3;
      out[0] = m.count;
      out[1] = m.mean;
      out[2] = m.m2;
    }
  }
}

// y = (x - mean) * scale * weight + bias + residual; with flag 8, min(max(y, 0), ceiling).
//
// statistics (4, groups * lanes): mean, rest, scale, var, where mean + rest is exact; from the
// `partial` moments (groups * lanes, parts, 3), or from the running statistics if parts is 0, which
// are otherwise updated if `momentum` >= 0, or by *cumulative if `momentum` > 1.
extern "C" __global__ void __launch_bounds__(256, 4)
norm_forward(const scalar_t* __restrict__ x, const acc_t* __restrict__ partial,
             const scalar_t* __restrict__ weight, const scalar_t* __restrict__ bias,
             const scalar_t* __restrict__ residual, acc_t* running_mean, acc_t* running_var,
             const acc_t* __restrict__ cumulative, scalar_t* __restrict__ y,
             acc_t* __restrict__ statistics, double eps, double momentum, double ceiling, int parts, int flags,
             int groups, index_t size, int lanes, int width, index_t pixels, int group_stride,
             int row_stride) {
  __shared__ Moments shared[THREADS];
  for (int tile = blockIdx.y; tile < groups * ((lanes + width - 1) / width); tile += gridDim.y) {
    TILE(tile);
    acc_t mean, rest = 0, var;
    if (parts > 0) {
      Moments m = {0, 0, 0};
      for (int i = share; live && i < parts; i += shares) {
        const acc_t* from = partial + (column * parts + i) * 3;
        m = join(m, {from[0], from[1], from[2]});
      }
      m = joined(shared, m, width, join);
      const acc_t first = live ? widen(x[start]) : acc_t(0), high = first + m.mean;
      const acc_t part = high - first;
      mean = high;
      rest = (first - (high - part)) + (m.mean - part);
      var = m.m2 < acc_t(0) ? acc_t(0) : m.m2 / m.count;  // NaN stays
    } else {
      mean = running_mean[group];
      var = running_var[group];
    }
    const acc_t scale = acc_t(1) / sqrt(var + (acc_t)eps);
    if (blockIdx.x == 0 && share == 0 && live) {
      const index_t count = (index_t)groups * lanes;
      statistics[column] = mean;
      statistics[count + column] = rest;
      statistics[2 * count + column] = scale;
      statistics[3 * count + column] = var;
    }
    if (parts > 0 && momentum >= 0 && lanes == 1 && blockIdx.x == 0 && threadIdx.x == 0) {
      const acc_t rate = momentum > 1 ? *cumulative : (acc_t)momentum;
      const acc_t unbiased = var * ((acc_t)size / (acc_t)(size - 1));
      running_mean[group] = running_mean[group] * (1 - rate) + rate * (mean + rest);
      running_var[group] = running_var[group] * (1 - rate) + rate * unbiased;
    }
    const acc_t offset = -rest * scale;
    FOR_EACH_OF_LANE(i) {
      const index_t at = start + i * lanes;
      const index_t k = group * group_stride + (row_stride ? i / pixels : 0);
      acc_t value = (widen(x[at]) - mean) * scale + offset;
      if (flags & 1) value *= widen(weight[k]);
      if (flags & 2) value += widen(bias[k]);
      if (flags & 4) value += widen(residual[at]);
      if (flags & 8 && value < acc_t(0)) value = acc_t(0);
      if (flags & 8 && value > (acc_t)ceiling) value = (acc_t)ceiling;
      y[at] = narrow(value);
    }
  }
}

// The gradient dy behind a ReLU (flag 8) whose output is y, at most `ceiling`.
__device__ __forceinline__ acc_t behind(const scalar_t* dy, const scalar_t* y, index_t at,
                                        double ceiling, int flags) {
  if (!(flags & 8)) return widen(dy[at]);
  const acc_t value = widen(y[at]), top = widen(narrow((acc_t)ceiling));
  return value > acc_t(0) && (value < top || ceiling == INFINITY) ? widen(dy[at]) : acc_t(0);
}

struct Sums {
  acc_t plain, slope;
};
__device__ __forceinline__ Sums plus(const Sums a, const Sums b) {
  return {a.plain + b.plain, a.slope + b.slope};
}

// partial (groups * lanes, gridDim.x, 2): sums of g = dy * weight and of g * (normalised x).
extern "C" __global__ void __launch_bounds__(256, 4)
norm_sums(const scalar_t* __restrict__ dy, const scalar_t* __restrict__ x,
          const scalar_t* __restrict__ y, const acc_t* __restrict__ statistics,
          const scalar_t* __restrict__ weight, acc_t* __restrict__ partial, double ceiling, int flags,
          int groups, index_t size, int lanes, int width, index_t pixels, int group_stride, int row_stride) {
  __shared__ Sums shared[THREADS];
  for (int tile = blockIdx.y; tile < groups * ((lanes + width - 1) / width); tile += gridDim.y) {
    TILE(tile);
    const index_t count = (index_t)groups * lanes;
    const acc_t mean = live ? statistics[column] : acc_t(0);
    const acc_t rest = live ? statistics[count + column] : acc_t(0);
    const acc_t scale = live ? statistics[2 * count + column] : acc_t(0);
    Sums own = {0, 0};
    FOR_EACH_OF_LANE(i) {
      const index_t at = start + i * lanes;
      acc_t g = behind(dy, y, at, ceiling, flags);
      if (flags & 1 && row_stride) g *= widen(weight[group * group_stride + i / pixels]);
      own = plus(own, {g, g * (widen(x[at]) - mean)});
    }
    own = joined(shared, own, width, plus);
    if (live && share == 0) {
      acc_t* out = partial + (column * gridDim.x + blockIdx.x) * 2;
      out[0] = own.plain;
      out[1] = (own.slope - rest * own.plain) * scale;
    }
  }
}

// dx = scale * (g - mean(g) - x̂ * mean(g * x̂)), or scale * g with fixed statistics (flag 16), from
// the `partial` sums (groups * lanes, parts, 2); also dresidual (flag 4) and, if a group is a row
// and a lane (flag 32), `gradients` (2, groups) of the weight and bias.
extern "C" __global__ void __launch_bounds__(256, 4)
norm_backward(const scalar_t* __restrict__ dy, const scalar_t* __restrict__ x,
              const scalar_t* __restrict__ y, const acc_t* __restrict__ statistics,
              const scalar_t* __restrict__ weight, const acc_t* __restrict__ partial,
              scalar_t* __restrict__ dx, scalar_t* __restrict__ dresidual,
              acc_t* __restrict__ gradients, double ceiling, int parts, int flags, int groups,
              index_t size, int lanes, int width, index_t pixels, int group_stride, int row_stride) {
  __shared__ Sums shared[THREADS];
  for (int tile = blockIdx.y; tile < groups * ((lanes + width - 1) / width); tile += gridDim.y) {
    TILE(tile);
    Sums sums = {0, 0};
    for (int i = share; live && i < parts; i += shares) {
      const acc_t* from = partial + (column * parts + i) * 2;
      sums = plus(sums, {from[0], from[1]});
    }
    sums = joined(shared, sums, width, plus);
    if (flags & 32 && blockIdx.x == 0 && threadIdx.x == 0) {
      gradients[group] = sums.slope;
      gradients[groups + group] = sums.plain;
    }
    const index_t count = (index_t)groups * lanes;
    const acc_t mean = live ? statistics[column] : acc_t(0);
    const acc_t rest = live ? statistics[count + column] : acc_t(0);
    const acc_t scale = live ? statistics[2 * count + column] : acc_t(0);
    const acc_t slope = sums.slope / (acc_t)size * scale;
    const acc_t shift = sums.plain / (acc_t)size - rest * slope;
    FOR_EACH_OF_LANE(i) {
      const index_t at = start + i * lanes;
      acc_t g = behind(dy, y, at, ceiling, flags), w = 1;
      if (flags & 4) dresidual[at] = narrow(g);
      if (flags & 1) w = widen(weight[group * group_stride + (row_stride ? i / pixels : 0)]);
      if (row_stride) {
        g *= w;
        w = 1;
      }
      if (!(flags & 16)) g -= (widen(x[at]) - mean) * slope + shift;
      if (flags & 64) dx[at] = narrow(g * scale * w);
    }
  }
}

// gradients (2, groups * rows, gridDim.x): sums over each row of dy * (normalised x), and of dy,
// one part for each block; `width` threads share a row.
extern "C" __global__ void __launch_bounds__(256, 4)
norm_weights(const scalar_t* __restrict__ dy, const scalar_t* __restrict__ x,
             const scalar_t* __restrict__ y, const acc_t* __restrict__ statistics,
             acc_t* __restrict__ gradients, double ceiling, int flags, int groups, int rows,
             index_t pixels, int lanes, int width) {
  __shared__ Sums shared[THREADS];
  const int together = THREADS / width, member = threadIdx.x % width;
  const int count = groups * rows;
  for (int first = blockIdx.y * together; first < count; first += gridDim.y * together) {
    const int row = first + threadIdx.x / width, group = row / rows;
    const index_t length = pixels * lanes, all = (index_t)groups * lanes;
    Sums own = {0, 0};
    for (index_t i = (index_t)blockIdx.x * width + member; row < count && i < length;
         i += (index_t)gridDim.x * width) {
      const index_t at = row * length + i, column = (index_t)group * lanes + i % lanes;
      const acc_t g = behind(dy, y, at, ceiling, flags);
      const acc_t d = widen(x[at]) - statistics[column] - statistics[all + column];
      own = plus(own, {g, g * d * statistics[2 * all + column]});
    }
    __syncthreads();
    shared[threadIdx.x] = own;
    __syncthreads();
    for (int half = width / 2; half > 0; half /= 2) {
      if (member < half) shared[threadIdx.x] = plus(shared[threadIdx.x], shared[threadIdx.x + half]);
      __syncthreads();
    }
    if (member == 0 && row < count) {
      const index_t out = (index_t)row * gridDim.x + blockIdx.x;
      gradients[out] = shared[threadIdx.x].slope;
      gradients[(index_t)count * gridDim.x + out] = shared[threadIdx.x].plain;
    }
  }
}
