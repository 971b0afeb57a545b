// The micro-kernel of all matrix products: a register tile of some rows times a block of kBlock columns.
//
// Each output element is one chain of multiply-adds in ascending order of k, whatever the number of rows. This is what
// makes results batch-invariant: a sequence has the same bits alone and in any batch.

namespace triform::TRIFORM_ISA {

// The register tile: two vectors, kBlock columns, for each row.
template <int Rows>
struct Accumulators {
    Float32x16 v[Rows][2];
};

// How sixteen stored numbers are loaded as float32.
struct LoadFloat32 {
    using Stored = float;
    static Float32x16 load(const float* p) { return loadu(p); }
};
struct LoadFloat16 {
    using Stored = uint16_t;
    static Float32x16 load(const uint16_t* p) { return load_f16(p); }
};
struct LoadBFloat16 {
    using Stored = uint16_t;
    static Float32x16 load(const uint16_t* p) { return load_bf16(p); }
};

// Inputs that are prefetched ahead: the hardware prefetchers stop at the end of a memory page.
constexpr int64_t kPrefetchDistance = 16;

// sums += x (Rows, k) · w (k, kBlock); rows of x are `x_stride` numbers apart, rows of w `w_stride`.
template <int Rows, class Load>
inline void micro_kernel(Accumulators<Rows>& sums, const float* x, int64_t x_stride, const typename Load::Stored* w,
                         int64_t w_stride, int64_t k) {
    for (int64_t i = 0; i < k; ++i, w += w_stride) {
        __builtin_prefetch(w + kPrefetchDistance * w_stride);
        __builtin_prefetch(w + kPrefetchDistance * w_stride + kLanes);
        Float32x16 low = Load::load(w), high = Load::load(w + kLanes);
#pragma GCC unroll 12
        for (int r = 0; r < Rows; ++r) {
            Float32x16 xi = set1(x[r * x_stride + i]);
            sums.v[r][0] = mul_add(xi, low, sums.v[r][0]);
            sums.v[r][1] = mul_add(xi, high, sums.v[r][1]);
        }
    }
}

// Calls f(rows, row) for rows [row, end) cut into tiles of Rows rows and one tile of the remainder. The number of rows
// is an integral_constant, so that each size of tile is compiled with its accumulators in registers.
template <class F, int Rows = kTileRows>
inline void for_remainder([[maybe_unused]] int64_t row, [[maybe_unused]] int64_t remainder, F&& f) {
    if constexpr (Rows > 0) {
        if (remainder == Rows) return f(std::integral_constant<int, Rows>{}, row);
        for_remainder<F, Rows - 1>(row, remainder, static_cast<F&&>(f));
    }
}
template <int Rows = kTileRows, class F>
inline void for_row_tiles(int64_t row, int64_t end, F&& f) {
    for (; row + Rows <= end; row += Rows) f(std::integral_constant<int, Rows>{}, row);
    for_remainder<F, Rows - 1>(row, end - row, static_cast<F&&>(f));
}

}  // namespace triform::TRIFORM_ISA
