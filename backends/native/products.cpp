// Matrix products C = A B by NumPy's BLAS, each divided among the threads of all kernels.
//
// `gemm` is cblas_sgemm or cblas_dgemm for 64-bit sizes, which the caller has limited to one thread.
// A thread computes a band of rows or columns of C or, where the common length is the longest, the
// product of a part of it; these products are added in order. The rows of A, B and C, or the
// columns of one that is transposed, are `*_step` elements apart.
#include "common.h"

namespace {

enum { ROWS_IN_ORDER = 101, AS_IT_IS = 111, TRANSPOSED = 112 };  // of cblas.h

template <class T>
using Gemm = void (*)(int order, int a_form, int b_form, int64_t rows, int64_t columns, int64_t terms, T alpha,
                      const T* a, int64_t a_step, const T* b, int64_t b_step, T beta, T* c, int64_t c_step);

template <class T>
struct Matrix {
    const T* data;
    int64_t step, transposed;

    const T* at(int64_t row, int64_t column) const {
        return transposed ? data + column * step + row : data + row * step + column;
    }
    int form() const { return transposed ? TRANSPOSED : AS_IT_IS; }
};

// add the matrix of `terms`, whose rows follow each other, to that of `sums`
template <class T>
void add(int64_t rows, int64_t columns, const T* terms, T* sums, int64_t step) {
    for (int64_t r = 0; r < rows; ++r)
        each_lanes<T>(columns, [&](int64_t j, auto lanes) {
            typedef decltype(lanes) V;
            T* to = sums + r * step + j;
            write(to, V(read<V>(to) + read<V>(terms + r * columns + j)));
        });
}

template <class T>
void product(int64_t threads, void* gemm, int64_t rows, int64_t columns, int64_t terms, const T* a, int64_t a_step,
             int64_t a_transposed, const T* b, int64_t b_step, int64_t b_transposed, T* c, int64_t c_step) {
    const Matrix<T> left = {a, a_step, a_transposed}, right = {b, b_step, b_transposed};
    const auto multiply = [=](int64_t m, int64_t n, int64_t k, const T* a, const T* b, T* c, int64_t step) {
        reinterpret_cast<Gemm<T>>(gemm)(ROWS_IN_ORDER, left.form(), right.form(), m, n, k, 1, a, left.step, b,
                                        right.step, 0, c, step);
    };
    const int64_t longest = larger(terms, larger(rows, columns));
    const int64_t band = 16 * ceil_div(longest, 16 * threads), parts = ceil_div(longest, band);
    const bool by_columns = columns == longest, by_rows = !by_columns && rows == longest;
    Buffer<T> partial(by_columns || by_rows ? 0 : (parts - 1) * rows * columns);
    parallel(threads, parts, [&](int64_t i) {
        const int64_t at = i * band, size = smaller(band, longest - at);
        if (by_columns)
            multiply(rows, size, terms, a, right.at(0, at), c + at, c_step);
        else if (by_rows)
            multiply(size, columns, terms, left.at(at, 0), b, c + at * c_step, c_step);
        else if (i)
            multiply(rows, columns, size, left.at(0, at), right.at(at, 0), partial + (i - 1) * rows * columns, columns);
        else
            multiply(rows, columns, size, a, b, c, c_step);
    });
    for (int64_t i = 1; i < parts && !by_columns && !by_rows; ++i)
        add(rows, columns, partial + (i - 1) * rows * columns, c, c_step);
}

}  // namespace

EXPORT_BOTH(product,
            (int64_t threads, void* gemm, int64_t rows, int64_t columns, int64_t terms, const T* a, int64_t a_step,
             int64_t a_transposed, const T* b, int64_t b_step, int64_t b_transposed, T* c, int64_t c_step),
            (threads, gemm, rows, columns, terms, a, a_step, a_transposed, b, b_step, b_transposed, c, c_step))
