// Direct convolution of batch-last images (C, H, W, N), without unfolding, in both directions.
//
// Forward and input gradient are one correlation. Along an axis, target pixel p + a·target_step of
// phase p, 0 <= p < target_step, is
//
//     the sum over the taps k of the phase of weight[k] · source[a·source_step + offset(p, k)]
//
//     forward           source_step = stride, offset = k·dilation - padding
//     input gradient    target_step = stride, offset = (p + padding - k·dilation) / stride, if whole
//
// A tile of target pixels first copies what it reads, zero-padded, to a buffer in the cache,
//
//     (channel, row, column % source_step, column / source_step, lane)        lane: an image
//
// in which the run (columns · lanes) of a target row is contiguous, at a fixed distance for each tap.
// Blocks of ROWS filters × COLUMNS vectors of the run are summed up in registers, without the taps
// that read padding only. The weight gradient sums ROWS filters × COLUMNS taps over such runs, in
// double from tile to tile.
#include "common.h"

namespace {

constexpr int ROWS = 6;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int COLUMNS = 4;  // of 32 registers
#else
constexpr int COLUMNS = 2;  // of 16
#endif
constexpr int64_t TILE_BYTES = 1 << 18;  // of a tile's buffers: a level-2 cache
constexpr int64_t FILTERS = 64, TAPS = 36;  // of a block of the weight gradient
constexpr int64_t LANE_BYTES = 256;      // of the images that are computed together

// -- the problem ---------------------------------------------------------------------------

struct Problem {
    int64_t channels, filters, groups, batch;
    Axis height, width;
};

// one axis of the correlation
struct Side {
    Axis axis;
    bool gradient;
    int64_t source, target, source_step, target_step;
    int64_t count;        // target pixels of the first phase
    int64_t first, span;  // the smallest offset, and the distance from it to the largest

    Side(const Axis& axis, bool gradient) : axis(axis), gradient(gradient) {
        source = gradient ? axis.output : axis.input;
        target = gradient ? axis.input : axis.output;
        source_step = gradient ? 1 : axis.stride;
        target_step = gradient ? axis.stride : 1;
        count = ceil_div(target, target_step);
        int64_t last = INT64_MIN;
        first = INT64_MAX;
        for (int64_t p = 0; p < target_step; ++p)
            for (int64_t k = 0; k < axis.kernel; ++k)
                if (reads(p, k)) first = smaller(first, offset(p, k)), last = larger(last, offset(p, k));
        span = last - first;
    }
    bool reads(int64_t p, int64_t k) const {
        return !gradient || (p + axis.before - k * axis.dilation) % axis.stride == 0;
    }
    int64_t offset(int64_t p, int64_t k) const {
        if (!gradient) return k * axis.dilation - axis.before;
        return (p + axis.before - k * axis.dilation) / axis.stride;
    }
    // whether all offsets lead all of the positions [from, to] to real pixels
    bool inside(int64_t from, int64_t to) const {
        return from * source_step + first >= 0 && to * source_step + first + span < source;
    }
    // whether an offset leads any of the positions [from, to] to a real pixel
    bool inside(int64_t from, int64_t to, int64_t offset) const {
        return to * source_step + offset >= 0 && from * source_step + offset < source;
    }
    // target pixels of phase p among the positions [start, stop)
    int64_t pixels(int64_t p, int64_t start, int64_t stop) const {
        return smaller(stop, ceil_div(target - p, target_step)) - start;
    }
};

// -- tiles ---------------------------------------------------------------------------------

struct Tile {
    int64_t group, top, bottom, left, right, image, images;  // positions; the first image, how many
};

// the tiles of a correlation, and the layout of the buffer for one
struct Tiling {
    int64_t lanes, rows, columns, slices, bands, strips, of_group;  // the last four count tiles
    int64_t source_rows, source_columns;                          // columns: of one of source_step
    int64_t row_pitch, channel_pitch;
    const Side &h, &w;
    int64_t batch;

