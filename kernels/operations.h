// What every instruction set implements: pure functions on ranges of work, without threads.
#pragma once
#include <cstdint>

namespace triform {

enum class Format : int { kFloat32 = 0, kFloat16 = 1, kBFloat16 = 2, kInt8 = 3, kInt4 = 4 };
enum class Activation : int { kNone = 0, kGelu = 1, kGeluTanh = 2, kRelu = 3, kSilu = 4, kTanh = 5 };

constexpr int kBlock = 32;  // output channels of a packed block, and keys of a page

constexpr int kGroup = 32;  // inputs that share a scale in int4
constexpr int kMostRows = 96;  // of a linear at a time

// Rows as integers, x ≈ scale · q, filled up with noughts to whole groups.
struct Quantized {
    int8_t* q;  // rows `stride` bytes apart
    float* scales;  // (rows,)
    int32_t* sums;  // (rows, parts): of the q of each part, which is a group, or all of the row
    int64_t stride, parts;
};

// activation(x·weightᵀ + bias) ⊙ factor + residual.
struct Linear {
    const float* x;  // (rows, in), its rows x_stride numbers apart
    Quantized quantized;  // the same, where the weight is of integers
    const void* weight;  // packed as layout.h draws it
    Format format;
    const float* bias;  // (out,) or null
    const float* factor;  // (rows, out) or null
    const float* residual;  // (rows, out) or null
    float* y;  // (rows, out)
    int64_t x_stride, rows, in, out;
    Activation activation;
};

constexpr int64_t kNoWindow = int64_t(1) << 40;

// softmax(scale · QKᵀ + bias)·V. Keys and values lie in pages, or where `pages` is null, in rows.
struct Attention {
    const float* query;  // (T, heads, head_dim)
    float* output;  // (T, heads, head_dim)
    const float* keys;  // (pages, groups, head_dim, kBlock) or (S, groups, head_dim)
    const float* values;  // (pages, groups, kBlock, value_width) or (S, groups, head_dim)
    const int64_t* pages;  // numbers of pages, those of a sequence in a row
    const int64_t *query_begins, *query_ends, *num_keys;  // of each sequence
    const int64_t* key_begins;  // of each sequence, in `pages` or in rows
    int64_t heads, groups, head_dim;
    float scale;
    bool causal;
    int64_t window;  // a query sees keys nearer than this; kNoWindow: all
    const float* bias;  // (heads, distances) or null
    int64_t distances, zero;  // column of key − query = 0
};

inline int64_t whole_blocks(int64_t count) { return (count + kBlock - 1) / kBlock; }
// Values of a page lie in whole blocks of channels.
inline int64_t value_width(int64_t head_dim) { return whole_blocks(head_dim) * kBlock; }

// Keys and values of one sequence and group, a page at a time.
struct Tiles {
    const float *keys, *values;  // of page 0: (head_dim, kBlock) and (kBlock, value_width)
    const int64_t* pages;  // of each tile, or null: one behind the other
    int64_t key_step, value_step;  // from page to page

    const float* key_tile(int64_t tile) const { return keys + (pages ? pages[tile] : tile) * key_step; }
    const float* value_tile(int64_t tile) const { return values + (pages ? pages[tile] : tile) * value_step; }
};

// Which queries of a sequence, and the heads of which group.
struct Queries {
    int64_t sequence, group, begin, end;
};

enum class Pooling : int { kFirst = 0, kLast = 1, kMax = 2, kMean = 3, kMeanSqrtLength = 4, kWeightedMean = 5 };

// Rows of a table: (entries, width) in a float format.
struct Lookup {
    const void* table;
    Format format;
    const int64_t* ids;
};

enum class Pass : int { kBoth = 0, kProbabilities = 1, kValues = 2 };

struct Operations {
    const char* name;
    void (*quantize)(const float* x, int64_t row, int64_t row_end, int64_t in, const Quantized&);
    void (*linear)(const Linear&, int64_t row, int64_t row_end, int64_t block, int64_t block_end);
    void (*layer_norm)(const float* x, const float* weight, const float* bias, float* y, int64_t rows, int64_t width,
                       float eps);
    void (*rms_norm)(const float* x, const float* weight, float* y, int64_t rows, int64_t width, float eps);
    // Rows of a key and a value, `stride` numbers apart, into the places of a page from `place` on.
    void (*fill_page)(const float* keys, const float* values, int64_t stride, int64_t rows, int64_t head_dim,
                      float* key_page, float* value_page, int64_t place);
    // Room for (queries · heads / groups, keys in whole blocks) probabilities, and (queries · heads / groups, head_dim).
    void (*attention)(const Attention&, const Tiles&, const Queries&, Pass, float* probabilities, float* scaled);

    bool (*all_finite)(const float* x, int64_t count);
    // Of one row: its k greatest in order, the lower index first among equals, and where they stand.
    void (*top_k)(const float* x, int64_t width, int64_t k, float* values, int64_t* indices);
    void (*top_log_probabilities)(const float* x, int64_t width, int64_t k, float* values, int64_t* indices);
    void (*log_softmax)(const float* x, int64_t width, float* y);

    void (*embedding_sum)(const Lookup* lookups, int64_t count, int64_t row, int64_t row_end, int64_t width, float* y);
    void (*rotary)(const float* x, const float* cosines, const float* sines, float* y, int64_t rows, int64_t heads,
                   int64_t head_dim, int64_t half);
    void (*pool)(const float* x, int64_t rows, int64_t width, Pooling, float* y);  // of one sequence
    void (*normalize)(const float* x, float* y, int64_t rows, int64_t width);

    int64_t (*multiply)(Format, int64_t rounds, float* result);
};

extern const Operations kAvx512, kAvx2, kPlain;

}  // namespace triform
