// What is done to all parameters in one launch: optimiser steps, clipping, averages, loss scaling.
//
// A block processes one chunk of one array. The addresses of the arrays are passed by value, so that
// no table has to be copied to the device: they may differ in each step. States are at least float.
// `scaler` holds (scale, overflow, good steps, skipped steps); if overflow is set, nothing is
// changed.

#define CHUNK 4096  // as in launch.py
#define ARRAYS 72   // what fits into 4 KiB, the limit for all parameters of a kernel

struct Lists {
  int64 address[5][ARRAYS];  // of parameters, gradients and three states, 0 for none
  int64 size[ARRAYS];
  int first_block[ARRAYS + 1];  // of each array, and 2^31 - 1 after the last
};
struct Chunk {
  scalar_t *param, *grad;
  acc_t *first, *second, *third;
  int length;
};

// The chunk of this block: that of the last array that begins at or before it.
__device__ __forceinline__ Chunk chunk_of(const Lists& lists) {
  int low = 0, high = ARRAYS;
  while (high - low > 1) {
    const int middle = (low + high) / 2;
    if (lists.first_block[middle] <= (int)blockIdx.x) low = middle;
    else high = middle;
  }
  const int64 offset = (int64)((int)blockIdx.x - lists.first_block[low]) * CHUNK;
  const int64 rest = lists.size[low] - offset;
  const int64 narrow_by = offset * (int)sizeof(scalar_t), wide_by = offset * (int)sizeof(acc_t);
  const int64 p = lists.address[0][low], g = lists.address[1][low], a = lists.address[2][low],
              b = lists.address[3][low], c = lists.address[4][low];
  return {(scalar_t*)(p ? p + narrow_by : 0), (scalar_t*)(g ? g + narrow_by : 0),
          (acc_t*)(a ? a + wide_by : 0),      (acc_t*)(b ? b + wide_by : 0),
          (acc_t*)(c ? c + wide_by : 0),      (int)(rest < CHUNK ? rest : CHUNK)};
}

// g += weight_decay * p; v = momentum * v + g; p -= lr * (v, or g + momentum * v, or g)
extern "C" __global__ void __launch_bounds__(256, 4)
sgd_step(const Lists lists, const float* __restrict__ scaler, double lr,
         double momentum, int nesterov, double weight_decay) {
  if (scaler[1] != 0) return;
  const Chunk chunk = chunk_of(lists);
  const acc_t rate = (acc_t)lr, keep = (acc_t)momentum, decay = (acc_t)weight_decay;
  for (int i = threadIdx.x; i < chunk.length; i += blockDim.x) {
    const acc_t p = widen(chunk.param[i]);
    acc_t step = widen(chunk.grad[i]) + decay * p;
    if (chunk.first) {
      const acc_t v = keep * chunk.first[i] + step;
      chunk.first[i] = v;
      step = nesterov ? step + keep * v : v;
    }
    chunk.param[i] = narrow(p - rate * step);
  }
}

// m = b1*m + (1-b1)*g; v = b2*v + (1-b2)*g*g; p -= lr / (1-b1^t) * m / (sqrt(v / (1-b2^t)) + eps)
// where t counts the steps not skipped. Before that, g += weight_decay * p, or if decoupled,
// p *= 1 - lr * weight_decay.
extern "C" __global__ void __launch_bounds__(256, 4)
adam_step(const Lists lists, const float* __restrict__ scaler, double lr,
          double beta1, double beta2, double eps, double weight_decay, double step, int decoupled) {
  if (scaler[1] != 0) return;
  __shared__ acc_t corrected[2];  // one thread computes the powers in double precision
  if (threadIdx.x == 0) {
    const double t = step - (double)scaler[3];
    corrected[0] = (acc_t)(lr / (1 - pow(beta1, t)));
    corrected[1] = (acc_t)(1 / sqrt(1 - pow(beta2, t)));
  }
  __syncthreads();
  const acc_t rate = corrected[0], root = corrected[1];
  const acc_t b1 = (acc_t)beta1, b2 = (acc_t)beta2, c1 = (acc_t)(1 - beta1), c2 = (acc_t)(1 - beta2);
  const acc_t small = (acc_t)eps, decay = (acc_t)(decoupled ? 0 : weight_decay);
  const acc_t keep = (acc_t)(decoupled ? 1 - lr * weight_decay : 1);
  const Chunk chunk = chunk_of(lists);
  for (int i = threadIdx.x; i < chunk.length; i += blockDim.x) {
    const acc_t p = widen(chunk.param[i]);
    const acc_t g = widen(chunk.grad[i]) + decay * p;
    const acc_t m = b1 * chunk.first[i] + c1 * g;
    const acc_t v = b2 * chunk.second[i] + c2 * g * g;
    chunk.first[i] = m;
    chunk.second[i] = v;
    chunk.param[i] = narrow(keep * p - rate * m / (sqrt(v) * root + small));
  }
}