    // channels: of the source, and of the target if a tile has a copy of it too
    Tiling(const Problem& p, const Side& h, const Side& w, int64_t channels, int64_t targets, int size, int64_t parts)
        : h(h), w(w), batch(p.batch) {
        const int64_t limit = LANE_BYTES / size, vector = VECTOR_BYTES / size;
        slices = larger(1, ceil_div(batch, limit));
        lanes = slices < 2 ? larger(1, batch) : vector * ceil_div(ceil_div(batch, slices), vector);
        const int64_t room = TILE_BYTES / size / lanes;  // pixels of all channels
        const int64_t high = channels * (h.span + 1);    // of a column that a row reads
        const int64_t across = (room - high * w.span) / (high * w.source_step + targets);
        strips = ceil_div(w.count, larger(across, ceil_div(COLUMNS * vector, lanes)));
        columns = ceil_div(w.count, strips);
        source_columns = columns + w.span / w.source_step;
        const int64_t wide = channels * source_columns * w.source_step;
        const int64_t down = (room - wide * (h.span + 1 - h.source_step)) /
                             (wide * h.source_step + targets * columns);
        bands = ceil_div(h.count, larger(1, down));
        bands = smaller(h.count, larger(bands, ceil_div(parts, p.groups * slices * strips)));
        rows = ceil_div(h.count, bands);
        bands = ceil_div(h.count, rows);
        of_group = slices * bands * strips;
        source_rows = (rows - 1) * h.source_step + h.span + 1;
        row_pitch = w.source_step * source_columns * lanes;
        channel_pitch = (source_rows * row_pitch + 2 * vector - 1) / vector * vector;
        if (channel_pitch / vector % 2 == 0) channel_pitch += vector;  // spread over the cache's sets
    }
    Tile tile(int64_t number) const {
        const int64_t top = number / strips % bands * rows, left = number % strips * columns;
        const int64_t image = number / strips / bands % slices * lanes;
        return {number / of_group, top, smaller(top + rows, h.count), left,
                smaller(left + columns, w.count), image, smaller(lanes, batch - image)};
    }
    // distance of the pixel that tap (k, l) reads from the first of the tile
    int64_t offset(int64_t p, int64_t k, int64_t q, int64_t l) const {
        const int64_t row = h.offset(p, k) - h.first, column = w.offset(q, l) - w.first;
        return row * row_pitch + (column % w.source_step * source_columns + column / w.source_step) * lanes;
    }
};

template <class T>
inline void copy(T* to, const T* from, int64_t n) {
    constexpr int64_t size = Vector<T>::size;
    int64_t i = 0;
    for (; i + size <= n; i += size) store(to + i, load(from + i));
    if (i < n) memcpy(to + i, from + i, (n - i) * sizeof(T));
}
template <class T>
inline void clear(T* to, int64_t n) {
    if (n > 0) memset(to, 0, n * sizeof(T));
}

// pixels [row, row + rows) × [column, column + step·columns) of images, zeros outside
template <class T>
void pack(const T* x, const Side& h, const Side& w, const Tiling& t, const Tile& tile, int64_t channels, int64_t row,
          int64_t rows, int64_t column, int64_t columns, int64_t step, T* out, int64_t row_pitch,
          int64_t channel_pitch) {
    for (int64_t c = 0; c < channels; ++c)
        for (int64_t i = 0; i < rows; ++i) {
            T* to = out + c * channel_pitch + i * row_pitch;
            if (row + i < 0 || row + i >= h.source) {
                clear(to, row_pitch);
                continue;
            }
            const T* from = x + (c * h.source + row + i) * w.source * t.batch + tile.image;
            for (int64_t q = column; q < column + step; ++q, to += columns * t.lanes) {
                const int64_t begin = smaller(columns, larger(0, ceil_div(-q, step)));
                const int64_t end = smaller(columns, larger(begin, ceil_div(w.source - q, step)));
                clear(to, begin * t.lanes);
                clear(to + end * t.lanes, (columns - end) * t.lanes);
                if (step == 1 && t.lanes == t.batch)
                    copy(to + begin * t.lanes, from + (q + begin) * t.batch, (end - begin) * t.lanes);
                else
                    for (int64_t j = begin; j < end; ++j) {
                        copy(to + j * t.lanes, from + (q + j * step) * t.batch, tile.images);
                        clear(to + j * t.lanes + tile.images, t.lanes - tile.images);
                    }
            }
            clear(to, out + c * channel_pitch + (i + 1) * row_pitch - to);
        }
}
// what a tile reads of the source x of its group
template <class T>
void pack_source(const T* x, const Tiling& t, const Tile& tile, int64_t channels, T* out) {
    pack(x, t.h, t.w, t, tile, channels, tile.top * t.h.source_step + t.h.first, t.source_rows,
         tile.left * t.w.source_step + t.w.first, t.source_columns, t.w.source_step, out, t.row_pitch,
         t.channel_pitch);
}

// -- forward and input gradient ------------------------------------------------------------

template <int N>
struct Int {
    static constexpr int value = N;
};
// call f(Int<r>(), Int<c>()), so that r <= ROWS and c <= COLUMNS are constants
template <int R = ROWS, int C = COLUMNS, class F>
inline void with_sizes(int64_t r, int64_t c, F&& f) {
    if constexpr (R > 1)
        if (r < R) return with_sizes<R - 1, C>(r, c, f);
    if constexpr (C > 1)
        if (c < C) return with_sizes<R, C - 1>(r, c, f);
    f(Int<R>(), Int<C>());
}

struct Tap {
    int64_t row, column, offset, element;  // the offsets along each axis and in the buffer; place in the kernel
};

// The taps of all phases, and the weights in the order in which they are read:
// (phase, group, block of targets, source, tap, target of the block).
template <class T>
struct Taps {
    Buffer<int64_t> starts;  // of phase number p·(target_step of the width) + q
    Buffer<Tap> taps;
    Buffer<T> weights;
    int64_t targets, sources, groups, blocks;
    bool finite;  // all weights

