// Products of quantized activations and int8 or int4 weights.
//
// Integer sums are exact in any order. int4 adds the sums of its groups as floats, in ascending order of the groups, so
// that results are batch-invariant.

namespace triform::TRIFORM_ISA {

template <int Rows>
struct IntAccumulators {
    Int32x16 v[Rows][2];
};

// total (Rows, kBlock) = rows of x times one block, before the epilogue.
template <int Rows>
inline void multiply_int8_block(const Quantized& x, int64_t row, int64_t groups, const uint8_t* w, float* total) {
    IntAccumulators<Rows> sums;
    const int8_t* q = x.q + row * x.stride;
    for (int r = 0; r < Rows; ++r)
        for (int half = 0; half < 2; ++half) sums.v[r][half] = dot_i8_start(x.sums[row + r]);
    auto scales = reinterpret_cast<const float*>(w);
    w += kInt8Scales;
    for (int64_t i = 0; i < groups * kGroup; i += kQuad, w += kInt8Step) {
        Int8x64 low = loadu_i8(w), high = loadu_i8(w + kInt8Step / 2);
#pragma GCC unroll 12
        for (int r = 0; r < Rows; ++r) {
            Int8x64 xi = set1_quad(q + r * x.stride + i);
            sums.v[r][0] = dot_i8(sums.v[r][0], low, xi);
            sums.v[r][1] = dot_i8(sums.v[r][1], high, xi);
        }
    }
    for (int r = 0; r < Rows; ++r)
        for (int half = 0; half < 2; ++half)
            storeu(total + r * kBlock + half * kLanes,
                   convert_to_f32(sums.v[r][half]) * (set1(x.scales[row + r]) * loadu(scales + half * kLanes)));
}

template <int Rows>
inline void multiply_int4_block(const Quantized& x, int64_t row, int64_t groups, const uint8_t* w, float* total) {
    Accumulators<Rows> totals{};
    const int8_t* q = x.q + row * x.stride;
    for (int64_t group = 0; group < groups; ++group, w += kInt4Group) {
        IntAccumulators<Rows> sums;
        // Nibbles are q + 8: 8·Σx is subtracted from the start.
        for (int r = 0; r < Rows; ++r)
            for (int half = 0; half < 2; ++half) sums.v[r][half] = set1_i32(-8 * x.sums[(row + r) * groups + group]);
#pragma GCC unroll 4
        for (int quad = 0; quad < 4; ++quad) {
            const uint8_t* nibbles = w + kInt4Scales + kInt4Step * quad;
            Int8x64 first = loadu_i8(nibbles), second = loadu_i8(nibbles + kInt4Half);
#pragma GCC unroll 6
            for (int r = 0; r < Rows; ++r) {
                const int8_t* at = q + r * x.stride + group * kGroup + quad * kQuad;
                Int8x64 x_low = set1_quad(at), x_high = set1_quad(at + kGroup / 2);
                sums.v[r][0] = dot_u4(sums.v[r][0], low_nibbles(first), x_low);
                sums.v[r][1] = dot_u4(sums.v[r][1], low_nibbles(second), x_low);
                sums.v[r][0] = dot_u4(sums.v[r][0], high_nibbles(first), x_high);
                sums.v[r][1] = dot_u4(sums.v[r][1], high_nibbles(second), x_high);
            }
        }
        for (int half = 0; half < 2; ++half) {
            Float32x16 scale = load_bf16(reinterpret_cast<const uint16_t*>(w) + half * kLanes);
            for (int r = 0; r < Rows; ++r)
                totals.v[r][half] = mul_add(convert_to_f32(sums.v[r][half]), scale, totals.v[r][half]);
        }
    }
    for (int r = 0; r < Rows; ++r)
        for (int half = 0; half < 2; ++half)
            storeu(total + r * kBlock + half * kLanes, totals.v[r][half] * set1(x.scales[row + r]));
}

// Floats of an L2 cache of 1 MiB (Zen 4). More outputs than that have to come from memory before they are written.
constexpr int64_t kCachedOutputs = 256 << 10;

// Prefetches the outputs of a tile for writing, while the tile is multiplied: 6 to 8 % of a product of 128 rows and a
// vocabulary of 59,514.
inline void prefetch_outputs(const Linear& l, int64_t row, int rows, int64_t block) {
    if (l.rows * l.out <= kCachedOutputs) return;
    for (int r = 0; r < rows; ++r) {
        const float* y = l.y + (row + r) * l.out + block * kBlock;
        __builtin_prefetch(y, 1);
        __builtin_prefetch(y + 16, 1);
        __builtin_prefetch(y + 31, 1);  // rows begin anywhere within a cache line: 32 floats may lie on three
    }
}

inline void linear_int8(const Linear& l, int64_t row, int64_t row_end, int64_t block, int64_t block_end) {
    for (; block < block_end; ++block) {
        float total[kMaxRows * kBlock];
        auto w = static_cast<const uint8_t*>(l.weight) + block * int8_block_size(l.in);
        for_row_tiles(row, row_end, [&](auto rows, int64_t at) {
            prefetch_outputs(l, at, rows.value, block);
            multiply_int8_block<rows.value>(l.quantized, at, count_groups(l.in), w, total + (at - row) * kBlock);
        });
        store_outputs(l, total, row, row_end - row, block);
    }
}

inline void linear_int4(const Linear& l, int64_t row, int64_t row_end, int64_t block, int64_t block_end) {
    for (; block < block_end; ++block) {
        float total[kMaxRows * kBlock];
        auto w = static_cast<const uint8_t*>(l.weight) + block * int4_block_size(l.in);
        for_row_tiles<kInt4TileRows>(row, row_end, [&](auto rows, int64_t at) {
            prefetch_outputs(l, at, rows.value, block);
            multiply_int4_block<rows.value>(l.quantized, at, count_groups(l.in), w, total + (at - row) * kBlock);
        });
        store_outputs(l, total, row, row_end - row, block);
    }
}

}  // namespace triform::TRIFORM_ISA
