// Sixteen floats in two registers.
#pragma once
#include <immintrin.h>
#include <cstdint>

namespace TRIFORM_ISA {

struct Floats {
    __m256 low, high;
};

constexpr int kRows = 3;  // 3 · 4 accumulators, of 16 registers

inline Floats load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, Floats x) {
    _mm256_storeu_ps(p, x.low);
    _mm256_storeu_ps(p + 8, x.high);
}
inline __m256i lanes() { return _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7); }
inline __m256i first8(int n) { return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), lanes()); }
inline Floats load_first(const float* p, int n) {
    return {_mm256_maskload_ps(p, first8(n)), _mm256_maskload_ps(p + 8, first8(n - 8))};
}
inline void store_first(float* p, Floats x, int n) {
    _mm256_maskstore_ps(p, first8(n), x.low);
    _mm256_maskstore_ps(p + 8, first8(n - 8), x.high);
}
inline Floats all(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Floats operator+(Floats a, Floats b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
inline Floats operator-(Floats a, Floats b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
inline Floats operator*(Floats a, Floats b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
inline Floats operator/(Floats a, Floats b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
inline Floats multiply_add(Floats a, Floats b, Floats c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline Floats max(Floats a, Floats b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
inline Floats min(Floats a, Floats b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
inline Floats round(Floats a) {
    constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(a.low, mode), _mm256_round_ps(a.high, mode)};
}
inline __m256 power(__m256 n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
// x · 2ⁿ for a whole n from −252 to 254: in two steps, since 2ⁿ itself may be too small a number.
inline Floats scale_by_power(Floats x, Floats n) {
    Floats half = round(n * all(0.5f)), rest = n - half;
    return Floats{power(half.low), power(half.high)} * x * Floats{power(rest.low), power(rest.high)};
}
inline Floats keep_first(Floats x, int n, float other) {
    __m256 o = _mm256_set1_ps(other);
    return {_mm256_blendv_ps(o, x.low, _mm256_castsi256_ps(first8(n))),
            _mm256_blendv_ps(o, x.high, _mm256_castsi256_ps(first8(n - 8)))};
}
inline Floats keep_from(Floats x, int n, float other) {
    __m256 o = _mm256_set1_ps(other);
    return {_mm256_blendv_ps(x.low, o, _mm256_castsi256_ps(first8(n))),
            _mm256_blendv_ps(x.high, o, _mm256_castsi256_ps(first8(n - 8)))};
}
// A bit for each lane in which a is greater.
inline uint32_t which_greater(Floats a, Floats b) {
    int low = _mm256_movemask_ps(_mm256_cmp_ps(a.low, b.low, _CMP_GT_OQ));
    int high = _mm256_movemask_ps(_mm256_cmp_ps(a.high, b.high, _CMP_GT_OQ));
    return static_cast<uint32_t>(low | high << 8);
}
inline Floats widen_half(const uint16_t* p) {
    const __m128i* q = reinterpret_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1))};
}
inline __m256 widen_bfloat8(const uint16_t* p) {
    __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}
inline Floats widen_bfloat(const uint16_t* p) { return {widen_bfloat8(p), widen_bfloat8(p + 8)}; }

}  // namespace TRIFORM_ISA
