// What all kernels share: the vector type of an instruction set, exported names, parallel loops.
//
// Every file but threads.cpp is compiled once per instruction set, with XCNN_VARIANT set to its
// name. Keep code in an anonymous namespace and use no templates of the standard library: the
// linker would keep one copy of theirs for all instruction sets.
#pragma once
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define XCNN_JOIN_(a, b, c) a##b##_##c
#define XCNN_JOIN(a, b, c) XCNN_JOIN_(a, b, c)
// the exported name of a kernel: xcnn_avx2_NAME
#define KERNEL(name) XCNN_JOIN(xcnn_, XCNN_VARIANT, name)
#if defined(_WIN32)
#define EXPORT extern "C" __declspec(dllexport)
#else
#define EXPORT extern "C" __attribute__((visibility("default")))
#endif

// export the template name<T> for both types: NAME_float32 and NAME_float64, with the same parameters;
// they return 0, or 1 where there was no memory
#define EXPORT_BOTH(name, parameters, arguments)                         \
    EXPORT_AS(name, float, float32, parameters, arguments)               \
    EXPORT_AS(name, double, float64, parameters, arguments)
#define EXPORT_AS(name, type, dtype, parameters, arguments)              \
    namespace dtype {                                                    \
    typedef type T;                                                      \
    EXPORT int KERNEL(name##_##dtype) parameters {                       \
        return failed([&] { name<T> arguments; });                       \
    }                                                                    \
    }

// Call work(context, part) for each part in [0, parts), on up to `threads` threads; false if one threw.
EXPORT bool xcnn_parallel(int64_t threads, int64_t parts, void (*work)(void*, int64_t), void* context);

namespace {

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;  // SSE2, NEON
#endif

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// a vector of T that may start at any address of a T
template <class T, int bytes = VECTOR_BYTES>
struct Vector {
    static constexpr int size = bytes / sizeof(T);
    typedef T type __attribute__((vector_size(bytes), aligned(sizeof(T)), may_alias));
};
template <class T>
using Vec = typename Vector<T>::type;

// Code for lanes V computes one element, V = T, or a vector of them, V = Vec<T>.
// Lanes<V>::mask selects lanes; it is an integer as wide as T in each.
template <class V>
struct Lanes {
    typedef decltype(V{} < V{}) mask;
};
template <>
struct Lanes<float> {
    typedef int32_t mask;
};
template <>
struct Lanes<double> {
    typedef int64_t mask;
};

template <class T>
inline Vec<T> load(const T* p) {
    return *reinterpret_cast<const Vec<T>*>(p);
}
template <class T>
inline void store(T* p, Vec<T> v) {
    *reinterpret_cast<Vec<T>*>(p) = v;
}
// the first n elements, then zeros
template <class T>
inline Vec<T> load_part(const T* p, int64_t n) {
    Vec<T> v = {};
    memcpy(&v, p, n * sizeof(T));
    return v;
}
template <class T>
inline void store_part(T* p, Vec<T> v, int64_t n) {
    memcpy(p, &v, n * sizeof(T));
}
// the lanes V at p
template <class V, class T>
inline V read(const T* p) {
    if constexpr (sizeof(V) == sizeof(T))
        return *p;
    else
        return *reinterpret_cast<const typename Vector<T, sizeof(V)>::type*>(p);
}
inline void write(float* p, float v) { *p = v; }
inline void write(double* p, double v) { *p = v; }
template <class T, class V, class = decltype(V{}[0])>
inline void write(T* p, V v) {
    *reinterpret_cast<typename Vector<T, sizeof(V)>::type*>(p) = v;
}
// call f(i, lanes V) for the elements [i, n): whole vectors, then shorter ones, the last one by one
template <class T, int bytes = VECTOR_BYTES, class F>
inline void each_lanes(int64_t n, F&& f, int64_t i = 0) {
    constexpr int64_t size = Vector<T, bytes>::size;
    for (; i + size <= n; i += size) f(i, typename Vector<T, bytes>::type());
    if constexpr (bytes > 16)
        each_lanes<T, bytes / 2>(n, f, i);
    else
        for (; i < n; ++i) f(i, T());
}
// the sum of the lanes: halves are added until two lanes are left
template <class T, int bytes = VECTOR_BYTES>
inline T sum(typename Vector<T, bytes>::type v) {
    if constexpr (Vector<T, bytes>::size == 2) {
        return v[0] + v[1];
    } else {
        typename Vector<T, bytes / 2>::type halves[2];
        memcpy(halves, &v, sizeof v);
        return sum<T, bytes / 2>(halves[0] + halves[1]);
    }
}

struct NoMemory {};  // thrown: scratch memory cannot be had

template <class F>
inline int failed(F&& work) {
    try {
        work();
        return 0;
    } catch (const NoMemory&) {
        return 1;
    }
}

// memory for `count` elements, aligned to vectors, not initialised, until the end of the block
template <class T>
struct Buffer {
    T* data;
    explicit Buffer(int64_t count) : data(static_cast<T*>(aligned_alloc(64, 64 * ceil_div(count * sizeof(T) + 1, 64)))) {
        if (!data) throw NoMemory();
    }
    ~Buffer() { free(data); }
    Buffer(const Buffer&) = delete;
    operator T*() const { return data; }
};

// the same, zeros, on the stack if they are few
template <class T>
struct Zeros {
    T few[512], *data = few;
    explicit Zeros(int64_t count) {
        if (count > 512 && !(data = static_cast<T*>(malloc(count * sizeof(T))))) throw NoMemory();
        memset(data, 0, count * sizeof(T));
    }
    ~Zeros() {
        if (data != few) free(data);
    }
    Zeros(const Zeros&) = delete;
    operator T*() const { return data; }
};

// parallel(threads, parts, [&](int64_t part) { ... }); parts must be independent of one another
template <class F>
inline void parallel(int64_t threads, int64_t parts, F&& work) {
    const auto call = [](void* f, int64_t part) { (*static_cast<F*>(f))(part); };
    if (!xcnn_parallel(threads, parts, call, &work)) throw NoMemory();
}

}  // namespace
