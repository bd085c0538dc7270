// Batch, layer, group and instance normalisation, with residual add and ReLU, forward and backward.
//
// Arrays are (groups, rows, pixels, lanes), contiguous. Each lane of a group has a mean and a
// variance, each row a weight. A group is read in long rows of `width` elements, lanes repeated if
// they are few, so that every column belongs to one lane: all loops are vectors of columns.
//
// Groups are divided among threads and, where they are few, the rows of a group too. Moments are
// added by Chan's formula, relative to the group's first elements, which keeps every digit where
// the mean is large: a block of rows is summed relative to its own first row, in vectors, and
// blocks are joined in double. Outputs that are too large for the caches are written past them.
#include <math.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "common.h"

namespace {

constexpr int64_t BLOCK = 64;  // long rows that are summed in the type of the array
constexpr int64_t FAR = 4 << 20;  // bytes of an output that is written past the caches

// Write lanes V; if far, past the caches, 16 bytes at a time: their memory is not read first.
template <class T, class V>
inline void put(T* p, V v, bool far) {
#if defined(__SSE2__)
    if constexpr (VECTOR_BYTES == 64 && sizeof v >= 16)  // shorter vectors: no faster, measured
        if (far) {
            __m128i parts[sizeof v / 16];
            memcpy(parts, &v, sizeof v);
            for (int i = 0; i < int(sizeof v / 16); ++i) _mm_stream_si128(reinterpret_cast<__m128i*>(p) + i, parts[i]);
            return;
        }
#endif
    write(p, v);
}
// after the last put() of a thread, before others read
inline void finish_puts() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
}

// the sum of lanes V
inline float total(float v) { return v; }
inline double total(double v) { return v; }
template <class V, class T = decltype(V{}[0] + 0)>
inline T total(V v) {
    return sum<T, sizeof v>(v);
}

struct Shape {
    int64_t groups, rows, pixels, lanes, chunks, width;

    // elements of a row; of a group
    int64_t row() const { return pixels * lanes; }
    int64_t group() const { return rows * row(); }
    // the first row of a chunk
    int64_t start(int64_t chunk) const { return chunk * rows / chunks; }
    // whether an output is large, and its vectors start at multiples of 16 bytes
    template <class T>
    bool is_far(const T* output) const {
        const int64_t size = groups * group() * sizeof(T);
        return size > FAR && (reinterpret_cast<uintptr_t>(output) | row() * sizeof(T) | width * sizeof(T)) % 16 == 0;
    }
};

template <class T>
Shape shape_of(int64_t threads, int64_t groups, int64_t rows, int64_t pixels, int64_t lanes) {
    constexpr int64_t wide = 4 * Vector<T>::size;
    int64_t unit = 1, width = lanes;  // the least repeats that fill whole vectors
    while (unit * lanes % Vector<T>::size) unit *= 2;
    if (lanes < wide) width = lanes * unit * ceil_div(wide, lanes * unit);
    const bool balanced = groups % threads == 0 || groups >= 4 * threads;
    return {groups, rows, pixels, lanes, balanced ? 1 : smaller(threads, rows), width};
}

// each column's copy of its lane's value
template <class T, class F>
void spread(const Shape& s, T* columns, F&& value) {
    for (int64_t l = 0; l < s.lanes; ++l) columns[l] = value(l);
    for (int64_t c = s.lanes; c < s.width; c *= 2)
        memcpy(columns + c, columns, smaller(c, s.width - c) * sizeof(T));
}

// For each vector of columns of rows that are short: prepare(c, lanes) returns what to call with the
// position and the number of each row. A few rows and up to four vectors at a time: the memory is
// read and written almost in order.
template <class T, class F>
inline __attribute__((always_inline)) void each_short_row(const Shape& s, int64_t at, int64_t from, int64_t to,
                                                          F&& prepare) {
    constexpr int64_t V = Vector<T>::size;
    const int64_t row = s.row(), step = larger(1, 256 / row);
    const Vec<T> v = {};
    for (int64_t block = from; block < to; block += step) {
        const int64_t end = smaller(to, block + step);
        const auto call = [&](int64_t c, auto... apply) {
            for (int64_t k = block; k < end; ++k) {
                int64_t p = at + k * row + c;
                ((apply(p, k), p += V), ...);
            }
        };
        int64_t c = 0;
        for (; c + 4 * V <= row; c += 4 * V)
            call(c, prepare(c, v), prepare(c + V, v), prepare(c + 2 * V, v), prepare(c + 3 * V, v));
        for (; c + 2 * V <= row; c += 2 * V) call(c, prepare(c, v), prepare(c + V, v));
        each_lanes<T>(row, [&](int64_t c, auto lanes) { call(c, prepare(c, lanes)); }, c);
    }
}

