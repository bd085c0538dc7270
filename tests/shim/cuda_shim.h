// Runs CUDA C kernels on the CPU: one block at a time, its threads one after another.
//
// A thread runs until it ends or waits at a barrier; a waiting thread keeps its fiber, a stack of
// its own. Threads that never wait share one fiber, so such kernels run as a plain loop.
#pragma once
#include <link.h>
#include <math.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cmath>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "cuda_bf16.h"
#include "cuda_fp16.h"

// ---- The language

// The Python side finds entry points by these two words and removes them.
#define __global__ SHIM_KERNEL
#define __launch_bounds__(...) SHIM_BOUNDS(__VA_ARGS__)
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static thread_local  // one place, and the linker knows where: see `Shared`
#define __CUDACC__ 1  // only now: the system's headers behave differently under it
#define __CUDACC_RTC__ 1
#define __CUDA_ARCH__ 900
#define warpSize 32

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
};
static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;

#define SHIM_VECTOR(type, name)                                                            \
  struct alignas(2 * sizeof(type)) name##2 { type x, y; };                                 \
  struct alignas(sizeof(type) == 8 ? 16 : 4 * sizeof(type)) name##4 { type x, y, z, w; };  \
  static inline name##2 make_##name##2(type x, type y) { return {x, y}; }                  \
  static inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
SHIM_VECTOR(float, float)
SHIM_VECTOR(double, double)
SHIM_VECTOR(int, int)
SHIM_VECTOR(unsigned, uint)
#undef SHIM_VECTOR

// ---- Blocks and threads

namespace shim {

constexpr size_t STACK_BYTES = 256 << 10;  // mapped, so only what is touched takes memory
constexpr int MAX_THREADS = 1024;

struct Barrier {
  int arrived = 0;
  int line = 0;             // where its first thread waits
  unsigned generation = 0;  // how often it has let threads go on
};

struct Fiber {
  ucontext_t start;
  jmp_buf state;  // _longjmp, as swapcontext makes a system call per switch
  char* stack;
  bool entered;
  int thread;        // whose body it runs
  Barrier* barrier;  // where that waits, or null
  unsigned generation;
};

static std::vector<Fiber*> fibers;
static jmp_buf scheduler;
static Fiber* running;
static int order, threads, started, live;  // live: threads that have not returned
static int warp_live[MAX_THREADS / 32];
static Barrier block_barrier, warp_barriers[MAX_THREADS / 32];
static uint64_t lanes[MAX_THREADS];  // what a shuffle exchanges
static void (*body)(void*);
static void* body_argument;
static std::string failure;
static std::vector<char> dynamic_shared;

static void set_thread(int t) {
  const unsigned x = blockDim.x, y = blockDim.y;
  threadIdx = {t % x, t / x % y, t / (x * y)};
}

// What a fiber does: start threads while there are any, then idle until the next block.
static void run_threads() {
  for (;;) {
    while (started < threads) {
      const int i = started++;
      running->thread = order ? threads - 1 - i : i;
      set_thread(running->thread);
      body(body_argument);
      --live;
      --warp_live[running->thread / 32];
    }
    if (!_setjmp(running->state)) _longjmp(scheduler, 1);
  }
}

static Fiber* new_fiber() {
  Fiber* fiber = new Fiber{};
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* stack = mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (stack == MAP_FAILED) abort();
  fiber->stack = (char*)stack;
  getcontext(&fiber->start);
  fiber->start.uc_stack.ss_sp = stack;
  fiber->start.uc_stack.ss_size = STACK_BYTES;
  makecontext(&fiber->start, run_threads, 0);
  return fiber;
}

// Run a fiber until it waits or has no thread left.
static void resume(Fiber* fiber) {
  running = fiber;
  fiber->barrier = nullptr;
  if (_setjmp(scheduler)) return;
  if (fiber->entered) _longjmp(fiber->state, 1);
  fiber->entered = true;
  setcontext(&fiber->start);
}

static void wait(Barrier& barrier, int line) {
  Fiber* self = running;
  if (barrier.arrived++ == 0) barrier.line = line;
  if (barrier.line != line)
    failure = "divergent barrier: threads of one block wait at lines " +
              std::to_string(barrier.line) + " and " + std::to_string(line);
  self->barrier = &barrier;
  self->generation = barrier.generation;
  if (!_setjmp(self->state)) _longjmp(scheduler, 1);
  set_thread(self->thread);
}

// Whether a waiting thread may go on: all threads of its block or warp that still run have come.
static bool may_go_on(const Fiber* fiber) {
  Barrier& barrier = *fiber->barrier;
  if (barrier.generation != fiber->generation) return true;
  if (barrier.arrived < (&barrier == &block_barrier ? live : warp_live[fiber->thread / 32]))
    return false;
  barrier.arrived = 0;
  ++barrier.generation;
  return true;
}

// The memory of the __shared__ variables: nothing else in this library is thread_local.
struct Shared {
  char* start = nullptr;
  size_t size = 0;
};
static thread_local char shared_anchor;

static int find_shared(dl_phdr_info* info, size_t, void* result) {
  Shared& shared = *(Shared*)result;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    char* start = (char*)info->dlpi_tls_data;
    const size_t size = info->dlpi_phdr[i].p_memsz;
    const bool ours = start && start <= &shared_anchor && &shared_anchor < start + size;
    if (info->dlpi_phdr[i].p_type == PT_TLS && ours) shared = {start, size};
  }
  return shared.start != nullptr;
}

