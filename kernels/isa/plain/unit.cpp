// All kernels for any machine.
#define TRIFORM_ISA plain
#include "isa/plain/simd.h"

#include "generic/kernels.inl"
