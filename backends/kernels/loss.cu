// Softmax and cross-entropy with class indices, forward and backward in one kernel; the mean; and the
// sums of an epoch.
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

// result = (mean of the terms whose target is not ignore, 1 / their number), in one block.
extern "C" __global__ void __launch_bounds__(256, 4)
mean_of_terms(const scalar_t* __restrict__ terms, const int64* __restrict__ target,
              scalar_t* __restrict__ result, int64 ignore, index_t size) {
  __shared__ acc_t sums[256];
  __shared__ int64 counts[256];
  acc_t sum = 0;
  int64 count = 0;
#pragma unroll 2  // more would spill registers on sm_100
  for (index_t i = threadIdx.x; i < size; i += blockDim.x) {
    sum += widen(terms[i]);
    count += target[i] != ignore;
  }
  sum = block_sum(sums, sum);
  count = block_sum(counts, count);
  if (threadIdx.x != 0) return;
  result[0] = narrow(sum / (acc_t)count);
  result[1] = narrow(acc_t(1) / (acc_t)(count ? count : 1));
}

// total += loss * counted, divisor += counted, right += correct answers among those, in one block.
// The answer is the first of the largest logits, or the first NaN.
extern "C" __global__ void __launch_bounds__(256, 4)
add_class_totals(const scalar_t* __restrict__ x, const int64* __restrict__ target,
                 const scalar_t* __restrict__ loss, scalar_t* __restrict__ total,
                 int64* __restrict__ divisor, int64* __restrict__ right, int64 ignore, int classes,
                 index_t size) {
  __shared__ int64 counts[256];
  int64 counted = 0, correct = 0;
  for (index_t i = threadIdx.x; i < size; i += blockDim.x) {
    const int64 label = target[i];
    if (label == ignore) continue;
    acc_t high = widen(x[i]);
    int answer = 0;
    for (int c = 1; c < classes && high == high; ++c) {
      const acc_t value = widen(x[c * size + i]);
      if (value > high || value != value) high = value, answer = c;
    }
    ++counted;
    correct += label == answer;
  }
  counted = block_sum(counts, counted);
  correct = block_sum(counts, correct);
  if (threadIdx.x != 0 || counted == 0) return;
  total[0] = narrow(widen(total[0]) + widen(loss[0]) * (acc_t)counted);
  divisor[0] += counted;
  right[0] += correct;
}
