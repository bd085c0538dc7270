// Softmax and cross-entropy with class indices, forward and backward in one kernel.
//
// x, slope : (classes, size);  target, terms : (size,). A block processes 32 columns; 8 threads
// split the classes of each. Subtracting the maximum keeps exp from overflowing.

#define COLUMNS 32
#define SHARES 8

__device__ __forceinline__ acc_t largest(acc_t a, acc_t b) { return a > b ? a : b; }

// terms = log(sum(exp(x))) - x[target], NaN if target is not a class;
// slope = softmax(x) - onehot(target), the gradient of terms; both 0 if target is ignore.
extern "C" __global__ void __launch_bounds__(256, 4)
cross_entropy(const scalar_t* __restrict__ x, const int64* __restrict__ target,
              scalar_t* __restrict__ terms, scalar_t* __restrict__ slope, int64 ignore,
              int with_slope, int classes, index_t size) {
  __shared__ acc_t shared[SHARES][COLUMNS];
  const int lane = threadIdx.x % COLUMNS, share = threadIdx.x / COLUMNS;
  const index_t column = (index_t)blockIdx.x * COLUMNS + lane;
  const bool live = column < size;
  acc_t high = -INFINITY;
  for (int c = share; live && c < classes; c += SHARES)
    high = largest(widen(x[c * size + column]), high);
  shared[share][lane] = high;
  __syncthreads();
  for (int s = 0; s < SHARES; ++s) high = largest(shared[s][lane], high);
  __syncthreads();
  acc_t sum = 0;
  for (int c = share; live && c < classes; c += SHARES)
    sum += exp(widen(x[c * size + column]) - high);
  shared[share][lane] = sum;
  __syncthreads();
  sum = 0;
  for (int s = 0; s < SHARES; ++s) sum += shared[s][lane];
  if (!live) return;
  const int64 label = target[column];
  const bool exists = 0 <= label && label < classes, ignored = label == ignore;
  if (share == 0) {
    acc_t term = ignored ? acc_t(0) : (acc_t)NAN;
    if (exists && !ignored)
      term = log(sum) + (high - widen(x[(index_t)label * size + column]));
    terms[column] = narrow(term);
  }
  if (!with_slope) return;
  for (int c = share; c < classes; c += SHARES) {
    const acc_t probability = exp(widen(x[c * size + column]) - high) / sum;
    const acc_t difference = probability - (c == label ? acc_t(1) : acc_t(0));
    slope[c * size + column] = narrow(ignored ? acc_t(0) : difference);
  }
}
