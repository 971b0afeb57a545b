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
inline __m256 greater_magnitude8(__m256 a, __m256 b) {
    __m256i sign = _mm256_set1_epi32(INT32_MIN);
    return _mm256_castsi256_ps(_mm256_max_epu32(_mm256_andnot_si256(sign, _mm256_castps_si256(a)),
                                                _mm256_andnot_si256(sign, _mm256_castps_si256(b))));
}
// |a| or |b|, whichever is greater; NaN and infinity are greater than all, since their bits are, and so are never lost.
inline Floats greater_magnitude(Floats a, Floats b) {
    return {greater_magnitude8(a.low, b.low), greater_magnitude8(a.high, b.high)};
}
// The sum of all lanes: halves are added until one is left.
inline float sum(Floats x) {
    __m256 eight = _mm256_add_ps(x.low, x.high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float greatest(Floats x) {
    __m256 eight = _mm256_max_ps(x.low, x.high);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
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

// Sixteen sums, and for each of them a quad of bytes.
struct Ints {
    __m256i low, high;
};
struct Bytes {
    __m256i low, high;
};

constexpr int kInt4Rows = 1;

inline Ints all_ints(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline Floats to_floats(Ints x) { return {_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)}; }
inline Bytes load_bytes(const uint8_t* p) {
    const __m256i* q = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
inline Bytes all_quads(const int8_t* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, sizeof quad);
    return {_mm256_set1_epi32(quad), _mm256_set1_epi32(quad)};
}
inline Bytes low_nibbles(Bytes x) {
    __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(x.low, mask), _mm256_and_si256(x.high, mask)};
}
inline Bytes high_nibbles(Bytes x) { return low_nibbles({_mm256_srli_epi16(x.low, 4), _mm256_srli_epi16(x.high, 4)}); }
inline __m256i add_quads(__m256i sums, __m256i without_sign, __m256i with_sign) {
    __m256i pairs = _mm256_maddubs_epi16(without_sign, with_sign);
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
inline __m256i add_signed_quads(__m256i sums, __m256i w, __m256i x) {
    w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
    return add_quads(sums, _mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
}
inline Ints begin_dots(int32_t) { return all_ints(0); }
// `maddubs` saturates at 2¹⁵: |x| and w with the sign of x, both at most 127, stay below it, w + 128 would not.
inline Ints dot(Ints sums, Bytes w, Bytes x) {
    return {add_signed_quads(sums.low, w.low, x.low), add_signed_quads(sums.high, w.high, x.high)};
}
// The sum of so many numbers: a multiple of 32.
inline int32_t sum_of_bytes(const int8_t* p, int64_t count) {
    int32_t total = 0;
    for (int64_t i = 0; i < count; ++i) total += p[i];
    return total;
}
inline Ints dot_nibbles(Ints sums, Bytes w, Bytes x) {
    return {add_quads(sums.low, w.low, x.low), add_quads(sums.high, w.high, x.high)};
}
// To the nearest integers, ties to even.
inline void store_rounded(int8_t* p, Floats x) {
    __m256i pairs = _mm256_packs_epi32(_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high));
    pairs = _mm256_permute4x64_epi64(pairs, 0b11011000);
    __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}

}  // namespace TRIFORM_ISA