// -- statistics -----------------------------------------------------------------------------

struct Moments {
    double count, mean, m2;  // m2: the sum of (x - mean)^2

    void join(double n, double other, double other_m2) {
        const double total = count + n, d = other - mean;
        m2 += other_m2 + d * d * (count * n / total);
        mean += d * (n / total);
        count = total;
    }
};

// Add rows of W lanes V to the moments of their columns, of `before`.
template <class V, int W, class T>
void add_block(const T* x, int64_t rows, int64_t stride, const T* first, double before, double* mean, double* m2) {
    constexpr int size = sizeof(V) / sizeof(T);
    V shift[W], sum[W] = {}, square[W] = {};
    for (int w = 0; w < W; ++w) shift[w] = read<V>(x + w * size);
    for (int64_t r = 0; r < rows; ++r)
        for (int w = 0; w < W; ++w) {
            const V d = read<V>(x + r * stride + w * size) - shift[w];
            sum[w] += d;
            square[w] += d * d;
        }
    T shifts[W * size], sums[W * size], squares[W * size];
    memcpy(shifts, shift, sizeof shift);
    memcpy(sums, sum, sizeof sum);
    memcpy(squares, square, sizeof square);
    const double part = rows / (before + rows), each = 1.0 / rows;
    for (int c = 0; c < W * size; ++c) {
        const double s = sums[c], d = (double)shifts[c] - first[c] + s * each - mean[c];
        m2[c] += squares[c] - s * s * each + d * d * (part * before);
        mean[c] += d * part;
    }
}

inline double sum_of(const double* p, int64_t size, int64_t stride) {
    Vec<double> sums = {};
    double rest = 0;
    int64_t i = 0;
    for (; stride == 1 && i + Vector<double>::size <= size; i += Vector<double>::size) sums += load(p + i);
    for (; i < size; ++i) rest += p[i * stride];
    return sum<double>(sums) + rest;
}

// Add columns of `count` elements each to the moments of their lanes; changes m2.
void join_columns(const Shape& s, int64_t columns, double count, const double* mean, double* m2,
                  Moments* lanes) {
    for (int64_t l = 0; l < smaller(columns, s.lanes); ++l) {
        const int64_t n = ceil_div(columns - l, s.lanes);
        const double average = sum_of(mean + l, n, s.lanes) / n;
        for (int64_t c = l; c < columns; c += s.lanes)
            m2[c] += count * (mean[c] - average) * (mean[c] - average);
        lanes[l].join(n * count, average, sum_of(m2 + l, n, s.lanes));
    }
}

// The moments, relative to the first elements of the group, of `size` elements from x on.
template <class T>
void moments_of(const Shape& s, const T* group, const T* x, int64_t size, Moments* lanes) {
    constexpr int64_t V = Vector<T>::size;
    Zeros<T> first(s.width);
    Zeros<double> mean(s.width), m2(s.width);
    spread(s, first.data, [&](int64_t l) { return group[l]; });
    const int64_t rows = size / s.width, rest = size % s.width;
    for (int64_t r = 0; r < rows; r += BLOCK) {
        const int64_t count = smaller(BLOCK, rows - r);
        const T* block = x + r * s.width;
        int64_t c = 0;
        for (; c + 4 * V <= s.width; c += 4 * V)
            add_block<Vec<T>, 4>(block + c, count, s.width, first + c, r, mean + c, m2 + c);
        each_lanes<T>(s.width, [&](int64_t c, auto lanes) {
            add_block<decltype(lanes), 1>(block + c, count, s.width, first + c, r, mean + c, m2 + c);
        }, c);
    }
    if (rows) join_columns(s, s.width, rows, mean, m2, lanes);
    for (int64_t c = 0; c < rest; ++c) {
        mean[c] = (double)x[rows * s.width + c] - first[c];
        m2[c] = 0;
    }
    join_columns(s, rest, 1, mean, m2, lanes);
}

