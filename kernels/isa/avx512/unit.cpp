// All kernels for AVX-512 F, BW, VL, DQ and VNNI.
#define TRIFORM_ISA avx512
#include "isa/avx512/simd.h"

#include "generic/kernels.inl"
