// The sum of rows of several tables.

namespace TRIFORM_ISA {

template <class As>
inline Floats widen_first(const void* row, int64_t i, int n) {
    auto from = static_cast<const typename As::Stored*>(row) + i;
    if (n == 16) return As::widen(from);
    typename As::Stored own[16] = {};
    for (int lane = 0; lane < n; ++lane) own[lane] = from[lane];
    return As::widen(own);
}

inline Floats embedded(const Lookup& lookup, int64_t row, int64_t width, int64_t i, int n) {
    int64_t at = lookup.ids[row] * width;
    switch (lookup.format) {
        case Format::kFloat32:
            return load_first(static_cast<const float*>(lookup.table) + at + i, n);
        case Format::kFloat16:
            return widen_first<AsFloat16>(static_cast<const uint16_t*>(lookup.table) + at, i, n);
        case Format::kBFloat16:
            return widen_first<AsBFloat16>(static_cast<const uint16_t*>(lookup.table) + at, i, n);
        case Format::kInt8:
        case Format::kInt4:
            break;  // rows of such a table come as float32
    }
    return all(0.0f);
}

void embedding_sum(const Lookup* lookups, int64_t count, int64_t row, int64_t row_end, int64_t width, float* y) {
    for (; row < row_end; ++row)
        for_vectors(width, [&](int64_t i, int n) {
            Floats total = embedded(lookups[0], row, width, i, n);
            for (int64_t each = 1; each < count; ++each) total = total + embedded(lookups[each], row, width, i, n);
            store_first(y + row * width + i, total, n);
        });
}

}  // namespace TRIFORM_ISA