// -- forward --------------------------------------------------------------------------------

template <class T>
struct Forward {
    Shape s;
    const T *x, *weight, *bias, *residual;
    int64_t group_stride, row_stride;  // of weight and bias
    T *y, *running_mean, *running_var, *statistics;
    double eps, momentum, ceiling;
    bool fixed, relu, far;
    Moments* moments;  // (groups, chunks, lanes)

    T* mean(int64_t g) const { return statistics + g * s.lanes; }
    T* rest(int64_t g) const { return mean(s.groups + g); }
    T* scale(int64_t g) const { return mean(2 * s.groups + g); }

    void measure(int64_t g, int64_t chunk) const {
        const T* group = x + g * s.group();
        const int64_t from = s.start(chunk) * s.row(), to = s.start(chunk + 1) * s.row();
        moments_of(s, group, group + from, to - from, moments + (g * s.chunks + chunk) * s.lanes);
    }

    void finish(int64_t g) const {
        double means = 0, vars = 0, count = 1;
        for (int64_t l = 0; l < s.lanes; ++l) {
            Moments all = moments[g * s.chunks * s.lanes + l];
            for (int64_t k = 1; k < s.chunks; ++k) {
                const Moments& m = moments[(g * s.chunks + k) * s.lanes + l];
                all.join(m.count, m.mean, m.m2);
            }
            const T* column = x + g * s.group() + l;
            if (all.mean != all.mean) {  // infinite, unless opposite infinities or NaN are among them
                all.mean = 0;
                for (int64_t i = 0; i < s.group(); i += s.lanes) all.mean += column[i];
            }
            // first + all.mean as an unevaluated sum of two
            const double first = *column, high = first + all.mean, part = high - first;
            const double low = (first - (high - part)) + (all.mean - part);
            const double var = all.m2 < 0 ? 0 : all.m2 / all.count;  // NaN stays
            mean(g)[l] = high;
            rest(g)[l] = high - mean(g)[l] + low;
            scale(g)[l] = 1 / sqrt(var + eps);
            means += high;
            vars += var;
            count = all.count;
        }
        if (!running_mean) return;
        vars *= count / (count - 1);
        running_mean[g] = running_mean[g] * (1 - momentum) + momentum * means / s.lanes;
        running_var[g] = running_var[g] * (1 - momentum) + momentum * vars / s.lanes;
    }

    void use_running(int64_t g) const {
        for (int64_t l = 0; l < s.lanes; ++l) {
            mean(g)[l] = running_mean[g];
            rest(g)[l] = 0;
            scale(g)[l] = 1 / sqrt(running_var[g] + eps);
        }
    }

    void normalize(int64_t g, int64_t chunk) const {
        Zeros<T> table(3 * s.width);
        T *means = table, *scales = means + s.width, *offsets = scales + s.width;
        spread(s, means, [&](int64_t l) { return mean(g)[l]; });
        spread(s, scales, [&](int64_t l) { return scale(g)[l]; });
        spread(s, offsets, [&](int64_t l) { return -rest(g)[l] * scale(g)[l]; });
        const int64_t from = s.start(chunk), to = s.start(chunk + 1);
        const int64_t at = g * s.group(), own = g * group_stride;
        if (s.row() == 1 && row_stride && weight && bias)
            return run<true>(at + from, to - from, table, weight + own + from, bias + own + from);
        const Forward f = *this;  // a copy whose members no store can change
        if (s.row() <= s.width && row_stride)
            return each_short_row<T>(s, at, from, to, [&](int64_t c, auto lanes) {
                typedef decltype(lanes) V;
                const V m = read<V>(means + c), scale = read<V>(scales + c), offset = read<V>(offsets + c);
                return [=](int64_t p, int64_t k) {
                    const V v = (read<V>(f.x + p) - m) * scale + offset;
                    f.output(p, v * (f.weight ? f.weight[own + k] : 1) + (f.bias ? f.bias[own + k] : 0));
                };
            });
        const int64_t step = row_stride ? 1 : larger(1, to - from);  // rows that share a weight
        for (int64_t k = to - step; k >= from; k -= step) {  // backwards: the end is in the cache
            const T one = 1, zero = 0;
            const T* w = weight ? weight + own + k * row_stride : &one;
            const T* b = bias ? bias + own + k * row_stride : &zero;
            run<false>(at + k * s.row(), step * s.row(), table, w, b);
        }
    }

