// Linears over packed blocks of output channels: activation(x·weightᵀ + bias) ⊙ factor + residual.

namespace triform::TRIFORM_ISA {

// Inputs that are summed in one chain. 256 inputs of a block are 32 KiB of float32, the L1 data cache, where they stay
// while all rows pass by. The sums of the chains are added in ascending order; they also err less than one long chain.
constexpr int64_t kChain = 256;

template <class Load>
inline void linear_float(const Linear& l, int64_t row, int64_t row_end, int64_t block, int64_t block_end) {
    for (; block < block_end; ++block) {
        float total[kMaxRows * kBlock] = {};
        auto w = static_cast<const typename Load::Stored*>(l.weight) + block * l.in * kBlock;
        for (int64_t begin = 0; begin < l.in; begin += kChain) {
            int64_t k = l.in - begin < kChain ? l.in - begin : kChain;
            for_row_tiles(row, row_end, [&](auto rows, int64_t at) {
                Accumulators<rows.value> sums{};
                const float* x = l.x + at * l.x_stride + begin;
                micro_kernel<rows.value, Load>(sums, x, l.x_stride, w + begin * kBlock, kBlock, k);
                for (int r = 0; r < rows.value; ++r)
                    for (int half = 0; half < 2; ++half) {
                        float* to = total + (at - row + r) * kBlock + half * kLanes;
                        storeu(to, loadu(to) + sums.v[r][half]);
                    }
            });
        }
        store_outputs(l, total, row, row_end - row, block);
    }
}

void linear(const Linear& l, int64_t row, int64_t row_end, int64_t block, int64_t block_end) {
    switch (l.format) {
        case Format::kFloat32:
            return linear_float<LoadFloat32>(l, row, row_end, block, block_end);
        case Format::kFloat16:
            return linear_float<LoadFloat16>(l, row, row_end, block, block_end);
        case Format::kBFloat16:
            return linear_float<LoadBFloat16>(l, row, row_end, block, block_end);
        case Format::kInt8:
            return linear_int8(l, row, row_end, block, block_end);
        case Format::kInt4:
            return linear_int4(l, row, row_end, block, block_end);
    }
}

}  // namespace triform::TRIFORM_ISA
