// Products of integer rows and integer weights. Sums of integers are exact in any order; those of int4's groups are
// added as floats in ascending order of the groups: a sequence has the same result alone and in any batch.

namespace TRIFORM_ISA {

template <int Rows>
struct Dots {
    Ints v[Rows][2];
};

// Rows times one block, before activation: `total` (Rows, kBlock).
template <int Rows>
inline void block_of_int8(const Quantized& x, int64_t row, int64_t groups, const uint8_t* w, float* total) {
    Dots<Rows> sums;
    const int8_t* q = x.q + row * x.stride;
    for (int r = 0; r < Rows; ++r)
        for (int half = 0; half < 2; ++half)
            sums.v[r][half] = begin_dots(x.sums[row + r]);
    auto scales = reinterpret_cast<const float*>(w);
    w += kBlock * sizeof(float);
    for (int64_t i = 0; i < groups * kGroup; i += kQuad, w += kQuad * kBlock) {
        Bytes low = load_bytes(w), high = load_bytes(w + 64);
#pragma GCC unroll 12
        for (int r = 0; r < Rows; ++r) {
            Bytes xi = all_quads(q + r * x.stride + i);
            sums.v[r][0] = dot(sums.v[r][0], low, xi);
            sums.v[r][1] = dot(sums.v[r][1], high, xi);
        }
    }
    for (int r = 0; r < Rows; ++r)
        for (int half = 0; half < 2; ++half)
            store(total + r * kBlock + half * 16,
                  to_floats(sums.v[r][half]) * (all(x.scales[row + r]) * load(scales + half * 16)));
}

template <int Rows>
inline void block_of_int4(const Quantized& x, int64_t row, int64_t groups, const uint8_t* w, float* total) {
    Sums<Rows> totals{};
    const int8_t* q = x.q + row * x.stride;
    for (int64_t group = 0; group < groups; ++group, w += kInt4Group) {
        Dots<Rows> sums;
        for (int r = 0; r < Rows; ++r)
            for (int half = 0; half < 2; ++half)
                sums.v[r][half] = all_ints(-8 * x.sums[(row + r) * groups + group]);
#pragma GCC unroll 4
        for (int quad = 0; quad < 4; ++quad) {
            Bytes first = load_bytes(w + 64 + 64 * quad), second = load_bytes(w + 320 + 64 * quad);
#pragma GCC unroll 6
            for (int r = 0; r < Rows; ++r) {
                const int8_t* at = q + r * x.stride + group * kGroup + quad * kQuad;
                Bytes near = all_quads(at), far = all_quads(at + kGroup / 2);
                sums.v[r][0] = dot_nibbles(sums.v[r][0], low_nibbles(first), near);
                sums.v[r][1] = dot_nibbles(sums.v[r][1], low_nibbles(second), near);
                sums.v[r][0] = dot_nibbles(sums.v[r][0], high_nibbles(first), far);
                sums.v[r][1] = dot_nibbles(sums.v[r][1], high_nibbles(second), far);
            }
        }
        for (int half = 0; half < 2; ++half) {
            Floats scale = widen_bfloat(reinterpret_cast<const uint16_t*>(w) + half * 16);
            for (int r = 0; r < Rows; ++r)
                totals.v[r][half] = multiply_add(to_floats(sums.v[r][half]), scale, totals.v[r][half]);
        }
    }
    for (int r = 0; r < Rows; ++r)
        for (int half = 0; half < 2; ++half)
            store(total + r * kBlock + half * 16, totals.v[r][half] * all(x.scales[row + r]));
}

constexpr int64_t kNear = 256 << 10;  // numbers that the second cache holds

// Where results are many, the places of those of a tile come near while it is multiplied.
inline void prefetch_results(const Linear& l, int64_t row, int rows, int64_t block) {
    if (l.rows * l.out <= kNear) return;
    for (int r = 0; r < rows; ++r) {
        const float* y = l.y + (row + r) * l.out + block * kBlock;
        __builtin_prefetch(y, 1);
        __builtin_prefetch(y + 16, 1);
        __builtin_prefetch(y + 31, 1);
    }
}

inline void linear_int8(const Linear& l, int64_t row, int64_t row_end, int64_t block, int64_t block_end) {
    for (; block < block_end; ++block) {
        float total[kMostRows * kBlock];
        auto w = static_cast<const uint8_t*>(l.weight) + block * int8_block(l.in);
        for_tiles(row, row_end, [&](auto rows, int64_t at) {
            prefetch_results(l, at, rows.value, block);
            block_of_int8<rows.value>(l.quantized, at, whole_groups(l.in), w, total + (at - row) * kBlock);
        });
        finish(l, total, row, row_end - row, block);
    }
}

inline void linear_int4(const Linear& l, int64_t row, int64_t row_end, int64_t block, int64_t block_end) {
    for (; block < block_end; ++block) {
        float total[kMostRows * kBlock];
        auto w = static_cast<const uint8_t*>(l.weight) + block * int4_block(l.in);
        for_tiles_of<kInt4Rows>(row, row_end, [&](auto rows, int64_t at) {
            prefetch_results(l, at, rows.value, block);
            block_of_int4<rows.value>(l.quantized, at, whole_groups(l.in), w, total + (at - row) * kBlock);
        });
        finish(l, total, row, row_end - row, block);
    }
}

}  // namespace TRIFORM_ISA