    // y = ((x - mean) * scale + offset) * w + b, with a weight for each element or for all
    template <bool EACH>
    void run(int64_t at, int64_t size, const T* means, const T* w, const T* b) const {
        const T *scales = means + s.width, *offsets = scales + s.width;
        const Forward f = *this;
        const T w0 = *w, b0 = *b;
        for (int64_t i = 0; i < size; i += s.width)
            each_lanes<T>(smaller(s.width, size - i), [&](int64_t c, auto lanes) {
                typedef decltype(lanes) V;
                const int64_t p = at + i + c;
                const V v = (read<V>(f.x + p) - read<V>(means + c)) * read<V>(scales + c) + read<V>(offsets + c);
                f.output(p, EACH ? v * read<V>(w + i + c) + read<V>(b + i + c) : v * w0 + b0);
            });
    }

    template <class V>
    void output(int64_t p, V v) const {
        const V zero = {}, top = zero + T(ceiling);
        if (residual) v += read<V>(residual + p);
        if (relu) v = v < zero ? zero : (v > top ? top : v);  // NaN stays
        put(y + p, v, far);
    }
};

template <class T>
void normalize(int64_t threads, int64_t groups, int64_t rows, int64_t pixels, int64_t lanes, const T* x,
             const T* weight, const T* bias, int64_t group_stride, int64_t row_stride, double eps,
             T* running_mean, T* running_var, double momentum, int64_t fixed, const T* residual,
             int64_t relu, double ceiling, T* y, T* statistics) {
    const Shape s = shape_of<T>(threads, groups, rows, pixels, lanes);
    Zeros<Moments> moments(groups * s.chunks * lanes);
    const Forward<T> f = {s, x, weight, bias, residual, group_stride, row_stride, y, running_mean,
                          running_var, statistics, eps, momentum, ceiling, !!fixed, !!relu, s.is_far(y), moments};
    const int64_t parts = groups * s.chunks;
    const bool whole = s.chunks == 1;  // a group stays in the cache between the passes
    if (!fixed && !whole)
        parallel(threads, parts, [&](int64_t i) { f.measure(i / s.chunks, i % s.chunks); });
    for (int64_t g = 0; g < groups && (fixed || !whole); ++g) fixed ? f.use_running(g) : f.finish(g);
    parallel(threads, parts, [&](int64_t i) {
        if (!fixed && whole) {
            f.measure(i, 0);
            f.finish(i);
        }
        f.normalize(i / s.chunks, i % s.chunks);
        finish_puts();
    });
}

// -- backward -------------------------------------------------------------------------------

template <class T>
struct Backward {
    static constexpr int SIZE = Vector<T>::size;
    Shape s;
    const T *dy, *x, *y, *statistics, *weight;  // y: of a ReLU, or null
    int64_t group_stride, row_stride;
    T *dx, *dweight, *dbias, *dresidual;
    bool fixed, far;
    double ceiling;
    double* sums;  // (groups, chunks, 2, lanes): of dy * weight, and of that times the output x̂

    T weight_of(int64_t g, int64_t k) const {
        return weight ? weight[g * group_stride + k * row_stride] : 1;
    }
    // v times the weights of rows of one element, or times the row's weight
    template <class V>
    V weighted(V v, int64_t g, int64_t k) const {
        const bool each = weight && row_stride && s.row() == 1;
        return each ? v * read<V>(weight + g * group_stride + k) : v * weight_of(g, k);
    }
    T mean(int64_t g, int64_t l) const { return statistics[g * s.lanes + l]; }
    T rest(int64_t g, int64_t l) const { return mean(s.groups + g, l); }
    T scale(int64_t g, int64_t l) const { return mean(2 * s.groups + g, l); }

