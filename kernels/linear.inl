// activation(x·weightᵀ + bias) ⊙ factor + residual over packed blocks of output channels.

namespace TRIFORM_ISA {

constexpr int64_t kChain = 256;  // inputs summed in one chain; the chains are added in ascending order

// activation(sums + bias) ⊙ factor + residual of some rows of one block.
void finish(const Linear& l, const float* sums, int64_t row, int64_t rows, int64_t block) {
    for (int64_t column = block * kBlock; column < (block + 1) * kBlock && column < l.out; column += 16, sums += 16) {
        int n = l.out - column < 16 ? static_cast<int>(l.out - column) : 16;
        Floats bias = l.bias ? load_first(l.bias + column, n) : all(0.0f);
        for (int64_t r = 0; r < rows; ++r) {
            int64_t place = (row + r) * l.out + column;
            Floats y = activate(load(sums + r * kBlock) + bias, l.activation);
            if (l.factor) y = y * load_first(l.factor + place, n);
            if (l.residual) y = y + load_first(l.residual + place, n);
            store_first(l.y + place, y, n);
        }
    }
}

}  // namespace TRIFORM_ISA

#include "linear_integer.inl"

namespace TRIFORM_ISA {

// One chain at a time for all rows, so that its part of the weight stays in the nearest cache while they pass by.
template <class As>
inline void linear_as(const Linear& l, int64_t row, int64_t row_end, int64_t block, int64_t block_end) {
    for (; block < block_end; ++block) {
        float total[kMostRows * kBlock] = {};
        auto w = static_cast<const typename As::Stored*>(l.weight) + block * l.in * kBlock;
        for (int64_t begin = 0; begin < l.in; begin += kChain) {
            int64_t k = l.in - begin < kChain ? l.in - begin : kChain;
            for_tiles(row, row_end, [&](auto rows, int64_t at) {
                Sums<rows.value> sums{};
                const float* x = l.x + at * l.x_stride + begin;
                add_product<rows.value, As>(sums, x, l.x_stride, w + begin * kBlock, kBlock, k);
                for (int r = 0; r < rows.value; ++r)
                    for (int half = 0; half < 2; ++half) {
                        float* to = total + (at - row + r) * kBlock + half * 16;
                        store(to, load(to) + sums.v[r][half]);
                    }
            });
        }
        finish(l, total, row, row_end - row, block);
    }
}

void linear(const Linear& l, int64_t row, int64_t row_end, int64_t block, int64_t block_end) {
    switch (l.format) {
        case Format::kFloat32:
            return linear_as<AsFloat32>(l, row, row_end, block, block_end);
        case Format::kFloat16:
            return linear_as<AsFloat16>(l, row, row_end, block, block_end);
        case Format::kBFloat16:
            return linear_as<AsBFloat16>(l, row, row_end, block, block_end);
        case Format::kInt8:
            return linear_int8(l, row, row_end, block, block_end);
        case Format::kInt4:
            return linear_int4(l, row, row_end, block, block_end);
    }
}

}  // namespace TRIFORM_ISA
