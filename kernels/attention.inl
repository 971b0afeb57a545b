// Attention of some queries of one sequence, for the heads that share a group of keys and values.
//
// Key tiles begin at key 0, cached or not, and every sum runs in the order of the keys, with zeros for those that are
// hidden: the result is the same token by token as all at once. Probabilities are normalised before they meet V.

namespace TRIFORM_ISA {

void fill_page(const float* keys, const float* values, int64_t stride, int64_t rows, int64_t head_dim, float* key_page,
               float* value_page, int64_t place) {
    key_page += place;
    value_page += place * value_width(head_dim);
    int64_t by_four = head_dim % 4 == 0 ? rows / 4 * 4 : 0;
    for (int64_t row = 0; row < by_four; row += 4)
        for (int64_t i = 0; i < head_dim; i += 4)
            transpose_four(keys + row * stride + i, stride, key_page + i * kBlock + row, kBlock);
    for (int64_t row = by_four; row < rows; ++row)
        for (int64_t i = 0; i < head_dim; ++i) key_page[i * kBlock + row] = keys[row * stride + i];
    for (; rows; --rows, values += stride, value_page += value_width(head_dim))
        for_vectors(head_dim, [&](int64_t i, int n) { store_first(value_page + i, load_first(values + i, n), n); });
}

struct Seen {
    int64_t begin, end;  // keys that a query sees
};

inline Seen seen_by(const Attention& a, int64_t position, int64_t num_keys) {
    Seen seen{0, a.causal ? position + 1 : num_keys};
    if (position - a.window + 1 > 0) seen.begin = position - a.window + 1;
    if (!a.causal && position + a.window < num_keys) seen.end = position + a.window;
    return seen;
}

inline Floats masked(Floats x, Seen seen, int64_t key) {
    constexpr float hidden = -std::numeric_limits<float>::infinity();
    if (seen.end - key < 16) x = keep_first(x, static_cast<int>(seen.end > key ? seen.end - key : 0), hidden);
    if (seen.begin > key) x = keep_from(x, static_cast<int>(seen.begin - key < 16 ? seen.begin - key : 16), hidden);
    return x;
}

// Row r of the work is query r / per_group, and of the group's heads the r % per_group th.
struct Work {
    int64_t position;  // of the first query among the keys
    int64_t num_keys, width, per_group, head, rows;
};

constexpr int64_t kFewRows = 4;  // more are longer at work on a tile than memory on the next

inline void prefetch(const float* from, int64_t count) {
    for (int64_t i = 0; i < count; i += 16) __builtin_prefetch(from + i, 0, 2);
}

// While keys of one tile are multiplied by few rows, memory brings its values and the keys of the next; behind the last
// tile, the first keys of the next group.
inline void prefetch_behind(const Attention& a, const Tiles& tiles, const Work& work, int64_t tile) {
    int64_t left = work.num_keys - tile * kBlock, key_size = a.head_dim * kBlock;
    prefetch(tiles.value_tile(tile), (left < kBlock ? left : kBlock) * value_width(a.head_dim));
    prefetch(left > kBlock ? tiles.key_tile(tile + 1) : tiles.key_tile(0) + key_size, key_size);
}

inline void scores(const Attention& a, const Tiles& tiles, const Work& work, const float* queries, float* p) {
    for (int64_t tile = 0; tile * kBlock < work.num_keys; ++tile) {
        const float* keys = tiles.key_tile(tile);
        if (tiles.pages && work.rows <= kFewRows) prefetch_behind(a, tiles, work, tile);
        for_tiles(0, work.rows, [&](auto rows, int64_t row) {
            Sums<rows.value> sums{};
            add_product<rows.value, AsFloat32>(sums, queries + row * a.head_dim, a.head_dim, keys, kBlock, a.head_dim);
            for (int r = 0; r < rows.value; ++r)
                for (int half = 0; half < 2; ++half)
                    store(p + (row + r) * work.width + tile * kBlock + half * 16, sums.v[r][half]);
        });
    }
}

inline void softmax(const Attention& a, const Work& work, float* p) {
    for (int64_t row = 0; row < work.rows; ++row, p += work.width) {
        int64_t position = work.position + row / work.per_group, head = work.head + row % work.per_group;
        Seen seen = seen_by(a, position, work.num_keys);
        Floats top = all(-std::numeric_limits<float>::infinity());
        for (int64_t key = 0; key < work.width; key += 16) {
            Floats x = load(p + key);
            if (a.bias) {
                int64_t column = key - position + a.zero, left = a.distances - column;
                // Columns before the first belong to hidden keys.
                const float* bias = a.bias + head * a.distances + column;
                int skip = column < 0 ? static_cast<int>(-column < 16 ? -column : 16) : 0;
                float own[16] = {};
                for (int i = skip; i < 16 && i < left; ++i) own[i] = bias[i];
                x = x + load(own);
            }
            x = masked(x, seen, key);
            store(p + key, x);
            top = max(top, x);
        }
        Floats highest = all(greatest(top));
        Floats total = all(0.0f);
        for (int64_t key = 0; key < work.width; key += 16) {
            Floats e = exp(load(p + key) - highest);
            store(p + key, e);
            total = total + e;
        }
        Floats share = all(1.0f / sum(total));
        for (int64_t key = 0; key < work.width; key += 16) store(p + key, load(p + key) * share);
    }
}

inline void weigh(const Attention& a, const Tiles& tiles, const Work& work, const float* p, float* output) {
    int64_t value_stride = value_width(a.head_dim);
    for (int64_t channel = 0; channel < a.head_dim; channel += kBlock) {
        for_tiles(0, work.rows, [&](auto rows, int64_t row) {
            Sums<rows.value> sums{};
            for (int64_t tile = 0; tile * kBlock < work.num_keys; ++tile) {
                int64_t left = work.num_keys - tile * kBlock;
                add_product<rows.value, AsFloat32>(sums, p + row * work.width + tile * kBlock, work.width,
                                                   tiles.value_tile(tile) + channel, value_stride,
                                                   left < kBlock ? left : kBlock);
            }
            for (int r = 0; r < rows.value; ++r) {
                int64_t query = (row + r) / work.per_group, head = (row + r) % work.per_group;
                float* to = output + (query * a.heads + head) * a.head_dim + channel;
                for (int half = 0; half < 2; ++half) {
                    int64_t left = a.head_dim - channel - half * 16;
                    if (left > 0) store_first(to + half * 16, sums.v[r][half], left < 16 ? static_cast<int>(left) : 16);
                }
            }
        });
    }
}

void attention(const Attention& a, const Tiles& tiles, const Queries& queries, Pass pass, float* probabilities,
               float* scaled) {
    int64_t begin = a.query_begins[queries.sequence], all_keys = a.num_keys[queries.sequence];
    int64_t past = all_keys - (a.query_ends[queries.sequence] - begin);
    Work work;
    work.position = past + queries.begin;
    // Under a causal mask no query of these sees a later key, but changed probabilities may give weight to one.
    work.num_keys = a.causal && pass != Pass::kValues ? past + queries.end : all_keys;
    work.width = whole_blocks(all_keys) * kBlock;
    work.per_group = a.heads / a.groups;
    work.head = queries.group * work.per_group;
    work.rows = (queries.end - queries.begin) * work.per_group;
    int64_t first = (begin + queries.begin) * a.heads + work.head;
    if (pass != Pass::kValues) {
        for (int64_t row = 0; row < work.rows; ++row) {
            const float* query = a.query + (first + row / work.per_group * a.heads + row % work.per_group) * a.head_dim;
            for (int64_t i = 0; i < a.head_dim; ++i) scaled[row * a.head_dim + i] = query[i] * a.scale;
        }
        scores(a, tiles, work, scaled, probabilities);
        // Hidden tiles hold nothing yet.
        int64_t computed = whole_blocks(work.num_keys) * kBlock;
        for (int64_t row = 0; row < work.rows; ++row)
            for (int64_t key = computed; key < work.width; ++key) probabilities[row * work.width + key] = 0;
        softmax(a, work, probabilities);
    }
    if (pass != Pass::kProbabilities) weigh(a, tiles, work, probabilities, a.output + first * a.head_dim);
}

}  // namespace TRIFORM_ISA