    template <class V>
    V gradient(int64_t p) const {
        const V zero = {}, top = zero + T(ceiling), d = read<V>(dy + p);
        if (!y) return d;
        const V v = read<V>(y + p), above = v > zero ? d : zero;
        return ceiling < INFINITY ? (v < top ? above : zero) : above;
    }

    // the same, where add_up has stored it
    template <class V>
    V masked(int64_t p) const {
        return dresidual ? read<V>(dresidual + p) : gradient<V>(p);
    }

    void add_up(int64_t g, int64_t chunk) const {
        Zeros<T> table(5 * s.width);
        Zeros<double> totals(2 * s.width);
        T *recent = table + 3 * s.width;  // sums of few rows, not yet in `totals`
        int64_t pending = 0;
        T *means = table, *scales = means + s.width, *offsets = scales + s.width;
        spread(s, means, [&](int64_t l) { return mean(g, l); });
        spread(s, scales, [&](int64_t l) { return scale(g, l); });
        spread(s, offsets, [&](int64_t l) { return -rest(g, l) * scale(g, l); });
        const int64_t from = s.start(chunk), to = s.start(chunk + 1);
        const bool are_short = s.row() <= s.width;
        if (s.row() == 1)
            add_elements(g, from, to, table, totals);
        else if (are_short)
            add_short_rows(g, from, to, table, totals);
        for (int64_t k = from; k < to && !are_short; ++k) {
            const int64_t at = g * s.group() + k * s.row(), rows = s.row() / s.width;
            const T w = weight_of(g, k);
            double own[2] = {0, 0};
            for (int64_t r = 0; r <= rows; r += BLOCK) {
                const int64_t count = smaller(BLOCK, rows - r);
                if (count) add_rows(at + r * s.width, count, s.width, table, w, recent, own);
                if (count < BLOCK && s.row() % s.width)
                    add_rows(at + rows * s.width, 1, s.row() % s.width, table, w, recent, own);
                if ((pending += count + 1) >= BLOCK || k + 1 == to) {
                    for (int64_t c = 0; c < 2 * s.width; ++c) totals[c] += recent[c];
                    memset(recent, 0, 2 * s.width * sizeof(T));
                    pending = 0;
                }
            }
            dbias[g * s.rows + k] = own[0];
            dweight[g * s.rows + k] = own[1];
        }
        double* out = sums + (g * s.chunks + chunk) * 2 * s.lanes;
        for (int64_t l = 0; l < s.lanes; ++l)
            for (int i = 0; i < 2; ++i)
                out[i * s.lanes + l] = sum_of(totals + i * s.width + l, s.width / s.lanes, s.lanes);
    }

    // rows of one element: each is the gradient of its own weight and bias
    void add_elements(int64_t g, int64_t from, int64_t to, const T* means, double* totals) const {
        const T *scales = means + s.width, *offsets = scales + s.width;
        const Backward b = *this;  // a copy whose members no store can change
        for (int64_t k = from; k < to; k += b.s.width)
            each_lanes<T>(smaller(b.s.width, to - k), [&](int64_t c, auto lanes) {
                typedef decltype(lanes) V;
                const int64_t p = g * b.s.rows + k + c;
                const V d = b.gradient<V>(p), own = b.weighted(d, g, k + c);
                const V normed = (read<V>(b.x + p) - read<V>(means + c)) * read<V>(scales + c) + read<V>(offsets + c);
                if (b.dresidual) write(b.dresidual + p, d);
                write(b.dbias + p, d);
                write(b.dweight + p, d * normed);
                b.add_to(totals + c, own, own * normed);
            });
    }

    // add the lanes to the sums of their columns
    template <class V>
    void add_to(double* totals, V first, V second) const {
        constexpr int size = sizeof(V) / sizeof(T);
        if constexpr (size > 1) {
            typedef typename Vector<double, size * sizeof(double)>::type Wide;
            write(totals, read<Wide>(totals) + __builtin_convertvector(first, Wide));
            write(totals + s.width, read<Wide>(totals + s.width) + __builtin_convertvector(second, Wide));
        } else {
            totals[0] += first;
            totals[s.width] += second;
        }
    }

