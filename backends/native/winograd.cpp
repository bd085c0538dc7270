// 3×3 and 5×5 convolution by Winograd's algorithm; xcnn/convolution/winograd.py has the algebra.
//
// Lanes: patches are numbered by position and image, patch·N + n, and cut into vectors; with N a
// multiple of the vector a vector holds images of one patch, otherwise runs of several.
//
// Panels: each of the 36 products is out (rows, columns) = Σ_k a (k, rows) · b (k, columns), with
// the columns of a, b and out cut into panels that the inner loop reads one after the other:
//
//     forward, input gradient   rows filters, k channels, columns lanes
//     weight gradient           rows filters, k lanes,    columns channels
//
// A thread transforms, multiplies and transforms back a few vectors of lanes at a time.
#include "common.h"

namespace {

constexpr int PATCH = 6, POINTS = PATCH * PATCH;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int ROWS = 8;  // of sums in registers, of which there are 32
#else
constexpr int ROWS = 4;  // of 16
#endif
constexpr int64_t BLOCK_BYTES = 768 * 1024;  // transformed values that a thread holds at a time

// -- transforms along one axis ---------------------------------------------------------------

template <class V>
inline void to_points(const V* d, V* v) {
    V even = d[4] - 4 * d[2], odd = d[3] - 4 * d[1], far_even = d[4] - d[2], far_odd = 2 * (d[3] - d[1]);
    v[0] = 4 * (d[0] - d[2]) + far_even;
    v[1] = even + odd;
    v[2] = even - odd;
    v[3] = far_even + far_odd;
    v[4] = far_even - far_odd;
    v[5] = 4 * (d[1] - d[3]) + (d[5] - d[3]);
}

template <int SIZE, class V>
inline void to_outputs(const V* z, V* y) {
    V sum = z[1] + z[2], difference = z[1] - z[2], far_sum = z[3] + z[4], far_difference = z[3] - z[4];
    y[0] = z[0] + sum + far_sum;
    y[1] = difference + 2 * far_difference;
    if (SIZE == 4) {
        y[2] = sum + 4 * far_sum;
        y[3] = difference + 8 * far_difference;
    }
    y[SIZE - 1] += z[5];
}

template <int SIZE, class V>
inline void from_outputs(const V* y, V* z) {
    V even = y[0], odd = y[1], far_even = y[0], far_odd = 2 * y[1];
    if (SIZE == 4) {
        even += y[2], odd += y[3];
        far_even += 4 * y[2], far_odd += 8 * y[3];
    }
    z[0] = y[0];
    z[1] = even + odd;
    z[2] = even - odd;
    z[3] = far_even + far_odd;
    z[4] = far_even - far_odd;
    z[5] = y[SIZE - 1];
}

template <int TAPS, class V>
inline void from_taps(const V* w, V* u) {
    V even = w[0] + w[2], odd = w[1], far_even = w[0] + 4 * w[2], far_odd = 2 * w[1];
    if (TAPS == 5) {
        even += w[4], odd += w[3];
        far_even += 16 * w[4], far_odd += 8 * w[3];
    }
    typedef decltype(w[0][0] + 0) T;
    u[0] = w[0] * T(0.25);
    u[1] = (even + odd) * T(-1 / 6.0);
    u[2] = (even - odd) * T(-1 / 6.0);
    u[3] = (far_even + far_odd) * T(1 / 24.0);
    u[4] = (far_even - far_odd) * T(1 / 24.0);
    u[5] = w[TAPS - 1];
}

template <int TAPS, class V>
inline void to_taps(const V* u, V* w) {
    typedef decltype(u[0][0] + 0) T;
    V sum = (u[1] + u[2]) * T(-1 / 6.0), difference = (u[1] - u[2]) * T(-1 / 6.0);
    V far_sum = (u[3] + u[4]) * T(1 / 24.0), far_difference = (u[3] - u[4]) * T(1 / 24.0);
    w[0] = u[0] * T(0.25) + sum + far_sum;
    w[1] = difference + 2 * far_difference;
    w[2] = sum + 4 * far_sum;
    if (TAPS == 5) {
        w[3] = difference + 8 * far_difference;
        w[4] = sum + 16 * far_sum;
    }
    w[TAPS - 1] += u[5];
}

// along both axes: load(row, column) of (IN, IN), store(row, column, value) of (OUT, OUT)
template <int IN, int OUT, class V, class Transform, class Load, class Store>
inline void along_both(Transform transform, Load load, Store store) {
    V half[IN][OUT];
#pragma GCC unroll 6
    for (int j = 0; j < IN; ++j) {
        V line[IN];
#pragma GCC unroll 6
        for (int i = 0; i < IN; ++i) line[i] = load(i, j);
        transform(line, half[j]);
    }
#pragma GCC unroll 6
    for (int i = 0; i < OUT; ++i) {
        V line[IN], out[OUT];
#pragma GCC unroll 6
        for (int j = 0; j < IN; ++j) line[j] = half[j][i];
        transform(line, out);
#pragma GCC unroll 6
        for (int j = 0; j < OUT; ++j) store(i, j, out[j]);
    }
}

// -- products in panels ----------------------------------------------------------------------

// the element (k, column) of a matrix in panels of WIDTH columns
template <int WIDTH, class T>
inline T* element(T* matrix, int64_t depth, int64_t k, int64_t column) {
    return matrix + (column / WIDTH * depth + k) * WIDTH + column % WIDTH;
}

// the elements (k, column...) of a vector, of one or several panels
template <int WIDTH, class T>
inline void store_elements(T* matrix, int64_t depth, int64_t k, int64_t column, Vec<T> v) {
    constexpr int size = Vector<T>::size, piece = WIDTH < size ? WIDTH : size;
    typedef typename Vector<T, piece * sizeof(T)>::type Piece;
    for (int i = 0; i < size; i += piece)
        write(element<WIDTH>(matrix, depth, k, column + i), reinterpret_cast<const Piece*>(&v)[i / piece]);
}

// out (ROWS, COLUMNS vectors) = Σ_k a (k, ROWS) · b (k, COLUMNS vectors), added to out if `add`
template <int COLUMNS, class T>
inline void multiply(int64_t terms, const T* a, const T* b, T* out, bool add) {
    constexpr int size = Vector<T>::size;
    Vec<T> sums[ROWS][COLUMNS];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < COLUMNS; ++j) sums[i][j] = add ? load(out + (i * COLUMNS + j) * size) : Vec<T>{};
    for (int64_t k = 0; k < terms; ++k, a += ROWS, b += COLUMNS * size) {
        Vec<T> line[COLUMNS];
#pragma GCC unroll 4
        for (int j = 0; j < COLUMNS; ++j) line[j] = load(b + j * size);
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
            for (int j = 0; j < COLUMNS; ++j) sums[i][j] += a[i] * line[j];
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i)
#pragma GCC unroll 4
        for (int j = 0; j < COLUMNS; ++j) store(out + (i * COLUMNS + j) * size, sums[i][j]);
}

