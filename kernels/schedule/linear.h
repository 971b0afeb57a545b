// Linears and feed-forwards, shared among the threads of the pool.
#pragma once
#include "generic/operations.h"

namespace triform {

// Linears of the same rows: x, rows, in and format are those of the first.
void linears(const Operations&, Linear* each, int64_t count);

// down(up(x)), or with a gate down(gate(x) ⊙ up(x)). The x of `down` is ignored.
void feed_forward(const Operations&, Linear* gate, Linear up, Linear down);

}  // namespace triform