    Taps(const Problem& p, const Tiling& t, const T* weight, int64_t threads)
        : starts(t.h.target_step * t.w.target_step + 1),
          taps(p.height.kernel * p.width.kernel),
          weights(p.filters * (p.channels / p.groups) * p.height.kernel * p.width.kernel),
          groups(p.groups) {
        const int64_t size = p.height.kernel * p.width.kernel;
        const bool gradient = t.h.gradient;
        targets = (gradient ? p.channels : p.filters) / groups;
        sources = (gradient ? p.filters : p.channels) / groups;
        blocks = ceil_div(targets, ROWS);
        int64_t count = 0, phase = 0;
        for (int64_t i = 0; i < t.h.target_step; ++i)
            for (int64_t j = 0; j < t.w.target_step; ++j) {
                starts[phase++] = count;
                for (int64_t k = 0; k < p.height.kernel; ++k)
                    for (int64_t l = 0; l < p.width.kernel; ++l)
                        if (t.h.reads(i, k) && t.w.reads(j, l))
                            taps[count++] = {t.h.offset(i, k), t.w.offset(j, l), t.offset(i, k, j, l),
                                             k * p.width.kernel + l};
            }
        starts[phase] = count;
        int wrong = 0;
        for (int64_t i = 0; i < size * sources * targets * groups; ++i) wrong |= !(weight[i] - weight[i] == 0);
        finite = !wrong;
        parallel(size * sources * targets * groups < 1 << 15 ? 1 : threads, groups * blocks, [&](int64_t part) {
            const int64_t group = part / blocks, block = part % blocks, rows = start(block + 1) - start(block);
            for (int64_t n = 0; n < phase; ++n) {
                T* out = at(n, group, block);
                for (int64_t s = 0; s < sources; ++s)
                    for (int64_t tap = starts[n]; tap < starts[n + 1]; ++tap)
                        for (int64_t r = 0; r < rows; ++r) {
                            const int64_t target = start(block) + r;
                            const int64_t pair = gradient ? (group * sources + s) * targets + target
                                                          : (group * targets + target) * sources + s;
                            *out++ = weight[pair * size + taps[tap].element];
                        }
            }
        });
    }
    int64_t start(int64_t block) const { return block * targets / blocks; }
    int64_t count(int64_t phase) const { return starts[phase + 1] - starts[phase]; }
    T* at(int64_t phase, int64_t group, int64_t block) const {
        const int64_t before = groups * targets * starts[phase];
        return weights + sources * (before + (group * targets + start(block)) * count(phase));
    }
};

// where a tap's pixels and its weights are
struct Place {
    int64_t pixels, weights;
};

// R targets × C vectors of the run at x; out: rows of `length` elements
template <class T, int R, int C>
inline void correlate(const T* x, int64_t x_pitch, int64_t channels, const Place* places, int64_t taps, const T* weight,
                      int64_t weight_pitch, const T* bias, bool relu, T* out, int64_t out_pitch, int64_t length) {
    constexpr int size = Vector<T>::size;
    Vec<T> sums[R][C];
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) sums[r][c] = Vec<T>{} + (bias ? bias[r] : T(0));
    for (int64_t channel = 0; channel < channels; ++channel, x += x_pitch, weight += weight_pitch)
        for (int64_t tap = 0; tap < taps; ++tap) {
            const T *from = x + places[tap].pixels, *factors = weight + places[tap].weights;
            Vec<T> pixels[C];
            for (int c = 0; c < C; ++c) pixels[c] = load(from + c * size);
            for (int r = 0; r < R; ++r)
                for (int c = 0; c < C; ++c) sums[r][c] += factors[r] * pixels[c];
        }
    for (int r = 0; r < R; ++r)
        for (int c = 0; c < C; ++c) {
            Vec<T> y = sums[r][c];
            if (relu) y = y < T(0) ? Vec<T>{} : y;  // keeps NaN
            T* to = out + r * out_pitch + c * size;
            if ((c + 1) * size <= length)
                store(to, y);
            else
                store_part(to, y, length - c * size);
        }
}