// -- windows of images -----------------------------------------------------------------------

struct Image {
    int64_t height, width, batch;
    int64_t row = width * batch, channel = height * row;  // elements
};

// Lanes of a vector that are images n... of one window, whose upper left pixel is (top, left).
struct Run {
    int64_t lane, lanes, top, left, n;
};

template <class T>
inline void copy_lanes(T* to, const T* from, int64_t lanes) {
    if (lanes == 4)
        memcpy(to, from, 4 * sizeof(T));  // one instruction
    else if (lanes == 8)
        memcpy(to, from, 8 * sizeof(T));
    else
        for (int64_t i = 0; i < lanes; ++i) to[i] = from[i];
}

// The windows (extent, extent) of a vector of lanes.
template <class T>
struct Windows {
    static constexpr int size = Vector<T>::size;
    Image image;
    int extent, count = 0;
    Run runs[size];
    bool is_whole, is_inside;  // all lanes are of one window; which has no pixel outside the image
    int64_t offset;            // of a whole window's first pixel
    uint64_t pixels = 0;       // the pixels of a whole window that are inside, as bits

    // of the vector with number `vector`; windows start at (top, left) and every `step` pixels
    Windows(int64_t vector, int64_t rows, int64_t columns, int step, int64_t top, int64_t left, Image image, int extent)
        : image(image), extent(extent) {
        const int64_t end = rows * columns * image.batch;
        for (int64_t p = vector * size, stop = smaller(p + size, end); p < stop; ++count) {
            const int64_t window = p / image.batch, n = p % image.batch, lanes = smaller(image.batch - n, stop - p);
            runs[count] = {p - vector * size, lanes, top + window / columns * step, left + window % columns * step, n};
            p += lanes;
        }
        is_whole = count == 1 && runs[0].lanes == size;
        offset = is_whole ? runs[0].top * image.row + runs[0].left * image.batch + runs[0].n : 0;
        if (is_whole) each_pixel([&](int64_t, int pixel, const Run&) { pixels |= uint64_t(1) << pixel; });
        is_inside = pixels == (uint64_t(1) << extent * extent) - 1;
    }

