// Attention of some queries of one sequence, for the query heads that share one key/value head (GQA).
//
// Pages begin at key 0, whether keys are cached or not. Sums run in ascending order of the keys, with zeros for masked
// keys, so that token-by-token decoding has the same bits as one pass over the whole sequence. Probabilities are
// normalised before they are multiplied by V, with or without a hook that looks at them.

namespace triform::TRIFORM_ISA {

// The work of one call. Its rows are (query, head) pairs: row r is query r / heads_per_kv and, of the query heads that
// share the key/value head, number r % heads_per_kv.
struct AttentionWork {
    int64_t position;  // of the first query, among the keys
    int64_t num_keys, width;  // keys to be read; columns of a row of probabilities
    int64_t heads_per_kv, first_head, rows;
};

// Keys [begin, end) that a query may attend to.
struct VisibleKeys {
    int64_t begin, end;
};

inline VisibleKeys visible_keys(const Attention& a, int64_t position, int64_t num_keys) {
    VisibleKeys keys{0, a.causal ? position + 1 : num_keys};
    if (position - a.window + 1 > 0) keys.begin = position - a.window + 1;
    if (!a.causal && position + a.window < num_keys) keys.end = position + a.window;
    return keys;
}

// The scores of sixteen keys from `key` on, −∞ outside of the visible ones.
inline Float32x16 mask_scores(Float32x16 scores, VisibleKeys visible, int64_t key) {
    Float32x16 masked = set1(-std::numeric_limits<float>::infinity());
    if (visible.end - key < kLanes) {
        int n = static_cast<int>(visible.end > key ? visible.end - key : 0);
        scores = select(first_n(n), scores, masked);
    }
    if (visible.begin > key) {
        int n = static_cast<int>(visible.begin - key < kLanes ? visible.begin - key : kLanes);
        scores = select(first_n(n), masked, scores);
    }
    return scores;
}

// With more rows, multiplying one page takes longer than reading the next one from memory.
constexpr int64_t kMaxRowsToPrefetch = 4;

inline void prefetch(const float* from, int64_t count) {
    for (int64_t i = 0; i < count; i += kLanes) __builtin_prefetch(from + i, 0, 2);
}

// Prefetches the values of a page and the keys of the next one while few rows are multiplied by its keys. After the
// last page follow the first keys of the next key/value head.
inline void prefetch_next(const Attention& a, const KeyValuePages& pages, const AttentionWork& work, int64_t page) {
    int64_t left = work.num_keys - page * kBlock, key_size = key_page_size(a.head_dim);
    prefetch(pages.value_page(page), (left < kBlock ? left : kBlock) * padded_head_dim(a.head_dim));
    prefetch(left > kBlock ? pages.key_page(page + 1) : pages.key_page(0) + key_size, key_size);
}

// p (rows, width) = queries · keysᵀ.
inline void compute_scores(const Attention& a, const KeyValuePages& pages, const AttentionWork& work,
                           const float* queries, float* p) {
    for (int64_t page = 0; page * kBlock < work.num_keys; ++page) {
        const float* keys = pages.key_page(page);
        if (pages.pages && work.rows <= kMaxRowsToPrefetch) prefetch_next(a, pages, work, page);
        for_row_tiles(0, work.rows, [&](auto rows, int64_t row) {
            Accumulators<rows.value> sums{};
            micro_kernel<rows.value, LoadFloat32>(sums, queries + row * a.head_dim, a.head_dim, keys, kBlock,
                                                  a.head_dim);
            for (int r = 0; r < rows.value; ++r)
                for (int half = 0; half < 2; ++half)
                    storeu(p + (row + r) * work.width + page * kBlock + half * kLanes, sums.v[r][half]);
        });
    }
}

// The bias of sixteen keys from `key` on. Distances outside of the table belong to masked keys.
inline Float32x16 load_bias(const Attention& a, int64_t head, int64_t position, int64_t key) {
    int64_t column = key - position + a.bias_zero, left = a.distances - column;
    const float* bias = a.bias + head * a.distances + column;
    int skip = column < 0 ? static_cast<int>(-column < kLanes ? -column : kLanes) : 0;
    float lanes[kLanes] = {};
    for (int i = skip; i < kLanes && i < left; ++i) lanes[i] = bias[i];
    return loadu(lanes);
}

// Turns scores p (rows, width) into probabilities, in place.
inline void softmax(const Attention& a, const AttentionWork& work, float* p) {
    for (int64_t row = 0; row < work.rows; ++row, p += work.width) {
        int64_t position = work.position + row / work.heads_per_kv, head = work.first_head + row % work.heads_per_kv;
        VisibleKeys visible = visible_keys(a, position, work.num_keys);
        Float32x16 largest = set1(-std::numeric_limits<float>::infinity());
        for (int64_t key = 0; key < work.width; key += kLanes) {
            Float32x16 x = loadu(p + key);
            if (a.bias) x = x + load_bias(a, head, position, key);
            x = mask_scores(x, visible, key);
            storeu(p + key, x);
            largest = max(largest, x);
        }
        Float32x16 shift = set1(reduce_max(largest));
        Float32x16 total = set1(0.0f);
        for (int64_t key = 0; key < work.width; key += kLanes) {
            Float32x16 e = exp(loadu(p + key) - shift);
            storeu(p + key, e);
            total = total + e;
        }
        Float32x16 inverse = set1(1.0f / reduce_sum(total));
        for (int64_t key = 0; key < work.width; key += kLanes) storeu(p + key, loadu(p + key) * inverse);
    }
}

// output rows = p (rows, width) · values.
inline void multiply_values(const Attention& a, const KeyValuePages& pages, const AttentionWork& work, const float* p,
                            float* output) {
    int64_t value_stride = padded_head_dim(a.head_dim);
    for (int64_t channel = 0; channel < a.head_dim; channel += kBlock) {
        for_row_tiles(0, work.rows, [&](auto rows, int64_t row) {
            Accumulators<rows.value> sums{};
            for (int64_t page = 0; page * kBlock < work.num_keys; ++page) {
                int64_t left = work.num_keys - page * kBlock;
                micro_kernel<rows.value, LoadFloat32>(sums, p + row * work.width + page * kBlock, work.width,
                                                      pages.value_page(page) + channel, value_stride,
                                                      left < kBlock ? left : kBlock);
            }
            for (int r = 0; r < rows.value; ++r) {
                int64_t query = (row + r) / work.heads_per_kv, head = (row + r) % work.heads_per_kv;
                float* to = output + (query * a.heads + head) * a.head_dim + channel;
                for (int half = 0; half < 2; ++half) {
                    int64_t left = a.head_dim - channel - half * kLanes;
                    if (left > 0)
                        store_n(to + half * kLanes, sums.v[r][half], left < kLanes ? static_cast<int>(left) : kLanes);
                }
            }
        });
    }
}

void attention(const Attention& a, const KeyValuePages& pages, const Queries& queries, Pass pass, float* probabilities,
               float* scratch) {
    int64_t begin = a.query_begins[queries.sequence], all_keys = a.num_keys[queries.sequence];
    int64_t past = all_keys - (a.query_ends[queries.sequence] - begin);
    AttentionWork work;
    work.position = past + queries.begin;
    // A causal mask hides all keys after the last query, but a hook may give them a probability.
    work.num_keys = a.causal && pass != Pass::kValues ? past + queries.end : all_keys;
    work.width = count_blocks(all_keys) * kBlock;
    work.heads_per_kv = a.heads_per_kv();
    work.first_head = queries.kv_head * work.heads_per_kv;
    work.rows = (queries.end - queries.begin) * work.heads_per_kv;
    int64_t first = (begin + queries.begin) * a.heads + work.first_head;
    if (pass != Pass::kValues) {
        for (int64_t row = 0; row < work.rows; ++row) {
            int64_t head = first + row / work.heads_per_kv * a.heads + row % work.heads_per_kv;
            const float* query = a.query + head * a.head_dim;
            for (int64_t i = 0; i < a.head_dim; ++i) scratch[row * a.head_dim + i] = query[i] * a.scale;
        }
        compute_scores(a, pages, work, scratch, probabilities);
        // The columns of pages that are masked as a whole were not written.
        int64_t computed = count_blocks(work.num_keys) * kBlock;
        for (int64_t row = 0; row < work.rows; ++row)
            for (int64_t key = computed; key < work.width; ++key) probabilities[row * work.width + key] = 0;
        softmax(a, work, probabilities);
    }
    if (pass != Pass::kProbabilities) multiply_values(a, pages, work, probabilities, a.output + first * a.head_dim);
}

}  // namespace triform::TRIFORM_ISA
