// The epilogue of linears: what follows the matrix product while its sums are in a cache.

namespace triform::TRIFORM_ISA {

// y = activation(sums + bias) ⊙ factor + residual for some rows of one block.
void store_outputs(const Linear& l, const float* sums, int64_t row, int64_t rows, int64_t block) {
    for (int64_t column = block * kBlock; column < (block + 1) * kBlock && column < l.out;
         column += kLanes, sums += kLanes) {
        int n = l.out - column < kLanes ? static_cast<int>(l.out - column) : kLanes;
        Float32x16 bias = l.bias ? load_n(l.bias + column, n) : set1(0.0f);
        for (int64_t r = 0; r < rows; ++r) {
            int64_t at = (row + r) * l.out + column;
            Float32x16 y = activate(loadu(sums + r * kBlock) + bias, l.activation);
            if (l.factor) y = y * load_n(l.factor + at, n);
            if (l.residual) y = y + load_n(l.residual + at, n);
            store_n(l.y + at, y, n);
        }
    }
}

}  // namespace triform::TRIFORM_ISA
