// The list of all kernels. The unit of each instruction set includes it once, after the simd.h of the set, with
// TRIFORM_ISA defined as the name of the set.
//
// Each set compiles the kernels into a namespace of its own, so that no function of one set can be linked in place of
// another's, and no wide instruction gets into code that every machine runs. For the same reason kernels call no
// templates of the standard library.

#include <cmath>
#include <initializer_list>
#include <limits>
#include <type_traits>

#include "generic/operations.h"
#include "layout/weights.h"

// clang-format off: what the kernels share, then the kernels
#include "generic/math.inl"
#include "generic/micro_kernel.inl"
#include "generic/linear_epilogue.inl"
#include "generic/linear_integer.inl"
#include "generic/linear.inl"
#include "generic/quantize.inl"
#include "generic/norm.inl"
#include "generic/fill_page.inl"
#include "generic/attention.inl"
#include "generic/top_k.inl"
#include "generic/embedding.inl"
#include "generic/rotary.inl"
#include "generic/pool.inl"
#include "generic/peak.inl"
// clang-format on

#define TRIFORM_QUOTE(name) #name
#define TRIFORM_NAME(name) TRIFORM_QUOTE(name)

namespace triform::TRIFORM_ISA {

extern const Operations kOperations;
const Operations kOperations = {
    .name = TRIFORM_NAME(TRIFORM_ISA),
    .quantize = quantize,
    .linear = linear,
    .layer_norm = layer_norm,
    .rms_norm = rms_norm,
    .fill_page = fill_page,
    .attention = attention,
    .all_finite = all_finite,
    .top_k = top_k,
    .top_log_probabilities = top_log_probabilities,
    .log_softmax = log_softmax,
    .embedding_sum = embedding_sum,
    .rotary = rotary,
    .pool = pool,
    .normalize = normalize,
    .peak = peak,
};

}  // namespace triform::TRIFORM_ISA
