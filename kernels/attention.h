// Attention as the threads of the pool share it.
#pragma once
#include "operations.h"

namespace triform {

// Of all sequences.
void attention(const Operations&, Attention, int64_t sequences);

// Of one sequence, in one or both passes; probabilities (groups, queries · heads / groups, keys in whole blocks).
void attention_of_one(const Operations&, const Attention&, int64_t sequence, Pass, float* probabilities);

// New rows (T, groups, head_dim) of keys and values into places slot % kBlock of pages slot / kBlock.
void write_pages(const Operations&, const float* keys, const float* values, const int64_t* slots, int64_t rows,
                 int64_t groups, int64_t head_dim, float* key_pages, float* value_pages);

}  // namespace triform
