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

}  // namespace TRIFORM_ISA
