// Softmax and cross-entropy with class indices, forward and gradient in one call.
//
// x, slope : (classes, size);  target, terms : (size,). A part is up to COLUMNS columns, computed
// one vector at a time: three passes over its classes, which stay in the cache. Subtracting the
// maximum keeps exp from overflowing.
#include "math.h"

namespace {

constexpr int64_t COLUMNS = 64, PIECE = 32;  // classes that are summed at a time

inline float logarithm(float x) { return __builtin_logf(x); }
inline double logarithm(double x) { return __builtin_log(x); }

// Of W vectors of columns: slope = exp(x - max) / sum, unless it is null; the sums and maxima.
template <class V, int W, class T>
inline void softmax(const T* x, T* slope, int64_t classes, int64_t size, T* totals, T* maxima) {
    constexpr int64_t N = sizeof(V) / sizeof(T);
    V high[W], total[W] = {};
    for (int w = 0; w < W; ++w) high[w] = read<V>(x + w * N);
    for (int64_t c = 1; c < classes; ++c)
        for (int w = 0; w < W; ++w) {
            const V value = read<V>(x + c * size + w * N);
            high[w] = value > high[w] ? value : high[w];
        }
    for (int64_t start = 0; start < classes; start += PIECE) {
        V sum[W] = {};
        for (int64_t c = start; c < smaller(start + PIECE, classes); ++c)
            for (int w = 0; w < W; ++w) {
                const V power = exponential<T>(read<V>(x + c * size + w * N) - high[w]);
                if (slope) write(slope + c * size + w * N, power);
                sum[w] += power;
            }
        for (int w = 0; w < W; ++w) total[w] += sum[w];
    }
    for (int w = 0; w < W; ++w) {
        write(totals + w * N, total[w]);
        write(maxima + w * N, high[w]);
        total[w] = T(1) / total[w];
    }
    for (int64_t c = 0; slope && c < classes; ++c)
        for (int w = 0; w < W; ++w) {
            T* to = slope + c * size + w * N;
            write(to, read<V>(to) * total[w]);
        }
}

// terms = log(sum(exp(x))) - x[target], NaN if target is not a class;
// slope = softmax(x) - onehot(target), the gradient of terms; both 0 if target is `ignore`.
template <class T>
void cross_entropy(const T* x, const int64_t* target, T* terms, T* slope, int64_t ignore,
                   int64_t classes, int64_t size, int64_t threads) {
    const int64_t parts = ceil_div(size, COLUMNS);
    parallel(threads, parts, [&](int64_t part) {
        const int64_t start = part * size / parts, count = (part + 1) * size / parts - start;
        T totals[COLUMNS], maxima[COLUMNS];
        const T* from = x + start;
        T* to = slope ? slope + start : nullptr;
        if (count == COLUMNS)
            softmax<Vec<T>, COLUMNS / Vector<T>::size>(from, to, classes, size, totals, maxima);
        else
            each_lanes<T>(count, [&](int64_t i, auto lanes) {
                T* own = slope ? to + i : nullptr;
                softmax<decltype(lanes), 1>(from + i, own, classes, size, totals + i, maxima + i);
            });
        for (int64_t i = 0; i < count; ++i) {
            const int64_t column = start + i, label = target[column];
            const bool exists = label >= 0 && label < classes;
            if (label == ignore) {
                terms[column] = 0;
                for (int64_t c = 0; slope && c < classes; ++c) slope[c * size + column] = 0;
                continue;
            }
            const T chosen = exists ? x[label * size + column] : __builtin_nan("");
            terms[column] = logarithm(totals[i]) + (maxima[i] - chosen);
            if (slope && exists) slope[label * size + column] -= 1;
        }
    });
}

// the mean of the terms that are not ignored, NaN without any, and 1 / their number, 1 without any
template <class T>
void mean_of_terms(const T* terms, const int64_t* target, T* mean, T* inverse, int64_t ignore,
                   int64_t size) {
    double total = 0;
    int64_t count = 0;
    for (int64_t i = 0; i < size; ++i) {
        total += terms[i];
        count += target[i] != ignore;
    }
    *mean = count ? total / count : __builtin_nan("");
    *inverse = 1.0 / larger(1, count);
}

template <class T>
void exponential(const T* x, T* y, int64_t size) {
    each_lanes<T>(size, [&](int64_t i, auto lanes) {
        write(y + i, exponential<T>(read<decltype(lanes)>(x + i)));
    });
}

}  // namespace

EXPORT_BOTH(cross_entropy,
            (const T* x, const int64_t* target, T* terms, T* slope, int64_t ignore, int64_t classes,
             int64_t size, int64_t threads),
            (x, target, terms, slope, ignore, classes, size, threads))
EXPORT_BOTH(mean_of_terms,
            (const T* terms, const int64_t* target, T* mean, T* inverse, int64_t ignore,
             int64_t size),
            (terms, target, mean, inverse, ignore, size))
EXPORT_BOTH(exponential, (const T* x, T* y, int64_t size), (x, y, size))