// rows of a block of the run, from its element `start`, to columns `step` apart
template <class T>
void scatter(const T* block, int64_t pitch, int64_t rows, int64_t start, int64_t length, int64_t lanes, int64_t images,
             T* out, int64_t out_pitch, int64_t step) {
    int64_t column = start / lanes, lane = start % lanes;
    for (int64_t i = 0, n; i < length; i += n, lane = 0, ++column) {
        n = smaller(lanes - lane, length - i);
        if (lane < images)
            for (int64_t r = 0; r < rows; ++r)
                copy(out + r * out_pitch + column * step + lane, block + r * pitch + i, smaller(n, images - lane));
    }
}

// The target rows of a tile, of phase (i, j) and one block of targets. Taps that read zeros only are left
// out if their weights are finite.
template <class T>
void compute(const Tiling& t, const Tile& tile, const Taps<T>& taps, int64_t block, int64_t i, int64_t j, const T* x,
             const T* bias, bool relu, T* target, Place* places) {
    constexpr int64_t size = Vector<T>::size;
    const int64_t phase = i * t.w.target_step + j, rows = taps.start(block + 1) - taps.start(block);
    const int64_t run = t.w.pixels(j, tile.left, tile.right) * t.lanes;
    const int64_t vectors = ceil_div(run, size), blocks = ceil_div(vectors, COLUMNS);
    const bool whole = t.lanes == t.batch && t.w.target_step == 1;  // the run is contiguous in the target, too
    const int64_t plane = t.h.target * t.w.target * t.batch;
    const T* weight = taps.at(phase, tile.group, block);
    Place *all = places, *some = places + taps.count(phase);
    const Tap* phase_taps = taps.taps + taps.starts[phase];
    for (int64_t tap = 0; tap < taps.count(phase); ++tap) all[tap] = {phase_taps[tap].offset, tap * rows};
    T part[ROWS * COLUMNS * size];
    for (int64_t a = tile.top; a < tile.top + t.h.pixels(i, tile.top, tile.bottom); ++a) {
        const int64_t row = a * t.h.target_step + i, column = tile.left * t.w.target_step + j;
        const bool row_inside = t.h.inside(a, a);
        T* out = target + (row * t.w.target + column) * t.batch + tile.image;
        for (int64_t b = 0; b < blocks; ++b) {
            const int64_t begin = b * vectors / blocks * size, end = smaller(run, (b + 1) * vectors / blocks * size);
            const int64_t left = tile.left + begin / t.lanes, right = tile.left + (end - 1) / t.lanes;
            const Place* read = all;
            int64_t count = taps.count(phase);
            if (taps.finite && !(row_inside && t.w.inside(left, right))) {
                read = some;
                count = 0;
                for (int64_t tap = 0; tap < taps.count(phase); ++tap) {
                    const Tap& it = phase_taps[tap];
                    if (t.h.inside(a, a, it.row) && t.w.inside(left, right, it.column)) some[count++] = all[tap];
                }
            }
            T* to = whole ? out + begin : part;
            const int64_t pitch = whole ? plane : COLUMNS * size;
            with_sizes(rows, ceil_div(end - begin, size), [&](auto r, auto c) {
                const T* from = x + (a - tile.top) * t.h.source_step * t.row_pitch + begin;
                correlate<T, r.value, c.value>(from, t.channel_pitch, taps.sources, read, count, weight,
                                               taps.count(phase) * rows, bias, relu, to, pitch, end - begin);
            });
            if (!whole)
                scatter(part, pitch, rows, begin, end - begin, t.lanes, tile.images, out, plane,
                        t.w.target_step * t.batch);
        }
    }
}

