// The sum of rows of several embedding tables (words, positions, token types).

namespace triform::TRIFORM_ISA {

// The first n of sixteen stored numbers. AVX2 has no masked load of two-byte numbers, so a tail is copied first.
template <class Load>
inline Float32x16 load_n_as(const void* row, int64_t i, int n) {
    auto from = static_cast<const typename Load::Stored*>(row) + i;
    if (n == kLanes) return Load::load(from);
    typename Load::Stored lanes[kLanes] = {};
    for (int lane = 0; lane < n; ++lane) lanes[lane] = from[lane];
    return Load::load(lanes);
}

inline Float32x16 load_embedding(const Lookup& lookup, int64_t row, int64_t width, int64_t i, int n) {
    int64_t at = lookup.ids[row] * width;
    switch (lookup.format) {
        case Format::kFloat32:
            return load_n(static_cast<const float*>(lookup.table) + at + i, n);
        case Format::kFloat16:
            return load_n_as<LoadFloat16>(static_cast<const uint16_t*>(lookup.table) + at, i, n);
        case Format::kBFloat16:
            return load_n_as<LoadBFloat16>(static_cast<const uint16_t*>(lookup.table) + at, i, n);
        case Format::kInt8:
        case Format::kInt4:
            break;  // the caller unpacks the rows of such a table to float32
    }
    return set1(0.0f);
}

void embedding_sum(const Lookup* lookups, int64_t count, int64_t row, int64_t row_end, int64_t width, float* y) {
    for (; row < row_end; ++row)
        for_vectors(width, [&](int64_t i, int n) {
            Float32x16 total = load_embedding(lookups[0], row, width, i, n);
            for (int64_t table = 1; table < count; ++table)
                total = total + load_embedding(lookups[table], row, width, i, n);
            store_n(y + row * width + i, total, n);
        });
}

}  // namespace triform::TRIFORM_ISA
