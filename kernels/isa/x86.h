// Functions of 128-bit vectors that the sets of x86 share.
#pragma once
#include <immintrin.h>
#include <cstdint>

namespace triform::TRIFORM_ISA {

inline void transpose_4x4(const float* rows, int64_t stride, float* columns, int64_t column_stride) {
    __m128 a = _mm_loadu_ps(rows), b = _mm_loadu_ps(rows + stride), c = _mm_loadu_ps(rows + 2 * stride),
           d = _mm_loadu_ps(rows + 3 * stride);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(columns, a);
    _mm_storeu_ps(columns + column_stride, b);
    _mm_storeu_ps(columns + 2 * column_stride, c);
    _mm_storeu_ps(columns + 3 * column_stride, d);
}

}  // namespace triform::TRIFORM_ISA
