// Attention as the threads of the pool share it.
#pragma once
#include "operations.h"

namespace triform {

// Of all sequences.
void attention(const Operations&, Attention, int64_t sequences);

// One pass over queries [begin, end) of one sequence; probabilities (groups, queries · heads / groups, keys in whole
// blocks). Results do not depend on how a sequence is cut into runs of queries.
void attention_pass(const Operations&, const Attention&, int64_t sequence, int64_t begin, int64_t end, Pass,
                    float* probabilities);

// New rows (T, groups, head_dim) of keys and values into places slot % kBlock of pages slot / kBlock.
void write_pages(const Operations&, const float* keys, const float* values, const int64_t* slots, int64_t rows,
                 int64_t groups, int64_t head_dim, float* key_pages, float* value_pages);

}  // namespace triform
