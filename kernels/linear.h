// Linears as the threads of the pool share them.
#pragma once
#include "operations.h"

namespace triform {

// Linears of the same rows: x, rows and in are those of the first.
void linears(const Operations&, Linear* each, int64_t count);

// down(up(x)), or with a gate down(gate(x) ⊙ up(x)); `down` has no x of its own.
void feed_forward(const Operations&, Linear* gate, Linear up, Linear down);

}  // namespace triform