static void discard_fibers() {
  for (Fiber* fiber : fibers) {
    munmap(fiber->stack, STACK_BYTES);
    delete fiber;
  }
  fibers.clear();
}

static void run_block() {
  started = 0;
  live = threads;
  block_barrier = Barrier();
  for (int warp = 0; warp * 32 < threads; ++warp) {
    warp_barriers[warp] = Barrier();
    warp_live[warp] = threads - warp * 32 < 32 ? threads - warp * 32 : 32;
  }
  size_t used = 0;
  for (; started < threads && failure.empty(); ++used) {
    if (used == fibers.size()) fibers.push_back(new_fiber());
    resume(fibers[used]);
  }
  while (live && failure.empty()) {
    bool progress = false;
    for (size_t i = 0; i < used && failure.empty(); ++i) {
      if (!fibers[i]->barrier || !may_go_on(fibers[i])) continue;
      resume(fibers[i]);
      progress = true;
    }
    if (!progress)
      failure = "divergent barrier: " + std::to_string(live) + " threads wait for the others";
  }
  if (!failure.empty()) discard_fibers();  // their threads are in the middle of the kernel
}

// ---- Launches

template <class... A, size_t... I>
static void run_grid(void (*kernel)(A...), void** arguments, std::index_sequence<I...>) {
  struct Call {
    void (*kernel)(A...);
    void** arguments;
  } call{kernel, arguments};
  body = [](void* pointer) {
    const Call& call = *(Call*)pointer;
    call.kernel(*(std::remove_reference_t<A>*)call.arguments[I]...);
  };
  body_argument = &call;
  Shared shared;
  dl_iterate_phdr(find_shared, &shared);
  const uint64_t blocks = (uint64_t)gridDim.x * gridDim.y * gridDim.z;
  for (uint64_t i = 0; i < blocks && failure.empty(); ++i) {
    const uint64_t b = order ? blocks - 1 - i : i;
    blockIdx = {unsigned(b % gridDim.x), unsigned(b / gridDim.x % gridDim.y),
                unsigned(b / gridDim.x / gridDim.y)};
    memset(shared.start, 0xff, shared.size);  // a block finds NaN, not what the last one left
    run_block();
  }
}

// Run a kernel; `sizes` is the grid's x, y, z and the block's. Returns what went wrong, or "".
template <class... A>
static const char* launch(void (*kernel)(A...), const unsigned* sizes, int thread_order,
                          size_t shared_bytes, void** arguments) {
  gridDim = {sizes[0], sizes[1], sizes[2]};
  blockDim = {sizes[3], sizes[4], sizes[5]};
  threads = blockDim.x * blockDim.y * blockDim.z;
  order = thread_order;
  dynamic_shared.assign(shared_bytes + 16, 0x7f);
  failure.clear();
  run_grid(kernel, arguments, std::index_sequence_for<A...>{});
  return failure.c_str();
}

// A parameter's type as text: "f4", "i8", "u1", "b1", "f2" (half), "w2" (bfloat16), "V16/8" (any
// other type: size and alignment), "*f4" (pointer), "*" (pointer to void).
template <class T>
static std::string describe() {
  if constexpr (std::is_pointer_v<T>) {
    using Pointee = std::remove_cv_t<std::remove_pointer_t<T>>;
    if constexpr (std::is_void_v<Pointee>)
      return "*";
    else
      return "*" + describe<Pointee>();
  } else {
    const std::string size = std::to_string(sizeof(T));
    if (std::is_same_v<T, __nv_bfloat16>) return "w2";
    if (std::is_same_v<T, __half> || std::is_floating_point_v<T>) return "f" + size;
    if (std::is_same_v<T, bool>) return "b" + size;
    if (std::is_integral_v<T>) return (std::is_signed_v<T> ? "i" : "u") + size;
    return "V" + size + "/" + std::to_string(alignof(T));
  }
}

template <class... A>
static const char* signature(void (*)(A...)) {
  static std::string text;
  text.clear();
  ((text += describe<std::remove_cv_t<A>>() + " "), ...);
  return text.c_str();
}

