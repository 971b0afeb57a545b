// Keys and values of attention in pages of kBlock = 32 tokens, the pages of the KV cache.
//
// One page of one key/value head. Keys have a channel of all 32 tokens side by side, so that one vector of a product of
// a query holds the scores of 16 keys. Values have all channels of a token side by side, padded to whole blocks:
//
//     keys (head_dim, 32):             channel 0: token 0 … 31 │ channel 1: token 0 … 31 │ …
//     values (32, padded_head_dim):    token 0: channel 0 … │ token 1: channel 0 … │ …
//
// The key/value heads of a page lie one behind the other.
#pragma once
#include "layout/formats.h"

namespace triform {

constexpr int64_t padded_head_dim(int64_t head_dim) { return round_up(head_dim, kBlock); }
constexpr int64_t key_page_size(int64_t head_dim) { return head_dim * kBlock; }  // floats
constexpr int64_t value_page_size(int64_t head_dim) { return padded_head_dim(head_dim) * kBlock; }  // floats

// The pages of one sequence and one key/value head.
struct KeyValuePages {
    const float *keys, *values;  // page 0
    const int64_t* pages;  // page numbers in the order of the sequence; null: 0, 1, 2, …
    int64_t key_stride, value_stride;  // floats from one page to the next

    const float* key_page(int64_t index) const { return keys + (pages ? pages[index] : index) * key_stride; }
    const float* value_page(int64_t index) const { return values + (pages ? pages[index] : index) * value_stride; }
};

}  // namespace triform
