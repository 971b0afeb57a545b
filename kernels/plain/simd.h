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
// |a| or |b|, whichever is greater; NaN and infinity are never lost.
inline Floats greater_magnitude(Floats a, Floats b) {
    return each([&](int i) {
        float own = std::fabs(a.v[i]), other = std::fabs(b.v[i]);
        return own > other || own != own ? own : other;
    });
}
// The sum of all lanes: halves are added until one is left.
inline float sum(Floats x) {
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; ++i) x.v[i] += x.v[i + width];
    return x.v[0];
}
inline float greatest(Floats x) {
    float best = x.v[0];
    for (int i = 1; i < 16; ++i) best = best > x.v[i] ? best : x.v[i];
    return best;
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
// Four rows of four numbers → four columns.
inline void transpose_four(const float* rows, int64_t stride, float* columns, int64_t column_stride) {
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) columns[i * column_stride + j] = rows[j * stride + i];
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

// Sixteen sums, and for each of them a quad of bytes.
struct Ints {
    int32_t v[16];
};
struct Bytes {
    uint8_t v[64];
};

constexpr int kInt4Rows = 1;

inline Ints all_ints(int32_t x) {
    Ints y;
    for (int i = 0; i < 16; ++i) y.v[i] = x;
    return y;
}
inline Floats to_floats(Ints x) {
    return each([&](int i) { return static_cast<float>(x.v[i]); });
}
inline Bytes load_bytes(const uint8_t* p) {
    Bytes x;
    std::memcpy(x.v, p, sizeof x.v);
    return x;
}
inline Bytes all_quads(const int8_t* p) {
    Bytes x;
    for (int i = 0; i < 16; ++i) std::memcpy(x.v + 4 * i, p, 4);
    return x;
}
inline Bytes low_nibbles(Bytes x) {
    for (uint8_t& byte : x.v) byte &= 15;
    return x;
}
inline Bytes high_nibbles(Bytes x) {
    for (uint8_t& byte : x.v) byte = static_cast<uint8_t>(byte >> 4);
    return x;
}
inline Ints add_quads(Ints sums, Bytes w, Bytes x, int32_t offset) {
    for (int i = 0; i < 64; ++i) sums.v[i / 4] += (w.v[i] - offset) * static_cast<int8_t>(x.v[i]);
    return sums;
}
inline Ints begin_dots(int32_t) { return all_ints(0); }
inline Ints dot(Ints sums, Bytes w, Bytes x) { return add_quads(sums, w, x, 128); }
// The sum of so many numbers: a multiple of 32.
inline int32_t sum_of_bytes(const int8_t* p, int64_t count) {
    int32_t total = 0;
    for (int64_t i = 0; i < count; ++i) total += p[i];
    return total;
}
inline Ints dot_nibbles(Ints sums, Bytes w, Bytes x) { return add_quads(sums, w, x, 0); }
// To the nearest integers, ties to even.
inline void store_rounded(int8_t* p, Floats x) {
    for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(std::nearbyintf(x.v[i]));
}

}  // namespace TRIFORM_ISA
