// All kernels in a namespace of their own: no function of theirs can be mistaken for that of another instruction set.
#define TRIFORM_ISA triform_avx512

#include <cmath>
#include <initializer_list>
#include <limits>
#include <type_traits>

#include "../layout.h"
#include "../operations.h"

namespace TRIFORM_ISA {
using namespace triform;
}

#include "simd.h"

#include "../x86.inl"
#include "../math.inl"
#include "../tile.inl"
#include "../quantize.inl"
#include "../linear.inl"
#include "../norm.inl"
#include "../attention.inl"
#include "../top_k.inl"
#include "../embedding.inl"
#include "../rotary.inl"
#include "../pool.inl"
#include "../peak.inl"

namespace triform {
const Operations kAvx512 = {
    "avx512",
    TRIFORM_ISA::quantize,
    TRIFORM_ISA::linear,
    TRIFORM_ISA::layer_norm,
    TRIFORM_ISA::rms_norm,
    TRIFORM_ISA::fill_page,
    TRIFORM_ISA::attention,
    TRIFORM_ISA::all_finite,
    TRIFORM_ISA::top_k,
    TRIFORM_ISA::top_log_probabilities,
    TRIFORM_ISA::log_softmax,
    TRIFORM_ISA::embedding_sum,
    TRIFORM_ISA::rotary,
    TRIFORM_ISA::pool,
    TRIFORM_ISA::normalize,
    TRIFORM_ISA::multiply,
};
}
