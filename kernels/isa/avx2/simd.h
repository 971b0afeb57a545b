// AVX2, FMA and F16C: sixteen floats in two registers. ../README.md says what each function does.
#pragma once
#include <immintrin.h>
#include <cstdint>

#include "isa/x86.h"

namespace triform::TRIFORM_ISA {

constexpr int kTileRows = 3;  // 3 · 4 accumulators, of 16 registers
constexpr int kInt4TileRows = 1;

struct Float32x16 {
    __m256 low, high;
};
struct Mask {
    __m256i low, high;
};

inline __m256i first_n_of_8(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Mask first_n(int n) { return {first_n_of_8(n), first_n_of_8(n - 8)}; }
inline uint32_t bits_from_mask(Mask mask) {
    int low = _mm256_movemask_ps(_mm256_castsi256_ps(mask.low));
    int high = _mm256_movemask_ps(_mm256_castsi256_ps(mask.high));
    return static_cast<uint32_t>(low | high << 8);
}

inline Float32x16 loadu(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void storeu(float* p, Float32x16 x) {
    _mm256_storeu_ps(p, x.low);
    _mm256_storeu_ps(p + 8, x.high);
}
inline Float32x16 load_n(const float* p, int n) {
    Mask mask = first_n(n);
    return {_mm256_maskload_ps(p, mask.low), _mm256_maskload_ps(p + 8, mask.high)};
}
inline void store_n(float* p, Float32x16 x, int n) {
    Mask mask = first_n(n);
    _mm256_maskstore_ps(p, mask.low, x.low);
    _mm256_maskstore_ps(p + 8, mask.high, x.high);
}
inline Float32x16 load_f16(const uint16_t* p) {
    const __m128i* q = reinterpret_cast<const __m128i*>(p);
    return {_mm256_cvtph_ps(_mm_loadu_si128(q)), _mm256_cvtph_ps(_mm_loadu_si128(q + 1))};
}
inline __m256 load_8_bf16(const uint16_t* p) {
    __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}
inline Float32x16 load_bf16(const uint16_t* p) { return {load_8_bf16(p), load_8_bf16(p + 8)}; }
inline Float32x16 set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }

inline Float32x16 operator+(Float32x16 a, Float32x16 b) {
    return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
inline Float32x16 operator-(Float32x16 a, Float32x16 b) {
    return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
inline Float32x16 operator*(Float32x16 a, Float32x16 b) {
    return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
inline Float32x16 operator/(Float32x16 a, Float32x16 b) {
    return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
inline Float32x16 mul_add(Float32x16 a, Float32x16 b, Float32x16 c) {
    return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline Float32x16 max(Float32x16 a, Float32x16 b) {
    return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
inline Float32x16 min(Float32x16 a, Float32x16 b) {
    return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
// The bits of magnitudes are ordered like integers, with infinity and NaN above all numbers.
inline __m256 max_abs_of_8(__m256 a, __m256 b) {
    __m256i sign = _mm256_set1_epi32(INT32_MIN);
    return _mm256_castsi256_ps(_mm256_max_epu32(_mm256_andnot_si256(sign, _mm256_castps_si256(a)),
                                                _mm256_andnot_si256(sign, _mm256_castps_si256(b))));
}
inline Float32x16 max_abs(Float32x16 a, Float32x16 b) {
    return {max_abs_of_8(a.low, b.low), max_abs_of_8(a.high, b.high)};
}
inline Float32x16 round(Float32x16 x) {
    constexpr int mode = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(x.low, mode), _mm256_round_ps(x.high, mode)};
}
inline __m256 power_of_2(__m256 n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
// In two steps, since 2ⁿ itself may underflow; right for n from −252 to 254.
inline Float32x16 scalef(Float32x16 x, Float32x16 n) {
    Float32x16 half = round(n * set1(0.5f)), rest = n - half;
    return Float32x16{power_of_2(half.low), power_of_2(half.high)} * x *
           Float32x16{power_of_2(rest.low), power_of_2(rest.high)};
}

inline Mask cmp_gt(Float32x16 a, Float32x16 b) {
    return {_mm256_castps_si256(_mm256_cmp_ps(a.low, b.low, _CMP_GT_OQ)),
            _mm256_castps_si256(_mm256_cmp_ps(a.high, b.high, _CMP_GT_OQ))};
}
inline Float32x16 select(Mask mask, Float32x16 yes, Float32x16 no) {
    return {_mm256_blendv_ps(no.low, yes.low, _mm256_castsi256_ps(mask.low)),
            _mm256_blendv_ps(no.high, yes.high, _mm256_castsi256_ps(mask.high))};
}

inline float reduce_sum(Float32x16 x) {
    __m256 eight = _mm256_add_ps(x.low, x.high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float reduce_max(Float32x16 x) {
    __m256 eight = _mm256_max_ps(x.low, x.high);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

struct Int32x16 {
    __m256i low, high;
};
struct Int8x64 {
    __m256i low, high;
};

inline Int32x16 set1_i32(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline Float32x16 convert_to_f32(Int32x16 x) { return {_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)}; }
inline Int8x64 loadu_i8(const uint8_t* p) {
    const __m256i* q = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
inline void store_i8(int8_t* p, Float32x16 x) {
    __m256i pairs = _mm256_packs_epi32(_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high));
    pairs = _mm256_permute4x64_epi64(pairs, 0b11011000);
    __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}
inline Int8x64 set1_quad(const int8_t* p) {
    int32_t quad;
    __builtin_memcpy(&quad, p, sizeof quad);
    return {_mm256_set1_epi32(quad), _mm256_set1_epi32(quad)};
}
inline Int8x64 low_nibbles(Int8x64 x) {
    __m256i mask = _mm256_set1_epi8(15);
    return {_mm256_and_si256(x.low, mask), _mm256_and_si256(x.high, mask)};
}
inline Int8x64 high_nibbles(Int8x64 x) {
    return low_nibbles({_mm256_srli_epi16(x.low, 4), _mm256_srli_epi16(x.high, 4)});
}

inline __m256i add_quads(__m256i sums, __m256i unsigned_bytes, __m256i signed_bytes) {
    __m256i pairs = _mm256_maddubs_epi16(unsigned_bytes, signed_bytes);
    return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
// vpmaddubsw saturates at 2¹⁵. |x| times w with the sign of x, both at most 127, stays below; w + 128 would not.
inline __m256i add_signed_quads(__m256i sums, __m256i w, __m256i x) {
    w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
    return add_quads(sums, _mm256_abs_epi8(x), _mm256_sign_epi8(w, x));
}
inline Int32x16 dot_i8_start(int32_t) { return set1_i32(0); }
inline Int32x16 dot_i8(Int32x16 sums, Int8x64 w, Int8x64 x) {
    return {add_signed_quads(sums.low, w.low, x.low), add_signed_quads(sums.high, w.high, x.high)};
}
inline Int32x16 dot_u4(Int32x16 sums, Int8x64 w, Int8x64 x) {
    return {add_quads(sums.low, w.low, x.low), add_quads(sums.high, w.high, x.high)};
}
inline int32_t reduce_sum_i8(const int8_t* p, int64_t count) {
    int32_t total = 0;
    for (int64_t i = 0; i < count; ++i) total += p[i];
    return total;
}

}  // namespace triform::TRIFORM_ISA