template <class T>
void convolution(const T* source, const T* weight, const T* bias, T* target, const Problem& p, bool gradient,
                 bool relu, int64_t threads) {
    const Side h(p.height, gradient), w(p.width, gradient);
    const int64_t sources = (gradient ? p.filters : p.channels) / p.groups;
    const Tiling t(p, h, w, sources, 0, sizeof(T), 2 * threads);
    const Taps<T> taps(p, t, weight, threads);
    parallel(threads, p.groups * t.of_group, [&](int64_t part) {
        const Tile tile = t.tile(part);
        Buffer<T> x(sources * t.channel_pitch + Vector<T>::size);
        Buffer<Place> places(2 * p.height.kernel * p.width.kernel);
        pack_source(source + tile.group * sources * h.source * w.source * p.batch, t, tile, sources, x.data);
        for (int64_t i = 0; i < h.target_step; ++i)
            for (int64_t j = 0; j < w.target_step; ++j)
                for (int64_t block = 0; block < taps.blocks; ++block) {
                    const int64_t first = tile.group * taps.targets + taps.start(block);
                    compute(t, tile, taps, block, i, j, x.data, bias ? bias + first : nullptr, relu,
                            target + first * h.target * w.target * p.batch, places);
                }
    });
}

// -- weight gradient -----------------------------------------------------------------------

// the first n lanes of v, then zeros
template <class T>
inline Vec<T> first_lanes(Vec<T> v, int64_t n) {
    Vec<T> number;
    for (int i = 0; i < Vector<T>::size; ++i) number[i] = T(i);
    return number < T(n) ? v : Vec<T>{};
}

// sums[r][c] += the sum over rows of `length` elements of dy of filter r · x at tap c
template <class T, int R, int C>
inline void multiply(const T* dy, int64_t filter_pitch, int64_t dy_pitch, const T* x, const int64_t* offsets,
                     int64_t x_pitch, int64_t rows, int64_t length, double* sums, int64_t pitch) {
    constexpr int64_t size = Vector<T>::size;
    Vec<T> total[R][C] = {};
    for (int64_t row = 0; row < rows; ++row, dy += dy_pitch, x += x_pitch)
        for (int64_t i = 0; i < length; i += size) {
            Vec<T> pixels[C];
            for (int c = 0; c < C; ++c) pixels[c] = load(x + offsets[c] + i);
            if (length - i < size)
                for (int c = 0; c < C; ++c) pixels[c] = first_lanes<T>(pixels[c], length - i);
            for (int r = 0; r < R; ++r) {
                const Vec<T> d = load(dy + r * filter_pitch + i);
                for (int c = 0; c < C; ++c) total[r][c] += d * pixels[c];
            }
        }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int c = 0; c < C; ++c) sums[r * pitch + c] += sum<T>(total[r][c]);
}

