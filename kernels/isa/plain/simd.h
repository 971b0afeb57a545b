// Any machine: sixteen floats in an array, and loops that the compiler may vectorise. ../README.md says what each
// function does.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace triform::TRIFORM_ISA {

constexpr int kTileRows = 2;
constexpr int kInt4TileRows = 1;

struct Float32x16 {
    float v[16];
};
struct Mask {
    bool v[16];
};

template <class F>
inline Float32x16 for_lanes(F f) {
    Float32x16 y;
    for (int i = 0; i < 16; ++i) y.v[i] = f(i);
    return y;
}

inline Mask first_n(int n) {
    Mask mask;
    for (int i = 0; i < 16; ++i) mask.v[i] = i < n;
    return mask;
}
inline uint32_t bits_from_mask(Mask mask) {
    uint32_t bits = 0;
    for (int i = 0; i < 16; ++i) bits |= static_cast<uint32_t>(mask.v[i]) << i;
    return bits;
}

inline Float32x16 loadu(const float* p) {
    return for_lanes([&](int i) { return p[i]; });
}
inline void storeu(float* p, Float32x16 x) { std::memcpy(p, x.v, sizeof x.v); }
inline Float32x16 load_n(const float* p, int n) {
    return for_lanes([&](int i) { return i < n ? p[i] : 0.0f; });
}
inline void store_n(float* p, Float32x16 x, int n) {
    for (int i = 0; i < 16 && i < n; ++i) p[i] = x.v[i];
}
inline float float_from_bits(uint32_t bits) {
    float x;
    std::memcpy(&x, &bits, sizeof x);
    return x;
}
// A subnormal float16 is a multiple of 2⁻²⁴, which float32 holds exactly.
inline float promote_f16(uint16_t h) {
    uint32_t sign = static_cast<uint32_t>(h & 0x8000) << 16, exponent = (h >> 10) & 31, mantissa = h & 1023;
    if (exponent == 31) return float_from_bits(sign | 0x7F800000 | (mantissa << 13));
    if (exponent == 0) return float_from_bits(sign | 0x3F800000) * (static_cast<float>(mantissa) * 0x1p-24f);
    return float_from_bits(sign | ((exponent + 112) << 23) | (mantissa << 13));
}
inline Float32x16 load_f16(const uint16_t* p) {
    return for_lanes([&](int i) { return promote_f16(p[i]); });
}
inline Float32x16 load_bf16(const uint16_t* p) {
    return for_lanes([&](int i) { return float_from_bits(static_cast<uint32_t>(p[i]) << 16); });
}
inline Float32x16 set1(float x) {
    return for_lanes([&](int) { return x; });
}

inline Float32x16 operator+(Float32x16 a, Float32x16 b) {
    return for_lanes([&](int i) { return a.v[i] + b.v[i]; });
}
inline Float32x16 operator-(Float32x16 a, Float32x16 b) {
    return for_lanes([&](int i) { return a.v[i] - b.v[i]; });
}
inline Float32x16 operator*(Float32x16 a, Float32x16 b) {
    return for_lanes([&](int i) { return a.v[i] * b.v[i]; });
}
inline Float32x16 operator/(Float32x16 a, Float32x16 b) {
    return for_lanes([&](int i) { return a.v[i] / b.v[i]; });
}
inline Float32x16 mul_add(Float32x16 a, Float32x16 b, Float32x16 c) {
    return for_lanes([&](int i) { return a.v[i] * b.v[i] + c.v[i]; });
}
inline Float32x16 max(Float32x16 a, Float32x16 b) {
    return for_lanes([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
inline Float32x16 min(Float32x16 a, Float32x16 b) {
    return for_lanes([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
inline Float32x16 max_abs(Float32x16 a, Float32x16 b) {
    return for_lanes([&](int i) {
        float x = std::fabs(a.v[i]), y = std::fabs(b.v[i]);
        return x > y || x != x ? x : y;
    });
}
inline Float32x16 round(Float32x16 x) {
    return for_lanes([&](int i) { return std::nearbyintf(x.v[i]); });
}
inline Float32x16 scalef(Float32x16 x, Float32x16 n) {
    return for_lanes([&](int i) { return std::ldexp(x.v[i], static_cast<int>(n.v[i])); });
}

inline Mask cmp_gt(Float32x16 a, Float32x16 b) {
    Mask mask;
    for (int i = 0; i < 16; ++i) mask.v[i] = a.v[i] > b.v[i];
    return mask;
}
inline Float32x16 select(Mask mask, Float32x16 yes, Float32x16 no) {
    return for_lanes([&](int i) { return mask.v[i] ? yes.v[i] : no.v[i]; });
}

inline float reduce_sum(Float32x16 x) {
    for (int width = 8; width; width /= 2)
        for (int i = 0; i < width; ++i) x.v[i] += x.v[i + width];
    return x.v[0];
}
inline float reduce_max(Float32x16 x) {
    float best = x.v[0];
    for (int i = 1; i < 16; ++i) best = best > x.v[i] ? best : x.v[i];
    return best;
}

inline void transpose_4x4(const float* rows, int64_t stride, float* columns, int64_t column_stride) {
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) columns[i * column_stride + j] = rows[j * stride + i];
}

struct Int32x16 {
    int32_t v[16];
};
struct Int8x64 {
    uint8_t v[64];
};

inline Int32x16 set1_i32(int32_t x) {
    Int32x16 y;
    for (int32_t& lane : y.v) lane = x;
    return y;
}
inline Float32x16 convert_to_f32(Int32x16 x) {
    return for_lanes([&](int i) { return static_cast<float>(x.v[i]); });
}
inline Int8x64 loadu_i8(const uint8_t* p) {
    Int8x64 x;
    std::memcpy(x.v, p, sizeof x.v);
    return x;
}
inline void store_i8(int8_t* p, Float32x16 x) {
    for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(std::nearbyintf(x.v[i]));
}
inline Int8x64 set1_quad(const int8_t* p) {
    Int8x64 x;
    for (int i = 0; i < 16; ++i) std::memcpy(x.v + 4 * i, p, 4);
    return x;
}
inline Int8x64 low_nibbles(Int8x64 x) {
    for (uint8_t& byte : x.v) byte &= 15;
    return x;
}
inline Int8x64 high_nibbles(Int8x64 x) {
    for (uint8_t& byte : x.v) byte = static_cast<uint8_t>(byte >> 4);
    return x;
}

inline Int32x16 add_quads(Int32x16 sums, Int8x64 w, Int8x64 x, int32_t offset) {
    for (int i = 0; i < 64; ++i) sums.v[i / 4] += (w.v[i] - offset) * static_cast<int8_t>(x.v[i]);
    return sums;
}
inline Int32x16 dot_i8_start(int32_t) { return set1_i32(0); }
inline Int32x16 dot_i8(Int32x16 sums, Int8x64 w, Int8x64 x) { return add_quads(sums, w, x, 128); }
inline Int32x16 dot_u4(Int32x16 sums, Int8x64 w, Int8x64 x) { return add_quads(sums, w, x, 0); }
inline int32_t reduce_sum_i8(const int8_t* p, int64_t count) {
    int32_t total = 0;
    for (int64_t i = 0; i < count; ++i) total += p[i];
    return total;
}

}  // namespace triform::TRIFORM_ISA
