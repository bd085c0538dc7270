// Optimiser steps over all parameters in one call.
//
// A part is one chunk of one parameter: a row of `chunks` with the addresses of the chunk in the
// parameter, its gradient and up to three states (0 for none), and its length.
#include "common.h"

namespace {

template <class T>
struct Chunk {
    T* param;
    const T* grad;
    T *first, *second, *third;
    int64_t length;
};

// f(chunk, i) for each element; f must not branch on what differs between elements
template <class T, class F>
inline void each_element(const Chunk<T>* chunks, int64_t count, int64_t threads, F&& f) {
    parallel(threads, count, [&](int64_t part) {
        const Chunk<T> chunk = chunks[part];
#pragma GCC ivdep
        for (int64_t i = 0; i < chunk.length; ++i) f(chunk, i);
    });
}

inline float root(float x) { return __builtin_sqrtf(x); }
inline double root(double x) { return __builtin_sqrt(x); }

// g += weight_decay * p; v = momentum * v + g; p -= lr * (v, or g + momentum * v, or g)
template <class T>
void sgd_step(const Chunk<T>* chunks, int64_t count, int64_t threads, double lr, double momentum,
              int64_t nesterov, double weight_decay) {
    const T rate = lr, keep = momentum, decay = weight_decay;
    if (momentum == 0)
        return each_element(chunks, count, threads, [=](const Chunk<T>& c, int64_t i) {
            c.param[i] -= rate * (c.grad[i] + decay * c.param[i]);
        });
    each_element(chunks, count, threads, [=](const Chunk<T>& c, int64_t i) {
        const T g = c.grad[i] + decay * c.param[i];
        const T v = keep * c.first[i] + g;
        c.first[i] = v;
        c.param[i] -= rate * (nesterov ? g + keep * v : v);
    });
}

// m = b1*m + (1-b1)*g; v = b2*v + (1-b2)*g*g; p -= lr / (1-b1^t) * m / (sqrt(v / (1-b2^t)) + eps)
// in step t. Before that, g += weight_decay * p, or if decoupled, p *= 1 - lr * weight_decay.
template <class T>
void adam_step(const Chunk<T>* chunks, int64_t count, int64_t threads, double lr, double beta1,
               double beta2, double eps, double weight_decay, double step, int64_t decoupled) {
    const T rate = lr / (1 - __builtin_pow(beta1, step));
    const T correction = 1 / __builtin_sqrt(1 - __builtin_pow(beta2, step));
    const T b1 = beta1, b2 = beta2, c1 = 1 - beta1, c2 = 1 - beta2, small = eps;
    const T decay = decoupled ? 0 : weight_decay, keep = decoupled ? 1 - lr * weight_decay : 1;
    each_element(chunks, count, threads, [=](const Chunk<T>& c, int64_t i) {
        const T p = c.param[i], g = c.grad[i] + decay * p;
        const T m = b1 * c.first[i] + c1 * g, v = b2 * c.second[i] + c2 * g * g;
        c.first[i] = m;
        c.second[i] = v;
        c.param[i] = keep * p - rate * m / (root(v) * correction + small);
    });
}

// g += weight_decay * p; s = a*s + (1-a)*g*g; m = a*m + (1-a)*g if centred;
// step = g / (sqrt(s - m*m) + eps); v = momentum*v + step; p -= lr * (v, or step)
template <class T>
void rmsprop_step(const Chunk<T>* chunks, int64_t count, int64_t threads, double lr, double alpha,
                  double eps, double momentum, double weight_decay) {
    const T rate = lr, old = alpha, fresh = 1 - alpha, small = eps;
    const T keep = momentum, decay = weight_decay;
    each_element(chunks, count, threads, [=](const Chunk<T>& c, int64_t i) {
        const T p = c.param[i], g = c.grad[i] + decay * p;
        T variance = c.first[i] = old * c.first[i] + fresh * g * g;
        if (c.second) {
            const T m = c.second[i] = old * c.second[i] + fresh * g;
            variance -= m * m;
            variance = variance < 0 ? 0 : variance;  // from rounding; NaN stays
        }
        T step = g / (root(variance) + small);
        if (c.third) step = c.third[i] = keep * c.third[i] + step;
        c.param[i] = p - rate * step;
    });
}

// g += weight_decay * p; s += g*g; p -= lr / (1 + (t-1) * lr_decay) * g / (sqrt(s) + eps) in step t
template <class T>
void adagrad_step(const Chunk<T>* chunks, int64_t count, int64_t threads, double lr,
                  double lr_decay, double eps, double weight_decay, double step) {
    const T rate = lr / (1 + (step - 1) * lr_decay), small = eps, decay = weight_decay;
    each_element(chunks, count, threads, [=](const Chunk<T>& c, int64_t i) {
        const T p = c.param[i], g = c.grad[i] + decay * p;
        const T s = c.first[i] = c.first[i] + g * g;
        c.param[i] = p - rate * (g / (root(s) + small));
    });
}

}  // namespace

EXPORT_BOTH(sgd_step,
            (const Chunk<T>* chunks, int64_t count, int64_t threads, double lr, double momentum,
             int64_t nesterov, double weight_decay),
            (chunks, count, threads, lr, momentum, nesterov, weight_decay))
EXPORT_BOTH(adam_step,
            (const Chunk<T>* chunks, int64_t count, int64_t threads, double lr, double beta1,
             double beta2, double eps, double weight_decay, double step, int64_t decoupled),
            (chunks, count, threads, lr, beta1, beta2, eps, weight_decay, step, decoupled))
EXPORT_BOTH(rmsprop_step,
            (const Chunk<T>* chunks, int64_t count, int64_t threads, double lr, double alpha,
             double eps, double momentum, double weight_decay),
            (chunks, count, threads, lr, alpha, eps, momentum, weight_decay))
EXPORT_BOTH(adagrad_step,
            (const Chunk<T>* chunks, int64_t count, int64_t threads, double lr, double lr_decay,
             double eps, double weight_decay, double step),
            (chunks, count, threads, lr, lr_decay, eps, weight_decay, step))