    // rows that are short: a few at a time, whose sums are kept as vectors until all columns are read
    void add_short_rows(int64_t g, int64_t from, int64_t to, const T* means, double* totals) const {
        constexpr int ROWS = 16;
        const T *scales = means + s.width, *offsets = scales + s.width;
        const Backward b = *this;  // a copy whose members no store can change
        for (int64_t k = from; k < to; k += ROWS) {
            const int64_t count = smaller(ROWS, to - k);
            T own[2][ROWS][SIZE] = {};
            each_lanes<T>(s.row(), [&](int64_t c, auto lanes) {
                typedef decltype(lanes) V;
                const V m = read<V>(means + c), scale = read<V>(scales + c), offset = read<V>(offsets + c);
                V bias = {}, slope = {};
                for (int64_t r = 0; r < count; ++r) {
                    const int64_t p = g * b.s.group() + (k + r) * b.s.row() + c;
                    const V d = b.gradient<V>(p), normed = (read<V>(b.x + p) - m) * scale + offset;
                    const T w = b.weight_of(g, k + r);
                    if (b.dresidual) write(b.dresidual + p, d);
                    write(own[0][r], read<V>(own[0][r]) + d);
                    write(own[1][r], read<V>(own[1][r]) + d * normed);
                    bias += w * d;
                    slope += w * d * normed;
                }
                b.add_to(totals + c, bias, slope);
            });
            for (int64_t r = 0; r < count; ++r) {
                dbias[g * s.rows + k + r] = sum<T>(load(own[0][r]));
                dweight[g * s.rows + k + r] = sum<T>(load(own[1][r]));
            }
        }
    }

    void add_rows(int64_t at, int64_t rows, int64_t size, const T* table, T w, T* recent, double* own) const {
        int64_t c = 0;
        for (; c + 4 * SIZE <= size; c += 4 * SIZE)
            add_strip<Vec<T>, 4>(at + c, rows, table + c, w, recent + c, own);
        each_lanes<T>(size, [&](int64_t c, auto lanes) {
            add_strip<decltype(lanes), 1>(at + c, rows, table + c, w, recent + c, own);
        }, c);
    }

    template <class V, int W>
    inline __attribute__((always_inline)) void add_strip(int64_t at, int64_t rows, const T* means, T weight,
                                                         T* recent, double* own) const {
        constexpr int size = sizeof(V) / sizeof(T);
        const T *scales = means + s.width, *offsets = scales + s.width;
        const Backward b = *this;  // a copy whose members no store can change
        V mean[W], bias[W] = {}, slope[W] = {}, all[2] = {};
        for (int w = 0; w < W; ++w) mean[w] = read<V>(means + w * size);
        for (int64_t r = 0; r < rows; ++r)
            for (int w = 0; w < W; ++w) {
                const int64_t p = at + r * b.s.width + w * size;
                const V d = b.gradient<V>(p);
                if (b.dresidual) write(b.dresidual + p, d);
                bias[w] += d;
                slope[w] += d * (read<V>(b.x + p) - mean[w]);
            }
        for (int w = 0; w < W; ++w) {
            slope[w] = slope[w] * read<V>(scales + w * size) + bias[w] * read<V>(offsets + w * size);
            all[0] += bias[w];
            all[1] += slope[w];
            T *first = recent + w * size, *second = first + s.width;
            write(first, read<V>(first) + weight * bias[w]);
            write(second, read<V>(second) + weight * slope[w]);
        }
        for (int i = 0; i < 2; ++i) own[i] += total(all[i]);
    }

