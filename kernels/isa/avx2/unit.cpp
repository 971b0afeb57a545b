// All kernels for AVX2, FMA and F16C.
#define TRIFORM_ISA avx2
#include "isa/avx2/simd.h"

#include "generic/kernels.inl"