// The weight gradient, in blocks of filters and channels with which a tile has long runs.
template <class T>
void convolution_weight_gradient(const T* dy, const T* x, T* dweight, const Problem& p, int64_t threads) {
    constexpr int64_t size = Vector<T>::size;
    const Side h(p.height, false), w(p.width, false);
    const Side dy_h(Axis{h.target, h.target, 1, 1, 0, 0, 1}, false), dy_w(Axis{w.target, w.target, 1, 1, 0, 0, 1}, false);
    const int64_t channels = p.channels / p.groups, filters = p.filters / p.groups;
    const int64_t kernel = p.height.kernel * p.width.kernel, weights = p.filters * channels * kernel;
    const int64_t filter_blocks = ceil_div(filters, FILTERS);
    const int64_t channel_blocks = ceil_div(channels, ceil_div(TAPS, kernel));
    const int64_t most_filters = ceil_div(filters, filter_blocks), most_channels = ceil_div(channels, channel_blocks);
    const Tiling t(p, h, w, most_channels, most_filters, sizeof(T), 2 * threads);
    Buffer<int64_t> offsets(most_channels * kernel);
    for (int64_t tap = 0; tap < most_channels * kernel; ++tap)
        offsets[tap] = tap / kernel * t.channel_pitch +
                       t.offset(0, tap % kernel / p.width.kernel, 0, tap % p.width.kernel);

    const int64_t blocks = p.groups * filter_blocks * channel_blocks;
    const int64_t shares = smaller(t.of_group, ceil_div(2 * threads, blocks));  // of the tiles
    Buffer<double> sums(shares * weights);
    clear<double>(sums, shares * weights);
    const int64_t dy_pitch = ceil_div(t.columns * t.lanes, size) * size, packed_pitch = t.rows * dy_pitch + size;
    parallel(threads, blocks * shares, [&](int64_t part) {
        const int64_t share = part % shares, group = part / shares / channel_blocks / filter_blocks;
        const int64_t c = part / shares % channel_blocks, f = part / shares / channel_blocks % filter_blocks;
        const int64_t channel = c * channels / channel_blocks, filter = f * filters / filter_blocks;
        const int64_t taps = ((c + 1) * channels / channel_blocks - channel) * kernel;
        const int64_t count = (f + 1) * filters / filter_blocks - filter;
        double* total = sums + share * weights + ((group * filters + filter) * channels + channel) * kernel;
        Buffer<T> pixels(most_channels * t.channel_pitch + size), packed(most_filters * packed_pitch);
        const T* my_x = x + (group * channels + channel) * h.source * w.source * p.batch;
        const T* my_dy = dy + (group * filters + filter) * h.target * w.target * p.batch;
        for (int64_t n = share * t.of_group / shares; n < (share + 1) * t.of_group / shares; ++n) {
            const Tile tile = t.tile(n);
            const int64_t columns = tile.right - tile.left, rows = tile.bottom - tile.top, run = columns * t.lanes;
            pack_source(my_x, t, tile, taps / kernel, pixels.data);
            const T* d = my_dy + (tile.top * w.target + tile.left) * p.batch;
            int64_t pitch = w.target * p.batch, filter_pitch = h.target * pitch;
            // with few COLUMNS dy is read so often that a copy, spread over the cache's sets, pays
            if (t.lanes != p.batch || run % size || (COLUMNS < 4 && count > ROWS)) {
                pitch = dy_pitch, filter_pitch = packed_pitch, d = packed;
                pack(my_dy, dy_h, dy_w, t, tile, count, tile.top, rows, tile.left, columns, 1, packed.data, pitch,
                     filter_pitch);
            }
            for (int64_t f = 0; f < count; f += ROWS)
                for (int64_t tap = 0; tap < taps; tap += COLUMNS)
                    with_sizes(smaller(ROWS, count - f), smaller(COLUMNS, taps - tap), [&](auto r, auto c) {
                        multiply<T, r.value, c.value>(d + f * filter_pitch, filter_pitch, pitch, pixels, offsets + tap,
                                                      h.source_step * t.row_pitch, rows, run,
                                                      total + f * channels * kernel + tap, channels * kernel);
                    });
        }
    });
    for (int64_t i = 0; i < weights; ++i) {
        double total = 0;
        for (int64_t share = 0; share < shares; ++share) total += sums[share * weights + i];
        dweight[i] = T(total);
    }
}

}  // namespace

EXPORT_BOTH(convolution,
            (const T* source, const T* weight, const T* bias, T* target, const Problem* problem,
             int64_t gradient, int64_t relu, int64_t threads),
            (source, weight, bias, target, *problem, gradient, relu, threads))
EXPORT_BOTH(convolution_weight_gradient,
            (const T* dy, const T* x, T* dweight, const Problem* problem, int64_t threads),
            (dy, x, dweight, *problem, threads))