    // f(its offset in the channel, its number in the window, the run) for each pixel inside the image
    template <class F>
    void each_pixel(F f) const {
        for (int r = 0; r < count; ++r) {
            const Run& run = runs[r];
            const int from = larger(0, -run.left), to = smaller(extent, image.width - run.left);
            for (int i = larger(0, -run.top); i < smaller(extent, image.height - run.top); ++i)
                for (int j = from; j < to; ++j)
                    f((run.top + i) * image.row + (run.left + j) * image.batch + run.n, i * extent + j, run);
        }
    }

    bool has(int i, int j) const { return pixels >> (i * extent + j) & 1; }

    // the address of a pixel of whole windows that are inside
    template <class P>
    P* pixel(P* channel, int i, int j) const {
        return channel + offset + i * image.row + j * image.batch;
    }

    // a copy of the windows (extent, extent, lanes), with zeros outside the image
    void read(const T* channel, T* copy) const {
        memset(copy, 0, extent * extent * size * sizeof(T));
        each_pixel([&](int64_t at, int pixel, const Run& run) {
            copy_lanes(copy + pixel * size + run.lane, channel + at, run.lanes);
        });
    }
    void write(T* channel, const T* copy) const {
        each_pixel([&](int64_t at, int pixel, const Run& run) {
            copy_lanes(channel + at, copy + pixel * size + run.lane, run.lanes);
        });
    }
};

// -- transposition of a square of vectors ----------------------------------------------------

