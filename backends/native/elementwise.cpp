// Bias and ReLU, their gradients, transposed copies, and random masks.
#include "common.h"

namespace {

constexpr int64_t PIECE = 4096;  // elements that are summed in T, before the sums are in double

// y += bias[:, None], if not null, then max(y, 0) if `relu`, in columns [start, start + count)
template <class T>
void add_bias(T* y, const T* bias, int64_t relu, int64_t rows, int64_t size,
              int64_t start, int64_t count, int64_t threads) {
    parallel(threads, rows, [&](int64_t row) {
        T* to = y + row * size + start;
        const T shift = bias ? bias[row] : 0;
        const T least = relu ? 0 : -__builtin_inf();
#pragma GCC ivdep
        for (int64_t i = 0; i < count; ++i) {
            const T sum = to[i] + shift;
            to[i] = sum < least ? least : sum;  // NaN stays
        }
    });
}

// dz = dy where y > 0, else 0; dbias, the sum of each row of dz
template <class T>
void relu_backward(const T* dy, const T* y, T* dz, T* dbias, int64_t rows, int64_t size,
                   int64_t threads) {
    parallel(threads, rows, [&](int64_t row) {
        constexpr int64_t lanes = Vector<T>::size;
        double total = 0;
        for (int64_t start = row * size, end = start + size; start < end; start += PIECE) {
            const int64_t stop = smaller(start + PIECE, end);
            Vec<T> sums = {};
            int64_t i = start;
            for (; i + lanes <= stop; i += lanes) {
                const Vec<T> value = load(y + i) > 0 ? load(dy + i) : Vec<T>{};
                store(dz + i, value);
                sums += value;
            }
            for (; i < stop; ++i) total += dz[i] = y[i] > 0 ? dy[i] : 0;
            total += sum<T>(sums);
        }
        dbias[row] = total;
    });
}

// y (columns, rows) = x (rows, columns) transposed, in tiles that fit into the nearest cache
template <class T>
void transpose(const T* x, T* y, int64_t rows, int64_t columns, int64_t threads) {
    constexpr int64_t WIDTH = 64 / sizeof(T), HEIGHT = 128;  // whole cache lines are read
    parallel(threads, ceil_div(columns, WIDTH), [&](int64_t part) {
        const int64_t first = part * WIDTH, width = smaller(WIDTH, columns - first);
        for (int64_t top = 0; top < rows; top += HEIGHT) {
            const int64_t height = smaller(HEIGHT, rows - top);
            T tile[WIDTH][HEIGHT];
            for (int64_t row = 0; row < height; ++row) {
                const T* from = x + (top + row) * columns + first;
                if (width == WIDTH)
                    for (int64_t i = 0; i < WIDTH; ++i) tile[i][row] = from[i];
                else
                    for (int64_t i = 0; i < width; ++i) tile[i][row] = from[i];
            }
            for (int64_t i = 0; i < width; ++i)
                memcpy(y + (first + i) * rows + top, tile[i], height * sizeof(T));
        }
    });
}

// Philox4x64-10: eight 32-bit numbers from a counter and a key.
inline void philox(uint64_t counter, uint64_t key, uint32_t* numbers) {
    uint64_t state[4] = {counter, 0, 0, 0}, keys[2] = {key, 0};
    for (int round = 0; round < 10; ++round) {
        const unsigned __int128 a = static_cast<unsigned __int128>(state[0]) * 0xD2E7470EE14C6C93;
        const unsigned __int128 b = static_cast<unsigned __int128>(state[2]) * 0xCA5A826395121157;
        state[0] = static_cast<uint64_t>(b >> 64) ^ state[1] ^ keys[0];
        state[1] = static_cast<uint64_t>(b);
        state[2] = static_cast<uint64_t>(a >> 64) ^ state[3] ^ keys[1];
        state[3] = static_cast<uint64_t>(a);
        keys[0] += 0x9E3779B97F4A7C15;
        keys[1] += 0xBB67AE8584CAA73B;
    }
    for (int i = 0; i < 8; ++i) numbers[i] = static_cast<uint32_t>(state[i / 2] >> (i % 2 * 32));
}

// mask = scale where a random number reaches the threshold, else 0: numbers of the columns `start`
// to `start + width` of a matrix with rows of `total`; counters 1, 2, ...
template <class T>
void dropout_mask(T* mask, int64_t count, int64_t key, int64_t threshold, double scale,
                  int64_t start, int64_t width, int64_t total, int64_t threads) {
    constexpr int64_t SIZE = 4096;  // of a part
    parallel(threads, ceil_div(count, SIZE), [&](int64_t part) {
        uint32_t numbers[SIZE], some[8];
        const T kept = scale;  // constants of its own: what is captured, mask[i] could be
        const uint32_t least = threshold;
        const int64_t first = part * SIZE, size = smaller(SIZE, count - first);
        int64_t row = first / width, column = first % width;
        for (int64_t i = 0; i < size;) {
            const int64_t place = row * total + start + column, lane = place % 8;
            const int64_t run = smaller(smaller(width - column, size - i), 8 - lane);
            if (run == 8) {
                philox(place / 8 + 1, key, numbers + i);
            } else {
                philox(place / 8 + 1, key, some);
                memcpy(numbers + i, some + lane, run * sizeof(uint32_t));
            }
            i += run;
            column += run;
            if (column == width) {
                column = 0;
                ++row;
            }
        }
        T* to = mask + first;
        for (int64_t i = 0; i < size; ++i) to[i] = numbers[i] >= least ? kept : 0;
    });
}

}  // namespace

EXPORT_BOTH(add_bias,
            (T* y, const T* bias, int64_t relu, int64_t rows, int64_t size, int64_t start,
             int64_t count, int64_t threads),
            (y, bias, relu, rows, size, start, count, threads))
EXPORT_BOTH(relu_backward,
            (const T* dy, const T* y, T* dz, T* dbias, int64_t rows, int64_t size, int64_t threads),
            (dy, y, dz, dbias, rows, size, threads))
EXPORT_BOTH(transpose, (const T* x, T* y, int64_t rows, int64_t columns, int64_t threads),
            (x, y, rows, columns, threads))
EXPORT_BOTH(dropout_mask,
            (T* mask, int64_t count, int64_t key, int64_t threshold, double scale, int64_t start,
             int64_t width, int64_t total, int64_t threads),
            (mask, count, key, threshold, scale, start, width, total, threads))