// g += weight_decay * p; s = a*s + (1-a)*g*g; m = a*m + (1-a)*g if centred;
// step = g / (sqrt(s - m*m) + eps); v = momentum*v + step; p -= lr * (v, or step)
extern "C" __global__ void __launch_bounds__(256, 4)
rmsprop_step(const Lists lists, const float* __restrict__ scaler, double lr,
             double alpha, double eps, double momentum, double weight_decay) {
  if (scaler[1] != 0) return;
  const acc_t rate = (acc_t)lr, old = (acc_t)alpha, fresh = (acc_t)(1 - alpha);
  const acc_t small = (acc_t)eps, keep = (acc_t)momentum, decay = (acc_t)weight_decay;
  const Chunk chunk = chunk_of(lists);
  for (int i = threadIdx.x; i < chunk.length; i += blockDim.x) {
    const acc_t p = widen(chunk.param[i]);
    const acc_t g = widen(chunk.grad[i]) + decay * p;
    const acc_t s = old * chunk.first[i] + fresh * g * g;
    chunk.first[i] = s;
    acc_t variance = s;
    if (chunk.second) {
      const acc_t m = old * chunk.second[i] + fresh * g;
      chunk.second[i] = m;
      variance = s - m * m;
      if (variance < 0) variance = 0;  // from rounding; NaN stays
    }
    acc_t step = g / (sqrt(variance) + small);
    if (chunk.third) {
      step += keep * chunk.third[i];
      chunk.third[i] = step;
    }
    chunk.param[i] = narrow(p - rate * step);
  }
}

// g += weight_decay * p; s += g*g; p -= lr / (1 + (t-1) * lr_decay) * g / (sqrt(s) + eps)
// where t counts the steps not skipped.
extern "C" __global__ void __launch_bounds__(256, 4)
adagrad_step(const Lists lists, const float* __restrict__ scaler, double lr,
             double lr_decay, double eps, double weight_decay, double step) {
  if (scaler[1] != 0) return;
  const acc_t rate = (acc_t)(lr / (1 + (step - 1 - (double)scaler[3]) * lr_decay));
  const acc_t small = (acc_t)eps, decay = (acc_t)weight_decay;
  const Chunk chunk = chunk_of(lists);
  for (int i = threadIdx.x; i < chunk.length; i += blockDim.x) {
    const acc_t p = widen(chunk.param[i]);
    const acc_t g = widen(chunk.grad[i]) + decay * p;
    const acc_t s = chunk.first[i] + g * g;
    chunk.first[i] = s;
    chunk.param[i] = narrow(p - rate * (g / (sqrt(s) + small)));
  }
}

// Divide gradients by the scale; set overflow to 1 if one is infinite or NaN.
extern "C" __global__ void __launch_bounds__(256, 4)
unscale(const Lists lists, float* __restrict__ scaler) {
  const Chunk chunk = chunk_of(lists);
  const acc_t inverse = acc_t(1) / (acc_t)scaler[0];
  bool overflow = false;
  for (int i = threadIdx.x; i < chunk.length; i += blockDim.x) {
    const scalar_t stored = narrow(widen(chunk.grad[i]) * inverse);
    const acc_t g = widen(stored);
    chunk.grad[i] = stored;
    overflow = overflow || !(g - g == acc_t(0));
  }
  if (overflow) scaler[1] = 1;
}

// The sum of the squares of each chunk's gradient: one per block, from sums[first] on.
extern "C" __global__ void __launch_bounds__(256, 4)
square_sums(const Lists lists, acc_t* __restrict__ sums, int first) {
  __shared__ acc_t shared[256];
  const Chunk chunk = chunk_of(lists);
  acc_t sum = 0;
  for (int i = threadIdx.x; i < chunk.length; i += blockDim.x) {
    const acc_t g = widen(chunk.grad[i]);
    sum += g * g;
  }
  sum = block_sum(shared, sum);
  if (threadIdx.x == 0) sums[first + blockIdx.x] = sum;
}

// norm = sqrt(sum), of squares; gradients *= min(1, max_norm / (norm + 1e-6))
extern "C" __global__ void __launch_bounds__(256, 4)
clip_norm(const Lists lists, const acc_t* __restrict__ sum, acc_t* __restrict__ norm,
          double max_norm) {
  const Chunk chunk = chunk_of(lists);
  const acc_t total = sqrt(sum[0]), limit = (acc_t)max_norm / (total + (acc_t)1e-6);
  const acc_t scale = limit > acc_t(1) ? acc_t(1) : limit;  // NaN stays NaN
  if (blockIdx.x == 0 && threadIdx.x == 0) norm[0] = total;
  for (int i = threadIdx.x; i < chunk.length; i += blockDim.x)
    chunk.grad[i] = narrow(widen(chunk.grad[i]) * scale);
}

// average += rate * (p - average); a copy where the rate is 1
extern "C" __global__ void __launch_bounds__(256, 4)
average(const Lists lists, double rate) {
  const Chunk chunk = chunk_of(lists);
  const acc_t share = (acc_t)rate;
  for (int i = threadIdx.x; i < chunk.length; i += blockDim.x) {
    const acc_t p = widen(chunk.param[i]), old = chunk.first[i];
    chunk.first[i] = rate == 1 ? p : old + share * (p - old);
  }
}

// first = gradient, in the type of sums.
extern "C" __global__ void __launch_bounds__(256, 4)
widen_gradients(const Lists lists) {
  const Chunk chunk = chunk_of(lists);
  for (int i = threadIdx.x; i < chunk.length; i += blockDim.x) chunk.first[i] = widen(chunk.grad[i]);
}

// After a step: multiply the scale by backoff if it overflowed, by growth after `interval` good
// steps in a row.
extern "C" __global__ void update_scale(float* scaler, float growth, float backoff, int interval) {
  if (scaler[1] != 0) {
    scaler[0] *= backoff;
    scaler[1] = 0;
    scaler[2] = 0;
    scaler[3] += 1;
  } else if (++scaler[2] >= interval) {
    const float grown = scaler[0] * growth;
    if (grown - grown == 0) scaler[0] = grown;  // an infinite scale would stay infinite
    scaler[2] = 0;
  }
}