template <class V>
inline void interleave(V a, V b, V& low, V& high) {
    constexpr int size = sizeof(V) / sizeof(a[0]);
    if constexpr (size == 2) {
        low = __builtin_shufflevector(a, b, 0, 2);
        high = __builtin_shufflevector(a, b, 1, 3);
    } else if constexpr (size == 4) {
        low = __builtin_shufflevector(a, b, 0, 4, 1, 5);
        high = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    } else if constexpr (size == 8) {
        low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
        high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
    } else {
        low = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
        high = __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
}

// `count` vectors to as many elements each of `size` vectors
template <class T>
inline void transpose(const T* from, int64_t from_step, int64_t count, T* to, int64_t to_step) {
    constexpr int size = Vector<T>::size;
    Vec<T> a[size], b[size];
#pragma GCC unroll 16
    for (int i = 0; i < size; ++i) a[i] = load(from + smaller(i, count - 1) * from_step);
#pragma GCC unroll 4
    for (int step = 1; step < size; step *= 2) {
#pragma GCC unroll 8
        for (int i = 0; i < size / 2; ++i) interleave(a[i], a[i + size / 2], b[2 * i], b[2 * i + 1]);
#pragma GCC unroll 16
        for (int i = 0; i < size; ++i) a[i] = b[i];
    }
#pragma GCC unroll 16
    for (int i = 0; i < size; ++i) store(to + i * to_step, a[i]);
}

// -- convolution -----------------------------------------------------------------------------

template <class T, int TAPS>
struct Winograd {
    static constexpr int size = Vector<T>::size, OUT = PATCH + 1 - TAPS, WEIGHTS = TAPS * TAPS;
    const int64_t channels, filters, top, left, threads;
    const Image in, out;
    const int64_t rows = ceil_div(out.height, OUT), columns = ceil_div(out.width, OUT);  // of patches
    const int64_t vectors = larger(1, ceil_div(rows * columns * out.batch, size));
    const int64_t padded_filters = ceil_div(filters, larger(ROWS, size)) * larger(ROWS, size);

    Windows<T> patches(int64_t vector) const { return {vector, rows, columns, OUT, -top, -left, in, PATCH}; }
    Windows<T> blocks(int64_t vector) const { return {vector, rows, columns, OUT, 0, 0, out, OUT}; }

    // vectors of lanes at a time: as many as fit, the same number for each thread
    int64_t at_a_time(int64_t least) const {
        const int64_t bytes = POINTS * (channels + filters) * VECTOR_BYTES;
        const int64_t most = larger(1, BLOCK_BYTES / bytes / least) * least;
        const int64_t turns = ceil_div(vectors, most * threads);
        return ceil_div(ceil_div(vectors, turns * threads), least) * least;
    }

    // u (36) of (channel, filter) in panels of ROWS filters
    void transform_weight(const T* weight, bool flipped, T* u, int64_t stride) const {
        const int64_t next_filter = WEIGHTS * (flipped ? 1 : channels);
        const int64_t next_channel = WEIGHTS * (flipped ? filters : 1);
        parallel(threads, padded_filters / size, [&](int64_t part) {
            const int64_t first = part * size, some = larger(0, smaller(size, filters - first));
            for (int64_t c = 0; c < channels; ++c) {
                T taps[WEIGHTS][size] = {};
                for (int64_t i = 0; i < some; ++i) {
                    const T* tap = weight + (first + i) * next_filter + c * next_channel;
                    for (int t = 0; t < WEIGHTS; ++t) taps[flipped ? WEIGHTS - 1 - t : t][i] = tap[t];
                }
                along_both<TAPS, PATCH, Vec<T>>(
                    from_taps<TAPS, Vec<T>>, [&](int i, int j) { return load(taps[i * TAPS + j]); },
                    [&](int i, int j, Vec<T> v) {
                        store_elements<ROWS>(u + (i * PATCH + j) * stride, channels, c, first, v);
                    });
            }
        });
    }

    // returns whether all results are finite: a pixel or weight that is not reaches a corner of each block
    bool forward(const T* x, const T* weight, const T* bias, T* y, bool flipped, bool relu) const {
        constexpr int COLUMNS = 2, WIDTH = COLUMNS * size;
        // no powers of two: the 36 values of a patch would compete for a few cache lines
        const int64_t u_stride = padded_filters * channels + size;
        Buffer<T> u(POINTS * u_stride);
        transform_weight(weight, flipped, u.data, u_stride);
        const int64_t step = at_a_time(COLUMNS);
        const int64_t v_stride = channels * step * size + size, z_stride = padded_filters * step * size + size;
        bool finite = true;
        parallel(threads, ceil_div(vectors, step), [&](int64_t part) {
            Buffer<T> v(POINTS * v_stride), z(POINTS * z_stride);
            Buffer<Windows<T>> windows(step);
            for (int64_t k = 0; k < step; ++k) windows.data[k] = patches(part * step + k);
            for (int64_t c = 0; c < channels; ++c)
                for (int64_t k = 0; k < step; ++k)
                    transform_patch(windows.data[k], x + c * in.channel,
                                    element<WIDTH>(v.data, channels, c, k * size), v_stride);
            for (int point = 0; point < POINTS; ++point)
                for (int64_t p = 0; p < step * size; p += WIDTH)
                    for (int64_t f = 0; f < filters; f += ROWS)
                        multiply<COLUMNS>(channels, element<ROWS>(u.data + point * u_stride, channels, 0, f),
                                          element<WIDTH>(v.data + point * v_stride, channels, 0, p),
                                          element<WIDTH>(z.data + point * z_stride, padded_filters, f, p), false);
            Vec<T> corners = {};
            for (int64_t k = 0; k < step; ++k) windows.data[k] = blocks(part * step + k);
            for (int64_t f = 0; f < filters; ++f)
                for (int64_t k = 0; k < step; ++k)
                    corners += write_block(windows.data[k], element<WIDTH>(z.data, padded_filters, f, k * size),
                                           z_stride, bias ? bias[f] : 0, relu, y + f * out.channel);
            if (!(sum<T>(corners - corners) == 0)) __atomic_store_n(&finite, false, __ATOMIC_RELAXED);
        });
        return finite;
    }

    static void transform_patch(const Windows<T>& windows, const T* channel, T* v, int64_t stride) {
        const auto transform = [&](auto load) {
            along_both<PATCH, PATCH, Vec<T>>(to_points<Vec<T>>, load, [&](int i, int j, Vec<T> value) {
                store(v + (i * PATCH + j) * stride, value);
            });
        };
        if (windows.is_inside) return transform([&](int i, int j) { return load(windows.pixel(channel, i, j)); });
        if (windows.is_whole)
            return transform([&](int i, int j) {
                return windows.has(i, j) ? load(windows.pixel(channel, i, j)) : Vec<T>{};
            });
        alignas(64) T copy[POINTS * size];
        windows.read(channel, copy);
        transform([&](int i, int j) { return load(copy + (i * PATCH + j) * size); });
    }

    // returns the sum of the corners of the block, before the bias
    static Vec<T> write_block(const Windows<T>& windows, const T* z, int64_t stride, T bias, bool relu, T* channel) {
        Vec<T> corners = {};
        const auto transform = [&](auto write) {
            along_both<PATCH, OUT, Vec<T>>(
                to_outputs<OUT, Vec<T>>, [&](int i, int j) { return load(z + (i * PATCH + j) * stride); },
                [&](int i, int j, Vec<T> value) {
                    if (i % (OUT - 1) == 0 && j % (OUT - 1) == 0) corners += value;
                    value += bias;
                    if (relu) value = value < 0 ? Vec<T>{} : value;
                    write(i, j, value);
                });
        };
        if (windows.is_whole) {
            transform([&](int i, int j, Vec<T> value) {
                if (windows.has(i, j)) store(windows.pixel(channel, i, j), value);
            });
        } else {
            alignas(64) T copy[OUT * OUT * size];
            transform([&](int i, int j, Vec<T> value) { store(copy + (i * OUT + j) * size, value); });
            windows.write(channel, copy);
        }
        return corners;
    }

    void weight_gradient(const T* x, const T* dy, T* dweight) const {
        return ceil_div(channels, size) % 2 ? weight_gradient_in_panels<1>(x, dy, dweight)
                               : weight_gradient_in_panels<2>(x, dy, dweight);
    }

    template <int COLUMNS>
    void weight_gradient_in_panels(const T* x, const T* dy, T* dweight) const {
        constexpr int WIDTH = COLUMNS * size;
        const int64_t wide = ceil_div(channels, WIDTH) * WIDTH, step = at_a_time(1), lanes = step * size;
        const int64_t turns = ceil_div(vectors, step), bands = smaller(threads, turns);
        const int64_t v_stride = lanes * wide + size, z_stride = lanes * padded_filters + size;
        const int64_t du_stride = padded_filters * wide + size, du_size = POINTS * du_stride;
        Buffer<T> du(bands * du_size);
        parallel(threads, bands, [&](int64_t band) {
            Buffer<T> v(POINTS * v_stride), z(POINTS * z_stride);
            T* sums = du.data + band * du_size;
            const int64_t first = turns * band / bands;
            for (int64_t turn = first; turn < turns * (band + 1) / bands; ++turn) {
                for (int64_t k = 0; k < step; ++k) {
                    transform_lanes<PATCH, WIDTH>(patches(turn * step + k), to_points<Vec<T>>, x, channels, wide,
                                                  v.data, v_stride, lanes, k * size);
                    transform_lanes<OUT, ROWS>(blocks(turn * step + k), from_outputs<OUT, Vec<T>>, dy, filters,
                                               padded_filters, z.data, z_stride, lanes, k * size);
                }
                for (int point = 0; point < POINTS; ++point)
                    for (int64_t c = 0; c < wide; c += WIDTH)
                        for (int64_t f = 0; f < filters; f += ROWS)
                            multiply<COLUMNS>(lanes, element<ROWS>(z.data + point * z_stride, lanes, 0, f),
                                              element<WIDTH>(v.data + point * v_stride, lanes, 0, c),
                                              element<WIDTH>(sums + point * du_stride, padded_filters, f, c),
                                              turn > first);
            }
        });
        parallel(threads, filters, [&](int64_t f) {
            for (int64_t c = 0; c < channels; c += size) {
                T taps[WEIGHTS][size];
                along_both<PATCH, TAPS, Vec<T>>(
                    to_taps<TAPS, Vec<T>>,
                    [&](int i, int j) {
                        const T* first =
                            element<WIDTH>(du.data + (i * PATCH + j) * du_stride, padded_filters, f, c);
                        Vec<T> total = load(first);
                        for (int64_t band = 1; band < bands; ++band) total += load(first + band * du_size);
                        return total;
                    },
                    [&](int i, int j, Vec<T> v) { store(taps[i * TAPS + j], v); });
                for (int64_t i = 0; i < smaller(size, channels - c); ++i)
                    for (int t = 0; t < WEIGHTS; ++t) dweight[(f * channels + c + i) * WEIGHTS + t] = taps[t][i];
            }
        });
    }

    // the windows (EXTENT, EXTENT) of a vector of lanes, transformed: (36) of (lane, channel) in panels
    template <int EXTENT, int WIDTH, class Transform>
    static void transform_lanes(const Windows<T>& windows, Transform transform, const T* x, int64_t channels,
                                int64_t padded, T* v, int64_t stride, int64_t lanes, int64_t lane) {
        constexpr int count = EXTENT * EXTENT * size;
        alignas(64) T copy[size * count];  // (channel, EXTENT, EXTENT, lane), then (lane, EXTENT, EXTENT, channel)
        for (int64_t c = 0; c < channels; c += size) {
            const T* first = x + c * windows.image.channel;
            const int64_t some = smaller(size, channels - c);
            if (!windows.is_whole)
                for (int64_t i = 0; i < some; ++i) windows.read(first + i * windows.image.channel, copy + i * count);
            for (int i = 0; i < EXTENT; ++i)
                for (int j = 0; j < EXTENT; ++j) {
                    T* to = copy + (i * EXTENT + j) * size;
                    if (!windows.is_whole)
                        transpose(to, count, some, to, count);
                    else if (windows.has(i, j))
                        transpose(windows.pixel(first, i, j), windows.image.channel, some, to, count);
                    else
                        for (int l = 0; l < size; ++l) store(to + l * count, Vec<T>{});
                }
            for (int l = 0; l < size; ++l)
                along_both<EXTENT, PATCH, Vec<T>>(
                    transform, [&](int i, int j) { return load(copy + l * count + (i * EXTENT + j) * size); },
                    [&](int i, int j, Vec<T> value) {
                        store_elements<WIDTH>(v + (i * PATCH + j) * stride, lanes, lane + l, c, value);
                    });
        }
    }
};

template <class T>
void winograd(const T* x, const T* weight, const T* bias, T* y, int64_t* finite, int64_t channels, int64_t filters,
             int64_t height, int64_t width, int64_t out_height, int64_t out_width, int64_t batch, int64_t top,
             int64_t left, int64_t taps, int64_t flipped, int64_t relu, int64_t threads) {
    const Image in{height, width, batch}, out{out_height, out_width, batch};
    if (taps == 3)
        *finite = Winograd<T, 3>{channels, filters, top, left, threads, in, out}.forward(x, weight, bias, y,
                                                                                          flipped, relu);
    else
        *finite = Winograd<T, 5>{channels, filters, top, left, threads, in, out}.forward(x, weight, bias, y,
                                                                                          flipped, relu);
}

template <class T>
void winograd_weight_gradient(const T* x, const T* dy, T* dweight, int64_t channels, int64_t filters, int64_t height,
                     int64_t width, int64_t out_height, int64_t out_width, int64_t batch, int64_t top, int64_t left,
                     int64_t taps, int64_t threads) {
    const Image in{height, width, batch}, out{out_height, out_width, batch};
    if (taps == 3)
        Winograd<T, 3>{channels, filters, top, left, threads, in, out}.weight_gradient(x, dy, dweight);
    else
        Winograd<T, 5>{channels, filters, top, left, threads, in, out}.weight_gradient(x, dy, dweight);
}

}  // namespace

EXPORT_BOTH(winograd,
            (const T* x, const T* weight, const T* bias, T* y, int64_t* finite, int64_t c, int64_t f, int64_t h,
             int64_t w, int64_t oh, int64_t ow, int64_t n, int64_t top, int64_t left, int64_t taps, int64_t flipped,
             int64_t relu, int64_t threads),
            (x, weight, bias, y, finite, c, f, h, w, oh, ow, n, top, left, taps, flipped, relu, threads))
EXPORT_BOTH(winograd_weight_gradient,
            (const T* x, const T* dy, T* dweight, int64_t c, int64_t f, int64_t h, int64_t w, int64_t oh, int64_t ow,
             int64_t n, int64_t top, int64_t left, int64_t taps, int64_t threads),
            (x, dy, dweight, c, f, h, w, oh, ow, n, top, left, taps, threads))
