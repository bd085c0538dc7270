// Max and average pooling, forward and backward.
//
// x, dx : (channels, height, width, batch);  y, dy, argmax : (channels, rows, columns, batch), one
// element per window. A part is one row of one channel. Forward computes a window of one vector of
// images at a time; backward collects for each pixel what the windows that read it send there.
#include "common.h"

namespace {

// Along an axis, window o reads the pixels o * stride - before + k * dilation for k < kernel.
struct Line : Axis {
    int64_t start(int64_t window) const { return window * stride - before; }
    // elements [first, last) of the window that starts at `start` are pixels, the others padding
    int64_t first(int64_t start) const { return start < 0 ? ceil_div(-start, dilation) : 0; }
    int64_t last(int64_t start) const {
        return start < input ? smaller(kernel, ceil_div(input - start, dilation)) : 0;
    }
    // windows [low, high) may read a pixel
    int64_t low(int64_t pixel) const {
        return larger(0, ceil_div(pixel + before - (kernel - 1) * dilation, stride));
    }
    int64_t high(int64_t pixel) const { return smaller(output, (pixel + before) / stride + 1); }
    // the element of a window that reads the pixel, or -1
    int64_t element(int64_t window, int64_t pixel) const {
        const int64_t distance = pixel - start(window);
        if (dilation == 1) return distance;
        return distance % dilation ? -1 : distance / dilation;
    }
    // pixels in the mean of a window, which is not dilated
    int64_t counted(int64_t window, int64_t include_pad) const {
        const int64_t low = include_pad ? -before : 0, high = include_pad ? input + after : input;
        return smaller(start(window) + kernel, high) - larger(start(window), low);
    }
};
struct Windows {
    Line y, x;
};

// The pixels of a window: rows x columns, `row` and `column` elements of an array apart.
struct Window {
    int64_t rows, columns, row, column;
    int32_t number, width;  // of the first pixel in the kernel, and of the kernel
};

template <class A>
inline void put(A* p, int64_t number) {
    *p = static_cast<A>(number);
}
template <class A, class I, class = decltype(I{}[0])>
inline void put(A* p, I numbers) {
    typedef A Narrow __attribute__((vector_size(sizeof(I) / sizeof(I{}[0]) * sizeof(A))));
    const Narrow narrow = __builtin_convertvector(numbers, Narrow);
    memcpy(p, &narrow, sizeof narrow);
}

// The maximum of a window, of SIZE x SIZE pixels if known, and its number: NaN wins, else the first.
template <int SIZE, class V, class T, class F>
inline V maximum(const Window& w, const T* x, F&& save) {
    typedef typename Lanes<V>::mask Mask;
    const int32_t rows = SIZE ? SIZE : w.rows, columns = SIZE ? SIZE : w.columns;
    V best = read<V>(x);
    Mask chosen = Mask{} + w.number;
    for (int32_t a = 0; a < rows; ++a)
        for (int32_t b = 0; b < columns; ++b) {
            const V value = read<V>(x + a * w.row + b * w.column);
            const auto better = ((value <= best) == 0) & (best == best);
            best = better ? value : best;
            chosen = better ? Mask{} + (w.number + a * w.width + b) : chosen;
        }
    save(chosen);
    return best;
}

template <class V, class T>
inline V total(const Window& w, const T* x) {
    V sum = {};
    for (int64_t a = 0; a < w.rows; ++a) {
        V line = {};
        for (int64_t b = 0; b < w.columns; ++b) line += read<V>(x + a * w.row + b * w.column);
        sum += line;
    }
    return sum;
}

// f(window, its first pixel in x, row, column, its place in y) for each window
template <class F>
inline void each_window(const Windows& g, int64_t channels, int64_t batch, int64_t threads, F&& f) {
    parallel(threads, channels * g.y.output, [&](int64_t part) {
        const int64_t channel = part / g.y.output, row = part % g.y.output, top = g.y.start(row);
        const int64_t first = g.y.first(top), rows = g.y.last(top) - first;
        const int64_t line = (channel * g.y.input + top + first * g.y.dilation) * g.x.input;
        for (int64_t column = 0; column < g.x.output; ++column) {
            const int64_t left = g.x.start(column), begin = g.x.first(left);
            const Window window = {rows,
                                   g.x.last(left) - begin,
                                   g.y.dilation * g.x.input * batch,
                                   g.x.dilation * batch,
                                   static_cast<int32_t>(first * g.x.kernel + begin),
                                   static_cast<int32_t>(g.x.kernel)};
            const int64_t pixel = line + left + begin * g.x.dilation;
            f(window, pixel * batch, row, column, (part * g.x.output + column) * batch);
        }
    });
}

// f(window, its element, place of the window in dy, of the pixel in dx, whether it is the pixel's
// first) for each pixel and each window that reads it; dx of other pixels is 0
template <class T, class F>
inline void each_reader(const Windows& g, T* dx, int64_t channels, int64_t batch, int64_t threads,
                        F&& f) {
    parallel(threads, channels * g.y.input, [&](int64_t part) {
        const int64_t channel = part / g.y.input, y = part % g.y.input;
        const int64_t top = g.y.low(y), bottom = g.y.high(y);
        for (int64_t x = 0; x < g.x.input; ++x) {
            const int64_t pixel = (part * g.x.input + x) * batch;
            const int64_t left = g.x.low(x), right = g.x.high(x);
            bool none = true;
            for (int64_t row = top; row < bottom; ++row) {
                const int64_t a = g.y.element(row, y);
                for (int64_t column = left; a >= 0 && column < right; ++column) {
                    const int64_t b = g.x.element(column, x);
                    if (b < 0) continue;
                    const int64_t window = (channel * g.y.output + row) * g.x.output + column;
                    f(row, column, a * g.x.kernel + b, window * batch, pixel, none);
                    none = false;
                }
            }
            if (none) memset(dx + pixel, 0, batch * sizeof(T));
        }
    });
}

// save(i, V, numbers of the maxima) at element i of y
template <class T, class F>
void maxima(const T* x, T* y, const Windows& g, int64_t channels, int64_t batch, int64_t threads,
            F&& save) {
    each_window(g, channels, batch, threads,
                [&](const Window& w, int64_t from, int64_t, int64_t, int64_t to) {
        const bool is_empty = w.rows <= 0 || w.columns <= 0;  // all padding
        const int64_t size = w.rows == w.columns ? w.rows : 0;
        each_lanes<T>(batch, [&](int64_t i, auto lanes) {
            typedef decltype(lanes) V;
            const auto keep = [&](auto chosen) { save(to + i, chosen); };
            if (is_empty) {
                write(y + to + i, V{} - static_cast<T>(__builtin_inf()));
                keep(typename Lanes<V>::mask{} + static_cast<int32_t>(g.y.kernel * g.x.kernel - 1));
            } else if (size == 2) {
                write(y + to + i, maximum<2, V>(w, x + from + i, keep));
            } else if (size == 3) {
                write(y + to + i, maximum<3, V>(w, x + from + i, keep));
            } else {
                write(y + to + i, maximum<0, V>(w, x + from + i, keep));
            }
        });
    });
}

template <class T>
void max_pool2d(const T* x, T* y, void* argmax, int64_t bytes, const Windows* g, int64_t channels,
                int64_t batch, int64_t threads) {
    auto *small = static_cast<uint8_t*>(argmax);
    auto *wide = static_cast<int32_t*>(argmax);
    if (!argmax)
        maxima(x, y, *g, channels, batch, threads, [](int64_t, auto) {});
    else if (bytes == 1)
        maxima(x, y, *g, channels, batch, threads, [=](int64_t i, auto n) { put(small + i, n); });
    else
        maxima(x, y, *g, channels, batch, threads, [=](int64_t i, auto n) { put(wide + i, n); });
}

// dx = the sum of dy over the windows that chose the pixel
template <class T, class A>
void route(const T* dy, const A* argmax, T* dx, const Windows& g, int64_t channels, int64_t batch,
           int64_t threads) {
    each_reader(g, dx, channels, batch, threads,
                [&](int64_t, int64_t, int64_t element, int64_t window, int64_t pixel, bool first) {
        const A number = static_cast<A>(element);
        const T* from = dy + window;
        const A* chosen = argmax + window;
        T* to = dx + pixel;
        if (first)
            for (int64_t i = 0; i < batch; ++i) to[i] = chosen[i] == number ? from[i] : 0;
        else
            for (int64_t i = 0; i < batch; ++i) to[i] += chosen[i] == number ? from[i] : 0;
    });
}

template <class T>
void max_pool2d_backward(const T* dy, const void* argmax, T* dx, int64_t bytes, const Windows* g,
                         int64_t channels, int64_t batch, int64_t threads) {
    if (bytes == 1)
        route(dy, static_cast<const uint8_t*>(argmax), dx, *g, channels, batch, threads);
    else
        route(dy, static_cast<const int32_t*>(argmax), dx, *g, channels, batch, threads);
}

template <class T>
T share(const Windows& g, int64_t row, int64_t column, int64_t include_pad) {
    return T(1) / static_cast<T>(g.y.counted(row, include_pad) * g.x.counted(column, include_pad));
}

template <class T>
void avg_pool2d(const T* x, T* y, int64_t include_pad, const Windows* g, int64_t channels,
                int64_t batch, int64_t threads) {
    each_window(*g, channels, batch, threads,
                [&](const Window& w, int64_t from, int64_t row, int64_t column, int64_t to) {
        const T weight = share<T>(*g, row, column, include_pad);
        each_lanes<T>(batch, [&](int64_t i, auto lanes) {
            write(y + to + i, total<decltype(lanes)>(w, x + from + i) * weight);
        });
    });
}

template <class T>
void avg_pool2d_backward(const T* dy, T* dx, int64_t include_pad, const Windows* g,
                         int64_t channels, int64_t batch, int64_t threads) {
    each_reader(*g, dx, channels, batch, threads,
                [&](int64_t row, int64_t column, int64_t, int64_t window, int64_t pixel, bool first) {
        const T weight = share<T>(*g, row, column, include_pad);
        const T* from = dy + window;
        T* to = dx + pixel;
        if (first)
            for (int64_t i = 0; i < batch; ++i) to[i] = from[i] * weight;
        else
            for (int64_t i = 0; i < batch; ++i) to[i] += from[i] * weight;
    });
}

}  // namespace

EXPORT_BOTH(max_pool2d,
            (const T* x, T* y, void* argmax, int64_t bytes, const Windows* g, int64_t channels,
             int64_t batch, int64_t threads),
            (x, y, argmax, bytes, g, channels, batch, threads))
EXPORT_BOTH(max_pool2d_backward,
            (const T* dy, const void* argmax, T* dx, int64_t bytes, const Windows* g,
             int64_t channels, int64_t batch, int64_t threads),
            (dy, argmax, dx, bytes, g, channels, batch, threads))
EXPORT_BOTH(avg_pool2d,
            (const T* x, T* y, int64_t include_pad, const Windows* g, int64_t channels,
             int64_t batch, int64_t threads),
            (x, y, include_pad, g, channels, batch, threads))
EXPORT_BOTH(avg_pool2d_backward,
            (const T* dy, T* dx, int64_t include_pad, const Windows* g, int64_t channels,
             int64_t batch, int64_t threads),
            (dy, dx, include_pad, g, channels, batch, threads))
