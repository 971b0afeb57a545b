// What the sets of x86 have alike.
#include <immintrin.h>

namespace TRIFORM_ISA {

// Four rows of four numbers → four columns.
inline void transpose_four(const float* rows, int64_t stride, float* columns, int64_t column_stride) {
    __m128 a = _mm_loadu_ps(rows), b = _mm_loadu_ps(rows + stride), c = _mm_loadu_ps(rows + 2 * stride),
           d = _mm_loadu_ps(rows + 3 * stride);
    _MM_TRANSPOSE4_PS(a, b, c, d);
    _mm_storeu_ps(columns, a);
    _mm_storeu_ps(columns + column_stride, b);
    _mm_storeu_ps(columns + 2 * column_stride, c);
    _mm_storeu_ps(columns + 3 * column_stride, d);
}

}  // namespace TRIFORM_ISA