    // dx = scale * w * dy - (x - mean) * slope - shift
    void apply(int64_t g, int64_t chunk) const {
        Zeros<T> table(4 * s.width);
        T *means = table, *scales = means + s.width, *slopes = scales + s.width, *shifts = slopes + s.width;
        const auto average = [&](int i, int64_t l) {
            double total = 0;
            for (int64_t k = 0; k < s.chunks; ++k) total += sums[((g * s.chunks + k) * 2 + i) * s.lanes + l];
            return total / (s.rows * s.pixels) * scale(g, l);
        };
        spread(s, means, [&](int64_t l) { return mean(g, l); });
        spread(s, scales, [&](int64_t l) { return scale(g, l); });
        spread(s, slopes, [&](int64_t l) { return average(1, l) * scale(g, l); });
        spread(s, shifts, [&](int64_t l) { return average(0, l) - rest(g, l) * slopes[l]; });
        const int64_t from = s.start(chunk), to = s.start(chunk + 1);
        const bool each = s.row() == 1;
        const Backward b = *this;
        if (s.row() <= s.width && row_stride && !each)
            return each_short_row<T>(s, g * s.group(), from, to, [&](int64_t c, auto lanes) {
                typedef decltype(lanes) V;
                const V m = read<V>(means + c), scale = read<V>(scales + c);
                const V slope = read<V>(slopes + c), shift = read<V>(shifts + c);
                return [=](int64_t p, int64_t k) {
                    const V d = b.masked<V>(p) * b.weight_of(g, k) * scale;
                    put(b.dx + p, b.fixed ? d : d - ((read<V>(b.x + p) - m) * slope + shift), b.far);
                };
            });
        const int64_t step = row_stride && !each ? 1 : larger(1, to - from);
        for (int64_t k = to - step; k >= from; k -= step) {  // backwards: the end is in the cache
            const int64_t at = g * s.group() + k * s.row(), size = step * s.row();
            const T own = weight_of(g, k);
            for (int64_t i = 0; i < size; i += s.width)
                each_lanes<T>(smaller(s.width, size - i), [&](int64_t c, auto lanes) {
                    typedef decltype(lanes) V;
                    const int64_t p = at + i + c;
                    V d = b.masked<V>(p) * read<V>(scales + c);
                    d = each ? b.weighted(d, g, k + i + c) : d * own;
                    if (!b.fixed)
                        d -= (read<V>(b.x + p) - read<V>(means + c)) * read<V>(slopes + c) + read<V>(shifts + c);
                    put(b.dx + p, d, b.far);
                });
        }
    }
};

template <class T>
void normalize_backward(int64_t threads, int64_t groups, int64_t rows, int64_t pixels, int64_t lanes, const T* dy,
              const T* x, const T* y, const T* statistics, const T* weight, int64_t group_stride,
              int64_t row_stride, int64_t fixed, double ceiling, T* dx, T* dweight, T* dbias, T* dresidual) {
    const Shape s = shape_of<T>(threads, groups, rows, pixels, lanes);
    const int64_t parts = groups * s.chunks;
    Zeros<double> sums(parts * 2 * lanes);
    const Backward<T> b = {s, dy, x, y, statistics, weight, group_stride, row_stride, dx, dweight,
                           dbias, dresidual, !!fixed, s.is_far(dx), ceiling, sums};
    parallel(threads, parts, [&](int64_t i) {
        b.add_up(i / s.chunks, i % s.chunks);
        if (dx && s.chunks == 1) b.apply(i, 0);
        finish_puts();
    });
    if (dx && s.chunks > 1)
        parallel(threads, parts, [&](int64_t i) {
            b.apply(i / s.chunks, i % s.chunks);
            finish_puts();
        });
}

}  // namespace

EXPORT_BOTH(normalize,
            (int64_t threads, int64_t groups, int64_t rows, int64_t pixels, int64_t lanes, const T* x,
             const T* weight, const T* bias, int64_t group_stride, int64_t row_stride, double eps,
             T* running_mean, T* running_var, double momentum, int64_t fixed, const T* residual,
             int64_t relu, double ceiling, T* y, T* statistics),
            (threads, groups, rows, pixels, lanes, x, weight, bias, group_stride, row_stride, eps,
             running_mean, running_var, momentum, fixed, residual, relu, ceiling, y, statistics))
EXPORT_BOTH(normalize_backward,
            (int64_t threads, int64_t groups, int64_t rows, int64_t pixels, int64_t lanes, const T* dy,
             const T* x, const T* y, const T* statistics, const T* weight, int64_t group_stride,
             int64_t row_stride, int64_t fixed, double ceiling, T* dx, T* dweight, T* dbias, T* dresidual),
            (threads, groups, rows, pixels, lanes, dy, x, y, statistics, weight, group_stride,
             row_stride, fixed, ceiling, dx, dweight, dbias, dresidual))
