// Attention and the pages of its keys and values, shared among the threads of the pool.
#pragma once
#include "generic/operations.h"

namespace triform {

// Attention of all sequences.
void attention(const Operations&, Attention, int64_t num_sequences);

// One pass over queries [begin, end) of one sequence. probabilities (kv_heads, queries · heads_per_kv, keys in whole
// blocks). Results do not depend on how a sequence is cut into runs of queries.
void attention_pass(const Operations&, const Attention&, int64_t sequence, int64_t begin, int64_t end, Pass,
                    float* probabilities);

// Writes new rows (T, kv_heads, head_dim) of keys and values to token slot % kBlock of page slot / kBlock.
void write_pages(const Operations&, const float* keys, const float* values, const int64_t* slots, int64_t rows,
                 int64_t kv_heads, int64_t head_dim, float* key_pages, float* value_pages);

}  // namespace triform
