// The kernels that every instruction set provides, and their arguments.
//
// A kernel is a pure function on a range of work. It starts no threads and allocates no memory: schedule/ does both.
#pragma once
#include <cstdint>

#include "layout/formats.h"
#include "layout/pages.h"

namespace triform {

enum class Activation { kNone, kGelu, kGeluTanh, kRelu, kSilu, kTanh };
enum class Pooling { kFirst, kLast, kMax, kMean, kMeanSqrtLength, kWeightedMean };

// The largest number of rows of one call of the linear kernel: its sums, 96 · 32 floats or 12 KiB, lie on the stack. A
// multiple of the rows of a register tile on every instruction set (12, 3 and 2).
constexpr int kMaxRows = 96;

// Activations quantized row by row: x ≈ scale · q, padded with zeros to whole groups.
struct Quantized {
    int8_t* q;  // rows `stride` bytes apart
    float* scales;  // (rows,)
    int32_t* sums;  // (rows, parts): the sum of q of each part; a part is a group in int4, the whole row in int8
    int64_t stride, parts;
};

// y = activation(x·weightᵀ + bias) ⊙ factor + residual.
struct Linear {
    const float* x;  // (rows, in), rows x_stride floats apart
    Quantized quantized;  // the same rows, for an integer weight
    const void* weight;  // packed, see layout/weights.h
    Format format;
    const float* bias;  // (out,) or null
    const float* factor;  // (rows, out) or null; the gate of a gated feed-forward
    const float* residual;  // (rows, out) or null
    float* y;  // (rows, out)
    int64_t x_stride, rows, in, out;
    Activation activation;
};

constexpr int64_t kNoWindow = int64_t(1) << 40;

// softmax(scale · QKᵀ + bias)·V with grouped-query attention (GQA): heads / kv_heads query heads share one key/value
// head. The last query of a sequence stands at the position of its last key.
struct Attention {
    const float* query;  // (T, heads, head_dim)
    float* output;  // (T, heads, head_dim)
    const float* keys;  // (pages, kv_heads, head_dim, kBlock), or without pages (S, kv_heads, head_dim)
    const float* values;  // (pages, kv_heads, kBlock, padded_head_dim), or without pages (S, kv_heads, head_dim)
    const int64_t* pages;  // page numbers, sequence after sequence; null: keys and values lie in rows
    const int64_t *query_begins, *query_ends, *num_keys;  // of each sequence
    const int64_t* key_begins;  // of each sequence: its first entry in `pages`, or its first row
    int64_t heads, kv_heads, head_dim;
    float scale;
    bool causal;
    int64_t window;  // a query sees keys at a distance below this; kNoWindow: all
    const float* bias;  // (heads, distances) or null: added to the score of each distance key − query
    int64_t distances, bias_zero;  // bias_zero: column of distance 0

    int64_t heads_per_kv() const { return heads / kv_heads; }
};

// Queries [begin, end) of a sequence, counted from its first, and the query heads of one key/value head.
struct Queries {
    int64_t sequence, kv_head, begin, end;
};

// Two passes let a hook see and change the probabilities in between; kBoth is the path without one.
enum class Pass { kBoth, kProbabilities, kValues };

// One table of an embedding sum.
struct Lookup {
    const void* table;  // (entries, width) in a float format
    Format format;
    const int64_t* ids;
};

struct Operations {
    const char* name;
    void (*quantize)(const float* x, int64_t row, int64_t row_end, int64_t in, const Quantized&);
    void (*linear)(const Linear&, int64_t row, int64_t row_end, int64_t block, int64_t block_end);
    void (*layer_norm)(const float* x, const float* weight, const float* bias, float* y, int64_t rows, int64_t width,
                       float eps);
    void (*rms_norm)(const float* x, const float* weight, float* y, int64_t rows, int64_t width, float eps);
    // Writes rows of keys and values, `stride` floats apart, to the tokens of a page from `token` on.
    void (*fill_page)(const float* keys, const float* values, int64_t stride, int64_t rows, int64_t head_dim,
                      float* key_page, float* value_page, int64_t token);
    // probabilities (queries · heads_per_kv, keys in whole blocks); scratch (queries · heads_per_kv, head_dim).
    void (*attention)(const Attention&, const KeyValuePages&, const Queries&, Pass, float* probabilities,
                      float* scratch);
    bool (*all_finite)(const float* x, int64_t count);
    // The k largest of one row in descending order; of equal values the lower index comes first.
    void (*top_k)(const float* x, int64_t width, int64_t k, float* values, int64_t* indices);
    void (*top_log_probabilities)(const float* x, int64_t width, int64_t k, float* values, int64_t* indices);
    void (*log_softmax)(const float* x, int64_t width, float* y);
    void (*embedding_sum)(const Lookup* lookups, int64_t count, int64_t row, int64_t row_end, int64_t width, float* y);
    void (*rotary)(const float* x, const float* cosines, const float* sines, float* y, int64_t rows, int64_t heads,
                   int64_t head_dim, int64_t half);
    void (*pool)(const float* x, int64_t rows, int64_t width, Pooling, float* y);  // one sequence
    void (*normalize)(const float* x, float* y, int64_t rows, int64_t width);
    // Runs nothing but multiply-adds on registers, the arithmetic limit; returns the number of operations.
    int64_t (*peak)(Format, int64_t rounds, float* result);
};

}  // namespace triform
