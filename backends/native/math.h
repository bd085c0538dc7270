// exp of vectors: within 1 unit in the last place, for any argument.
#pragma once
#include "common.h"

namespace {

template <class T>
struct Exp;  // x = n * log(2) + r with |r| <= log(2) / 2; exp(x) = 2^n * the Taylor series of exp(r)
template <>
struct Exp<float> {
    static constexpr int terms = 7, mantissa = 23, bias = 127;
    static constexpr float high = 0.693359375f, low = -2.12194440e-4f;  // n * high is exact
    static constexpr float smallest = -104, largest = 89, round = 12582912;  // 1.5 * 2^23
};
template <>
struct Exp<double> {
    static constexpr int terms = 13, mantissa = 52, bias = 1023;
    static constexpr double high = 0.693145751953125, low = 1.42860682030941723212e-6;
    static constexpr double smallest = -746, largest = 710, round = 6755399441055744;
};

template <class T>
constexpr T reciprocal_factorial(int n) {
    T product = 1;
    for (int i = 2; i <= n; ++i) product *= i;
    return 1 / product;
}

template <class T, class V, class Int>
inline V power_of_two(Int n) {
    const Int bits = (n + Exp<T>::bias) << Exp<T>::mantissa;
    V power;
    memcpy(&power, &bits, sizeof power);
    return power;
}

template <class T, class V>
inline V exponential(V x) {
    typedef Exp<T> E;
    typedef typename Lanes<V>::mask Int;
    const V given = x;
    x = x > E::smallest ? x : V{} + E::smallest;  // also of NaN
    x = x > E::largest ? V{} + E::largest : x;
    const V shifted = x * T(1.44269504088896340736) + E::round;  // its last bits are n
    const V n = shifted - E::round, r = (x - n * E::high) - n * E::low;
    V y = V{} + reciprocal_factorial<T>(E::terms);
    for (int i = E::terms - 1; i >= 0; --i) y = y * r + reciprocal_factorial<T>(i);
    Int bits, zero;
    const V none = V{} + E::round;
    memcpy(&bits, &shifted, sizeof bits);
    memcpy(&zero, &none, sizeof zero);
    bits -= zero;
    const Int half = bits >> 1;  // 2^n in two factors: it may be subnormal
    y = y * power_of_two<T, V>(half) * power_of_two<T, V>(bits - half);
    return given == given ? y : given;
}

}  // namespace
