// Sixteen floats in one register.
#pragma once
#include <immintrin.h>
#include <cstdint>

namespace TRIFORM_ISA {

struct Floats {
    __m512 v;
};

constexpr int kRows = 12;  // rows of a tile: 12 · 2 accumulators, 2 weights and a broadcast fill the 32 registers

inline Floats load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store(float* p, Floats x) { _mm512_storeu_ps(p, x.v); }
inline __mmask16 first(int n) { return n >= 16 ? 0xFFFF : static_cast<__mmask16>((1u << n) - 1u); }
inline Floats load_first(const float* p, int n) { return {_mm512_maskz_loadu_ps(first(n), p)}; }
inline void store_first(float* p, Floats x, int n) { _mm512_mask_storeu_ps(p, first(n), x.v); }
inline Floats all(float x) { return {_mm512_set1_ps(x)}; }
inline Floats operator+(Floats a, Floats b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Floats operator-(Floats a, Floats b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Floats operator*(Floats a, Floats b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Floats operator/(Floats a, Floats b) { return {_mm512_div_ps(a.v, b.v)}; }
inline Floats multiply_add(Floats a, Floats b, Floats c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Floats max(Floats a, Floats b) { return {_mm512_max_ps(a.v, b.v)}; }
inline Floats min(Floats a, Floats b) { return {_mm512_min_ps(a.v, b.v)}; }
// |a| or |b|, whichever is greater; NaN and infinity are greater than all, since their bits are, and so are never lost.
inline Floats greater_magnitude(Floats a, Floats b) {
    __m512i sign = _mm512_set1_epi32(INT32_MIN);
    return {_mm512_castsi512_ps(_mm512_max_epu32(_mm512_andnot_si512(sign, _mm512_castps_si512(a.v)),
                                                 _mm512_andnot_si512(sign, _mm512_castps_si512(b.v))))};
}
// The sum of all lanes: halves are added until one is left.
inline float sum(Floats x) { return _mm512_reduce_add_ps(x.v); }
inline float greatest(Floats x) { return _mm512_reduce_max_ps(x.v); }
inline Floats round(Floats a) { return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)}; }
// x · 2ⁿ for a whole n.
inline Floats scale_by_power(Floats x, Floats n) { return {_mm512_scalef_ps(x.v, n.v)}; }
inline Floats keep_first(Floats x, int n, float other) {
    return {_mm512_mask_blend_ps(first(n), _mm512_set1_ps(other), x.v)};
}
inline Floats keep_from(Floats x, int n, float other) {
    return {_mm512_mask_blend_ps(n <= 0 ? 0 : first(n), x.v, _mm512_set1_ps(other))};
}
// A bit for each lane in which a is greater.
inline uint32_t which_greater(Floats a, Floats b) { return _mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ); }
inline Floats widen_half(const uint16_t* p) {
    return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline Floats widen_bfloat(const uint16_t* p) {
    __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(bits, 16))};
}

// Sixteen sums, and for each of them a quad of bytes.
struct Ints {
    __v16si v;  // GCC keeps an __m512i of 32-bit sums in two registers, one for each of its types
};
struct Bytes {
    __m512i v;
};

constexpr int kInt4Rows = 6;  // 6 · 2 sums of integers and as many of floats

inline Ints all_ints(int32_t x) { return {(__v16si)_mm512_set1_epi32(x)}; }
inline Floats to_floats(Ints x) { return {_mm512_cvtepi32_ps((__m512i)x.v)}; }
inline Bytes load_bytes(const uint8_t* p) { return {_mm512_loadu_si512(p)}; }
inline Bytes all_quads(const int8_t* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, sizeof quad);
    return {_mm512_set1_epi32(quad)};
}
inline Bytes low_nibbles(Bytes x) { return {_mm512_and_si512(x.v, _mm512_set1_epi8(15))}; }
inline Bytes high_nibbles(Bytes x) {
    return {_mm512_and_si512(_mm512_srli_epi16(x.v, 4), _mm512_set1_epi8(15))};
}
// The instruction multiplies bytes without a sign by bytes with one: Σ (w + 128)·x, less 128·Σ x from the beginning.
inline Ints begin_dots(int32_t sum_of_x) { return all_ints(-128 * sum_of_x); }
inline Ints dot(Ints sums, Bytes w, Bytes x) { return {(__v16si)_mm512_dpbusd_epi32((__m512i)sums.v, w.v, x.v)}; }
// The sum of so many numbers: a multiple of 32.
inline int32_t sum_of_bytes(const int8_t* p, int64_t count) {
    __m512i total = _mm512_setzero_si512();
    for (int64_t i = 0; i < count; i += 32) {
        __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i));
        total = _mm512_dpwssd_epi32(total, _mm512_cvtepi8_epi16(bytes), _mm512_set1_epi16(1));
    }
    return _mm512_reduce_add_epi32(total);
}
inline Ints dot_nibbles(Ints sums, Bytes w, Bytes x) { return dot(sums, w, x); }
// To the nearest integers, ties to even.
inline void store_rounded(int8_t* p, Floats x) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x.v)));
}

}  // namespace TRIFORM_ISA
