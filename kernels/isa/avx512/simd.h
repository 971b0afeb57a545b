// AVX-512: sixteen floats in one register. ../README.md says what each function does.
#pragma once
#include <immintrin.h>
#include <cstdint>

#include "isa/x86.h"

namespace triform::TRIFORM_ISA {

constexpr int kTileRows = 12;  // 12 · 2 accumulators, 2 weights and a broadcast activation, of 32 registers
constexpr int kInt4TileRows = 6;  // 6 · 2 integer and 6 · 2 float accumulators

struct Float32x16 {
    __m512 v;
};
using Mask = __mmask16;

inline Mask first_n(int n) { return n >= 16 ? 0xFFFF : static_cast<Mask>((1u << n) - 1u); }
inline uint32_t bits_from_mask(Mask mask) { return mask; }

inline Float32x16 loadu(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void storeu(float* p, Float32x16 x) { _mm512_storeu_ps(p, x.v); }
inline Float32x16 load_n(const float* p, int n) { return {_mm512_maskz_loadu_ps(first_n(n), p)}; }
inline void store_n(float* p, Float32x16 x, int n) { _mm512_mask_storeu_ps(p, first_n(n), x.v); }
inline Float32x16 load_f16(const uint16_t* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline Float32x16 load_bf16(const uint16_t* p) {
    __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(bits, 16))};
}
inline Float32x16 set1(float x) { return {_mm512_set1_ps(x)}; }

inline Float32x16 operator+(Float32x16 a, Float32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Float32x16 operator-(Float32x16 a, Float32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Float32x16 operator*(Float32x16 a, Float32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Float32x16 operator/(Float32x16 a, Float32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Float32x16 mul_add(Float32x16 a, Float32x16 b, Float32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Float32x16 max(Float32x16 a, Float32x16 b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Float32x16 min(Float32x16 a, Float32x16 b) { return {_mm512_min_ps(a.v, b.v)}; }
// The bits of magnitudes are ordered like integers, with infinity and NaN above all numbers.
inline Float32x16 max_abs(Float32x16 a, Float32x16 b) {
    __m512i sign = _mm512_set1_epi32(INT32_MIN);
    return {_mm512_castsi512_ps(_mm512_max_epu32(_mm512_andnot_si512(sign, _mm512_castps_si512(a.v)),
                                                 _mm512_andnot_si512(sign, _mm512_castps_si512(b.v))))};
}
inline Float32x16 round(Float32x16 x) {
    return {_mm512_roundscale_ps(x.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline Float32x16 scalef(Float32x16 x, Float32x16 n) { return {_mm512_scalef_ps(x.v, n.v)}; }

inline Mask cmp_gt(Float32x16 a, Float32x16 b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ); }
inline Float32x16 select(Mask mask, Float32x16 yes, Float32x16 no) { return {_mm512_mask_blend_ps(mask, no.v, yes.v)}; }

inline float reduce_sum(Float32x16 x) { return _mm512_reduce_add_ps(x.v); }
inline float reduce_max(Float32x16 x) { return _mm512_reduce_max_ps(x.v); }

struct Int32x16 {
    __v16si v;  // GCC 12 keeps accumulators of type __m512i in two registers, one for each of its types
};
struct Int8x64 {
    __m512i v;
};

inline Int32x16 set1_i32(int32_t x) { return {(__v16si)_mm512_set1_epi32(x)}; }
inline Float32x16 convert_to_f32(Int32x16 x) { return {_mm512_cvtepi32_ps((__m512i)x.v)}; }
inline Int8x64 loadu_i8(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline void store_i8(int8_t* p, Float32x16 x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x.v)));
}
inline Int8x64 set1_quad(const int8_t* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, sizeof quad);
    return {_mm512_set1_epi32(quad)};
}
inline Int8x64 low_nibbles(Int8x64 x) { return {_mm512_and_si512(x.v, _mm512_set1_epi8(15))}; }
inline Int8x64 high_nibbles(Int8x64 x) { return {_mm512_and_si512(_mm512_srli_epi16(x.v, 4), _mm512_set1_epi8(15))}; }

// vpdpbusd multiplies unsigned bytes by signed ones. It adds Σ (w + 128)·x, so the sums start at −128·Σ x.
inline Int32x16 dot_i8_start(int32_t sum_of_x) { return set1_i32(-128 * sum_of_x); }
inline Int32x16 dot_u4(Int32x16 sums, Int8x64 w, Int8x64 x) {
    return {(__v16si)_mm512_dpbusd_epi32((__m512i)sums.v, w.v, x.v)};
}
inline Int32x16 dot_i8(Int32x16 sums, Int8x64 w, Int8x64 x) { return dot_u4(sums, w, x); }
inline int32_t reduce_sum_i8(const int8_t* p, int64_t count) {
    __m512i total = _mm512_setzero_si512();
    for (int64_t i = 0; i < count; i += 32) {
        __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i));
        total = _mm512_dpwssd_epi32(total, _mm512_cvtepi8_epi16(bytes), _mm512_set1_epi16(1));
    }
    return _mm512_reduce_add_epi32(total);
}

}  // namespace triform::TRIFORM_ISA
