// Sixteen floats as a loop, for whatever the compiler makes of it.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace TRIFORM_ISA {

struct Floats {
    float v[16];
};

constexpr int kRows = 2;

template <class F>
inline Floats each(F f) {
    Floats y;
    for (int i = 0; i < 16; ++i) y.v[i] = f(i);
    return y;
}
inline Floats load(const float* p) {
    return each([&](int i) { return p[i]; });
}
inline void store(float* p, Floats x) { std::memcpy(p, x.v, sizeof x.v); }
inline Floats load_first(const float* p, int n) {
    return each([&](int i) { return i < n ? p[i] : 0.0f; });
}
inline void store_first(float* p, Floats x, int n) {
    for (int i = 0; i < 16 && i < n; ++i) p[i] = x.v[i];
}
inline Floats all(float x) {
    return each([&](int) { return x; });
}
inline Floats operator+(Floats a, Floats b) {
    return each([&](int i) { return a.v[i] + b.v[i]; });
}
inline Floats operator-(Floats a, Floats b) {
    return each([&](int i) { return a.v[i] - b.v[i]; });
}
inline Floats operator*(Floats a, Floats b) {
    return each([&](int i) { return a.v[i] * b.v[i]; });
}
inline Floats operator/(Floats a, Floats b) {
    return each([&](int i) { return a.v[i] / b.v[i]; });
}
inline Floats multiply_add(Floats a, Floats b, Floats c) {
    return each([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
inline Floats max(Floats a, Floats b) {
    return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Floats min(Floats a, Floats b) {
    return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline Floats round(Floats a) {
    return each([&](int i) { return std::nearbyintf(a.v[i]); });
}
// x · 2ⁿ for a whole n.
inline Floats scale_by_power(Floats x, Floats n) {
    return each([&](int i) { return std::ldexp(x.v[i], static_cast<int>(n.v[i])); });
}
inline Floats keep_first(Floats x, int n, float other) {
    return each([&](int i) { return i < n ? x.v[i] : other; });
}
inline Floats keep_from(Floats x, int n, float other) {
    return each([&](int i) { return i < n ? other : x.v[i]; });
}
// A bit for each lane in which a is greater.
inline uint32_t which_greater(Floats a, Floats b) {
    uint32_t bits = 0;
    for (int i = 0; i < 16; ++i) bits |= static_cast<uint32_t>(a.v[i] > b.v[i]) << i;
    return bits;
}
inline float from_bits(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
// Exactly: a subnormal half is a whole number of 2⁻²⁴.
inline float widen_half1(uint16_t h) {
    uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
    if (exponent == 31) return from_bits(sign | 0x7F800000 | (mantissa << 13));
    if (exponent == 0) return from_bits(sign | 0x3F800000) * (static_cast<float>(mantissa) * 0x1p-24f);
    return from_bits(sign | ((exponent + 112) << 23) | (mantissa << 13));
}
inline Floats widen_half(const uint16_t* p) {
    return each([&](int i) { return widen_half1(p[i]); });
}
inline Floats widen_bfloat(const uint16_t* p) {
    return each([&](int i) { return from_bits(static_cast<uint32_t>(p[i]) << 16); });
}

}  // namespace TRIFORM_ISA