// The first of __launch_bounds__'s arguments.
static unsigned bound(unsigned max_threads = MAX_THREADS, unsigned = 0, unsigned = 0) {
  return max_threads;
}

}  // namespace shim

// ---- What kernels call

static inline void __syncthreads(int line = __builtin_LINE()) {
  shim::wait(shim::block_barrier, line);
}
static inline void __syncwarp(unsigned = ~0u, int line = __builtin_LINE()) {
  shim::wait(shim::warp_barriers[shim::running->thread / 32], line);
}
static inline void __threadfence() {}
static inline void __threadfence_block() {}

// All lanes of a warp write, wait, read and wait again.
template <class T>
static T shim_shuffle(T value, int source) {
  static_assert(sizeof(T) <= 8);
  const int self = shim::running->thread;
  memcpy(&shim::lanes[self], &value, sizeof value);
  __syncwarp();
  T result;
  memcpy(&result, &shim::lanes[self / 32 * 32 + source % 32], sizeof result);
  __syncwarp();
  return result;
}
template <class T>
static T __shfl_sync(unsigned, T value, int lane, int = 32) {
  return shim_shuffle(value, lane);
}
template <class T>
static T __shfl_down_sync(unsigned, T value, int distance, int = 32) {
  const int lane = shim::running->thread % 32;
  return shim_shuffle(value, lane + distance > 31 ? lane : lane + distance);
}
template <class T>
static T __shfl_xor_sync(unsigned, T value, int mask, int = 32) {
  return shim_shuffle(value, (shim::running->thread % 32) ^ mask);
}

// CUDA's rules: of a number and NaN, the number; of two types, the one that arithmetic gives.
template <class A, class B>
static inline std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>)
    return std::fmin((T)a, (T)b);
  else
    return (T)b < (T)a ? (T)b : (T)a;
}
template <class A, class B>
static inline std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  if constexpr (std::is_floating_point_v<T>)
    return std::fmax((T)a, (T)b);
  else
    return (T)a < (T)b ? (T)b : (T)a;
}

static inline float rsqrtf(float x) { return 1 / sqrtf(x); }
static inline double rsqrt(double x) { return 1 / sqrt(x); }
static inline float rsqrt(float x) { return rsqrtf(x); }
#define __expf expf  // the C library declares this name
#define __logf logf
#define __powf powf
static inline float __fdividef(float x, float y) { return x / y; }
static inline float __saturatef(float x) { return x > 0 ? x < 1 ? x : 1 : 0; }
static inline float __fmaf_rn(float x, float y, float z) { return fmaf(x, y, z); }
static inline double __fma_rn(double x, double y, double z) { return fma(x, y, z); }

static inline unsigned __umulhi(unsigned x, unsigned y) { return (uint64_t)x * y >> 32; }
static inline int __mulhi(int x, int y) { return (int64_t)x * y >> 32; }
static inline unsigned long long __umul64hi(unsigned long long x, unsigned long long y) {
  return (unsigned __int128)x * y >> 64;
}
static inline long long __mul64hi(long long x, long long y) { return (__int128)x * y >> 64; }
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline int __clz(int x) { return x ? __builtin_clz((unsigned)x) : 32; }
static inline int __ffs(int x) { return __builtin_ffs(x); }

template <class To, class From>
static inline To shim_bits(From value) {
  static_assert(sizeof(To) == sizeof(From));
  To result;
  memcpy(&result, &value, sizeof result);
  return result;
}
static inline unsigned __float_as_uint(float x) { return shim_bits<unsigned>(x); }
static inline int __float_as_int(float x) { return shim_bits<int>(x); }
static inline float __uint_as_float(unsigned x) { return shim_bits<float>(x); }
static inline float __int_as_float(int x) { return shim_bits<float>(x); }
static inline long long __double_as_longlong(double x) { return shim_bits<long long>(x); }
static inline double __longlong_as_double(long long x) { return shim_bits<double>(x); }

// One thread runs at a time, so plain reads and writes are atomic.
template <class T>
static T atomicAdd(T* address, T value) {
  const T old = *address;
  *address = old + value;
  return old;
}
template <class T>
static T atomicMax(T* address, T value) {
  const T old = *address;
  *address = max(old, value);
  return old;
}
template <class T>
static T atomicMin(T* address, T value) {
  const T old = *address;
  *address = min(old, value);
  return old;
}
template <class T>
static T atomicExch(T* address, T value) {
  const T old = *address;
  *address = value;
  return old;
}
template <class T>
static T atomicCAS(T* address, T expected, T value) {
  const T old = *address;
  if (old == expected) *address = value;
  return old;
}
template <class T>
static T __ldg(const T* address) {
  return *address;
}
